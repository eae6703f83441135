//! Whose patients a person reaches: the facilities that are assigned, and what lifts that for a short time (break-glass).

use chrono::{DateTime, Utc};

use super::access::{Reach, Role};
use super::facility::FacilityId;
use super::patient::Phi;

/// Longest id of a caller that facilities can be assigned to.
const CALLER_CHARS_MAX: usize = 128;

/// The form in which assignments and elevations know a caller, an Entra object id: those are written in either case. `None`, if it can be
/// no such id.
pub fn caller_key(id: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    (!id.is_empty() && id.len() <= CALLER_CHARS_MAX && id.bytes().all(plain)).then(|| id.to_ascii_lowercase())
}

/// The facilities that a care line manager answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Whose: a [`caller_key`].
    pub caller: String,
    /// Which.
    pub reach: Reach,
    /// The id of the caller who said so.
    pub by: String,
    /// When, UTC.
    pub at: DateTime<Utc>,
}

impl Reach {
    /// Its form in the record: `*` for all, or the letters in order.
    pub fn code(&self) -> String {
        match self {
            Reach::All => "*".to_owned(),
            Reach::Only(facilities) => facilities.iter().map(|facility| facility.letter()).collect(),
        }
    }

    /// Reads [`Reach::code`].
    pub fn parse(code: &str) -> Option<Self> {
        if code == "*" {
            return Some(Reach::All);
        }
        let facility = |letter: char| FacilityId::parse(letter.encode_utf8(&mut [0; 4]));
        code.chars().map(facility).collect::<Option<Vec<_>>>().map(Reach::only)
    }

    /// These facilities alone, each once and in order.
    pub fn only(mut facilities: Vec<FacilityId>) -> Self {
        facilities.sort_unstable();
        facilities.dedup();
        Reach::Only(facilities)
    }
}

/// Why somebody breaks the glass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A patient is to be treated at once.
    EmergencyTreatment,
    /// A patient may come to harm otherwise.
    PatientSafety,
    /// Whoever answers for the facility is not there.
    CoverForColleague,
    /// An assignment, or the system that makes them, is wrong or away.
    SystemFailure,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] =
        [Reason::EmergencyTreatment, Reason::PatientSafety, Reason::CoverForColleague, Reason::SystemFailure];

    /// Its code in a call, in the record and in the audit trail.
    pub const fn code(self) -> &'static str {
        match self {
            Reason::EmergencyTreatment => "emergency-treatment",
            Reason::PatientSafety => "patient-safety",
            Reason::CoverForColleague => "cover-for-colleague",
            Reason::SystemFailure => "system-failure",
        }
    }

    /// The code of HL7 v3 `PurposeOfUse` (`http://terminology.hl7.org/CodeSystem/v3-ActReason`) that fits best.
    pub const fn purpose_of_use(self) -> &'static str {
        match self {
            Reason::EmergencyTreatment => "ETREAT",
            Reason::PatientSafety => "PATSFTY",
            Reason::CoverForColleague | Reason::SystemFailure => "BTG",
        }
    }

    /// The reason of this code.
    pub fn parse(code: &str) -> Option<Self> {
        Reason::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// Fewest characters of the words that go with a reason.
pub const WORDS_CHARS_MIN: usize = 10;
/// Most characters of them.
pub const WORDS_CHARS_MAX: usize = 500;

/// One time that somebody broke the glass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elevation {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Whose: a [`caller_key`].
    pub caller: String,
    /// The roles that the caller held then.
    pub roles: Vec<Role>,
    /// Why.
    pub reason: Reason,
    /// Why in the caller's own words, which may hold anything; empty in a list.
    pub words: Phi<String>,
    /// When it began, UTC; whole microseconds, as the audit trail's.
    pub from: DateTime<Utc>,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
    /// When somebody ended it before.
    pub ended: Option<DateTime<Utc>>,
    /// Events of the audit trail that needed it.
    pub events: u64,
}

impl Elevation {
    /// Does it count at `now`?
    pub fn runs(&self, now: DateTime<Utc>) -> bool {
        self.ended.is_none() && now < self.until
    }
}

/// What the record says of a caller's reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The facilities that are assigned; `None` if nobody has assigned any.
    pub assigned: Option<Reach>,
    /// The newest elevation that nobody has ended, by its id and when it ends by itself.
    pub elevation: Option<(String, DateTime<Utc>)>,
}

/// A caller's elevation as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elevated {
    /// [`Elevation::id`].
    pub id: String,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
    /// What the caller reaches without it.
    pub own: Reach,
}

/// What the detail of an audit event ends with if its action needed the elevation `id`.
pub fn mark(id: &str) -> String {
    format!("{MARK}{id}")
}

const MARK: &str = "break-glass ";

/// The id of the elevation that an event of this detail needed.
pub fn marked(detail: &str) -> Option<&str> {
    detail.rsplit("; ").next()?.strip_prefix(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_is_read_as_it_was_written() {
        let letters = |text: &str| Reach::only(text.chars().filter_map(|c| FacilityId::parse(&c.to_string())).collect());
        for reach in [Reach::All, Reach::Only(vec![]), letters("A"), letters("BA2Z")] {
            assert_eq!(Reach::parse(&reach.code()), Some(reach));
        }
        assert_eq!(letters("CABA").code(), "ABC");
        for bad in ["A*", "a b", "é", "**"] {
            assert_eq!(Reach::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_caller_is_known_whatever_the_case_of_its_id() {
        assert_eq!(caller_key("5B54-Aa").as_deref(), Some("5b54-aa"));
        for bad in ["", "a b", "a/b", "a\n", "é", &"x".repeat(129)] {
            assert_eq!(caller_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mark_is_told_from_words_about_an_elevation() {
        for detail in [mark("0a"), format!("list; {}", mark("0a"))] {
            assert_eq!(marked(&detail), Some("0a"));
        }
        for detail in ["", "list", "text of break-glass 0a", "break-glass 0a; list"] {
            assert_eq!(marked(detail), None, "{detail}");
        }
    }

    #[test]
    fn reasons_are_known_by_their_codes_alone() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.code()), Some(reason));
        }
        assert_eq!(Reason::parse("because"), None);
    }
}
