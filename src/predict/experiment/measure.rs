//! How good an experiment's answers are on rows it has not seen, and what always answering the same would reach.

use std::collections::BTreeMap;

/// Metrics by name; one that is undefined on the rows is absent.
pub(super) type Figures = BTreeMap<String, f64>;

/// The metric that experiments on numbers are ranked by: it is defined on any rows. Lower is better.
pub(super) const NUMBER_MAIN: &str = "rmse";
/// The metric that experiments on classes are ranked by: a proper score, which no confident guessing improves. Lower is better.
pub(super) const CLASS_MAIN: &str = "log_loss";

/// Share of a probability that is spread over all classes, so that a class never met costs much and not everything.
const SPREAD: f64 = 1e-4;

/// Metrics of numbers. `days`: also the share of answers at most one day off.
pub(super) fn number(truth: &[f64], answers: &[f64], days: bool) -> Figures {
    let n = truth.len().max(1) as f64;
    let mean = truth.iter().sum::<f64>() / n;
    let spread: f64 = truth.iter().map(|value| (value - mean).powi(2)).sum();
    let errors = || truth.iter().zip(answers).map(|(value, answer)| answer - value);
    let squared: f64 = errors().map(|error| error * error).sum();
    let mut figures = Figures::from([
        ("mae".to_owned(), errors().map(f64::abs).sum::<f64>() / n),
        (NUMBER_MAIN.to_owned(), (squared / n).sqrt()),
    ]);
    if spread > 0.0 {
        figures.insert("r2".to_owned(), 1.0 - squared / spread);
    }
    if days {
        figures.insert("within_one_day".to_owned(), errors().filter(|error| error.abs() <= 1.0).count() as f64 / n);
    }
    figures
}

/// Counts of (true class, answered class).
pub(super) type Confusion = Vec<Vec<u64>>;

/// Metrics of classes, from probabilities by row. The means over classes are over those that the rows hold.
pub(super) fn classes(truth: &[usize], probabilities: &[Vec<f64>], count: usize) -> (Figures, Confusion) {
    let n = truth.len().max(1) as f64;
    let mut confusion = vec![vec![0_u64; count]; count];
    let mut loss = 0.0;
    for (class, row) in truth.iter().zip(probabilities) {
        confusion[*class][likeliest(row)] += 1;
        loss -= ((1.0 - SPREAD) * row[*class] + SPREAD / count as f64).ln();
    }
    let (mut right, mut recalls, mut scores, mut present) = (0, 0.0, 0.0, 0.0);
    for class in 0..count {
        let hits = confusion[class][class];
        let rows: u64 = confusion[class].iter().sum();
        let answered: u64 = confusion.iter().map(|row| row[class]).sum();
        right += hits;
        if rows > 0 {
            present += 1.0;
            recalls += hits as f64 / rows as f64;
            scores += 2.0 * hits as f64 / (rows + answered) as f64;
        }
    }
    let over_classes = |sum: f64| sum / f64::max(present, 1.0);
    let figures = Figures::from([
        ("accuracy".to_owned(), right as f64 / n),
        ("balanced_accuracy".to_owned(), over_classes(recalls)),
        ("macro_f1".to_owned(), over_classes(scores)),
        (CLASS_MAIN.to_owned(), loss / n),
    ]);
    (figures, confusion)
}

/// The first of the likeliest classes.
fn likeliest(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[best] {
            best = class;
        }
    }
    best
}

/// Shares of the classes, each counted once more than it was met: a class that training lacks is rare, not impossible.
pub(super) fn shares(truth: &[usize], count: usize) -> Vec<f64> {
    let mut shares = vec![1.0 / (truth.len() + count) as f64; count];
    truth.iter().for_each(|class| shares[*class] += 1.0 / (truth.len() + count) as f64);
    shares
}

/// Probabilities from linear scores of a class (its least-squares share): the training shares, moved by how far each score is off its share.
/// Temperature 0 answers the shares themselves.
pub(super) fn softmax(scores: &[f64], shares: &[f64], means: &[f64], temperature: f64) -> Vec<f64> {
    let logits: Vec<f64> =
        scores.iter().zip(shares).zip(means).map(|((score, share), mean)| share.ln() + temperature * (score - mean)).collect();
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    normalised(logits.iter().map(|logit| (logit - top).exp()).collect())
}

/// Probabilities from log odds of each class against the rest.
pub(super) fn from_log_odds(scores: &[f64]) -> Vec<f64> {
    normalised(scores.iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect())
}

fn normalised(mut weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    let even = 1.0 / weights.len().max(1) as f64;
    weights.iter_mut().for_each(|weight| *weight = if sum > 0.0 { *weight / sum } else { even });
    weights
}

/// Largest temperature tried.
const TEMPERATURE_MAX: f64 = 100.0;
/// Steps of the golden section: to a millionth of the range.
const SECTION_STEPS: usize = 30;

/// The temperature of least log loss on training rows. The loss is convex in it, so a golden section finds it.
pub(super) fn temperature(scores: &[Vec<f64>], truth: &[usize], shares: &[f64], means: &[f64]) -> f64 {
    let loss = |temperature: f64| -> f64 {
        scores.iter().zip(truth).map(|(row, class)| -softmax(row, shares, means, temperature)[*class].max(1e-300).ln()).sum()
    };
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.0, TEMPERATURE_MAX);
    let mut inner = (high - ratio * (high - low), low + ratio * (high - low));
    let mut losses = (loss(inner.0), loss(inner.1));
    for _ in 0..SECTION_STEPS {
        if losses.0 <= losses.1 {
            high = inner.1;
            inner = (high - ratio * (high - low), inner.0);
            losses = (loss(inner.0), losses.0);
        } else {
            low = inner.0;
            inner = (inner.1, low + ratio * (high - low));
            losses = (losses.1, loss(inner.1));
        }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_measured_as_by_hand() {
        let figures = number(&[1.0, 2.0, 6.0], &[2.0, 2.0, 3.0], true);
        assert!((figures["mae"] - 4.0 / 3.0).abs() < 1e-12);
        assert!((figures["rmse"] - (10.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((figures["r2"] - (1.0 - 10.0 / 14.0)).abs() < 1e-12);
        assert!((figures["within_one_day"] - 2.0 / 3.0).abs() < 1e-12);
        assert!(!number(&[2.0, 2.0], &[1.0, 3.0], false).contains_key("r2"), "every value is equal");
    }

    #[test]
    fn classes_are_measured_as_by_hand() {
        let sure = |class: usize| (0..3).map(|c| f64::from(u8::from(c == class))).collect::<Vec<f64>>();
        // Truth 0, 0, 0, 1; answers 0, 0, 1, 1; class 2 is in no row.
        let (figures, confusion) = classes(&[0, 0, 0, 1], &[sure(0), sure(0), sure(1), sure(1)], 3);
        assert_eq!(confusion, [[2, 1, 0], [0, 1, 0], [0, 0, 0]]);
        assert_eq!(figures["accuracy"], 0.75);
        assert!((figures["balanced_accuracy"] - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
        assert!((figures["macro_f1"] - (0.8 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!(figures["log_loss"] > 2.0 && figures["log_loss"] < 3.0, "one sure and wrong answer of four");
    }

    #[test]
    fn without_signal_the_temperature_falls_to_the_shares() {
        let truth: Vec<usize> = (0..400).map(|i| usize::from(i % 4 == 0)).collect();
        let noise: Vec<Vec<f64>> = (0..400).map(|i| vec![0.75 + f64::from(i % 3 - 1), 0.25 - f64::from(i % 3 - 1)]).collect();
        let shares = shares(&truth, 2);
        assert!(temperature(&noise, &truth, &shares, &[0.75, 0.25]) < 0.05);
        let signal: Vec<Vec<f64>> = truth.iter().map(|class| if *class == 1 { vec![0.0, 1.0] } else { vec![1.0, 0.0] }).collect();
        assert!(temperature(&signal, &truth, &shares, &[0.75, 0.25]) > 5.0);
    }
}
