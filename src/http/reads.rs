//! What people of three roles read: patients, predictions, encounters that name nobody. Here is what the routes share, and the last of them.

use std::str::FromStr;

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::routes::Operation;
use super::{ApiReply, ApiRequest, App, patients, predictions};
use crate::codec::fhir::FHIR_JSON;
use crate::codec::rows::{COLUMNS, NDJSON, csv_header, csv_line, ndjson_line};
use crate::domain::{Action, Caller};
use crate::error::{Error, Result};
use crate::schema::{FEATURES, Shape};
use crate::workflow::{self, ROWS_MAX, ROWS_MIN};

/// Rows of a page when the caller asks for no number.
const ROWS: u32 = 1_000;

/// A query parameter, for the documents: name, JSON type, meaning.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

/// Those of `GET /api/encounters`.
pub(super) const PARAMETERS: [Parameter; 3] = [
    ("limit", "integer", "Rows of a page, about: 500 to 5000."),
    ("cursor", "string", "Where the page before ended: the cursor of its `link` with rel=\"next\"."),
    ("format", "string", "`ndjson` or `csv`; otherwise as the header `accept` says, NDJSON if it says nothing."),
];

/// Answers a call. One whose parameters cannot be understood leaves its event, too.
pub(super) async fn answer(app: &App, caller: &Caller, request: &ApiRequest, operation: Operation, id: &str) -> Result<ApiReply> {
    let understood = match operation {
        Operation::Patients => patients::filter(request).map(drop),
        Operation::Predictions => predictions::asked(request).map(drop),
        Operation::Rows => shape(request).map(drop),
        _ => Ok(()),
    };
    if let Err(error) = understood {
        let action = match operation {
            Operation::Patients => Action::ReadPatients,
            Operation::Predictions => Action::ReadPredictions,
            _ => Action::ReadRows,
        };
        workflow::refuse_message(caller, &app.hospital, action, (app.now)()).await?;
        return Err(error);
    }
    match operation {
        Operation::Patients => patients::page(app, caller, request).await,
        Operation::Patient => patients::one(app, caller, request, id).await,
        Operation::Predictions => predictions::report(app, caller, request).await,
        _ => rows(app, caller, request).await,
    }
}

/// Does the caller ask for FHIR?
pub(super) fn wants_fhir(request: &ApiRequest) -> bool {
    accepts(request, FHIR_JSON)
}

/// Whether the operation has an answer in FHIR.
pub(super) const fn answers_fhir(operation: Operation) -> bool {
    matches!(operation, Operation::Patients | Operation::Patient)
}

fn accepts(request: &ApiRequest, media_type: &str) -> bool {
    request.header("accept").is_some_and(|accept| {
        accept.split(',').any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type))
    })
}

/// A query parameter that must be `what`; `None` if it is absent.
pub(super) fn parameter<T: FromStr>(request: &ApiRequest, name: &str, what: &str) -> Result<Option<T>> {
    request.text(name).map(|text| text.parse().map_err(|_| refuse(name, what))).transpose()
}

/// What a caller is told whose query parameter is not `what`.
pub(super) fn refuse(name: &str, what: &str) -> Error {
    Error::invalid(format!("the query parameter {name} must be {what}"))
}

/// How many rows are asked for, and whether as CSV.
fn shape(request: &ApiRequest) -> Result<(u32, bool)> {
    let limit: u32 = parameter(request, "limit", "a whole number")?.unwrap_or(ROWS).clamp(ROWS_MIN, ROWS_MAX);
    let csv = match request.text("format").as_deref() {
        Some("csv") => true,
        Some("ndjson") => false,
        Some(_) => return Err(refuse("format", "ndjson or csv")),
        None => accepts(request, "text/csv"),
    };
    Ok((limit, csv))
}

async fn rows(app: &App, caller: &Caller, request: &ApiRequest) -> Result<ApiReply> {
    let (limit, csv) = shape(request)?;
    let page = workflow::rows(caller, &app.hospital, request.text("cursor").as_deref(), limit, (app.now)()).await?;
    let mut body = String::new();
    if csv {
        body.push_str(&csv_header());
        body.push('\n');
    }
    for row in &page.rows {
        body.push_str(&if csv { csv_line(row) } else { ndjson_line(row) });
        body.push('\n');
    }
    let media_type = if csv { "text/csv; charset=utf-8; header=present" } else { NDJSON };
    let mut reply = ApiReply::text(StatusCode::OK, media_type, body);
    if let Some(next) = page.next {
        let format = request.text("format").map(|format| format!("&format={format}")).unwrap_or_default();
        reply = reply.with("link", format!("</api/encounters?cursor={next}&limit={limit}{format}>; rel=\"next\""));
    }
    let withheld: Vec<_> = page.withheld.iter().map(|feature| feature.spec().name).collect();
    Ok(if withheld.is_empty() { reply } else { reply.with("x-withheld", withheld.join(", ")) })
}

/// One row, for the documents.
pub(super) fn schema() -> Value {
    let mut properties = serde_json::Map::new();
    let told = [
        json!({ "type": "string", "description": "Stands for the encounter, the same in every answer under one key." }),
        json!({ "type": ["integer", "null"], "description": "Year of admission; null where too few patients share it." }),
        json!({ "type": ["string", "null"], "description": "FHIR's administrative-gender; null where too few patients share it." }),
        json!({ "type": ["string", "null"], "description": "The facility's letter; null where too few patients share it." }),
        json!({ "type": ["integer", "null"], "description": "Whole days; 90 stands for 90 and more; null unless the patient left before this quarter." }),
    ];
    properties.extend(COLUMNS.into_iter().map(str::to_owned).zip(told));
    for spec in &FEATURES {
        let unit = if let Shape::Measurement(measurement) = spec.shape { measurement.unit } else { "" };
        properties.insert(
            spec.name.to_owned(),
            json!({ "type": ["number", "null"], "description": format!("{} {unit}", spec.doc).trim() }),
        );
    }
    json!({ "type": "object", "properties": properties })
}
