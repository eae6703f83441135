//! What an `Encounter` resource says: its id, its days, its facility, its status and the readmission count.

use chrono::{NaiveDate, NaiveTime};

use super::READMISSION_COUNT_URL;
use super::fault::{Findings, Issue};
use super::message::{Message, Resource, last_part};
use super::node::Node;
use crate::domain::encounter::is_believable;
use crate::domain::{EncounterId, FacilityId};
use crate::schema::READMISSIONS_TOP;

/// The encounter's id: `id` as a number or a string of digits, otherwise the one number among `identifier[].value`.
pub(super) fn id(encounter: &Node<'_>, findings: &mut Findings) -> Option<EncounterId> {
    let id = encounter.get("id");
    let found = match id.value() {
        serde_json::Value::Number(number) => number.as_i64().and_then(EncounterId::new),
        _ => id.text(findings).and_then(digits).or_else(|| identifier(&encounter.get("identifier"), findings)),
    };
    if found.is_none() {
        let (issue, rule) = match id.is_absent() {
            true => (Issue::Required, "must be there: a whole number from 1 to 2147483647"),
            false => (Issue::Value, "must be a whole number from 1 to 2147483647, here or in an identifier"),
        };
        findings.fault(id.path(), issue, rule, "Send the hospital's encounter number.");
    }
    found
}

fn digits(text: &str) -> Option<EncounterId> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?.and_then(EncounterId::new)
}

fn identifier(list: &Node<'_>, findings: &mut Findings) -> Option<EncounterId> {
    let mut any = Vec::new();
    let mut official = Vec::new();
    for item in list.one_or_many(findings) {
        let Some(id) = item.get("value").word().and_then(digits) else { continue };
        let chosen = if item.get("use").word() == Some("official") { &mut official } else { &mut any };
        if !chosen.contains(&id) {
            chosen.push(id);
        }
    }
    match (official.as_slice(), any.as_slice()) {
        ([only], _) | ([], [only]) => Some(*only),
        ([], []) => None,
        _ => {
            findings.fault(
                list.path(),
                Issue::Value,
                "holds more than one number",
                "Mark the encounter number with use = official, or send it as id.",
            );
            None
        }
    }
}

/// Faults an encounter that its sender has called off.
pub(super) fn check_status(encounter: &Node<'_>, findings: &mut Findings) {
    let status = encounter.get("status");
    if matches!(status.text(findings), Some("entered-in-error" | "cancelled")) {
        findings.fault(
            status.path(),
            Issue::BusinessRule,
            "must not be entered-in-error or cancelled",
            "Send only encounters that take place.",
        );
    }
}

/// The calendar day of a FHIR `dateTime`, as written: the day in the writer's own offset is the day in the facility, and moving it to UTC
/// would move admissions of the evening or the early morning to another day. The day must be full and believable.
pub(super) fn day(node: &Node<'_>, findings: &mut Findings) -> Option<NaiveDate> {
    if node.is_absent() {
        findings.fault(node.path(), Issue::Required, "must be there", "Send a date and time, YYYY-MM-DDThh:mm:ss+zz:zz.");
        return None;
    }
    let text = node.value().as_str().map(str::trim);
    let Some(text) = text else {
        findings.fault(node.path(), Issue::Structure, "must be a string", "Send a date and time, YYYY-MM-DDThh:mm:ss+zz:zz.");
        return None;
    };
    if is_partial(text) {
        findings.fault(node.path(), Issue::Value, "must name a full day, not a year or a month alone", "Send the full date.");
        return None;
    }
    let day = date_time(text);
    if day.is_none() {
        let rule = "must be a FHIR dateTime: YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz";
        findings.fault(node.path(), Issue::Value, rule, "Correct the date.");
    }
    let believable = day.filter(|day| is_believable(*day));
    if day.is_some() && believable.is_none() {
        findings.fault(node.path(), Issue::Value, "must be from 1900 to 2199", "Correct the year.");
    }
    believable
}

fn is_partial(text: &str) -> bool {
    matches!(text.len(), 4 | 7)
        && text.bytes().enumerate().all(|(at, byte)| if at == 4 { byte == b'-' } else { byte.is_ascii_digit() })
}

/// The day of `YYYY-MM-DD[Thh:mm[:ss[.fff]][Z|+hh:mm]]`. FHIR wants seconds and an offset with a time; neither is needed for the day.
fn date_time(text: &str) -> Option<NaiveDate> {
    let (date, rest) = text.split_at_checked(10)?;
    let shaped = date.bytes().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    let timed = rest.is_empty() || rest.strip_prefix('T').is_some_and(is_time);
    if shaped && timed { NaiveDate::parse_from_str(date, "%Y-%m-%d").ok() } else { None }
}

fn is_time(text: &str) -> bool {
    let (time, offset) = match text.find(['Z', '+', '-']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let clock = |text: &str, format| NaiveTime::parse_from_str(text, format).is_ok();
    let offset_holds = match offset.strip_prefix(['+', '-']) {
        Some(hours) => hours.len() == 5 && clock(hours, "%H:%M"),
        None => matches!(offset, "" | "Z"),
    };
    offset_holds && (clock(time, "%H:%M:%S%.f") || clock(time, "%H:%M"))
}

/// The facility: of `serviceProvider` the display (the blueprint's way), the reference's id, the identifier, and what an Organization of
/// the same message says; the first that names a known facility counts.
pub(super) fn facility(
    encounter: &Node<'_>,
    message: &Message<'_>,
    facilities: &[FacilityId],
    findings: &mut Findings,
) -> Option<FacilityId> {
    let provider = encounter.get("serviceProvider");
    let reference = provider.get("reference").word();
    let mut names: Vec<&str> =
        [provider.get("display").word(), reference.map(last_part), provider.get("identifier").get("value").word()]
            .into_iter()
            .flatten()
            .collect();
    let is_meant = |organization: &&Resource<'_>| reference.and_then(|to| organization.is_meant_by(to)) == Some(true);
    for organization in message.organizations.iter().filter(is_meant) {
        names.extend(organization.node.get("id").word());
        names.extend(organization.node.get("identifier").list().iter().filter_map(|item| item.get("value").word()));
    }
    if names.is_empty() {
        findings.fault(
            provider.path(),
            Issue::Required,
            "must name the facility",
            "Set display or reference (Organization/..) to the facility's id.",
        );
        return None;
    }
    let known: Vec<FacilityId> = names.into_iter().filter_map(FacilityId::parse).filter(|id| facilities.contains(id)).collect();
    let Some(first) = known.first() else {
        findings.fault(
            provider.path(),
            Issue::CodeInvalid,
            "must name a facility of this hospital by its one-letter id",
            "Use an id from the facilities table.",
        );
        return None;
    };
    if known.iter().any(|id| id != first) {
        let rule = "names two facilities; the display counts, then the reference";
        findings.warn(provider.path(), Issue::Value, rule, "Let display, reference and identifier agree.");
    }
    Some(*first)
}

/// Readmissions in the past 180 days: the blueprint's `returnCount`, or the extension [`READMISSION_COUNT_URL`]. Five and more are the
/// top class. An absent count is `None`: the ancestor read it as 1, which cost its model most of its accuracy.
pub(super) fn readmissions(encounter: &Node<'_>, findings: &mut Findings) -> Option<f64> {
    let count = Some(encounter.get("returnCount")).filter(|node| !node.is_absent()).or_else(|| extended(encounter))?;
    let parsed = match count.value() {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => match text.trim() {
            "" => return None,
            "5+" => Some(READMISSIONS_TOP),
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    let whole = parsed.filter(|count| *count >= 0.0 && count.fract() == 0.0).map(|count| count.min(READMISSIONS_TOP));
    if whole.is_none() {
        findings.fault(count.path(), Issue::Value, "must be 0, 1, 2, 3, 4 or 5+", "Write 5+ for five or more, or leave it out.");
    }
    whole
}

fn extended<'a>(encounter: &Node<'a>) -> Option<Node<'a>> {
    let is_count = |extension: &Node<'_>| extension.get("url").word() == Some(READMISSION_COUNT_URL);
    let extension = encounter.get("extension").list().into_iter().find(is_count)?;
    ["valueInteger", "valueUnsignedInt", "valueString"]
        .map(|of_type| extension.get(of_type))
        .into_iter()
        .find(|node| !node.is_absent())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read<T>(value: serde_json::Value, reader: fn(&Node<'_>, &mut Findings) -> Option<T>) -> Result<Option<T>, String> {
        let mut findings = Findings::default();
        let found = reader(&Node::root(&value), &mut findings);
        findings.close().map(|_| found).map_err(|faults| faults[0].to_string())
    }

    #[test]
    fn a_day_is_kept_as_written_whatever_its_offset() {
        let expected = NaiveDate::from_ymd_opt(2017, 11, 24);
        for text in [
            "2017-11-24",
            " 2017-11-24T00:30:00+05:30",
            "2017-11-24T23:59:59-11:00",
            "2017-11-24T11:31:32.123456789Z",
            "2017-11-24T11:31:32",
            "2017-11-24T11:31Z",
        ] {
            assert_eq!(read(json!(text), day), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_day_that_is_partial_impossible_or_unbelievable_is_a_fault() {
        for (value, part) in [
            (json!("2017"), "full day"),
            (json!("2017-11"), "full day"),
            (json!("2017-02-30"), "FHIR dateTime"),
            (json!("2017-11-24T25:00:00Z"), "FHIR dateTime"),
            (json!("2017-11-24T10:00:00+5"), "FHIR dateTime"),
            (json!("2017-11-24 10:00:00"), "FHIR dateTime"),
            (json!("24.11.2017"), "FHIR dateTime"),
            (json!("2017-11-2é"), "FHIR dateTime"),
            (json!(""), "FHIR dateTime"),
            (json!("0001-01-01T00:00:00Z"), "1900 to 2199"),
            (json!(20171124), "string"),
            (json!(null), "must be there"),
        ] {
            let fault = read(value.clone(), day).unwrap_err();
            assert!(fault.contains(part), "{value}: {fault}");
        }
    }

    #[test]
    fn an_id_is_a_number_digits_or_the_one_number_among_the_identifiers() {
        let expected = Ok(EncounterId::new(100_001));
        for value in [
            json!({"id": 100001}),
            json!({"id": "100001"}),
            json!({"id": "enc-1", "identifier": [{"value": "V-9"}, {"value": "100001"}]}),
            json!({"identifier": [{"value": "7"}, {"value": "100001", "use": "official"}]}),
        ] {
            assert_eq!(read(value.clone(), id), expected, "{value}");
        }
        for (value, part) in [
            (json!({}), "must be there"),
            (json!({"id": 0}), "1 to 2147483647"),
            (json!({"id": 2_147_483_648_i64}), "1 to 2147483647"),
            (json!({"id": "-5"}), "1 to 2147483647"),
            (json!({"id": 1.5}), "1 to 2147483647"),
            (json!({"identifier": [{"value": "7"}, {"value": "8"}]}), "more than one number"),
        ] {
            let fault = read(value.clone(), id).unwrap_err();
            assert!(fault.contains(part), "{value}: {fault}");
        }
    }

    #[test]
    fn five_readmissions_and_more_are_the_top_class_and_none_is_missing() {
        let extended = |value: serde_json::Value| {
            let mut extension = value;
            extension["url"] = json!(READMISSION_COUNT_URL);
            json!({"extension": [{"url": "urn:other", "valueInteger": 1}, extension]})
        };
        for (value, expected) in [
            (json!({}), None),
            (json!({"returnCount": null}), None),
            (json!({"returnCount": ""}), None),
            (json!({"returnCount": 0}), Some(0.0)),
            (json!({"returnCount": "3"}), Some(3.0)),
            (json!({"returnCount": "5+"}), Some(5.0)),
            (json!({"returnCount": 17}), Some(5.0)),
            (extended(json!({"valueInteger": 2})), Some(2.0)),
            (extended(json!({"valueString": "5+"})), Some(5.0)),
        ] {
            assert_eq!(read(value.clone(), readmissions), Ok(expected), "{value}");
        }
        for bad in [json!(-1), json!(1.5), json!("many"), json!("-1"), json!([1]), json!(true)] {
            assert!(read(json!({"returnCount": bad}), readmissions).unwrap_err().contains("5+"));
        }
    }
}
