//! The model: what a synthetic patient is like. Every number is explained in `docs/synthetic-model.md`.

use std::sync::LazyLock;

use chrono::{Days, NaiveDate};

use super::draw::{Draw, Quantiles, round};
use crate::domain::{Clinical, Encounter, EncounterId, FacilityId, Gender, PersonName, Phi, facility};
use crate::schema::{FEATURE_COUNT, Feature, Feature as F};

/// A facility's patients.
struct Ward {
    /// Share of all admissions.
    share: f64,
    /// Share of women.
    women: f64,
    /// Shares of patients with 0 to 7 conditions.
    conditions: [f64; 8],
    /// What brings a patient here.
    primary: &'static [(F, f64)],
    /// What else patients have.
    further: &'static [(F, f64)],
}

const GENERAL: &[(F, f64)] = &[
    (F::DialysisRenalEndStage, 0.12),
    (F::Asthma, 0.03),
    (F::IronDeficiency, 0.04),
    (F::Pneumonia, 0.01),
    (F::SubstanceDependence, 0.01),
    (F::MajorPsychologicalDisorder, 0.07),
    (F::Depression, 0.06),
    (F::OtherPsychological, 0.01),
    (F::Malnutrition, 0.01),
    (F::BloodDisorder, 0.64),
];

const COMORBIDITY: &[(F, f64)] = &[
    (F::DialysisRenalEndStage, 0.073),
    (F::Asthma, 0.036),
    (F::IronDeficiency, 0.187),
    (F::Pneumonia, 0.073),
    (F::SubstanceDependence, 0.049),
    (F::MajorPsychologicalDisorder, 0.087),
    (F::Depression, 0.131),
    (F::OtherPsychological, 0.114),
    (F::Fibrosis, 0.004),
    (F::Malnutrition, 0.114),
    (F::BloodDisorder, 0.132),
];

/// In the order of [`facility::SEED`].
const WARDS: [Ward; facility::SEED.len()] = [
    Ward {
        share: 0.305,
        women: 0.65,
        conditions: [0.924, 0.068, 0.007, 0.001, 0.0, 0.0, 0.0, 0.0],
        primary: GENERAL,
        further: COMORBIDITY,
    },
    Ward {
        share: 0.295,
        women: 0.64,
        conditions: [0.922, 0.071, 0.006, 0.001, 0.0, 0.0, 0.0, 0.0],
        primary: GENERAL,
        further: COMORBIDITY,
    },
    Ward {
        share: 0.045,
        women: 0.50,
        conditions: [0.084, 0.594, 0.261, 0.045, 0.008, 0.008, 0.0, 0.0],
        primary: &[(F::IronDeficiency, 0.873), (F::Malnutrition, 0.123), (F::BloodDisorder, 0.004)],
        further: &[
            (F::DialysisRenalEndStage, 0.141),
            (F::Asthma, 0.005),
            (F::IronDeficiency, 0.107),
            (F::SubstanceDependence, 0.024),
            (F::MajorPsychologicalDisorder, 0.092),
            (F::Depression, 0.024),
            (F::OtherPsychological, 0.034),
            (F::Malnutrition, 0.361),
            (F::BloodDisorder, 0.212),
        ],
    },
    Ward {
        share: 0.045,
        women: 0.65,
        conditions: [0.125, 0.511, 0.236, 0.094, 0.031, 0.003, 0.0, 0.0],
        primary: &[
            (F::Asthma, 0.53),
            (F::IronDeficiency, 0.02),
            (F::Pneumonia, 0.39),
            (F::Fibrosis, 0.04),
            (F::BloodDisorder, 0.02),
        ],
        further: &[
            (F::DialysisRenalEndStage, 0.053),
            (F::IronDeficiency, 0.291),
            (F::Pneumonia, 0.235),
            (F::SubstanceDependence, 0.007),
            (F::MajorPsychologicalDisorder, 0.048),
            (F::Depression, 0.028),
            (F::OtherPsychological, 0.008),
            (F::Fibrosis, 0.043),
            (F::Malnutrition, 0.092),
            (F::BloodDisorder, 0.195),
        ],
    },
    Ward {
        share: 0.310,
        women: 0.475,
        conditions: [0.032, 0.423, 0.307, 0.137, 0.064, 0.023, 0.012, 0.002],
        primary: &[
            (F::IronDeficiency, 0.005),
            (F::Pneumonia, 0.005),
            (F::SubstanceDependence, 0.165),
            (F::MajorPsychologicalDisorder, 0.745),
            (F::Depression, 0.025),
            (F::OtherPsychological, 0.05),
            (F::BloodDisorder, 0.005),
        ],
        further: COMORBIDITY,
    },
];

static FACILITIES: LazyLock<Vec<FacilityId>> = LazyLock::new(|| facility::seed().into_iter().map(|facility| facility.id).collect());

const READMISSIONS: [f64; 6] = [0.555, 0.152, 0.1, 0.077, 0.068, 0.048];

const SECONDARY_DIAGNOSES: [f64; 11] = [0.104, 0.497, 0.103, 0.085, 0.089, 0.042, 0.031, 0.018, 0.01, 0.009, 0.012];

/// How closely a patient is watched, by the number of conditions (the last row is for four and more): shares of those with nothing
/// measured, with a blood count, with urea nitrogen too, and with breathing too. What is not measured has the ward's usual value.
const WATCH: [[f64; 4]; 5] = [
    [0.31, 0.30, 0.17, 0.22],
    [0.13, 0.14, 0.24, 0.49],
    [0.09, 0.08, 0.26, 0.57],
    [0.03, 0.07, 0.26, 0.64],
    [0.02, 0.03, 0.20, 0.75],
];
const BLOOD_COUNT: usize = 1;
const UREA: usize = 2;
const BREATHING: usize = 3;

const NEUTROPHILS: Quantiles =
    [0.1, 0.9, 2.4, 3.1, 4.1, 4.8, 5.6, 6.7, 7.6, 8.5, 9.5, 10.5, 11.7, 13.1, 15.6, 18.3, 21.2, 25.0, 28.0, 38.0, 120.0];
const UREA_NITROGEN: Quantiles =
    [2.0, 3.0, 3.5, 4.2, 5.0, 6.0, 7.0, 8.5, 9.7, 11.2, 13.0, 14.8, 16.8, 19.3, 24.0, 29.0, 38.0, 53.0, 67.0, 170.0, 400.0];

/// Normal ranges of this synthetic world, not of medicine: a value outside counts towards a longer stay.
const NORMAL: [(F, f64, f64); 9] = [
    (F::Hematocrit, 9.6, 14.3),
    (F::Neutrophils, 4.0, 16.4),
    (F::Sodium, 134.4, 141.4),
    (F::Glucose, 107.0, 177.0),
    (F::BloodUreaNitrogen, 0.0, 28.0),
    (F::Creatinine, 0.87, 1.33),
    (F::BodyMassIndex, 27.5, 32.1),
    (F::Pulse, 61.0, 86.0),
    (F::Respiration, 5.8, 7.1),
];

/// Days by readmission class.
const BASE_DAYS: [f64; 6] = [1.0, 2.0, 4.0, 5.0, 6.0, 7.0];

/// Mean days added by the number of values outside [`NORMAL`], and the width of the uniform noise around that mean before it is cut to
/// whole days.
const ABNORMAL_DAYS: [(f64, f64); NORMAL.len() + 1] =
    [(0.0, 0.0), (0.01, 1.0), (0.73, 1.0), (1.74, 1.0), (2.76, 1.0), (4.45, 3.0), (6.5, 3.0), (7.7, 3.0), (9.0, 3.0), (10.5, 3.0)];

/// First day of admission; the last is 366 days later.
const FIRST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(2012, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};
const ADMISSION_DAYS: usize = 367;

pub(super) fn encounter(seed: u64, id: EncounterId) -> Encounter {
    // Ids are positive.
    let draw = &mut Draw::new(seed, u64::from(id.get().unsigned_abs()));
    let place = draw.weighted(WARDS.iter().map(|ward| ward.share));
    let ward = &WARDS[place];
    let gender = if draw.chance(ward.women) { Gender::Female } else { Gender::Male };
    let mut clinical = Clinical::default();
    let readmissions = draw.weighted(READMISSIONS.into_iter());
    clinical.set(F::Readmissions, Some(readmissions as f64));
    let conditions = conditions(draw, ward, &mut clinical);
    measurements(draw, gender, conditions, &mut clinical);
    let days = stay_days(draw, readmissions, conditions, &clinical);
    let admitted = FIRST_DAY + Days::new(draw.below(ADMISSION_DAYS) as u64);
    Encounter {
        id,
        name: name(draw),
        gender,
        facility: FACILITIES[place],
        admitted: Phi::new(admitted),
        clinical,
        discharged: Phi::new(Some(admitted + Days::new(days))),
    }
}

/// Draws how many conditions a patient has, then which: the primary one, then further ones without repetition. Answers how many.
fn conditions(draw: &mut Draw, ward: &Ward, clinical: &mut Clinical) -> usize {
    let count = draw.weighted(ward.conditions.into_iter());
    let mut present = [false; FEATURE_COUNT];
    for nth in 0..count {
        let choice = if nth == 0 { ward.primary } else { ward.further };
        let picked = draw.weighted(choice.iter().map(|(feature, weight)| if present[*feature as usize] { 0.0 } else { *weight }));
        present[choice[picked].0 as usize] = true;
    }
    for feature in Feature::conditions() {
        clinical.set(feature, Some(f64::from(u8::from(present[feature as usize]))));
    }
    count
}

fn measurements(draw: &mut Draw, gender: Gender, conditions: usize, clinical: &mut Clinical) {
    let woman = gender == Gender::Female;
    let row = conditions.min(WATCH.len() - 1);
    let watch = draw.weighted(WATCH[row].into_iter());
    let mut set = |feature, value: f64, (low, high): (f64, f64), decimals| {
        clinical.set(feature, Some(round(value.clamp(low, high), decimals)));
    };

    let z = draw.normal();
    let mean = if woman { [11.8, 11.3, 11.1, 10.5, 10.2][row] } else { [13.5, 13.1, 12.2, 11.3, 10.3][row] };
    let skewed = mean + if woman { 2.0 } else { 2.2 } * (z + 0.08 * (z * z - 1.0));
    set(F::Hematocrit, if watch >= BLOOD_COUNT { skewed } else { 11.9 }, (5.5, 24.0), 1);

    let scale = [1.12, 0.93, 0.9, 0.9, 0.87][row] * if woman { 1.04 } else { 0.93 };
    let value = draw.quantile(&NEUTROPHILS) * scale;
    set(F::Neutrophils, if watch >= BLOOD_COUNT { value } else { 9.4 }, (0.1, 140.0), 1);

    set(F::Sodium, 137.88 + 3.02 * draw.normal(), (120.0, 155.0), 7);
    set(F::Glucose, 141.9 + 30.2 * draw.normal(), (27.0, 260.0), 7);

    let scale = [0.78, 0.95, 1.1, 1.4, 2.1][row] * if woman { 0.9 } else { 1.15 };
    let value = draw.quantile(&UREA_NITROGEN) * scale;
    let half = if draw.chance(0.03) { 0.5 } else { 0.0 };
    set(F::BloodUreaNitrogen, if watch >= UREA { value.floor() + half } else { 12.0 }, (2.0, 415.0), 1);

    set(F::Creatinine, 1.099 + 0.2 * draw.normal(), (0.2, 2.0), 9);
    set(F::BodyMassIndex, 29.82 + 2.0 * draw.normal(), (20.0, 40.0), 8);
    set(F::Pulse, 73.3 + 11.65 * draw.normal(), (30.0, 120.0), 0);

    let value = [6.43, 6.65, 6.55, 6.3, 6.3][row] + 0.95 * draw.normal();
    set(F::Respiration, if watch >= BREATHING { value } else { 6.5 }, (0.2, 9.9), 1);

    set(F::SecondaryDiagnoses, draw.weighted(SECONDARY_DIAGNOSES.into_iter()) as f64, (0.0, 10.0), 0);
}

/// Whole days, from 1.
fn stay_days(draw: &mut Draw, readmissions: usize, conditions: usize, clinical: &Clinical) -> u64 {
    let abnormal = NORMAL
        .iter()
        .filter(|(feature, low, high)| clinical.get(*feature).is_some_and(|value| !(*low..=*high).contains(&value)))
        .count();
    let for_conditions = match (conditions, readmissions) {
        (0, _) => 0.0,
        (_, 0 | 1) => 2.0,
        _ => 1.0,
    } + if conditions >= 4 { 1.0 } else { 0.0 };
    let (mean, width) = ABNORMAL_DAYS[abnormal];
    let noise = 0.5 + width * (draw.unit() - 0.5);
    let for_abnormal = if width > 0.0 { (mean + noise).floor().max(0.0) } else { mean };
    // At most 7 + 3 + 12 days.
    (BASE_DAYS[readmissions] + for_conditions + for_abnormal) as u64
}

/// A name that no person bears: two syllables and digits, an initial, three syllables and digits.
fn name(draw: &mut Draw) -> PersonName {
    let first = word(draw, 2);
    let middle = char::from(b'A' + draw.below(26) as u8);
    PersonName::new(first, middle, word(draw, 3))
}

fn word(draw: &mut Draw, syllables: usize) -> String {
    const ONSETS: &[u8; 14] = b"bdfgklmnprstvz";
    const VOWELS: &[u8; 5] = b"aeiou";
    let mut word = String::with_capacity(12);
    for nth in 0..syllables {
        let onset = char::from(ONSETS[draw.below(ONSETS.len())]);
        word.push(if nth == 0 { onset.to_ascii_uppercase() } else { onset });
        word.push(char::from(VOWELS[draw.below(VOWELS.len())]));
    }
    for _ in 0..3 {
        word.push(char::from(b'0' + draw.below(10) as u8));
    }
    word
}

#[cfg(test)]
mod tests;
