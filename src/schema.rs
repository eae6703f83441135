//! THE clinical feature table: every one of the 22 clinical features is named here and nowhere else.
//!
//! The CSV header and parser, the FHIR and HL7 look-ups, the DDL, the insert lists, the feature vector, the plausibility checks and
//! the data dictionary are loops over [`FEATURES`]. It deliberately does not know any of them.
//!
//! Names, codes and columns are those of the "Azure Security and Compliance Blueprint - HIPAA/HITRUST Health Data and AI".

use std::sync::OnceLock;

/// A code system of a [`Code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum System {
    /// <http://loinc.org>
    Loinc,
    /// <http://snomed.info/sct>
    Snomed,
}

impl System {
    /// The canonical FHIR URI of the system.
    pub const fn uri(self) -> &'static str {
        match self {
            System::Loinc => "http://loinc.org",
            System::Snomed => "http://snomed.info/sct",
        }
    }

    /// The short name used in HL7 v2 (table 0396) and in the data dictionary.
    pub const fn name(self) -> &'static str {
        match self {
            System::Loinc => "LN",
            System::Snomed => "SCT",
        }
    }
}

/// A coded concept that identifies a feature in FHIR and HL7 messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    /// The code system.
    pub system: System,
    /// The code itself.
    pub code: &'static str,
}

/// What a feature's value may be. Every value is held as an `f64`; a missing one is `None`, never zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A count written `0`..`4`, then `5+` for the top class (held as 5.0).
    Readmissions,
    /// A condition: present (1.0) or absent (0.0).
    Condition,
    /// A number.
    Measurement(Measurement),
}

/// Unit and limits of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// UCUM unit (<https://ucum.org>); `1` for a plain count.
    pub unit: &'static str,
    /// Other spellings of the same unit met in the field.
    pub unit_synonyms: &'static [&'static str],
    /// Another unit and the factor that turns its values into `unit`.
    pub convertible: Option<(&'static str, f64)>,
    /// Values outside are impossible and refused.
    pub possible: (f64, f64),
    /// Values outside are accepted and reported as out of range.
    pub plausible: (f64, f64),
    /// Whole numbers only.
    pub whole: bool,
}

/// One clinical feature.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The feature.
    pub feature: Feature,
    /// CSV header and database column, the blueprint's word.
    pub name: &'static str,
    /// Other header names met in the field, lower case.
    pub synonyms: &'static [&'static str],
    /// What a clinician calls it.
    pub label: &'static str,
    /// What its value may be.
    pub shape: Shape,
    /// Its code in FHIR and HL7, where it has one.
    pub code: Option<Code>,
    /// One sentence for the data dictionary.
    pub doc: &'static str,
}

/// Highest readmission class, written `5+`.
pub const READMISSIONS_TOP: f64 = 5.0;

macro_rules! features {
    ($($variant:ident, $name:literal, [$($synonym:literal),*], $label:literal, $shape:expr, $code:expr, $doc:literal;)*) => {
        /// A clinical feature. Its discriminant is its place in [`FEATURES`] and in every feature vector.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum Feature {
            $(#[doc = $doc] $variant,)*
        }

        /// The table, in the column order of the blueprint's CSV.
        pub const FEATURES: [Spec; FEATURE_COUNT] = [
            $(Spec {
                feature: Feature::$variant, name: $name, synonyms: &[$($synonym),*], label: $label,
                shape: $shape, code: $code, doc: $doc,
            },)*
        ];

        /// How many clinical features there are.
        pub const FEATURE_COUNT: usize = [$(Feature::$variant),*].len();
    };
}

const fn loinc(code: &'static str) -> Option<Code> {
    Some(Code { system: System::Loinc, code })
}

const fn snomed(code: &'static str) -> Option<Code> {
    Some(Code { system: System::Snomed, code })
}

const fn number(unit: &'static str, unit_synonyms: &'static [&'static str], possible: (f64, f64), plausible: (f64, f64)) -> Shape {
    Shape::Measurement(Measurement { unit, unit_synonyms, convertible: None, possible, plausible, whole: false })
}

const fn number_from(
    other: (&'static str, f64),
    unit: &'static str,
    unit_synonyms: &'static [&'static str],
    possible: (f64, f64),
    plausible: (f64, f64),
) -> Shape {
    Shape::Measurement(Measurement { unit, unit_synonyms, convertible: Some(other), possible, plausible, whole: false })
}

const fn whole(unit: &'static str, unit_synonyms: &'static [&'static str], possible: (f64, f64), plausible: (f64, f64)) -> Shape {
    Shape::Measurement(Measurement { unit, unit_synonyms, convertible: None, possible, plausible, whole: true })
}

// Possible ranges are generous physical limits; plausible ranges are what a ward sees in acute care. The blueprint's own sample lies
// inside every possible range. Molar conversions: glucose 18.016 mg/dL per mmol/L, urea nitrogen 2.801, creatinine 1/88.42 per umol/L.
features! {
    Readmissions, "rcount", ["readmissioncount", "readmissions", "readmission_count"], "readmissions",
        Shape::Readmissions, None, "Readmissions in the past 180 days: 0 to 4, then 5+.";
    DialysisRenalEndStage, "dialysisrenalendstage", ["esrd", "dialysis"], "end-stage renal disease",
        Shape::Condition, snomed("236435004"), "End-stage renal failure on dialysis during the encounter.";
    Asthma, "asthma", [], "asthma", Shape::Condition, snomed("195967001"), "Asthma during the encounter.";
    IronDeficiency, "irondef", ["irondeficiency", "iron_deficiency"], "iron deficiency",
        Shape::Condition, snomed("35240004"), "Iron deficiency during the encounter.";
    Pneumonia, "pneum", ["pneumonia"], "pneumonia", Shape::Condition, snomed("233604007"), "Pneumonia during the encounter.";
    SubstanceDependence, "substancedependence", ["substance_dependence"], "substance dependence",
        Shape::Condition, snomed("361055000"), "Substance dependence during the encounter.";
    MajorPsychologicalDisorder, "psychologicaldisordermajor", ["major_psychological_disorder"], "major psychological disorder",
        Shape::Condition, snomed("81659004"), "Major psychological disorder during the encounter.";
    Depression, "depress", ["depression"], "depression", Shape::Condition, snomed("35489007"), "Depression during the encounter.";
    OtherPsychological, "psychother", ["psychological_other"], "other psychological disorder",
        Shape::Condition, snomed("81659004"), "Other psychological disorder during the encounter.";
    Fibrosis, "fibrosisandother", ["fibrosis"], "fibrosis and other",
        Shape::Condition, snomed("263756000"), "Fibrosis and other during the encounter.";
    Malnutrition, "malnutrition", [], "malnutrition", Shape::Condition, snomed("263756000"), "Malnutrition during the encounter.";
    BloodDisorder, "hemo", ["blood_disorder", "hematologic"], "blood disorder",
        Shape::Condition, snomed("34093004"), "Disorder of the haematopoietic system during the encounter.";
    Hematocrit, "hematocrit", ["haematocrit", "hct"], "hematocrit",
        number("%", &["percent"], (0.0, 100.0), (5.0, 65.0)), loinc("4544-3"), "Average hematocrit during the encounter.";
    Neutrophils, "neutrophils", ["neut"], "neutrophils",
        number("%", &["percent", "10*3/uL", "10*9/L"], (0.0, 1000.0), (0.5, 100.0)), loinc("770-8"),
        "Average neutrophils during the encounter, in the unit the blueprint codes.";
    Sodium, "sodium", [], "sodium",
        number("mmol/L", &["meq/L"], (0.0, 300.0), (110.0, 175.0)), loinc("2947-0"), "Average sodium during the encounter.";
    Glucose, "glucose", [], "glucose",
        number_from(("mmol/L", 18.016), "mg/dL", &[], (0.0, 3000.0), (25.0, 800.0)), loinc("2339-0"),
        "Average glucose during the encounter.";
    BloodUreaNitrogen, "bloodureanitro", ["bun", "bloodureanitrogen", "blood_urea_nitrogen"], "blood urea nitrogen",
        number_from(("mmol/L", 2.801), "mg/dL", &[], (0.0, 1000.0), (1.0, 250.0)), loinc("6299-2"),
        "Average blood urea nitrogen during the encounter.";
    Creatinine, "creatinine", [], "creatinine",
        number_from(("umol/L", 0.011_309_658), "mg/dL", &[], (0.0, 100.0), (0.1, 25.0)), loinc("2160-0"),
        "Average creatinine during the encounter.";
    BodyMassIndex, "bmi", ["bodymassindex", "body_mass_index"], "body mass index",
        number("kg/m2", &["kg/m^2", "kg/m*2"], (1.0, 300.0), (8.0, 100.0)), loinc("39156-5"), "Average body mass index during the encounter.";
    Pulse, "pulse", ["heartrate", "heart_rate"], "pulse",
        whole("/min", &["beats/min", "beats/minute", "{beats}/min", "bpm"], (0.0, 500.0), (20.0, 250.0)), loinc("8867-4"),
        "Average pulse during the encounter.";
    Respiration, "respiration", ["respirationrate", "respiratory_rate"], "respiration",
        number("/min", &["breaths/min", "breaths/minute", "{breaths}/min"], (0.0, 200.0), (0.5, 80.0)), loinc("9279-1"),
        "Average respiration during the encounter.";
    SecondaryDiagnoses, "secondarydiagnosisnonicd9", ["secondarydiagnoses", "secondary_diagnoses"], "secondary diagnoses",
        whole("1", &["{count}", "count"], (0.0, 1000.0), (0.0, 60.0)), loinc("54554-1"),
        "Number of secondary diagnoses that carry no ICD-9 code.";
}

/// Codes the blueprint gave to two features each. A coded condition with such a code sets the first of the pair that it has not set
/// yet, in message order, so that both can be read; a lone one sets the first. (The blueprint could never read the second.)
pub const SHARED_CODES: [(&str, Feature, Feature); 2] = [
    ("81659004", Feature::MajorPsychologicalDisorder, Feature::OtherPsychological),
    ("263756000", Feature::Fibrosis, Feature::Malnutrition),
];

/// An administrative column of the CSV and of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// First given name.
    First,
    /// Further given names.
    Middle,
    /// Family name.
    Last,
    /// Encounter id.
    EncounterId,
    /// Admission date.
    Admitted,
    /// Administrative gender.
    Gender,
    /// Discharge date.
    Discharged,
    /// Facility id.
    Facility,
    /// Length of stay, days.
    LengthOfStay,
    /// A clinical feature.
    Clinical(Feature),
}

/// A column of the CSV contract.
#[derive(Debug, Clone, Copy)]
pub struct CsvColumn {
    /// What it holds.
    pub column: Column,
    /// Its header, as the blueprint writes it.
    pub header: &'static str,
    /// Its column in the blueprint's `PatientData` table.
    pub db_column: &'static str,
    /// Other headers met in the field, lower case.
    pub synonyms: &'static [&'static str],
    /// Must the header be there? Names may be absent, and outcomes are unknown before discharge.
    pub required: bool,
    /// One sentence for the data dictionary.
    pub doc: &'static str,
}

const fn administrative(
    column: Column,
    header: &'static str,
    db_column: &'static str,
    synonyms: &'static [&'static str],
    required: bool,
    doc: &'static str,
) -> CsvColumn {
    CsvColumn { column, header, db_column, synonyms, required, doc }
}

/// The blueprint's 31 CSV columns, in its order. Position never decides a column; this order is for writing.
pub fn csv_columns() -> &'static [CsvColumn] {
    static COLUMNS: OnceLock<Vec<CsvColumn>> = OnceLock::new();
    COLUMNS.get_or_init(|| {
        let clinical = |spec: &Spec| CsvColumn {
            column: Column::Clinical(spec.feature),
            header: spec.name,
            db_column: spec.name,
            synonyms: spec.synonyms,
            required: true,
            doc: spec.doc,
        };
        let mut columns = vec![
            administrative(Column::First, "First", "FirstName", &["firstname", "first_name", "given"], false, "First given name."),
            administrative(Column::Middle, "Middle", "MiddleName", &["middlename", "middle_name"], false, "Further given names."),
            administrative(
                Column::Last,
                "Last",
                "LastName",
                &["lastname", "last_name", "family", "surname"],
                false,
                "Family name.",
            ),
            administrative(
                Column::EncounterId,
                "eid",
                "eid",
                &["encounterid", "encounter_id"],
                true,
                "Encounter id: a whole number from 1 to 2147483647.",
            ),
            administrative(
                Column::Admitted,
                "vdate",
                "vdate",
                &["admitted", "admissiondate", "admission_date", "visitdate"],
                true,
                "Admission date.",
            ),
        ];
        columns.push(clinical(&FEATURES[Feature::Readmissions as usize]));
        columns.push(administrative(Column::Gender, "gender", "gender", &["sex"], true, "Administrative gender: F, M, O or U."));
        columns.extend(FEATURES[1..].iter().map(clinical));
        columns.push(administrative(
            Column::Discharged,
            "discharged",
            "discharged",
            &["dischargedate", "discharge_date"],
            false,
            "Discharge date; empty while the patient is in the hospital.",
        ));
        columns.push(administrative(
            Column::Facility,
            "facid",
            "facid",
            &["facility", "facilityid", "facility_id"],
            true,
            "Facility id, one letter of the facilities table.",
        ));
        columns.push(administrative(
            Column::LengthOfStay,
            "lengthofstay",
            "lengthofstay",
            &["los", "length_of_stay", "staydays"],
            false,
            "Length of stay in whole days; empty while it is unknown.",
        ));
        columns
    })
}

impl Feature {
    /// The feature's row of the table.
    pub fn spec(self) -> &'static Spec {
        &FEATURES[self as usize]
    }

    /// All features, in table order.
    pub fn all() -> impl Iterator<Item = Feature> {
        FEATURES.iter().map(|spec| spec.feature)
    }

    /// The conditions, in table order.
    pub fn conditions() -> impl Iterator<Item = Feature> {
        Self::all().filter(|feature| matches!(feature.spec().shape, Shape::Condition))
    }

    /// The measurements, in table order.
    pub fn measurements() -> impl Iterator<Item = Feature> {
        Self::all().filter(|feature| matches!(feature.spec().shape, Shape::Measurement(_)))
    }

    /// The feature whose name or synonym is `name`, whatever its case.
    pub fn by_name(name: &str) -> Option<Feature> {
        let name = name.trim().to_ascii_lowercase();
        FEATURES.iter().find(|spec| spec.name == name || spec.synonyms.contains(&name.as_str())).map(|spec| spec.feature)
    }

    /// The features with this code, in table order; more than one only for [`SHARED_CODES`].
    pub fn by_code(code: &str) -> impl Iterator<Item = Feature> {
        FEATURES.iter().filter(move |spec| spec.code.is_some_and(|c| c.code == code)).map(|spec| spec.feature)
    }
}

/// A value that breaks a feature's limits: the rule and the remedy, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, for example `must be from 0 to 300 mmol/L`.
    pub rule: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Spec {
    /// Checks `value` against what is possible.
    ///
    /// # Errors
    /// A [`Violation`] that names the rule, never the value.
    pub fn check(&self, value: f64) -> Result<(), Violation> {
        let violation = |rule: String, remedy| Err(Violation { rule, remedy });
        match self.shape {
            _ if !value.is_finite() || value.is_subnormal() => {
                violation("must be a finite number".into(), "Correct the value or leave it empty.")
            }
            Shape::Readmissions if value.fract() != 0.0 || !(0.0..=READMISSIONS_TOP).contains(&value) => {
                violation("must be 0, 1, 2, 3, 4 or 5+".into(), "Write 5+ for five or more.")
            }
            Shape::Condition if value != 0.0 && value != 1.0 => {
                violation("must be 0 (absent) or 1 (present)".into(), "Correct the value or leave it empty.")
            }
            Shape::Measurement(m) if !(m.possible.0..=m.possible.1).contains(&value) => violation(
                format!("must be from {} to {} {}", m.possible.0, m.possible.1, m.unit),
                "Check the unit and the decimal point, or leave the value empty.",
            ),
            Shape::Measurement(m) if m.whole && value.fract() != 0.0 => {
                violation("must be a whole number".into(), "Round the value or leave it empty.")
            }
            _ => Ok(()),
        }
    }

    /// Is a possible `value` also one that a ward sees?
    pub fn is_plausible(&self, value: f64) -> bool {
        match self.shape {
            Shape::Measurement(m) => (m.plausible.0..=m.plausible.1).contains(&value),
            Shape::Readmissions | Shape::Condition => true,
        }
    }
}

/// The schema's fingerprint: any change of a name, shape, limit, unit or code changes it. FNV-1a, 64 bits, as 16 hex digits.
pub fn fingerprint() -> &'static str {
    static FINGERPRINT: OnceLock<String> = OnceLock::new();
    FINGERPRINT.get_or_init(|| {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for spec in &FEATURES {
            for byte in format!("{}|{:?}|{:?}\n", spec.name, spec.shape, spec.code).bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_csv_contract_has_the_blueprints_31_columns_each_named_once() {
        let columns = csv_columns();
        assert_eq!(columns.len(), 31);
        let mut names = HashSet::new();
        for column in columns {
            assert!(names.insert(column.header.to_ascii_lowercase()), "{} twice", column.header);
            for synonym in column.synonyms {
                assert_eq!(*synonym, synonym.to_ascii_lowercase());
                assert!(names.insert((*synonym).to_owned()), "{synonym} twice");
            }
        }
    }

    #[test]
    fn codes_are_shared_only_where_declared() {
        for spec in &FEATURES {
            let Some(code) = spec.code else { continue };
            let owners: Vec<_> = Feature::by_code(code.code).collect();
            match SHARED_CODES.iter().find(|(shared, ..)| *shared == code.code) {
                Some((_, first, second)) => assert_eq!(owners, [*first, *second]),
                None => assert_eq!(owners, [spec.feature]),
            }
        }
    }

    #[test]
    fn plausible_lies_within_possible() {
        for spec in &FEATURES {
            if let Shape::Measurement(m) = spec.shape {
                assert!(m.possible.0 <= m.plausible.0 && m.plausible.1 <= m.possible.1, "{}", spec.name);
            }
        }
    }

    #[test]
    fn a_violation_never_carries_the_value() {
        for spec in &FEATURES {
            let violation = spec.check(-987.5).unwrap_err();
            assert!(!violation.rule.contains("987"), "{}", spec.name);
        }
    }
}
