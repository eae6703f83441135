//! What an experiment file may say (`docs/experiments.md`), read from TOML and checked before anything runs.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::Plan;
use super::target::Target;
use crate::error::{Error, Result};

/// Largest experiment file, bytes.
pub const EXPERIMENT_BYTES_MAX: usize = 64 << 10;

const NAME_CHARS_MAX: usize = 60;
const TRANSFORMS_MAX: usize = 32;
const FOLDS_DEFAULT: u32 = 5;
const ROWS_MAX_DEFAULT: u32 = 20_000;
const ROWS_MAX_MOST: u32 = 200_000;

/// An experiment file that has been read and checked: what is predicted, from what, and how.
#[derive(Debug, Clone)]
pub struct Experiment {
    pub(super) file: File,
    pub(super) target: Target,
    pub(super) plan: Plan,
    pub(super) algorithm: Algorithm,
    fingerprint: String,
}

/// The file, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) description: String,
    pub(super) target: TargetKeys,
    pub(super) features: Vec<String>,
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    #[serde(default)]
    pub(super) transform: Vec<TransformKeys>,
    pub(super) algorithm: AlgorithmKeys,
    #[serde(default = "folds_default")]
    pub(super) folds: u32,
    #[serde(default)]
    pub(super) seed: u64,
    #[serde(default = "rows_max_default")]
    pub(super) rows_max: u32,
}

fn folds_default() -> u32 {
    FOLDS_DEFAULT
}

fn rows_max_default() -> u32 {
    ROWS_MAX_DEFAULT
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetKeys {
    pub(super) kind: TargetKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) feature: Option<String>,
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub(super) read_as: Option<ReadAs>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TargetKind {
    StayDays,
    Feature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReadAs {
    Number,
    Class,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransformKeys {
    pub(super) kind: TransformKind,
    /// Inputs it applies to; without it, all that it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) with: Option<ImputeWith>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bins: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TransformKind {
    CountConditions,
    MissingIndicator,
    Impute,
    Bins,
    OneHot,
    Standardize,
}

impl TransformKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::CountConditions => "count_conditions",
            Self::MissingIndicator => "missing_indicator",
            Self::Impute => "impute",
            Self::Bins => "bins",
            Self::OneHot => "one_hot",
            Self::Standardize => "standardize",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ImputeWith {
    Mean,
    Median,
    Zero,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlgorithmKeys {
    kind: AlgorithmKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l1_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rounds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AlgorithmKind {
    Linear,
    ElasticNet,
    BoostedTrees,
    Product,
}

/// What fits the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Algorithm {
    /// linfa-linear.
    Linear,
    /// linfa-elasticnet.
    ElasticNet { penalty: f64, l1_ratio: f64 },
    /// forust.
    BoostedTrees { rounds: u32, learning_rate: f64, depth: u32 },
    /// The length-of-stay model of this program, whole.
    Product,
}

impl Algorithm {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::ElasticNet { .. } => "elastic_net",
            Self::BoostedTrees { .. } => "boosted_trees",
            Self::Product => "product",
        }
    }

    /// Does it need every cell filled?
    pub(super) const fn needs_filled(self) -> bool {
        matches!(self, Self::Linear | Self::ElasticNet { .. })
    }
}

/// An error about a key of the file.
pub(super) fn wrong(key: &str, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the experiment's key `{key}`: {what}"))
}

impl Experiment {
    /// Reads an experiment file.
    ///
    /// # Errors
    /// Invalid, with the key and the remedy, if the file is not TOML, has an unknown key or value, or asks for what cannot be: a target
    /// among its own inputs, a feature that does not exist, transforms that exclude one another, a number out of its limits.
    pub fn from_toml(text: &str) -> Result<Self> {
        if text.len() > EXPERIMENT_BYTES_MAX {
            return Err(Error::invalid(format!("the experiment file is larger than {EXPERIMENT_BYTES_MAX} bytes: shorten it")));
        }
        let file: File = toml::from_str(text).map_err(|cause| unreadable(text, &cause))?;
        check_name(&file.name)?;
        if !(2..=20).contains(&file.folds) {
            return Err(wrong("folds", "must be from 2 to 20"));
        }
        if !(1..=ROWS_MAX_MOST).contains(&file.rows_max) {
            return Err(wrong("rows_max", format!("must be from 1 to {ROWS_MAX_MOST}")));
        }
        if i64::try_from(file.seed).is_err() {
            return Err(wrong("seed", "must be a whole number from 0"));
        }
        if file.transform.len() > TRANSFORMS_MAX {
            return Err(wrong("transform", format!("there may be at most {TRANSFORMS_MAX}: name several features in one")));
        }
        let target = Target::read(&file.target)?;
        let algorithm = file.algorithm.check(target)?;
        let plan = Plan::read(&file, target, algorithm)?;
        if algorithm == Algorithm::Product {
            check_product(&file, &plan)?;
        }
        let digest = Sha256::digest(text.as_bytes());
        let fingerprint = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file, target, plan, algorithm, fingerprint })
    }

    /// The experiment's name: lower-case letters, digits and hyphens.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// The first 64 bits of the SHA-256 of the file, as 16 hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The name and the fingerprint: what a stored result is called.
    pub fn id(&self) -> String {
        format!("{}-{}", self.file.name, self.fingerprint)
    }
}

/// Most characters of the file's words that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A name of the file, short enough for a message.
pub(super) fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}

/// What the TOML reader found, on one line, with the line and key it stands at. The rest of the line is not repeated: the file may be
/// another one, handed over by mistake.
fn unreadable(text: &str, cause: &toml::de::Error) -> Error {
    let start = cause.span().map_or(0, |span| span.start);
    let line = text.get(..start).map_or(0, |before| before.matches('\n').count());
    let plain = |key: &&str| key.len() <= SHOWN_CHARS_MAX && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.[]".contains(c));
    let at = text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim()).filter(plain);
    let key = at.map_or(String::new(), |key| format!(", key `{key}`"));
    let what: String = cause.message().lines().collect::<Vec<_>>().join("; ").chars().take(400).collect();
    Error::invalid(format!("the experiment file, line {}{key}: {what} (docs/experiments.md lists the keys)", line + 1))
}

/// The name becomes part of a file's name, so it holds nothing that a path could mean.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) || name.starts_with('-') {
        return Err(wrong(
            "name",
            format!("must be 1 to {NAME_CHARS_MAX} lower-case letters, digits and hyphens, and not begin with a hyphen"),
        ));
    }
    Ok(())
}

/// The product's pipeline is one piece: it is measured as it is.
fn check_product(file: &File, plan: &Plan) -> Result<()> {
    if !plan.takes_everything() {
        return Err(wrong("features", "the algorithm product uses every input: write features = [\"*\"] and leave `exclude` out"));
    }
    if !file.transform.is_empty() {
        return Err(wrong(
            "transform",
            "the algorithm product has its own transforms: leave them out, or choose another algorithm",
        ));
    }
    if file.folds != FOLDS_DEFAULT {
        return Err(wrong("folds", format!("the algorithm product has {FOLDS_DEFAULT} folds of its own: leave the key out")));
    }
    Ok(())
}

impl AlgorithmKeys {
    fn check(&self, target: Target) -> Result<Algorithm> {
        use AlgorithmKind as Kind;
        let given = [
            ("penalty", self.penalty.is_some(), self.kind == Kind::ElasticNet),
            ("l1_ratio", self.l1_ratio.is_some(), self.kind == Kind::ElasticNet),
            ("rounds", self.rounds.is_some(), self.kind == Kind::BoostedTrees),
            ("learning_rate", self.learning_rate.is_some(), self.kind == Kind::BoostedTrees),
            ("depth", self.depth.is_some(), self.kind == Kind::BoostedTrees),
        ];
        if let Some((key, ..)) = given.iter().find(|(_, given, fits)| *given && !fits) {
            return Err(wrong(
                &format!("algorithm.{key}"),
                "does not belong to this kind of algorithm: penalty and l1_ratio belong to elastic_net; rounds, learning_rate and \
                 depth to boosted_trees",
            ));
        }
        let within = |key: &str, value: f64, low: f64, high: f64| match (low..=high).contains(&value) {
            true => Ok(value),
            false => Err(wrong(&format!("algorithm.{key}"), format!("must be from {low} to {high}"))),
        };
        Ok(match self.kind {
            Kind::Linear => Algorithm::Linear,
            Kind::ElasticNet => Algorithm::ElasticNet {
                penalty: within("penalty", self.penalty.unwrap_or(0.01), 0.0, 1e6)?,
                l1_ratio: within("l1_ratio", self.l1_ratio.unwrap_or(0.5), 0.0, 1.0)?,
            },
            Kind::BoostedTrees => Algorithm::BoostedTrees {
                // Small whole numbers: exact in both types.
                rounds: within("rounds", f64::from(self.rounds.unwrap_or(200)), 1.0, 2000.0)? as u32,
                learning_rate: within("learning_rate", self.learning_rate.unwrap_or(0.1), 0.001, 1.0)?,
                depth: within("depth", f64::from(self.depth.unwrap_or(3)), 1.0, 8.0)? as u32,
            },
            Kind::Product if target != Target::StayDays => {
                return Err(wrong(
                    "algorithm.kind",
                    "product predicts stay_days only: choose linear, elastic_net or boosted_trees",
                ));
            }
            Kind::Product => Algorithm::Product,
        })
    }
}
