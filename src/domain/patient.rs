//! A patient, and the wrapper that keeps personal values out of logs.

use std::fmt;

/// A personal value: a name, a day of a stay, an identifier. `Debug` prints a placeholder; there is no `Display`, no `Serialize` and no
/// `Deref`, so that whoever shows, sends or stores it must call [`Phi::reveal`]. That word is what a reviewer greps for, and
/// `tests/it/phi.rs` holds the list of files that may say it.
///
/// ```compile_fail
/// # use health_data_ai::domain::Phi;
/// println!("{}", Phi::new("a name"));
/// ```
/// ```compile_fail
/// # use health_data_ai::domain::Phi;
/// serde_json::to_string(&Phi::new("a name"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Wraps a personal value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the record or for a caller who may see it.
    pub const fn reveal(&self) -> &T {
        &self.0
    }

    /// What `f` makes of the value, which is as personal.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Phi<U> {
        Phi(f(self.0))
    }

    /// The value by reference, still wrapped.
    pub const fn as_ref(&self) -> Phi<&T> {
        Phi(&self.0)
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[phi]")
    }
}

/// Longest name part kept, in UTF-16 units: the blueprint's `nvarchar(50)`. A character beyond U+FFFF counts twice.
pub const NAME_CHARS_MAX: usize = 50;

/// Is this part of a name short enough for the record?
pub fn name_fits(part: &str) -> bool {
    // No text has more UTF-16 units than bytes.
    part.len() <= NAME_CHARS_MAX || part.encode_utf16().count() <= NAME_CHARS_MAX
}

/// A person's name in the blueprint's three parts. Absent parts are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PersonName {
    /// First given name.
    pub first: Phi<String>,
    /// Further given names, separated by blanks.
    pub middle: Phi<String>,
    /// Family name.
    pub last: Phi<String>,
}

impl PersonName {
    /// A name of three parts.
    pub fn new(first: impl Into<String>, middle: impl Into<String>, last: impl Into<String>) -> Self {
        Self { first: Phi::new(first.into()), middle: Phi::new(middle.into()), last: Phi::new(last.into()) }
    }

    /// The parts that are there, joined by one blank: what the blueprint answers as `name`.
    pub fn display(&self) -> Phi<String> {
        let parts = [&self.first, &self.middle, &self.last].map(|part| part.reveal().as_str());
        Phi::new(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
    }
}

/// Administrative gender (FHIR `administrative-gender`). `Unknown` is also the absent one. `Debug` prints a placeholder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Gender {
    /// `female`, `F`
    Female,
    /// `male`, `M`
    Male,
    /// `other`, `O`
    Other,
    /// `unknown`, `U`, or absent
    #[default]
    Unknown,
}

impl Gender {
    /// All of them.
    pub const ALL: [Gender; 4] = [Gender::Female, Gender::Male, Gender::Other, Gender::Unknown];

    /// The database's and the CSV's one-letter code.
    pub const fn code(self) -> &'static str {
        match self {
            Gender::Female => "F",
            Gender::Male => "M",
            Gender::Other => "O",
            Gender::Unknown => "U",
        }
    }

    /// The FHIR code.
    pub const fn fhir(self) -> &'static str {
        match self {
            Gender::Female => "female",
            Gender::Male => "male",
            Gender::Other => "other",
            Gender::Unknown => "unknown",
        }
    }

    /// Reads a letter or a FHIR code, whatever its case. Empty is `Unknown`; anything else is `None`.
    pub fn parse(text: &str) -> Option<Gender> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Gender::Unknown);
        }
        Gender::ALL.into_iter().find(|g| text.eq_ignore_ascii_case(g.code()) || text.eq_ignore_ascii_case(g.fhir()))
    }
}

impl fmt::Debug for Gender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gender([phi])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_no_personal_value() {
        let name = PersonName::new("Canary", "Q", "Planted");
        assert_eq!(format!("{name:?}"), "PersonName { first: [phi], middle: [phi], last: [phi] }");
        assert_eq!(name.display().reveal(), "Canary Q Planted");
        assert_eq!(PersonName::new("A", "", "B").display().reveal(), "A B");
        assert_eq!(format!("{:?}", Some(Phi::new(7).as_ref().map(|value| value + 1))), "Some([phi])");
        assert_eq!(format!("{:?}", Gender::ALL), format!("{:?}", [Gender::Unknown; 4]));
    }

    #[test]
    fn gender_reads_letters_and_fhir_words() {
        assert_eq!(Gender::parse("f"), Some(Gender::Female));
        assert_eq!(Gender::parse(" Male "), Some(Gender::Male));
        assert_eq!(Gender::parse(""), Some(Gender::Unknown));
        assert_eq!(Gender::parse("x"), None);
    }
}
