//! This API as an OpenAPI 3.1 document, generated from the route list and the clinical table.

use serde_json::{Map, Value, json};

use super::routes::{Operation, ROUTES, Route};
use super::{patients, predictions, reads};
use crate::domain::access::may;
use crate::domain::elevation::{WORDS_CHARS_MAX, WORDS_CHARS_MIN};
use crate::domain::scopes;
use crate::domain::{Reason, Role};
use crate::schema::{FEATURES, Feature, Shape};

/// The document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        entry[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Health Data AI",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Admit and discharge patients in FHIR and read what the hospital may know. \
                            Every answer to a refused call is problem+json; FHIR-shaped calls get an OperationOutcome.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "entra": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                "description": "An access token of Microsoft Entra ID for this app (on one machine: of `hdai token`). The names beside a \
                                requirement are app roles." } },
            "schemas": schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut responses = json!({ "200": { "description": "Done.", "content": content(route.operation) } });
    let mut refuse = |status: &str, description: &str| {
        responses[status] = json!({ "description": description, "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" } } } });
    };
    if !route.is_open() {
        refuse("401", "Nobody proved who they are.");
    }
    if route.action.is_some() {
        refuse("403", "The caller's roles do not allow it.");
        refuse("429", "Too many calls, failures or refusals in a short time; `Retry-After` says when to come again.");
    }
    if route.path.contains("{id}") {
        refuse("404", "There is none of this id.");
    }
    match route.operation {
        Operation::Admit | Operation::Discharge => {
            refuse("400", "The message breaks rules; each fault has its JSON path.");
            refuse("409", "The encounter is in a state that excludes this.");
            refuse("413", "The body is too large.");
            refuse("415", "The body's media type is not JSON.");
            refuse("422", "The dates cannot be right.");
            refuse("503", "The record is away; try again.");
        }
        Operation::Rows => {
            refuse("400", "A query parameter breaks its rule.");
            refuse("409", "Encounters of the time that is told came since this export began: begin it again.");
        }
        Operation::Patients | Operation::Predictions => refuse("400", "A query parameter breaks its rule."),
        Operation::Champion => refuse("404", "No model is trained yet."),
        Operation::Assign => refuse("400", "The object id, a facility or the body cannot be right."),
        Operation::BreakGlass => {
            refuse("400", "The body breaks rules.");
            refuse("409", "The caller has broken the glass too often within a day.");
        }
        _ => {}
    }
    match route.operation {
        Operation::Admit => responses["201"] = json!({ "description": "Admitted.", "content": content(route.operation) }),
        Operation::Discharge => refuse("404", "No open encounter with this id in the caller's facilities."),
        Operation::BreakGlass => {
            responses["201"] = json!({ "description": "Broken from now on.", "content": content(route.operation) })
        }
        _ => {}
    }
    let mut operation = json!({
        "operationId": format!("{:?}", route.operation),
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses,
    });
    if let Some(action) = route.action {
        let roles: Vec<&str> = Role::ALL.into_iter().filter(|role| may(*role, action)).map(Role::name).collect();
        // Each of them alone will do: alternatives are objects of their own.
        operation["security"] = roles.iter().map(|role| json!({ "entra": [role] })).collect();
        let scope = match scopes::asked(action).as_slice() {
            [] => String::new(),
            [scope] => format!(" SMART scope: {scope}."),
            scopes => format!(" SMART scopes, all of them: {}.", scopes.join(", ")),
        };
        operation["description"] = json!(format!("Allowed to: {}.{scope}", roles.join(", ")));
    } else {
        operation["security"] = if route.is_open() { json!([]) } else { json!([{ "entra": [] }]) };
    }
    if let Some(body) = request_body(route.operation) {
        operation["requestBody"] = body;
    }
    operation
}

fn parameters(route: &Route) -> Value {
    let number = |name: &str, what: &str| json!({ "name": name, "in": "query", "description": what, "schema": { "type": "integer", "minimum": 0 } });
    let mut parameters = Vec::new();
    if route.path.contains("{id}") {
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "schema": id_schema(route.operation) }));
    }
    match route.operation {
        Operation::Imports | Operation::Anomalies | Operation::Models | Operation::Assignments | Operation::Elevations => {
            parameters.push(number("limit", "Most entries, at most 1000."))
        }
        Operation::Audit => {
            parameters.push(number("limit", "Most entries, at most 1000."));
            let filter =
                |(name, kind, what)| json!({ "name": name, "in": "query", "description": what, "schema": { "type": kind } });
            parameters.extend(super::audit::FILTERS.map(filter));
        }
        Operation::Rejects => {
            parameters.push(number("after", "Rejects to pass over."));
            parameters.push(number("limit", "Most entries, at most 1000."));
        }
        Operation::Census => parameters.push(number("days", "Days ahead for the expected discharges, at most 30.")),
        Operation::Patients => parameters.extend(patients::PARAMETERS.map(query)),
        Operation::Predictions => parameters.extend(predictions::PARAMETERS.map(query)),
        Operation::Rows => parameters.extend(reads::PARAMETERS.map(query)),
        _ => {}
    }
    Value::Array(parameters)
}

fn query((name, kind, what): reads::Parameter) -> Value {
    json!({ "name": name, "in": "query", "description": what, "schema": { "type": kind } })
}

fn id_schema(operation: Operation) -> Value {
    match operation {
        Operation::Patient => json!({ "type": "integer", "minimum": 1 }),
        Operation::Assign | Operation::Unassign => json!({ "type": "string", "pattern": "^[A-Za-z0-9._@-]{1,128}$" }),
        _ => json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
    }
}

fn content(operation: Operation) -> Value {
    let schema = match operation {
        Operation::Admit => json!({ "$ref": "#/components/schemas/AdmissionAnswer" }),
        Operation::Discharge => json!({ "$ref": "#/components/schemas/DischargeAnswer" }),
        Operation::Anomalies => json!({ "$ref": "#/components/schemas/Anomalies" }),
        Operation::Import => json!({ "$ref": "#/components/schemas/Receipt" }),
        Operation::Predictions => json!({ "$ref": "#/components/schemas/Predictions" }),
        Operation::Patients | Operation::Patient => {
            let name = if operation == Operation::Patients { "Patients" } else { "Patient" };
            let bundle = json!({ "schema": { "type": "object", "description": "A FHIR R4 Bundle." } });
            return json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } },
                "application/fhir+json": bundle });
        }
        Operation::Rows => {
            return json!({ "application/x-ndjson": { "schema": { "$ref": "#/components/schemas/Row" } },
                "text/csv": { "schema": { "type": "string" } } });
        }
        _ => json!({ "type": "object" }),
    };
    json!({ "application/json": { "schema": schema } })
}

fn request_body(operation: Operation) -> Option<Value> {
    let own = match operation {
        Operation::Assign => Some("NewAssignment"),
        Operation::BreakGlass => Some("NewBreakGlass"),
        _ => None,
    };
    if let Some(schema) = own {
        let schema = json!({ "schema": { "$ref": format!("#/components/schemas/{schema}") } });
        return Some(json!({ "required": true, "content": { "application/json": schema } }));
    }
    let (what, schema) = match operation {
        Operation::Admit => ("The blueprint's four-part message, or a FHIR R4 Bundle", "AdmissionMessage"),
        Operation::Discharge => ("The blueprint's message, a FHIR R4 Encounter, or a Bundle with one", "DischargeMessage"),
        _ => return None,
    };
    let schema = json!({ "schema": { "$ref": format!("#/components/schemas/{schema}") } });
    Some(json!({ "required": true, "description": format!("{what}; UTF-8 or UTF-16."),
        "content": { "application/json": schema, "application/fhir+json": schema } }))
}

fn schemas() -> Value {
    let interval = json!({ "type": "object", "properties": { "low": { "type": "number" }, "high": { "type": "number" } } });
    let codes: Vec<Value> = FEATURES
        .iter()
        .filter_map(|spec| {
            let code = spec.code?;
            let unit = if let Shape::Measurement(measurement) = spec.shape { measurement.unit } else { "" };
            Some(json!({ "name": spec.name, "system": code.system.uri(), "code": code.code, "unit": unit, "what": spec.doc }))
        })
        .collect();
    json!({
        "Anomalies": anomalies(),
        "Receipt": receipt(),
        "NewAssignment": { "type": "object", "required": ["facilities"], "properties": { "facilities": { "oneOf": [
            { "const": "all" }, { "type": "array", "items": { "type": "string", "pattern": "^[A-Za-z0-9]$" } }] } } },
        "NewBreakGlass": { "type": "object", "required": ["reason", "text"], "properties": {
            "reason": { "enum": Reason::ALL.map(Reason::code) },
            "text": { "type": "string", "minLength": WORDS_CHARS_MIN, "maxLength": WORDS_CHARS_MAX,
                "description": "Why, typed by the caller. It is encrypted; an auditor reads it." },
            "minutes": { "type": "integer", "minimum": 1, "description": "At most the setting HDAI_BREAK_GLASS_MINUTES_MAX; 60 if absent." } } },
        "Patients": patients::page_schema(),
        "Patient": patients::schema(true),
        "Predictions": predictions::schema(),
        "Row": reads::schema(),
        "Problem": { "type": "object", "required": ["title", "status"], "properties": {
            "type": { "type": "string" }, "title": { "type": "string" }, "status": { "type": "integer" }, "detail": { "type": "string" },
            "result": { "type": "string", "description": "The blueprint's word." },
            "faults": { "type": "array", "items": { "type": "object", "properties": {
                "path": { "type": "string" }, "rule": { "type": "string" }, "remedy": { "type": "string" } } } } } },
        "AdmissionMessage": { "type": "object", "x-codes": codes,
            "description": "`{patient, encounter, observations[], conditions[]}` in the blueprint's or R4's shapes, or an R4 Bundle. \
                            `x-codes` lists the codes that are read." },
        "DischargeMessage": { "type": "object", "description": "`{patient, encounter}` with `encounter.id` and `encounter.period.end`, \
                                                               an R4 Encounter, or an R4 Bundle." },
        "Prediction": { "type": "object", "properties": {
            "days": { "type": "number", "minimum": 1 }, "wholeDays": { "type": "integer", "minimum": 1 },
            "predictedDischarge": { "type": "string", "format": "date" },
            "interval80": interval, "interval90": interval, "modelVersion": { "type": "string" }, "baselineDays": { "type": "number" },
            "contributions": { "type": "array", "items": { "type": "object", "properties": {
                "factor": { "type": "string" }, "days": { "type": "number" } } } },
            "missing": { "type": "array", "items": { "type": "string" } },
            "outOfRange": { "type": "array", "items": { "type": "string" } } } },
        "AdmissionAnswer": { "type": "object", "required": ["encounterId", "name", "gender", "admittedOn", "result"], "properties": {
            "encounterId": { "type": "integer" }, "name": { "type": "string" }, "gender": { "type": "string" },
            "admittedOn": { "type": "string" }, "result": { "type": "string" },
            "prediction": { "oneOf": [{ "$ref": "#/components/schemas/Prediction" }, { "type": "null" }] } } },
        "DischargeAnswer": { "type": "object", "required": ["encounterId", "name", "dischargedOn", "daysStayed", "result"], "properties": {
            "encounterId": { "type": "integer" }, "name": { "type": "string" }, "dischargedOn": { "type": "string" },
            "daysStayed": { "type": "integer" }, "result": { "type": "string" }, "predictionErrorDays": { "type": ["number", "null"] },
            "prediction": { "oneOf": [{ "$ref": "#/components/schemas/Prediction" }, { "type": "null" }] } } },
    })
}

fn receipt() -> Value {
    let (text, count) = (json!({ "type": "string" }), json!({ "type": "integer", "minimum": 0 }));
    let line = |what: &str| json!({ "type": ["integer", "null"], "minimum": 1, "description": what });
    json!({ "type": "object", "properties": {
        "importId": text, "container": text, "name": text, "etag": text,
        "sha256": { "type": "string", "description": "Of the file, hex; empty until it was read to its end." },
        "state": { "enum": ["running", "done", "failed"] },
        "failure": text,
        "attempts": { "type": "integer", "description": "Deliveries that began work on the file." },
        "rows": { "type": "object", "properties": { "read": count, "stored": count, "updated": count, "unchanged": count, "rejected": count } },
        "firstLine": line("The line that the file's first data row starts on; null if it has none, or until the file was read to its end."),
        "lastLine": line("The line that its last data row ends on."),
        "extraColumns": { "type": "array", "items": text },
        "rejectsFile": { "type": ["string", "null"] },
        "schemaFingerprint": text,
        "started": { "type": "string", "format": "date-time" },
        "finished": { "type": ["string", "null"], "format": "date-time" },
        "durationMilliseconds": { "type": ["integer", "null"] },
        "signature": { "type": "object", "properties": { "algorithm": text, "keyId": text, "value": text } } } })
}

fn anomalies() -> Value {
    let day = json!({ "type": ["string", "null"], "format": "date" });
    let days = json!({ "type": ["number", "null"], "description": "Days; null where there are fewer stays than suppressedBelow." });
    let conditions: Vec<&str> = Feature::conditions().map(|feature| feature.spec().name).chain(["all"]).collect();
    json!({ "type": "object", "required": ["found", "charts", "tooShortForAChart", "findings"], "properties": {
        "found": { "type": ["string", "null"], "format": "date-time", "description": "When the stays were looked at; null before the first time." },
        "firstWeek": day, "lastWeek": day,
        "charts": { "type": "integer", "description": "Groups (a facility, all patients or one condition) with a control chart." },
        "tooShortForAChart": { "type": "integer", "description": "Groups whose history is too short for one." },
        "suppressedBelow": { "type": "integer" },
        "findings": { "type": "array", "items": { "type": "object", "properties": {
            "condition": { "enum": conditions }, "label": { "type": "string" }, "facility": { "type": "string" },
            "direction": { "enum": ["rise", "decline"] },
            "firstWeek": { "type": "string", "format": "date", "description": "Monday of the first week out of the limits." },
            "lastWeek": { "type": "string", "format": "date", "description": "Monday of the last week out of the limits." },
            "expectedDays": { "type": "number", "description": "The baseline's average, days." },
            "meanDays": days, "averageDays": days,
            "limitDays": { "type": "number", "description": "The limit that the moving average left, days." },
            "stays": { "type": ["integer", "null"] } } } } } })
}
