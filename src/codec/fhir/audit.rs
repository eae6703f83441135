//! An event of the audit trail as an R4 `AuditEvent` (<https://hl7.org/fhir/R4/auditevent.html>): who, what, when, how it ended, about
//! which encounter, from where. No value of a patient is in it.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::BASE_URL;
use crate::domain::elevation::marked;
use crate::domain::{Action, AuditRow, Outcome};

/// The event that has the number `seq` in the trail. What this program does not know is shown as it stands there, and named.
pub fn audit_event(seq: u64, row: &AuditRow) -> Value {
    let roles: Vec<Value> = row.roles.split(',').filter(|role| !role.is_empty()).map(|role| json!({ "text": role })).collect();
    let mut agent = json!({
        "who": { "identifier": { "system": format!("{BASE_URL}/callers/{}", row.proof), "value": row.caller } },
        "requestor": true,
    });
    if !roles.is_empty() {
        agent["role"] = roles.into();
    }
    if !row.origin.is_empty() {
        // 2: an IP address (http://hl7.org/fhir/network-type).
        agent["network"] = json!({ "address": row.origin, "type": "2" });
    }
    let mut resource = json!({
        "resourceType": "AuditEvent",
        "id": seq.to_string(),
        "type": { "system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest", "display": "RESTful Operation" },
        "subtype": [{ "system": format!("{BASE_URL}/CodeSystem/action"), "code": row.action }],
        "action": row.known_action().map_or("E", letter),
        "outcome": row.known_outcome().map_or("8", outcome),
        "agent": [agent],
        "source": { "observer": { "display": "Health Data AI" } },
    });
    match row.at {
        Some(at) => resource["recorded"] = at.to_rfc3339_opts(SecondsFormat::Micros, true).into(),
        None => resource["_recorded"] = json!({ "extension": [{ "url": ABSENT, "valueCode": "error" }] }),
    }
    if !row.detail.is_empty() {
        resource["outcomeDesc"] = row.detail.as_str().into();
    }
    if marked(&row.detail).is_some() {
        let system = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
        resource["purposeOfEvent"] = json!([{ "coding": [{ "system": system, "code": "BTG", "display": "break the glass" }] }]);
    }
    let mut details = vec![json!({ "type": "correlation", "valueString": row.correlation })];
    let strange = row.strange();
    if !strange.is_empty() {
        details.push(json!({ "type": "strange", "valueString": strange.join(",") }));
    }
    let mut entities = vec![json!({ "detail": details })];
    if let Some(encounter) = row.encounter {
        entities.insert(0, json!({ "what": { "reference": format!("Encounter/{encounter}") } }));
    }
    resource["entity"] = entities.into();
    resource
}

/// Why a required value is not there (<http://hl7.org/fhir/R4/extension-data-absent-reason.html>).
const ABSENT: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";

/// Create, read, update, delete or execute (<http://hl7.org/fhir/audit-event-action>).
const fn letter(action: Action) -> &'static str {
    match action {
        Action::Admit | Action::Import => "C",
        Action::Discharge | Action::AssignFacilities => "U",
        Action::ReadImports
        | Action::ReadModel
        | Action::ReadCensus
        | Action::ReadPatients
        | Action::ReadPredictions
        | Action::ReadRows
        | Action::ReadAnomalies
        | Action::ReadAudit => "R",
        Action::Train
        | Action::FindAnomalies
        | Action::CheckpointAudit
        | Action::Migrate
        | Action::RotateKeys
        | Action::BreakGlass => "E",
    }
}

/// Success, minor and serious failure (<http://hl7.org/fhir/audit-event-outcome>): a refusal is what an alert looks for.
const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "0",
        Outcome::Failure => "4",
        Outcome::Refused => "8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AuditEvent, Caller, EncounterId, Role};
    use chrono::DateTime;

    #[test]
    fn an_event_says_who_what_when_and_about_whom() {
        let caller = Caller { roles: vec![Role::CareLineManager], origin: "203.0.113.9".into(), ..Caller::command_line("c-1") };
        let event = AuditEvent::new(&caller, Action::Admit, Outcome::Refused, DateTime::UNIX_EPOCH).detail("a phrase");
        let found = audit_event(17, &AuditRow::of(&event.about(EncounterId::new(42).unwrap())));
        assert_eq!((&found["resourceType"], &found["id"]), (&json!("AuditEvent"), &json!("17")));
        assert_eq!((&found["action"], &found["outcome"], &found["outcomeDesc"]), (&json!("C"), &json!("8"), &json!("a phrase")));
        assert_eq!(found["recorded"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(found["agent"][0]["role"], json!([{ "text": "CareLineManager" }]));
        assert_eq!(found["agent"][0]["network"]["address"], "203.0.113.9");
        assert_eq!(found["entity"][0]["what"]["reference"], "Encounter/42");
        assert_eq!(found["entity"][1]["detail"][0]["valueString"], "c-1");
        // What R4 requires of every event.
        for member in ["type", "recorded", "agent", "source"] {
            assert!(!found[member].is_null(), "{member}");
        }
        let bare = AuditEvent::new(&Caller::platform("f", "c"), Action::Train, Outcome::Success, DateTime::UNIX_EPOCH);
        let bare = AuditRow::of(&bare);
        let strange = audit_event(1, &AuditRow { at: None, action: "teleport".into(), outcome: "maybe".into(), ..bare.clone() });
        assert_eq!((&strange["subtype"][0]["code"], &strange["outcome"]), (&json!("teleport"), &json!("8")));
        assert_eq!(strange["entity"][0]["detail"][1]["valueString"], "at,action,outcome");
        assert!(strange["recorded"].is_null() && strange["_recorded"]["extension"][0]["valueCode"] == "error");
        let bare = audit_event(1, &bare);
        assert!(bare["purposeOfEvent"].is_null());
        let under = AuditEvent::new(&caller, Action::Admit, Outcome::Success, DateTime::UNIX_EPOCH).detail("break-glass 0a");
        assert_eq!(audit_event(2, &AuditRow::of(&under))["purposeOfEvent"][0]["coding"][0]["code"], "BTG");
        assert!(bare["outcomeDesc"].is_null() && bare["agent"][0]["role"].is_null() && bare["agent"][0]["network"].is_null());
    }
}
