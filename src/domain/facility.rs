//! A facility: a ward or house with beds, the blueprint's `MetaData_Facilities`.

use std::fmt;

/// A facility's id: one ASCII letter or digit, the blueprint's `facid nvarchar(1)`. Letters are upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FacilityId(u8);

impl FacilityId {
    /// Reads one letter or digit; letters are raised to upper case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().as_bytes() {
            [byte] if byte.is_ascii_alphanumeric() => Some(Self(byte.to_ascii_uppercase())),
            _ => None,
        }
    }

    /// The letter.
    pub const fn letter(self) -> char {
        self.0 as char
    }
}

impl fmt::Display for FacilityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

/// A facility and its beds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facility {
    /// Its id.
    pub id: FacilityId,
    /// Its name.
    pub name: String,
    /// Beds.
    pub capacity: i32,
}

/// The facilities that a new store starts with: ids, names and beds of the blueprint's `MetaData_Facilities`.
pub const SEED: [(&str, &str, i32); 5] = [
    ("A", "General Medicine 3 West", 75),
    ("B", "Pulmonary 2 West", 80),
    ("C", "General Medicine 3 South", 30),
    ("D", "Geriatrics 2 East", 100),
    ("E", "Behavioral 1 East", 95),
];

/// [`SEED`] as facilities.
pub fn seed() -> Vec<Facility> {
    SEED.iter()
        .filter_map(|(id, name, capacity)| {
            Some(Facility { id: FacilityId::parse(id)?, name: (*name).to_owned(), capacity: *capacity })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_letter_or_digit() {
        assert_eq!(FacilityId::parse(" b ").map(FacilityId::letter), Some('B'));
        for bad in ["", "AB", "é", "-"] {
            assert_eq!(FacilityId::parse(bad), None);
        }
        assert_eq!(seed().len(), SEED.len());
    }
}
