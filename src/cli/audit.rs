//! `hdai audit`: who touched an encounter, is the trail whole, the trail as FHIR.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};

use crate::config::Config;
use crate::domain::audit::Anchor;
use crate::domain::{AuditRow, EncounterId};
use crate::error::{Error, Result};
use crate::store::AuditQuery;
use crate::workflow::{self, Hospital, OtherRecord, Scope};

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
        /// Read every checkpoint in the container, and not only 500 of many
        #[arg(long)]
        all_checkpoints: bool,
        /// The id that the record must have
        #[arg(long, value_name = "ID")]
        record: Option<String>,
        /// Verify this archive of removed events instead, without the record; repeatable
        #[arg(long = "archive", value_name = "FILE", conflicts_with_all = ["from", "to", "checkpoints", "all_checkpoints"])]
        archives: Vec<PathBuf>,
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
    /// Remove events whose time is over, up to the newest signed checkpoint from before a day; they go into an archive first
    Purge {
        /// Up to which day or instant; at least as long ago as `HDAI_AUDIT_RETENTION_YEARS` says
        #[arg(long, value_name = "WHEN", value_parser = when)]
        before: DateTime<Utc>,
        /// A new file for the events, which `hdai audit verify --archive` verifies
        #[arg(long, value_name = "FILE")]
        archive: PathBuf,
    },
    /// After a backup was restored: give the record a new id, so that its checkpoints are told from those before
    Restored,
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
    if let Command::Verify { archives, record, .. } = &args.command
        && !archives.is_empty()
    {
        return verify_archives(&config, archives, record.as_deref());
    }
    let hospital = super::open_trail(config).await?;
    let (caller, now) = (super::caller(), super::now());
    match args.command {
        Command::Verify { from, to, checkpoints, all_checkpoints, record, .. } => {
            let files = checkpoints.iter().map(|path| Ok((path.display().to_string(), read(path)?))).collect::<Result<_>>()?;
            verify(&hospital, &Scope { from, to, all_checkpoints, record, files }).await
        }
        Command::Who { encounter, limit } => who(&hospital, encounter, limit).await,
        Command::Export { from, to } => export(&hospital, from, to).await,
        Command::Checkpoint => {
            let name = workflow::audit_checkpoint(&caller, &hospital, now).await?;
            say!("{}/{name}", workflow::CHECKPOINTS_CONTAINER);
            Ok(ExitCode::SUCCESS)
        }
        Command::Restored => {
            let name = workflow::audit_restored(&caller, &hospital, now).await?;
            say!("The record has a new id; its first checkpoint is {}/{name}", workflow::CHECKPOINTS_CONTAINER);
            Ok(ExitCode::SUCCESS)
        }
        Command::Purge { before, archive } => {
            let purged = workflow::purge_audit(&caller, &hospital, before, &archive, now).await?;
            match purged.checkpoint {
                None => say!("Nothing is left to remove from before that day."),
                Some(checkpoint) => say!(
                    "{} events up to checkpoint {checkpoint} are in {} and no longer in the record (SHA-256 {}).",
                    super::thousands(purged.events),
                    archive.display(),
                    purged.sha256
                ),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn verify(hospital: &Hospital, scope: &Scope) -> Result<ExitCode> {
    let report = workflow::verify_audit(&super::caller(), hospital, scope, super::now()).await?;
    report.findings.iter().for_each(|finding| say!("{finding}"));
    for (seq, strange) in &report.strange {
        let words = strange.join(", ");
        say!("event {seq} has words that this program does not know ({words}): a newer one may have written it.");
    }
    if report.foreign > 0 {
        say!(
            "{} checkpoints were signed with another key and vouch for nothing: verify with the key of their day, too.",
            report.foreign
        );
    }
    for OtherRecord { record, checkpoints, continued } in &report.others {
        match continued {
            true => say!(
                "{checkpoints} checkpoints are of {record}, which this record was before a restore, and vouch for nothing now."
            ),
            false => say!("{checkpoints} checkpoints are of another record, {record}, and vouch for nothing here."),
        }
    }
    for Anchor { partition, number, checkpoint, .. } in &report.anchors {
        let number = super::thousands(*number);
        say!("chain {partition} goes on after {number} events whose time was over (checkpoint {checkpoint}).");
    }
    if report.before > 0 {
        say!("{} events are from before the chain began: nothing vouches for them.", super::thousands(report.before));
    }
    let (events, chains) = (super::thousands(report.events), report.chains);
    if report.findings.is_empty() {
        say!("The audit trail is whole: {events} events recomputed in {chains} chains, {} checkpoints agree.", report.checkpoints);
        say!("Record {}.", report.record);
        Ok(ExitCode::SUCCESS)
    } else {
        say!("The audit trail is NOT whole: keep the database as it is, and compare it with a backup of before.");
        Ok(ExitCode::FAILURE)
    }
}

/// Without the record: the key is enough.
fn verify_archives(config: &Config, archives: &[PathBuf], record: Option<&str>) -> Result<ExitCode> {
    let key = super::receipt::verifying_key(config)?;
    let mut code = ExitCode::SUCCESS;
    for path in archives {
        let unread = |cause| Error::not_found(format!("{} cannot be read", path.display())).caused_by(cause);
        let file = std::fs::File::open(path).map_err(unread)?;
        let mut findings: Vec<String> = Vec::new();
        match workflow::verify_archive(&key, std::io::BufReader::new(file)) {
            Ok(found) if found.findings.is_empty() && record.is_none_or(|id| id == found.record) => {
                let (events, day) = (super::thousands(found.events), found.at.format("%Y-%m-%d"));
                say!("{}: whole: {events} events up to {day}, of record {}", path.display(), found.record);
            }
            Ok(found) => {
                findings.extend(found.findings.iter().map(ToString::to_string));
                findings.extend(record.filter(|id| *id != found.record).map(|_| format!("it is of record {}", found.record)));
            }
            Err(error) => findings.push(error.message().to_owned()),
        }
        for finding in findings {
            say!("{}: NOT whole: {finding}", path.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
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
    for (_, row) in &events {
        let AuditRow { caller, roles, proof, origin, action, outcome, detail, .. } = row;
        let at = row.at.map_or_else(|| format!("{:<24}", "(no time)"), |at| at.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string());
        let strange = row.strange().join(",");
        let strange = if strange.is_empty() { strange } else { format!("  (not known to this program: {strange})") };
        say!("{at}  {outcome:<8} {action:<10} {caller}  [{roles}] by {proof} {origin}  {detail}{strange}");
    }
    if events.is_empty() {
        say!("Nobody: the trail holds no event about this encounter.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(hospital: &Hospital, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Result<ExitCode> {
    let mut query = AuditQuery { from, to, ..AuditQuery::newest(PAGE_EVENTS) };
    let caller = super::caller();
    workflow::note_export(&caller, hospital, super::now()).await?;
    loop {
        let page = workflow::exported_audit(&caller, hospital, &query, super::now()).await?;
        let Some((last, _)) = page.last() else { return Ok(ExitCode::SUCCESS) };
        query.before = Some(*last);
        for (_, resource) in &page {
            say!("{resource}");
        }
    }
}
