//! The challenger: gradient-boosted trees (forust) on the same learned features, with missing inputs left missing.

use forust_ml::GradientBooster;
use forust_ml::Matrix;
use forust_ml::objective::ObjectiveType;
use serde::{Deserialize, Serialize};

use super::design::{CONDITION_LEVELS, Design, Encoded, FLAGS};
use super::features::{CONDITION_COUNT, FACILITY_COUNT, MEASUREMENT_COUNT, Row};
use crate::error::{Error, Result};

/// Rows the challenger is trained on to be compared; more are sampled down to this.
pub(super) const COMPARED_ROWS_MAX: usize = 10_000;
/// Rows it is trained on to serve.
pub(super) const SERVED_ROWS_MAX: usize = 200_000;

const TREES: usize = 150;
const LEARNING_RATE: f32 = 0.15;
const DEPTH: usize = 3;

const READMISSIONS: usize = 0;
const CONDITION_TOTAL: usize = 1;
const ABNORMAL_TOTAL: usize = 2;
const GENDER: usize = 3;
const FACILITY: usize = 4;
const STEPS: usize = 5;
const NUMBERS: usize = STEPS + MEASUREMENT_COUNT;
const CONDITIONS: usize = NUMBERS + MEASUREMENT_COUNT;
const COLUMNS: usize = CONDITIONS + CONDITION_COUNT;

/// Fitted trees.
#[derive(Serialize, Deserialize)]
pub(super) struct Challenger {
    booster: GradientBooster,
    /// Mean stay of each facility in training; `None` if it was too rare.
    facility_days: Vec<Option<f64>>,
    /// Mean answer below each node of each tree: what contributions are differences of. Derived from the trees.
    #[serde(skip)]
    averages: Vec<Vec<f64>>,
}

/// What a column of the trees speaks of.
pub(super) enum Topic {
    Readmissions,
    Conditions,
    Abnormal,
    Gender,
    Facility,
    Measurement(usize),
}

impl Challenger {
    /// Fits the trees to encoded rows.
    ///
    /// # Errors
    /// Internal, when forust refuses.
    pub(super) fn fit(design: &Design, rows: &[Row], seed: u64) -> Result<Self> {
        let facility_days = facility_days(rows);
        let mut columns = vec![0.0; rows.len() * COLUMNS];
        for (i, row) in rows.iter().enumerate() {
            let line = line(row, &design.encode(row), &facility_days);
            line.iter().enumerate().for_each(|(j, value)| columns[j * rows.len() + i] = *value);
        }
        let days: Vec<f64> = rows.iter().map(Row::stay_days).collect();
        let mut booster = GradientBooster::default()
            .set_objective_type(ObjectiveType::SquaredLoss)
            .set_iterations(TREES)
            .set_learning_rate(LEARNING_RATE)
            .set_max_depth(DEPTH)
            .set_seed(seed)
            // One thread: the same data and seed must give the same bytes on any machine.
            .set_parallel(false);
        booster
            .fit_unweighted(&Matrix::new(&columns, rows.len(), COLUMNS), &days, None)
            .map_err(|e| Error::internal("The boosted challenger could not be fitted; see the log.").caused_by(e))?;
        let mut challenger = Self { booster, facility_days, averages: Vec::new() };
        challenger.prepare();
        Ok(challenger)
    }

    /// Derives what is not stored. Call after reading a model.
    pub(super) fn prepare(&mut self) {
        self.averages = self.booster.trees.iter().map(|tree| tree.distribute_leaf_weights()).collect();
    }

    /// Days, unclipped.
    pub(super) fn predict(&self, row: &Row, encoded: &Encoded) -> f64 {
        let line = line(row, encoded, &self.facility_days);
        let missing = self.booster.missing;
        self.booster.base_score
            + self.booster.trees.iter().map(|tree| tree.predict_row_from_row_slice(&line, &missing)).sum::<f64>()
    }

    /// The average answer, and what each topic adds to it; they sum to [`Challenger::predict`].
    pub(super) fn contributions(&self, row: &Row, encoded: &Encoded, mut add: impl FnMut(Topic, f64)) -> f64 {
        let line = line(row, encoded, &self.facility_days);
        let mut parts = [0.0; COLUMNS + 1];
        for (tree, averages) in self.booster.trees.iter().zip(&self.averages) {
            tree.predict_contributions_row_average(&line, &mut parts, averages, &self.booster.missing);
        }
        for (column, days) in parts[..COLUMNS].iter().enumerate() {
            let topic = match column {
                READMISSIONS => Topic::Readmissions,
                ABNORMAL_TOTAL => Topic::Abnormal,
                GENDER => Topic::Gender,
                FACILITY => Topic::Facility,
                c if (STEPS..CONDITIONS).contains(&c) => Topic::Measurement((c - STEPS) % MEASUREMENT_COUNT),
                _ => Topic::Conditions,
            };
            add(topic, *days);
        }
        self.booster.base_score + parts[COLUMNS]
    }

    /// Do the trees refer only to nodes and columns that exist, and end?
    pub(super) fn is_sound(&self) -> bool {
        self.facility_days.len() == FACILITY_COUNT
            && self.booster.base_score.is_finite()
            && self.booster.trees.iter().all(|tree| {
                !tree.nodes.is_empty()
                    && tree.nodes.iter().enumerate().all(|(i, node)| {
                        let children = [node.left_child, node.right_child, node.missing_node];
                        let ahead = |child: &usize| *child > i && *child < tree.nodes.len();
                        node.weight_value.is_finite()
                            && (node.is_leaf || node.split_feature < COLUMNS && children.iter().all(ahead))
                    })
            })
    }
}

fn facility_days(rows: &[Row]) -> Vec<Option<f64>> {
    let (mut sum, mut n) = ([0.0; FACILITY_COUNT], [0.0; FACILITY_COUNT]);
    for row in rows {
        sum[usize::from(row.facility)] += row.stay_days();
        n[usize::from(row.facility)] += 1.0;
    }
    sum.iter().zip(n).map(|(sum, n)| (n >= 20.0).then_some(sum / n)).collect()
}

fn line(row: &Row, encoded: &Encoded, facility_days: &[Option<f64>]) -> [f64; COLUMNS] {
    let mut line = [f64::NAN; COLUMNS];
    let known = |value: Option<usize>| value.map_or(f64::NAN, |value| value as f64);
    line[READMISSIONS] = known(row.readmissions());
    line[CONDITION_TOTAL] = (0..CONDITION_LEVELS).map(|level| level as f64 * encoded.conditions[level]).sum();
    line[ABNORMAL_TOTAL] = encoded.abnormal_count();
    line[GENDER] = known(row.gender());
    line[FACILITY] = facility_days[usize::from(row.facility)].unwrap_or(f64::NAN);
    line[STEPS..NUMBERS].copy_from_slice(&encoded.values[FLAGS..FLAGS + MEASUREMENT_COUNT]);
    for m in 0..MEASUREMENT_COUNT {
        line[NUMBERS + m] = f64::from(row.numbers[m]);
    }
    for c in 0..CONDITION_COUNT {
        line[CONDITIONS + c] = row.condition(c).map_or(f64::NAN, |present| f64::from(u8::from(present)));
    }
    line
}
