//! `hdai break-glass`: who broke the glass, why, and what was done under it.

use std::process::ExitCode;

use crate::config::Config;
use crate::domain::Elevation;
use crate::error::Result;
use crate::workflow;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List who broke the glass, when and why, newest first
    List {
        /// Most entries
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show one, with the words that were typed and what was done under it; it is noted that they were read
    Show {
        /// Its id
        id: String,
    },
    /// End one that runs, whoever's it is; other processes see it within seconds
    End {
        /// Its id
        id: String,
    },
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    // A list shows no text, so that the auditor's role in the database suffices.
    let hospital = match &args.command {
        Command::List { .. } => super::open_trail(config).await?,
        Command::Show { .. } | Command::End { .. } => super::open(config).await?,
    };
    let (caller, now) = (super::caller(), super::now());
    match args.command {
        Command::List { limit } => {
            workflow::elevations(&caller, &hospital, limit, now).await?.iter().for_each(print);
        }
        Command::Show { id } => {
            let (elevation, events) = workflow::elevation(&caller, &hospital, &id, now).await?;
            print(&elevation);
            say!("{}", elevation.words.reveal());
            for (_, event) in &events {
                let encounter = event.encounter.map(|id| format!(" of {id}")).unwrap_or_default();
                let at = event.at.map(|at| at.format(INSTANT).to_string()).unwrap_or_default();
                say!("{at}  {}{encounter}  {}", event.action, event.outcome);
            }
        }
        Command::End { id } => {
            workflow::end_break_glass(&caller, &hospital, &id, now).await?;
            say!("Ended {id}.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

const INSTANT: &str = "%Y-%m-%d %H:%M:%SZ";

fn print(elevation: &Elevation) {
    let Elevation { id, caller, roles, reason, from, until, ended, events, .. } = elevation;
    let roles = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(",");
    let end = ended.map_or_else(|| format!("until {}", until.format(INSTANT)), |at| format!("ended {}", at.format(INSTANT)));
    say!("{id}  {caller} [{roles}]  {}  from {} {end}  {events} events", reason.code(), from.format(INSTANT));
}
