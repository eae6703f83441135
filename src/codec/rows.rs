//! Encounters that name nobody, as lines of text: NDJSON and CSV.

use serde_json::{Map, Value, json};

use crate::domain::rows::Row;
use crate::schema::Feature;

/// Media type of NDJSON.
pub const NDJSON: &str = "application/x-ndjson";

/// The columns before the clinical ones.
pub const COLUMNS: [&str; 5] = ["pseudonym", "admissionYear", "gender", "facility", "stayDays"];

/// A row as a JSON object without a line break. What is missing or withheld is null.
pub fn ndjson_line(row: &Row) -> String {
    let values = COLUMNS.into_iter().zip(told(row)).chain(clinical(row));
    Value::Object(values.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>()).to_string()
}

/// The header of the CSV.
pub fn csv_header() -> String {
    COLUMNS.into_iter().chain(Feature::all().map(|feature| feature.spec().name)).collect::<Vec<_>>().join(",")
}

/// A row in the order of [`csv_header`]. What is missing or withheld is empty. No value of ours holds a comma or a quote.
pub fn csv_line(row: &Row) -> String {
    let text = |value: Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        value => value.to_string(),
    };
    told(row).into_iter().chain(clinical(row).map(|(_, value)| value)).map(text).collect::<Vec<_>>().join(",")
}

/// The values of [`COLUMNS`].
fn told(row: &Row) -> [Value; 5] {
    [
        json!(row.pseudonym),
        json!(row.told.year),
        json!(row.told.gender.map(|gender| gender.fhir())),
        json!(row.told.facility.map(|facility| facility.to_string())),
        json!(row.stay_days),
    ]
}

fn clinical(row: &Row) -> impl Iterator<Item = (&'static str, Value)> {
    Feature::all().map(|feature| (feature.spec().name, row.clinical.get(feature).map_or(Value::Null, number)))
}

/// Whole numbers without a decimal point.
pub fn number(value: f64) -> Value {
    let whole = value as i64;
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(whole) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rows::Told;
    use crate::domain::{Clinical, Gender};

    #[test]
    fn both_forms_say_the_same_and_what_is_missing_stays_so() {
        let mut clinical = Clinical::default();
        clinical.set(Feature::Glucose, Some(101.25));
        clinical.set(Feature::Readmissions, Some(2.0));
        let told = Told { year: Some(2025), gender: Some(Gender::Female), facility: None };
        let row = Row { pseudonym: "ab12".into(), told, stay_days: Some(3), clinical };
        let object: Value = serde_json::from_str(&ndjson_line(&row)).unwrap();
        let (header, line) = (csv_header(), csv_line(&row));
        assert_eq!(header.split(',').count(), line.split(',').count());
        for (name, cell) in header.split(',').zip(line.split(',')) {
            let expected = match &object[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            assert_eq!(cell, expected, "{name}");
        }
        assert!(line.starts_with("ab12,2025,female,,3,"), "{line}");
        assert_eq!(line.matches("101.25").count(), 1);
    }
}
