//! The promotion rule (`docs/model.md`): what a candidate must show to take the champion's place, and when a person must decide.

use super::features::Row;
use super::fit::Paired;
use super::model::Model;
use super::scorer::Scorer;
use super::train::NOISE_ERRORS;
use super::untied::untied;

/// A root mean squared error above the champion's own record by this factor, and by more than the noise, is a fall of quality.
const FALL: f64 = 1.25;

/// What became of a candidate.
pub(super) struct Verdict {
    pub(super) promoted: bool,
    /// Why, in sentences.
    pub(super) reason: String,
}

/// Against no champion, the candidate must beat the average stay; against one, its squared error on the same holdout must be lower by
/// more than the noise. A candidate that so wins and yet falls behind the champion's own record is held, unless that was accepted: the
/// data has changed, and which of the two is right is not for a program to say.
pub(super) fn judge<'a>(
    candidate: &Scorer,
    champion: Option<&Model>,
    accept_fall: bool,
    latest: impl Iterator<Item = &'a Row> + Clone,
) -> Verdict {
    let mean = candidate.linear.mean_days;
    let (mut advantage, mut new, mut old) = (Paired::default(), Paired::default(), Paired::default());
    for row in latest.clone() {
        let stay = row.stay_days();
        let other = champion.map_or(mean, |model| model.parts().scorer.answer(row).days);
        let errors = ((candidate.answer(row).days - stay).powi(2), (other - stay).powi(2));
        new.add(errors.0);
        old.add(errors.1);
        advantage.add(errors.1 - errors.0);
    }
    let wins = advantage.mean() > NOISE_ERRORS * advantage.standard_error() && advantage.mean() > 0.0;
    let fall = champion.and_then(|model| fall(model, &new, latest));
    let promoted = wins && (fall.is_none() || accept_fall);
    let verdict = match (promoted, wins) {
        (true, _) => "Promoted",
        (false, true) => "Held for a person",
        (false, false) => "Refused",
    };
    let other =
        champion.map_or_else(|| "that of always answering the average".to_owned(), |m| format!("that of champion {}", m.version()));
    let mut reason = format!(
        "{verdict}: on the latest {} admissions the root mean squared error, {:.3} days, is {} {other}, {:.3}, by more than the noise.",
        new.rows(),
        new.mean().sqrt(),
        if wins { "below" } else { "not below" },
        old.mean().sqrt()
    );
    if let Some(fall) = fall {
        reason.push(' ');
        reason.push_str(&fall);
        if verdict == "Held for a person" {
            reason
                .push_str(" If the data is right, train again and accept the lower quality (`hdai train --accept-lower-quality`).");
        }
    }
    Verdict { promoted, reason }
}

/// In words, if the candidate's squared errors are far above those that `champion` had on its own holdout.
fn fall<'a>(champion: &Model, new: &Paired, latest: impl Iterator<Item = &'a Row> + Clone) -> Option<String> {
    let record = champion.report().evaluation.metrics.rmse;
    let limit = (FALL * record).powi(2);
    if new.mean() - NOISE_ERRORS * new.standard_error() <= limit {
        return None;
    }
    let inputs: Vec<String> = untied(&champion.parts().scorer, latest).into_iter().map(|found| found.input).collect();
    let where_to_look = match inputs.is_empty() {
        true => "no single input stands out: compare the newest files with older ones, and see the drift".to_owned(),
        false => format!(
            "the champion's reasons no longer go with the stays for: {}; look for a column that was shuffled, shifted or joined to the \
             wrong rows in the newest files",
            inputs.join(", ")
        ),
    };
    Some(format!("Quality fell: the champion had {record:.3} days on its own holdout; {where_to_look}."))
}
