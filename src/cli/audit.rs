//! `hdai audit`: who touched an encounter, is the trail whole, the trail as FHIR.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};

use crate::config::Config;
use crate::domain::audit::Breach;
use crate::domain::{AuditEvent, EncounterId};
use crate::error::{Error, Result};
use crate::store::AuditQuery;
use crate::workflow::{self, Finding, Hospital};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Recompute the chain of hashes and name what was altered, removed or added
    Verify {
        /// Recompute events from this day or instant on; that none is missing is checked for all
        #[arg(long, value_name = "WHEN", value_parser = when)]
        from: Option<DateTime<Utc>>,
        /// Recompute events before this day or instant
        #[arg(long, value_name = "WHEN", value_parser = when)]
        to: Option<DateTime<Utc>>,
        /// A checkpoint's file to hold the trail against, beside those in the container; repeatable
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
    },
    /// Who did what to an encounter, newest first
    Who {
        /// The encounter's id
        #[arg(value_parser = encounter)]
        encounter: EncounterId,
        /// Most events
        #[arg(long, default_value_t = 1000)]
        limit: u32,
    },
    /// Write the trail as FHIR R4 `AuditEvent` resources, one a line, newest first
    Export {
        /// From this day or instant on
        #[arg(long, value_name = "WHEN", value_parser = when)]
        from: Option<DateTime<Utc>>,
        /// Before this day or instant
        #[arg(long, value_name = "WHEN", value_parser = when)]
        to: Option<DateTime<Utc>>,
    },
    /// Write a signed checkpoint of the trail beside the files
    Checkpoint,
}

/// Events of one page of an export.
const PAGE_EVENTS: u32 = 1_000;

fn when(text: &str) -> std::result::Result<DateTime<Utc>, String> {
    let day = text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)).map(|at| at.and_utc());
    let at = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    day.or(at).ok_or_else(|| "give a day such as 2026-11-22, or an instant such as 2026-11-22T06:30:00Z".to_owned())
}

fn encounter(text: &str) -> std::result::Result<EncounterId, String> {
    text.parse().ok().and_then(EncounterId::new).ok_or_else(|| "an encounter's id is a whole number from 1".to_owned())
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    match args.command {
        Command::Verify { from, to, checkpoints } => verify(&hospital, from, to, &checkpoints).await,
        Command::Who { encounter, limit } => who(&hospital, encounter, limit).await,
        Command::Export { from, to } => export(&hospital, from, to).await,
        Command::Checkpoint => {
            let name = workflow::audit_checkpoint(&super::caller(), &hospital, super::now()).await?;
            say!("{}/{name}", workflow::CHECKPOINTS_CONTAINER);
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn verify(
    hospital: &Hospital,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    checkpoints: &[PathBuf],
) -> Result<ExitCode> {
    let mut texts = workflow::audit_checkpoints(hospital).await?;
    for path in checkpoints {
        texts.push(read(path)?);
    }
    let report = workflow::verify_audit(&super::caller(), hospital, from, to, &texts, super::now()).await?;
    for Finding { chain, breach } in &report.findings {
        let chain = chain.map(|chain| format!("chain {chain}: ")).unwrap_or_default();
        say!("{chain}{}", told(breach));
    }
    if report.foreign > 0 {
        say!(
            "{} checkpoints were signed with another key and vouch for nothing: verify with the key of their day, too.",
            report.foreign
        );
    }
    if report.before > 0 {
        say!("{} events are from before the chain began: nothing vouches for them.", super::thousands(report.before));
    }
    let (events, chains) = (super::thousands(report.events), report.chains);
    if report.findings.is_empty() {
        say!("The audit trail is whole: {events} events recomputed in {chains} chains, {} checkpoints agree.", report.checkpoints);
        Ok(ExitCode::SUCCESS)
    } else {
        say!("The audit trail is NOT whole: keep the database as it is, and compare it with a backup of before.");
        Ok(ExitCode::FAILURE)
    }
}

fn told(breach: &Breach) -> String {
    match breach {
        Breach::Altered { seq } => format!("event {seq} was altered, or moved to another place"),
        Breach::Missing { number } => format!("events are missing from place {number} of the chain on"),
        Breach::Inserted { seq } => format!("event {seq} was put in"),
        Breach::Rewritten { number } => format!("the chain was made anew: place {number} contradicts what was vouched for"),
    }
}

fn read(path: &Path) -> Result<Bytes> {
    let unread = |cause| Error::not_found(format!("{} cannot be read", path.display())).caused_by(cause);
    if std::fs::metadata(path).map_err(unread)?.len() > workflow::CHECKPOINT_BYTES_MAX {
        return Err(Error::invalid(format!("{} is larger than any checkpoint", path.display())));
    }
    Ok(std::fs::read(path).map_err(unread)?.into())
}

async fn who(hospital: &Hospital, encounter: EncounterId, limit: u32) -> Result<ExitCode> {
    let query = AuditQuery { encounter: Some(encounter), ..AuditQuery::newest(limit) };
    let events = workflow::audit_trail(&super::caller(), hospital, &query, super::now()).await?;
    for (_, AuditEvent { at, caller, action, outcome, detail, .. }) in &events {
        let roles = caller.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(",");
        say!(
            "{}  {:<8} {:<10} {}  [{roles}] by {} {}  {detail}",
            at.format("%Y-%m-%d %H:%M:%S%.3fZ"),
            outcome.name(),
            action.name(),
            caller.id,
            caller.proof.name(),
            caller.origin
        );
    }
    if events.is_empty() {
        say!("Nobody: the trail holds no event about this encounter.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(hospital: &Hospital, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Result<ExitCode> {
    let mut query = AuditQuery { from, to, ..AuditQuery::newest(PAGE_EVENTS) };
    workflow::note_export(&super::caller(), hospital, super::now()).await?;
    loop {
        let page = workflow::exported_audit(hospital, &query).await?;
        let Some((last, _)) = page.last() else { return Ok(ExitCode::SUCCESS) };
        query.before = Some(*last);
        for (_, resource) in &page {
            say!("{resource}");
        }
    }
}
