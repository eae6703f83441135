//! Announcements as CloudEvents 1.0, in the JSON batch format: ids only. It does not know where they are posted to.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::domain::{Announcement, Fact};

/// The content type of a batch.
pub const BATCH_TYPE: &str = "application/cloudevents-batch+json; charset=utf-8";

/// What an event's type has before the fact's name.
pub const TYPE_PREFIX: &str = "org.healthdataai.";

/// A batch as it is posted. `source` is who we are.
pub fn batch(source: &str, announcements: &[Announcement]) -> Vec<u8> {
    Value::Array(announcements.iter().map(|announcement| event(source, announcement)).collect()).to_string().into_bytes()
}

fn event(source: &str, Announcement { id, fact, at }: &Announcement) -> Value {
    let (folder, data) = match fact {
        Fact::ImportCompleted(import) => ("imports", json!({ "importId": import.0 })),
        Fact::ModelTrained(version) => ("models", json!({ "modelVersion": version })),
        Fact::PatientAdmitted(encounter) | Fact::PatientDischarged(encounter) => {
            ("encounters", json!({ "encounterId": encounter.get() }))
        }
        Fact::GlassBroken(id) => ("break-glass", json!({ "breakGlassId": id })),
    };
    json!({
        "specversion": "1.0",
        "type": format!("{TYPE_PREFIX}{}", fact.name()),
        "source": source,
        "id": id,
        "time": at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "subject": format!("{folder}/{}", fact.id()),
        "datacontenttype": "application/json",
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::codec::event_grid;
    use crate::domain::EncounterId;
    use crate::domain::import::ImportId;

    fn announcement(id: &str, fact: Fact) -> Announcement {
        Announcement { id: id.into(), fact, at: DateTime::from_timestamp_micros(1_795_000_000_123_456).unwrap() }
    }

    #[test]
    fn an_event_says_what_happened_to_which_id_and_no_more() {
        let encounter = EncounterId::new(17).unwrap();
        let facts = [
            (Fact::ImportCompleted(ImportId("0a".into())), "import.completed", "imports/0a", json!({ "importId": "0a" })),
            (Fact::ModelTrained("los-1".into()), "model.trained", "models/los-1", json!({ "modelVersion": "los-1" })),
            (Fact::PatientAdmitted(encounter), "patient.admitted", "encounters/17", json!({ "encounterId": 17 })),
            (Fact::PatientDischarged(encounter), "patient.discharged", "encounters/17", json!({ "encounterId": 17 })),
            (Fact::GlassBroken("0b".into()), "glass.broken", "break-glass/0b", json!({ "breakGlassId": "0b" })),
        ];
        for (fact, name, subject, data) in facts {
            let batch: Value = serde_json::from_slice(&batch("/ward", &[announcement("e-1", fact)])).unwrap();
            let expected = json!([{
                "specversion": "1.0", "type": format!("org.healthdataai.{name}"), "source": "/ward", "id": "e-1",
                "time": "2026-11-18T11:06:40.123456Z", "subject": subject, "datacontenttype": "application/json", "data": data,
            }]);
            assert_eq!(batch, expected);
            // Our own reader of events understands them.
            let (events, rejects) = event_grid::decode(&batch);
            assert_eq!((events.len(), rejects.len()), (1, 0));
        }
    }
}
