//! What others are told of: a fact of the record by its ids alone, waiting to be published.

use chrono::{DateTime, Utc};

use super::encounter::EncounterId;
use super::import::ImportId;

/// A fact that others may hear of. It holds ids and nothing that is known of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Every row of a file is stored or rejected.
    ImportCompleted(ImportId),
    /// A model of this version was trained and kept, as champion or not.
    ModelTrained(String),
    /// A patient was admitted.
    PatientAdmitted(EncounterId),
    /// A patient was discharged.
    PatientDischarged(EncounterId),
    /// Somebody broke the glass: the elevation's id.
    GlassBroken(String),
}

impl Fact {
    /// The fact's name in the record and, behind the publisher's prefix, in an event's type.
    pub const fn name(&self) -> &'static str {
        match self {
            Fact::ImportCompleted(_) => "import.completed",
            Fact::ModelTrained(_) => "model.trained",
            Fact::PatientAdmitted(_) => "patient.admitted",
            Fact::PatientDischarged(_) => "patient.discharged",
            Fact::GlassBroken(_) => "glass.broken",
        }
    }

    /// The id of what the fact is about.
    pub fn id(&self) -> String {
        match self {
            Fact::ImportCompleted(id) => id.0.clone(),
            Fact::ModelTrained(id) | Fact::GlassBroken(id) => id.clone(),
            Fact::PatientAdmitted(id) | Fact::PatientDischarged(id) => id.get().to_string(),
        }
    }

    /// Reads what [`Fact::name`] and [`Fact::id`] wrote.
    pub fn parse(name: &str, id: &str) -> Option<Self> {
        let encounter = || EncounterId::new(id.parse().ok()?);
        match name {
            "import.completed" => Some(Fact::ImportCompleted(ImportId(id.to_owned()))),
            "model.trained" => Some(Fact::ModelTrained(id.to_owned())),
            "patient.admitted" => encounter().map(Fact::PatientAdmitted),
            "patient.discharged" => encounter().map(Fact::PatientDischarged),
            "glass.broken" => Some(Fact::GlassBroken(id.to_owned())),
            _ => None,
        }
    }
}

/// A fact on its way to the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The event's id: the same at every attempt to publish it, and no other event's.
    pub id: String,
    /// The fact.
    pub fact: Fact,
    /// When it became one, UTC.
    pub at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_read_as_it_was_written() {
        let encounter = EncounterId::new(17).unwrap();
        for fact in [
            Fact::ImportCompleted(ImportId("0a".into())),
            Fact::ModelTrained("los-1".into()),
            Fact::PatientAdmitted(encounter),
            Fact::PatientDischarged(encounter),
            Fact::GlassBroken("0b".into()),
        ] {
            assert_eq!(Fact::parse(fact.name(), &fact.id()), Some(fact));
        }
        assert_eq!(Fact::parse("patient.admitted", "x"), None);
        assert_eq!(Fact::parse("patient.moved", "17"), None);
    }
}
