//! The functions that the Functions host calls with its envelope: blob, queue, Event Grid and timer triggers, and the HTTP functions when
//! the host does not proxy.
//!
//! The host's rules decide the answers (see `codec::envelope`): 2xx with a JSON object is success, anything else makes the host deliver
//! again. So only what a retry can cure is answered 5xx; a bad file or a foreign event is recorded and answered 200.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::time::Instant;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::body::{BodyRefused, Held};
use super::guard::{guarded, seen_through};
use super::{API_TIME_MAX, ApiReply, ApiRequest, App, ENTRY, api, auth, carried_out, problem};
use crate::codec::blob_url::BlobUrl;
use crate::codec::envelope::{BlobContent, Invocation, Reply};
use crate::codec::event_grid::{self, Unwanted, Wanted};
use crate::config::Config;
use crate::domain::Caller;
use crate::domain::import::ImportId;
use crate::error::{Error, Kind, Result};
use crate::workflow::{self, BlobAddress, Imported, TrainRequest, Training};

/// How a function answers.
#[derive(Clone, Copy)]
enum Answer {
    BlobImport,
    QueuedImport,
    ImportPart,
    Events,
    Train,
    TrainNow,
    AuditCheckpoint,
    Publish,
    Http,
}

/// The functions, by the names of their folders.
const FUNCTIONS: &[(&str, Answer)] = &[
    ("PatientDataBulkImport", Answer::BlobImport),
    ("PatientDataImport", Answer::QueuedImport),
    ("ImportPart", Answer::ImportPart),
    ("PatientDataEvents", Answer::Events),
    ("TrainLengthOfStay", Answer::Train),
    ("TrainLengthOfStaySchedule", Answer::TrainNow),
    ("AuditCheckpoint", Answer::AuditCheckpoint),
    ("PublishEvents", Answer::Publish),
    ("PatientAdmissionFunc", Answer::Http),
    ("PatientDischargeFunc", Answer::Http),
    ("Api", Answer::Http),
];

/// Is there such a function?
pub(super) fn is_one(function: &str) -> bool {
    FUNCTIONS.iter().any(|(name, _)| *name == function)
}

/// Answers the host's call of `function`, in a task of its own: a host that hangs up does not break off what it asked for.
pub(super) async fn answer(app: Arc<App>, function: String, headers: HeaderMap, body: Held) -> ApiReply {
    let work = tokio::spawn(async move { guarded(delivered(&app, &function, &headers, &body.bytes)).await });
    work.await.unwrap_or_else(|_| problem::of(&Error::internal("the call was broken off")))
}

async fn delivered(app: &Arc<App>, function: &str, headers: &HeaderMap, body: &[u8]) -> ApiReply {
    let Some(answer) = FUNCTIONS.iter().find(|(name, _)| *name == function).map(|(_, answer)| *answer) else {
        return problem::not_found("there is no such function: compare the folder names with this binary's version");
    };
    let caller = Caller::platform(function, auth::correlation(headers));
    let limit = Duration::from_secs(app.hospital.config.call_seconds_max);
    let work = async {
        let invocation = Invocation::decode(body)?;
        match answer {
            Answer::BlobImport => blob_import(app, &caller, invocation).await,
            Answer::QueuedImport => queued_import(app, &caller, &invocation).await,
            Answer::ImportPart => import_part(app, &caller, &invocation).await,
            Answer::Events => events(app, &caller, &invocation).await,
            Answer::Train => train(app, &caller, &invocation).await,
            Answer::TrainNow => train_now(app, &caller, TrainRequest::default()).await,
            Answer::AuditCheckpoint => checkpoint(app, &caller).await,
            Answer::Publish => publish(app).await,
            Answer::Http => http_in_envelope(app, &invocation, &caller.correlation).await,
        }
    };
    let outcome = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::unavailable(
            "the call took longer than HDAI_CALL_SECONDS_MAX: what is committed stays, the next delivery goes on",
        ))
    });
    match outcome {
        Ok(reply) => reply_json(&reply),
        Err(error) if error.is_transient() || error.kind() == Kind::Internal => {
            // The host drops the body of a failure; this line is all that remains of it.
            tracing::error!(function, correlation = caller.correlation, %error, "the delivery failed and will be repeated");
            problem::of(&error)
        }
        Err(error) => {
            tracing::warn!(function, correlation = caller.correlation, %error, "the delivery was refused for good");
            reply_json(&Reply::done().log(error.message()))
        }
    }
}

fn reply_json(reply: &Reply) -> ApiReply {
    let mut answer = ApiReply::text(StatusCode::OK, "application/json", String::new());
    answer.body = reply.to_json();
    answer
}

/// `blobTrigger`: the payload carries the blob or only says where it is.
async fn blob_import(app: &App, caller: &Caller, mut invocation: Invocation) -> Result<Reply> {
    let content = invocation.take_blob("blob")?;
    let uri = invocation.blob_uri().ok_or_else(|| Error::invalid("the blob trigger's payload carries no Uri"))?;
    let inline = match content {
        BlobContent::Deferred => None,
        BlobContent::Inline(bytes) => Some(bytes),
    };
    import(app, caller, &uri, inline).await
}

/// `queueTrigger` on `import-requests`: what `PatientDataEvents` queued.
async fn queued_import(app: &App, caller: &Caller, invocation: &Invocation) -> Result<Reply> {
    let item = invocation.message("item").ok_or_else(|| Error::invalid("the message carries no import request"))?;
    let url = item["url"].as_str().ok_or_else(|| Error::invalid("the import request names no blob"))?;
    import(app, caller, url, None).await
}

async fn import(app: &App, caller: &Caller, url: &str, inline: Option<Vec<u8>>) -> Result<Reply> {
    let Some(blob) = BlobUrl::parse(url) else {
        return Err(workflow::refuse_address(caller, &app.hospital, (app.now)()).await);
    };
    let address = BlobAddress { account: blob.account_url, container: blob.container, name: blob.name };
    let imported = workflow::import_blob(caller, &app.hospital, &address, inline, app.now).await?;
    Ok(report(Reply::done().log(describe(&imported)), &imported))
}

/// `queueTrigger` on `import-parts`: what the delivery of a large file queued.
async fn import_part(app: &App, caller: &Caller, invocation: &Invocation) -> Result<Reply> {
    let unreadable = || Error::invalid("the message names no part of an import");
    let item = invocation.message("item").ok_or_else(unreadable)?;
    let id = item["importId"].as_str().and_then(ImportId::parse).ok_or_else(unreadable)?;
    let part = item["part"].as_u64().and_then(|part| u32::try_from(part).ok()).ok_or_else(unreadable)?;
    let Some(imported) = workflow::import_part(caller, &app.hospital, &id, part, app.now).await? else {
        return Err(Error::not_found(format!(
            "the ledger knows no part {part} of an import {id}: is it another record's message?"
        )));
    };
    Ok(report(Reply::done().log(format!("part {part} of {}", describe(&imported))), &imported))
}

/// Queues the parts that are left to do, and asks for training if the import calls for it.
fn report(reply: Reply, imported: &Imported) -> Reply {
    if !imported.parts.is_empty() {
        let message = |part: &u32| json!({ "importId": imported.import.id.0, "part": part });
        let reply = reply.log(format!("{} parts queued", imported.parts.len()));
        return reply.output("importParts", Value::Array(imported.parts.iter().map(message).collect()));
    }
    if !imported.asks_for_training() {
        return reply;
    }
    let changed = imported.import.finished.unwrap_or(imported.import.started);
    let request = json!({ "importId": imported.import.id.0, "dataChanged": changed.to_rfc3339_opts(SecondsFormat::Micros, true) });
    reply.output("trainingRequest", request)
}

fn describe(imported: &Imported) -> String {
    let import = &imported.import;
    let counts = &import.counts;
    let fate = match (imported.superseded, imported.already) {
        (true, _) => "taken over by another delivery",
        (false, true) => "was over before",
        (false, false) => import.state.name(),
    };
    format!(
        "import {}: {fate}; read {}, stored {}, updated {}, unchanged {}, rejected {}",
        import.id, counts.read, counts.stored, counts.updated, counts.unchanged, counts.rejected
    )
}

/// `eventGridTrigger`: every event is looked at, what concerns the import container is queued. Event Grid waits 30 seconds, so no work
/// is done here.
async fn events(app: &App, caller: &Caller, invocation: &Invocation) -> Result<Reply> {
    let delivery = invocation.data("event").ok_or_else(|| Error::invalid("the payload carries no event"))?;
    let (events, rejects) = event_grid::decode(&delivery);
    let config = &app.hospital.config;
    let wanted =
        Wanted { account_url: &config.account_url, container: &config.import_container, suffixes: &config.import_suffixes };
    let (mut requests, mut unwanted) = (Vec::new(), BTreeMap::<Unwanted, usize>::new());
    for event in &events {
        if let Some(expiry) = event.vault_expiry() {
            tell_operators(&expiry);
            continue;
        }
        match wanted.blob(event) {
            Ok(blob) => requests.push(json!({ "url": blob.to_string() })),
            Err(why) => *unwanted.entry(why).or_default() += 1,
        }
    }
    let elsewhere = events.iter().filter(|event| leads_elsewhere(event, config)).count();
    if elsewhere > 0 {
        workflow::refuse_events(caller, &app.hospital, elsewhere, (app.now)()).await?;
    }
    let ignored = unwanted.values().sum::<usize>();
    let of = |why: Unwanted| unwanted.get(&why).copied().unwrap_or_default();
    tracing::info!(
        queued = requests.len(),
        ignored,
        other_place = of(Unwanted::Place),
        other_api = of(Unwanted::Api),
        other_suffix = of(Unwanted::Suffix),
        refused = rejects.len(),
        "events"
    );
    let why: Vec<String> = unwanted.iter().map(|(why, count)| format!("{count} {}", why.name())).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    let mut reply =
        Reply::done().log(format!("{} queued, {ignored} of no concern{why}, {} unreadable", requests.len(), rejects.len()));
    if !requests.is_empty() {
        reply = reply.output("importRequests", Value::Array(requests));
    }
    Ok(reply)
}

/// Does it say that a file was written where we have no business? Our receipts and checkpoints raise events too, and are no offence.
fn leads_elsewhere(event: &event_grid::Event, config: &Config) -> bool {
    let ours = |blob: BlobUrl| {
        let receipts = workflow::receipts_container(&config.import_container);
        let containers = [config.import_container.as_str(), receipts.as_str(), workflow::CHECKPOINTS_CONTAINER];
        blob.account_url == config.account_url && containers.contains(&blob.container.as_str())
    };
    event.kind == event_grid::BLOB_CREATED && !event.blob_created().is_some_and(|created| ours(created.blob))
}

/// An event of its own name, for an alert rule: a secret that ends takes the system with it.
fn tell_operators(expiry: &event_grid::VaultExpiry) {
    let event_grid::VaultExpiry { vault, object, object_type, expired, at } = expiry;
    let ends = at.map(|at| at.to_rfc3339());
    tracing::warn!(
        event = if *expired { "vault.expired" } else { "vault.near_expiry" },
        vault,
        object,
        object_type,
        ends,
        "a {} of the Key Vault {}: make a new version of it; settings that are Key Vault references want a restart",
        object_type.to_lowercase(),
        if *expired { "has ended" } else { "ends soon" }
    );
}

/// `queueTrigger` on `training-requests`.
async fn train(app: &App, caller: &Caller, invocation: &Invocation) -> Result<Reply> {
    let changed = invocation.message("item").and_then(|item| DateTime::parse_from_rfc3339(item["dataChanged"].as_str()?).ok());
    train_now(app, caller, TrainRequest { data_changed: changed.map(|at| at.with_timezone(&Utc)), ..TrainRequest::default() }).await
}

async fn train_now(app: &App, caller: &Caller, request: TrainRequest) -> Result<Reply> {
    let trained = workflow::train(caller, &app.hospital, request, (app.now)()).await?;
    if matches!(trained, Training::Trained(_))
        && let Err(error) = workflow::find_anomalies(caller, &app.hospital, (app.now)()).await
    {
        // The model is kept whatever comes of this; the next training looks again.
        tracing::error!(correlation = caller.correlation, %error, "the survey of the stays failed");
    }
    Ok(Reply::done().log(match trained {
        Training::UpToDate => "a newer model exists".to_owned(),
        Training::Trained(record) => {
            format!("model {} trained on {} rows, promoted: {}", record.version, record.rows, record.promoted)
        }
    }))
}

/// `timerTrigger`: a signed checkpoint of the audit trail.
async fn checkpoint(app: &App, caller: &Caller) -> Result<Reply> {
    let name = workflow::audit_checkpoint(caller, &app.hospital, (app.now)()).await?;
    Ok(Reply::done().log(format!("checkpoint {name}")))
}

/// `timerTrigger`: instances come and go, and one that went may have left something unpublished. What the topic does not take is not the
/// delivery's failure: it is told where it happens, and tried again.
async fn publish(app: &App) -> Result<Reply> {
    if app.hospital.config.topic.is_none() {
        return Ok(Reply::done().log("no topic is configured"));
    }
    let published = workflow::publish(&app.hospital, app.now).await?;
    let again = published.again.map_or_else(|| "nothing waits".to_owned(), |at| format!("more at {}", at.to_rfc3339()));
    Ok(Reply::done().log(format!("{} events published, {again}", published.accepted)))
}

/// An HTTP function's call as the host wraps it when it neither proxies nor forwards. Whatever is wrong with it, the client is told: what
/// carries no `res` the host answers with an empty 200. `correlation` is the host's id of the call; what the client's headers say is not.
async fn http_in_envelope(app: &Arc<App>, invocation: &Invocation, correlation: &str) -> Result<Reply> {
    let reply = match invocation.data("req").as_deref().and_then(unwrap_request) {
        None => problem::improper("the call cannot be read: send its headers and its body as HTTP has them"),
        Some(request) if request.body.len() > app.hospital.config.body_bytes_max => {
            problem::body_refused(BodyRefused::TooLarge(app.hospital.config.body_bytes_max))
        }
        Some(mut request) => {
            let id = HeaderValue::from_str(correlation).map_err(|_| Error::internal("the call's id is no header"))?;
            request.headers.insert(auth::INVOCATION, id);
            api_call(app, request).await
        }
    };
    // The connection is the host's.
    let told = reply.headers.iter().filter(|(name, _)| *name != "connection");
    let headers: serde_json::Map<String, Value> =
        told.map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect();
    let body = String::from_utf8_lossy(&reply.body);
    Ok(Reply::done().output("res", json!({ "statusCode": reply.status.as_u16(), "headers": headers, "body": body })))
}

/// A call whose body is here.
async fn api_call(app: &Arc<App>, request: ApiRequest) -> ApiReply {
    let until = Instant::now() + API_TIME_MAX;
    let (entering, asked) = (Arc::clone(app), request.clone());
    match seen_through(ENTRY, until, async move { api::enter(&entering, &asked).await }).await {
        Ok(Ok(entered)) => carried_out(Arc::clone(app), entered, request, until, ()).await,
        Ok(Err(refused)) | Err(refused) => refused,
    }
}

fn unwrap_request(call: &Value) -> Option<ApiRequest> {
    let method = Method::from_bytes(call["Method"].as_str()?.as_bytes()).ok()?;
    let (path, query) = path_and_query(call["Url"].as_str()?)?;
    let mut headers = HeaderMap::new();
    for (name, values) in call["Headers"].as_object().into_iter().flatten() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let values: Vec<&Value> = values.as_array().map_or_else(|| vec![values], |values| values.iter().collect());
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_str()?.as_bytes()).ok()?);
        }
    }
    let body = call["Body"].as_str().unwrap_or_default();
    // The host gives binary bodies in base64.
    let binary = headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"application/octet-stream"));
    let body = if binary { Bytes::from(BASE64_STANDARD.decode(body).ok()?) } else { Bytes::copy_from_slice(body.as_bytes()) };
    Some(ApiRequest { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

/// As they stand in the address: whoever makes plain paths of dots would reach another route than a call that comes directly.
fn path_and_query(url: &str) -> Option<(&str, &str)> {
    let (_, rest) = url.split_once("://")?;
    let rest = &rest[rest.find(['/', '?', '#']).unwrap_or(rest.len())..];
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    Some(rest.split_once('?').unwrap_or((rest, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_as_it_stands() {
        for (url, path, query) in [
            ("http://h/api/audit?limit=1", "/api/audit", "limit=1"),
            ("https://h:7071/api/health/../audit#x?y", "/api/health/../audit", ""),
            ("http://h?a=/api/audit", "", "a=/api/audit"),
            ("http://h", "", ""),
        ] {
            assert_eq!(path_and_query(url), Some((path, query)), "{url}");
        }
        assert_eq!(path_and_query("/api/audit"), None);
    }
}
