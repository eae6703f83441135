//! `hdai facilities`: the hospital's facilities and their beds.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::codec::csv;
use crate::config::Config;
use crate::domain::{Assignment, FacilityId, Reach};
use crate::error::{Error, Result};
use crate::workflow::{self, Hospital};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// A CSV with the columns Id, Name and Capacity: adds facilities and changes names and beds. Without it, lists them
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say which facilities a care line manager answers for, in the place of what was said before
    Assign {
        /// The person's or program's Entra object id
        #[arg(long, value_name = "OID")]
        caller: String,
        /// A facility; repeatable
        #[arg(long = "facility", value_name = "ID", value_parser = facility, required_unless_present = "all")]
        facilities: Vec<FacilityId>,
        /// Every facility, those to come too
        #[arg(long, conflicts_with = "facilities")]
        all: bool,
    },
    /// Take an assignment away
    Unassign {
        /// The person's or program's Entra object id
        #[arg(long, value_name = "OID")]
        caller: String,
    },
    /// List who answers for which facilities
    Assigned,
}

fn facility(text: &str) -> std::result::Result<FacilityId, String> {
    FacilityId::parse(text).ok_or_else(|| "a facility is one letter or digit".to_owned())
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = match &args.command {
        // A list names no patient, so that the auditor's role in the database suffices.
        Some(Command::Assigned) => super::open_trail(config).await?,
        _ => super::open(config).await?,
    };
    if let Some(command) = args.command {
        return assignments(&hospital, command).await;
    }
    if let Some(path) = &args.file {
        let file =
            File::open(path).map_err(|cause| Error::not_found(format!("{} cannot be read", path.display())).caused_by(cause))?;
        let changed = workflow::save_facilities(&super::caller(), &hospital, &csv::read_facilities(file)?, super::now()).await?;
        say!("{changed} added or changed.");
    }
    for facility in hospital.store.facilities().await? {
        say!("{}  {:>5} beds  {}", facility.id, facility.capacity, facility.name);
    }
    Ok(ExitCode::SUCCESS)
}

async fn assignments(hospital: &Hospital, command: Command) -> Result<ExitCode> {
    let (caller, now) = (super::caller(), super::now());
    match command {
        Command::Assign { caller: whose, facilities, all } => {
            let reach = if all { Reach::All } else { Reach::only(facilities) };
            print(&workflow::assign(&caller, hospital, &whose, reach, now).await?);
        }
        Command::Unassign { caller: whose } => {
            workflow::unassign(&caller, hospital, &whose, now).await?;
            say!("Nothing is assigned to {whose} any more.");
        }
        Command::Assigned => {
            let mut after = String::new();
            loop {
                let page = workflow::assignments(&caller, hospital, &after, PAGE_ENTRIES, now).await?;
                page.iter().for_each(print);
                match page.last() {
                    Some(last) => after.clone_from(&last.caller),
                    None => break,
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Assignments of one page.
const PAGE_ENTRIES: u32 = 1_000;

fn print(assignment: &Assignment) {
    let facilities = match &assignment.reach {
        Reach::All => "all".to_owned(),
        Reach::Only(facilities) => facilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    };
    say!("{}  {facilities}  by {} {}", assignment.caller, assignment.by, assignment.at.format("%Y-%m-%dT%H:%M:%SZ"));
}
