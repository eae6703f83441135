//! `hdai imports replay`: what was given up after its last attempt is tried again.

use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::azure::queues::{Moved, POISON, QueueService};
use crate::codec::blob_url::BlobUrl;
use crate::config::{Config, QueueSettings};
use crate::domain::{Action, AuditEvent, Outcome};
use crate::error::Result;
use crate::host::{BLOB_POISON_QUEUE, BLOB_QUEUE, Queues};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Put poison messages back into their queues: of the local host, or of the storage account in `HDAI_QUEUE_URL`
    Replay(Replay),
}

#[derive(Debug, clap::Args)]
struct Replay {
    /// This poison queue alone [default: every one]
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The most messages to put back
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// List the messages, and put none back
    #[arg(long)]
    dry_run: bool,
}

/// Where a request to import a blob goes; the queue of `PatientDataImport`.
const IMPORT_REQUESTS: &str = "import-requests";

/// Messages of a queue that are listed; a storage account shows no more.
const LISTED_MAX: u32 = 32;

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let Command::Replay(mut replay) = args.command;
    replay.queue = replay.queue.map(|name| if name.ends_with(POISON) { name } else { format!("{name}{POISON}") });
    let places = places(&config)?;
    if replay.dry_run {
        return list(&places, &replay).await;
    }
    // Whether the record can be written is known before anything moves.
    super::create_private(&config.folder)?;
    let store = super::open_record(&config).await?;
    store.migrate().await?;
    let mut total = Moved::default();
    let done = all(&places, &replay, &config, &mut total).await;
    let (outcome, detail) = match &done {
        Ok(()) => (Outcome::Success, "poison messages replayed"),
        Err(_) => (Outcome::Failure, "poison messages replayed in part"),
    };
    let event = AuditEvent::new(&super::caller(), Action::Import, outcome, super::now()).detail(detail);
    store.append_audit(&event).await?;
    match total {
        Moved { moved: 0, left: 0 } if done.is_ok() => say!("There is no poison message."),
        Moved { moved, left: 0 } => say!("{moved} put back, to be tried afresh."),
        Moved { moved, left } => say!("{moved} put back, to be tried afresh; {left} cannot be read and stay."),
    }
    done.map(|()| if total.left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where poison messages lie.
enum Place {
    /// The local host's queue file.
    Local(Queues),
    /// A storage account, of which one queue counts or all.
    Account(Box<Account>),
}

struct Account {
    service: QueueService,
    only: Option<&'static str>,
    /// Where requests to import lie; the account of the files is not always the app's own.
    requests: QueueService,
}

fn places(config: &Config) -> Result<Vec<Place>> {
    let Some(settings) = &config.queues else {
        let folder = config.folder.join("host");
        return Ok(if Path::exists(&folder.join("queues.db")) { vec![Place::Local(Queues::open(&folder)?)] } else { Vec::new() });
    };
    let identity = super::identity();
    let open = |settings: &QueueSettings| QueueService::open(settings, &identity);
    let mut places = vec![Place::Account(Box::new(Account { service: open(settings)?, only: None, requests: open(settings)? }))];
    if let Some(blob) = of_the_files(config).filter(|blob| blob.service_url != settings.service_url) {
        places.push(Place::Account(Box::new(Account {
            service: open(&blob)?,
            only: Some(BLOB_POISON_QUEUE),
            requests: open(settings)?,
        })));
    }
    Ok(places)
}

/// The queues of the account that keeps the files: the blob trigger's poison lies there.
fn of_the_files(config: &Config) -> Option<QueueSettings> {
    let files = config.blob.as_ref()?;
    let service_url = files.account_url.replacen(".blob.", ".queue.", 1);
    (service_url != files.account_url).then(|| QueueSettings { service_url, signature: files.signature.clone() })
}

impl Place {
    async fn poison_queues(&self, wanted: Option<&str>) -> Result<Vec<String>> {
        let fits = |name: &String| wanted.is_none_or(|wanted| wanted == name);
        let account = match self {
            Place::Local(queues) => {
                let found = queues.poison_queues().await?;
                return Ok(found.into_iter().map(|(name, _)| name).filter(fits).collect());
            }
            Place::Account(account) => account,
        };
        match (account.only, wanted) {
            (Some(only), _) => Ok(Some(only.to_owned()).into_iter().filter(fits).collect()),
            // A signature may reach one queue and not their list.
            (None, Some(wanted)) => Ok(vec![wanted.to_owned()]),
            (None, None) => account.service.poison_queues().await,
        }
    }
}

/// A line a message: its queue, its id, its attempts and its age. Never what it says.
async fn list(places: &[Place], replay: &Replay) -> Result<ExitCode> {
    let limit = replay.limit.min(LISTED_MAX);
    let mut found = false;
    for place in places {
        for queue in place.poison_queues(replay.queue.as_deref()).await? {
            let messages: Vec<(String, Option<u32>, Option<DateTime<Utc>>)> = match place {
                Place::Local(queues) => {
                    let peeked = queues.peek(&queue, limit).await?;
                    peeked.into_iter().map(|message| (message.id, Some(message.dequeue_count), Some(message.inserted))).collect()
                }
                Place::Account(account) => {
                    let peeked = account.service.peek(&queue, limit).await?;
                    peeked.into_iter().map(|message| (message.id, None, message.inserted)).collect()
                }
            };
            for (id, attempts, inserted) in messages {
                found = true;
                let attempts = attempts.map_or_else(String::new, |attempts| format!("  {attempts} attempts"));
                let age = inserted.map_or_else(String::new, |at| format!("  {}", age(super::now() - at)));
                say!("{queue}  {id}{attempts}{age}  would go to {}", target(place, &queue));
            }
        }
    }
    if !found {
        say!("There is no poison message.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn all(places: &[Place], replay: &Replay, config: &Config, total: &mut Moved) -> Result<()> {
    let mut open = replay.limit;
    for place in places {
        for queue in place.poison_queues(replay.queue.as_deref()).await? {
            if open == 0 {
                return Ok(());
            }
            let to = target(place, &queue);
            let mut here = Moved::default();
            let done = match place {
                Place::Local(queues) => queues.redrive(&queue, &to, open).await.map(|moved| here.moved = moved),
                Place::Account(account) => {
                    let Account { service, requests, .. } = &**account;
                    let from_blob = queue == BLOB_POISON_QUEUE;
                    let redirect = |text: &str| if from_blob { as_import_request(text, config) } else { Some(text.to_owned()) };
                    let target = if from_blob { requests } else { service };
                    service.replay(&queue, target, &to, open, redirect, &mut here).await
                }
            };
            total.moved += here.moved;
            total.left += here.left;
            open = open.saturating_sub(u32::try_from(here.moved + here.left).unwrap_or(u32::MAX));
            if here.moved > 0 {
                say!("{queue}: {} to {to}", here.moved);
            }
            done?;
        }
    }
    Ok(())
}

/// Where a poison queue's messages go. In Azure the queue of blob triggers has a name that only its host knows; a request to import the
/// blob does the same.
fn target(place: &Place, poison: &str) -> String {
    match (place, poison) {
        (Place::Local(_), BLOB_POISON_QUEUE) => BLOB_QUEUE.to_owned(),
        (Place::Account(_), BLOB_POISON_QUEUE) => IMPORT_REQUESTS.to_owned(),
        _ => poison.strip_suffix(POISON).unwrap_or(poison).to_owned(),
    }
}

/// The Functions host's message about a blob as a request to import it, both in base64 as that host writes them; `None` for what is no
/// such message.
fn as_import_request(text: &str, config: &Config) -> Option<String> {
    let plain = STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec());
    let message: Value = serde_json::from_slice(&plain).ok()?;
    let member = |name: &str| message[name].as_str().map(str::to_owned);
    member("Type").filter(|kind| kind == "BlobTrigger")?;
    let (container, name) = (member("ContainerName")?, member("BlobName")?);
    let blob = BlobUrl { account_url: config.account_url.clone(), container, name };
    // Only what the other side can read again.
    let url = blob.to_string();
    BlobUrl::parse(&url).filter(|read| *read == blob)?;
    Some(STANDARD.encode(json!({ "url": url }).to_string()))
}

fn age(age: chrono::TimeDelta) -> String {
    match (age.num_days(), age.num_hours(), age.num_minutes()) {
        (2.., _, _) => format!("{} days old", age.num_days()),
        (_, 2.., _) => format!("{} hours old", age.num_hours()),
        (_, _, minutes) => format!("{} minutes old", minutes.max(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let account = "https://acct.blob.core.windows.net";
        Config::from_vars(|name| (name == "HDAI_BLOB_ACCOUNT_URL").then(|| account.to_owned())).unwrap()
    }

    #[test]
    fn a_blobs_poison_message_becomes_a_request_to_import_it() {
        let message = r#"{"Type":"BlobTrigger","FunctionId":"Host.Functions.PatientDataBulkImport","BlobType":"BlockBlob","ContainerName":"trainingdata","BlobName":"2026/a b.csv","ETag":"\"0x1\""}"#;
        for text in [message.to_owned(), STANDARD.encode(message)] {
            let request = STANDARD.decode(as_import_request(&text, &config()).unwrap()).unwrap();
            let request: Value = serde_json::from_slice(&request).unwrap();
            assert_eq!(request, json!({ "url": "https://acct.blob.core.windows.net/trainingdata/2026/a%20b.csv" }));
        }
        for strange in ["", "{}", r#"{"Type":"BlobTrigger"}"#, r#"{"Type":"Other","ContainerName":"c","BlobName":"b"}"#, "bm8="] {
            assert_eq!(as_import_request(strange, &config()), None, "{strange}");
        }
    }

    #[test]
    fn the_poison_of_blobs_is_looked_for_beside_the_files() {
        assert_eq!(of_the_files(&config()).unwrap().service_url, "https://acct.queue.core.windows.net");
    }
}
