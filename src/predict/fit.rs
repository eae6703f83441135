//! One fit of every model on some rows, and seeded cross-validation of such fits.

use super::challenger::{COMPARED_ROWS_MAX, Challenger, SERVED_ROWS_MAX};
use super::design::Design;
use super::features::{Row, mix, unit};
use super::interval::{Held, open_variance};
use super::linear::{Linear, Sums};
use super::metrics::{Errors, Spread};
use super::report::Comparison;
use super::scorer::{abnormal, clip};
use super::set::TrainingSet;
use crate::error::{Error, Result};
use crate::schema::Feature;

/// Rows a design is fitted on; more are sampled down to this.
const DESIGN_ROWS_MAX: usize = 200_000;
/// Rows of a cross-validation; more are sampled down to this.
const CROSS_VALIDATION_ROWS_MAX: usize = 10_000;
/// Folds of a cross-validation.
pub(super) const FOLDS: u64 = 5;
/// Blanked copies of each held-out row, to learn intervals for missing inputs.
const COPIES: u64 = 2;

/// Which trees to fit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trees {
    /// None.
    Without,
    /// To be compared on rows as they are.
    Compared,
    /// To be compared, and to answer when inputs are missing: half the rows are blanked copies.
    Blanked,
    /// To serve: as [`Trees::Blanked`], on more rows.
    Served,
}

/// Every model, fitted on the same rows.
pub(super) struct Fit {
    pub(super) design: Design,
    pub(super) linear: Linear,
    pub(super) baseline: Linear,
    pub(super) challenger: Option<Challenger>,
}

/// At most `max` of `order`, evenly spread.
pub(super) fn sample(order: &[u32], max: usize) -> impl Iterator<Item = u32> + '_ {
    order.iter().copied().step_by(order.len().div_ceil(max).max(1))
}

impl Fit {
    /// Fits on the rows of `set` that `order` names. Rows stream by once; nothing grows with their number.
    ///
    /// # Errors
    /// Internal, when a solver fails.
    pub(super) fn on(set: &TrainingSet, order: &[u32], seed: u64, trees: Trees) -> Result<Self> {
        let rows: Vec<&Row> = sample(order, DESIGN_ROWS_MAX).map(|i| set.row(i)).collect();
        let design = Design::fit(&rows);
        let (mut sums, mut baseline_sums) = (Sums::new(), Sums::new());
        for i in order {
            let row = set.row(*i);
            let encoded = design.encode(row);
            sums.add(&encoded.values, row.stay_days());
            baseline_sums.add(&design.baseline(&encoded).values, row.stay_days());
        }
        let linear = Linear::fit(&sums, &design.columns)?;
        let baseline = Linear::fit(&baseline_sums, &design.baseline_columns)?;
        let challenger = (trees != Trees::Without).then(|| Challenger::fit(&design, &tree_rows(set, order, seed, trees), seed));
        let challenger = challenger.transpose()?;
        Ok(Self { design, linear, baseline, challenger })
    }

    /// Scores rows that this fit has not seen.
    pub(super) fn compare(&self, set: &TrainingSet, order: &[u32]) -> Compared {
        let mut out = Compared::default();
        for i in order {
            self.score(set.row(*i), &mut out);
        }
        out.spread = Spread::of(order.iter().map(|i| set.row(*i).stay_days()));
        out
    }

    fn score(&self, row: &Row, out: &mut Compared) {
        let encoded = self.design.encode(row);
        let stay = row.stay_days();
        let linear = clip(self.linear.predict(&encoded.values));
        out.linear.add(stay, linear, None);
        out.baseline.add(stay, clip(self.baseline.predict(&self.design.baseline(&encoded).values)), None);
        if let Some(challenger) = &self.challenger {
            let days = clip(challenger.predict(row, &encoded));
            out.challenger.add(stay, days, None);
            out.advantage.add((linear - stay).powi(2) - (days - stay).powi(2));
        }
    }

    /// The errors on a held-out row: as it is, and blanked.
    fn hold(&self, row: &Row, seed: u64, held: &mut [Vec<Held>; 2]) {
        let copies = (0..COPIES).map(|copy| blanked(*row, mix(seed ^ mix(row.hash() ^ copy))));
        for row in std::iter::once(*row).chain(copies) {
            let encoded = self.design.encode(&row);
            let linear = clip(self.linear.predict(&encoded.values));
            let trees = self.challenger.as_ref().map_or(linear, |trees| clip(trees.predict(&row, &encoded)));
            let open = open_variance(&self.linear, &encoded);
            for (held, days) in held.iter_mut().zip([linear, trees]) {
                held.push(Held { error: row.stay_days() - days, abnormal: abnormal(&encoded), open });
            }
        }
    }
}

fn tree_rows(set: &TrainingSet, order: &[u32], seed: u64, trees: Trees) -> Vec<Row> {
    let max = if trees == Trees::Served { SERVED_ROWS_MAX } else { COMPARED_ROWS_MAX };
    let mut rows: Vec<Row> = sample(order, max).map(|i| *set.row(i)).collect();
    if trees != Trees::Compared {
        // Trees must meet missing inputs in training to answer them in service.
        let copies: Vec<Row> = rows.iter().map(|row| blanked(*row, mix(seed ^ row.hash()))).collect();
        rows.extend(copies);
    }
    rows
}

/// Paired differences: mean and its standard error.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Paired {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Paired {
    pub(super) fn add(&mut self, difference: f64) {
        self.n += 1.0;
        self.sum += difference;
        self.squares += difference * difference;
    }

    fn merge(&mut self, other: &Paired) {
        self.n += other.n;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    pub(super) fn rows(&self) -> u64 {
        self.n as u64
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.n.max(1.0)
    }

    pub(super) fn standard_error(&self) -> f64 {
        let n = self.n.max(2.0);
        ((self.squares / n - self.mean().powi(2)).max(0.0) / (n - 1.0)).sqrt()
    }
}

/// Errors of every model on the same rows.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) linear: Errors,
    pub(super) challenger: Errors,
    pub(super) baseline: Errors,
    /// Squared error of the linear model less that of the challenger, row by row.
    pub(super) advantage: Paired,
    pub(super) spread: Spread,
}

impl Compared {
    fn add(&mut self, other: &Compared) {
        self.linear.merge(&other.linear);
        self.challenger.merge(&other.challenger);
        self.baseline.merge(&other.baseline);
        self.advantage.merge(&other.advantage);
    }

    pub(super) fn report(&self) -> Comparison {
        let metrics = |errors: &Errors| errors.metrics(&self.spread);
        Comparison {
            rows: self.linear.rows,
            primary: metrics(&self.linear),
            challenger: (self.challenger.rows > 0).then(|| metrics(&self.challenger)),
            baseline: metrics(&self.baseline),
        }
    }
}

/// What cross-validation found.
pub(super) struct Validated {
    pub(super) compared: Compared,
    /// Held-out errors of the linear model and of the trees.
    pub(super) held: [Vec<Held>; 2],
}

/// Seeded cross-validation on (a sample of) `order`. A row's fold comes from its content: copies of a row share a fold, and the order
/// in which rows came does not matter.
///
/// # Errors
/// Internal, when a solver fails.
pub(super) fn cross_validate(set: &TrainingSet, order: &[u32], seed: u64, trees: Trees) -> Result<Validated> {
    let rows: Vec<u32> = sample(order, CROSS_VALIDATION_ROWS_MAX).collect();
    let fold_of = |i: &u32| mix(seed ^ set.row(*i).hash()) % FOLDS;
    let one = |fold: u64| -> Result<Validated> {
        let (test, train): (Vec<u32>, Vec<u32>) = rows.iter().partition(|i| fold_of(i) == fold);
        let mut out = Validated { compared: Compared::default(), held: [Vec::new(), Vec::new()] };
        if !test.is_empty() && !train.is_empty() {
            let fit = Fit::on(set, &train, seed, trees)?;
            for i in &test {
                fit.score(set.row(*i), &mut out.compared);
                fit.hold(set.row(*i), seed, &mut out.held);
            }
        }
        Ok(out)
    };
    // A thread a fold, joined in order: the result does not depend on who finishes first.
    let folds: Vec<Result<Validated>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..FOLDS)
            .map(|fold| {
                scope.spawn({
                    let one = &one;
                    move || one(fold)
                })
            })
            .collect();
        let lost = |_| Err(Error::internal("A fold of the cross-validation stopped; see the log."));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
    });
    let mut all = Validated { compared: Compared::default(), held: [Vec::new(), Vec::new()] };
    for fold in folds {
        let fold = fold?;
        all.compared.add(&fold.compared);
        all.held.iter_mut().zip(fold.held).for_each(|(all, fold)| all.extend(fold));
    }
    all.compared.spread = Spread::of(rows.iter().map(|i| set.row(*i).stay_days()));
    Ok(all)
}

/// A copy with inputs blanked: the readmission count alone, or a tenth or three tenths of the inputs, or the count and a fifth.
pub(super) fn blanked(mut row: Row, draw: u64) -> Row {
    let (readmissions, share) = [(true, 0.0), (false, 0.1), (false, 0.3), (true, 0.2)][(draw % 4) as usize];
    if readmissions {
        row.blank(Feature::Readmissions);
    }
    for feature in Feature::all() {
        if unit(mix(draw ^ feature as u64)) < share {
            row.blank(feature);
        }
    }
    row
}
