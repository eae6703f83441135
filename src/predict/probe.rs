//! The parity probe: made-up encounters, the same on every machine, whose answers are hashed into a model when it is trained. A
//! program whose feature function or arithmetic differs gets another hash and refuses the model.

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use super::features::mix;
use super::model::Model;
use crate::domain::{Clinical, Encounter, EncounterId, FacilityId, Gender, PersonName, Phi};
use crate::schema::{FEATURES, READMISSIONS_TOP, Shape};

const PROBES: i64 = 320;
const DENOMINATOR: f64 = 1024.0;

/// The hash of `model`'s answers to the probe encounters, hex.
pub(super) fn hash(model: &Model) -> String {
    let mut hasher = Sha256::new();
    for encounter in (1..=PROBES).filter_map(encounter) {
        let answer = model.predict(&encounter);
        let numbers = [answer.days, answer.baseline_days, answer.interval80.low, answer.interval80.high]
            .into_iter()
            .chain([answer.interval90.low, answer.interval90.high])
            .chain(answer.contributions.iter().map(|c| c.days));
        numbers.for_each(|number| hasher.update(number.to_bits().to_le_bytes()));
        let words = answer.contributions.iter().map(|c| &c.factor).chain(&answer.missing).chain(&answer.out_of_range);
        words.for_each(|word| hasher.update(word.as_bytes()));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Probe `n`: inputs over and beyond what is plausible; from each third one, inputs are missing.
fn encounter(n: i64) -> Option<Encounter> {
    let mut state = mix(n.unsigned_abs());
    let mut draw = |values: u64| {
        state = mix(state);
        state % values
    };
    let mut clinical = Clinical::default();
    for spec in &FEATURES {
        let value = match spec.shape {
            Shape::Readmissions => draw(READMISSIONS_TOP as u64 + 1) as f64,
            Shape::Condition => f64::from(u8::from(draw(4) == 0)),
            Shape::Measurement(m) => {
                let (low, high) = if draw(8) == 0 { m.possible } else { m.plausible };
                // Sums of three draws gather in the middle, where patients are.
                let place = (draw(1024) + draw(1024) + draw(1024)) as f64 / (3.0 * DENOMINATOR);
                let value = low + (high - low) * place * place;
                if m.whole { value.round() } else { value }
            }
        };
        let missing = n % 3 == 0 && draw(4) == 0;
        clinical.set(spec.feature, (!missing).then_some(value));
    }
    Some(Encounter {
        id: EncounterId::new(n)?,
        name: PersonName::default(),
        gender: Gender::ALL[draw(4) as usize % Gender::ALL.len()],
        facility: FacilityId::parse(["A", "B", "C", "D", "E", "Z", "7"][draw(7) as usize % 7])?,
        admitted: Phi::new(NaiveDate::from_ymd_opt(2012, 1, 1)?),
        clinical,
        discharged: Phi::new(None),
    })
}
