//! Which inputs an experiment uses and what is done to each: the file's features and transforms, resolved and checked.
//!
//! A transform says one thing about its inputs; their order in the file does not matter.

use super::input::{CONDITION_COUNT, Input};
use super::spec::{Algorithm, File, ImputeWith, TransformKeys, TransformKind, shown, wrong};
use super::target::Target;
use crate::error::{Error, Result};
use crate::schema::Feature;

const BINS_MOST: u32 = 50;

/// What columns an input becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One column: the number.
    Number,
    /// One column a level met in training.
    Levels,
    /// One column a quantile bin of training.
    Bins(u32),
}

/// What is done to an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) input: Input,
    pub(super) form: Form,
    pub(super) impute: Option<ImputeWith>,
    pub(super) standardize: bool,
    pub(super) indicator: bool,
}

/// Every input with what is done to it, in schema order.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// The conditions that the condition count counts.
    pub(super) counted: Vec<Feature>,
}

impl Plan {
    /// # Errors
    /// Invalid, naming the key and the remedy.
    pub(super) fn read(file: &File, target: Target, algorithm: Algorithm) -> Result<Self> {
        let inputs = inputs(file, target)?;
        let counted = inputs.iter().filter(|input| input.is_condition()).filter_map(|input| match input {
            Input::Clinical(feature) => Some(*feature),
            _ => None,
        });
        let counted: Vec<Feature> = counted.collect();
        let form = |input: Input| if input.is_category() { Form::Levels } else { Form::Number };
        let step = |input| Step { input, form: form(input), impute: None, standardize: false, indicator: false };
        let mut plan = Self { steps: inputs.into_iter().map(step).collect(), counted };
        let is_count = |t: &TransformKeys| t.kind == TransformKind::CountConditions;
        if file.transform.iter().any(is_count) {
            if plan.counted.is_empty() {
                return Err(wrong("transform", "count_conditions has nothing to count: add \"conditions\" to `features`"));
            }
            plan.steps.push(step(Input::ConditionCount));
        }
        // What names its inputs before what takes all that fit, and forms before what applies to numbers: so the file's order is no matter.
        let mut all: Vec<(usize, &TransformKeys)> = file.transform.iter().enumerate().collect();
        all.sort_by_key(|(_, keys)| {
            let form = match keys.kind {
                TransformKind::OneHot => 0,
                TransformKind::Bins => 1,
                _ => 2,
            };
            (form == 2, keys.features.is_none(), form)
        });
        for (index, keys) in all {
            plan.apply(keys).map_err(|problem| wrong(&format!("transform {}", index + 1), problem))?;
        }
        if algorithm.needs_filled() {
            plan.check_filled(algorithm)?;
        }
        Ok(plan)
    }

    /// Every input that the target leaves, untouched?
    pub(super) fn takes_everything(&self) -> bool {
        self.steps.len() == Input::all().count()
    }

    fn apply(&mut self, keys: &TransformKeys) -> Result<(), String> {
        let kind = keys.kind.name();
        if keys.with.is_some() && keys.kind != TransformKind::Impute {
            return Err(format!("the key `with` belongs to impute, not to {kind}: leave it out"));
        }
        if keys.bins.is_some() && keys.kind != TransformKind::Bins {
            return Err(format!("the key `bins` belongs to the kind bins, not to {kind}: leave it out"));
        }
        if keys.kind == TransformKind::CountConditions {
            return match keys.features {
                None => Ok(()),
                Some(_) => Err("count_conditions counts every condition among the inputs: leave `features` out".to_owned()),
            };
        }
        let named = keys.features.as_deref().map(|names| self.resolve(names)).transpose()?;
        let mut applied = 0;
        for step in &mut self.steps {
            let fits = fits(keys.kind, step);
            // A measurement can have hundreds of levels: one_hot takes one only by its name.
            let by_itself = fits.is_ok() && (keys.kind != TransformKind::OneHot || step.input.is_few());
            let chosen = named.as_ref().map_or(by_itself, |named| named.contains(&step.input));
            if !chosen {
                continue;
            }
            fits.map_err(|problem| format!("{kind} does not fit the input {}: {problem}", step.input.name()))?;
            change(keys, step)?;
            applied += 1;
        }
        if applied == 0 {
            return Err(format!("{kind} fits none of the inputs: leave it out or name others in its `features`"));
        }
        Ok(())
    }

    /// The inputs that a transform names, each of which the experiment must have. A group means those of it that there are.
    fn resolve(&self, names: &[String]) -> Result<Vec<Input>, String> {
        let mut inputs = Vec::new();
        for name in names {
            let known = Input::named(name).ok_or_else(|| unknown(name))?;
            let mine: Vec<Input> = known.into_iter().filter(|input| self.steps.iter().any(|step| step.input == *input)).collect();
            if mine.is_empty() {
                let remedy = match name == CONDITION_COUNT {
                    true => "add a transform of kind count_conditions",
                    false => "add it to the experiment's `features`, or leave it out here",
                };
                return Err(format!("{} is none of the experiment's inputs: {remedy}", shown(name)));
            }
            inputs.extend(mine);
        }
        Ok(inputs)
    }

    fn check_filled(&self, algorithm: Algorithm) -> Result<()> {
        let open = |step: &&Step| step.form == Form::Number && step.impute.is_none() && step.input != Input::ConditionCount;
        match self.steps.iter().find(open) {
            None => Ok(()),
            Some(step) => Err(wrong(
                "transform",
                format!(
                    "{} cannot work with missing values, and {} may be missing: add a transform of kind impute (or bins, or one_hot)",
                    algorithm.name(),
                    step.input.name()
                ),
            )),
        }
    }
}

fn unknown(name: &str) -> String {
    format!(
        "there is no input {}; `hdai schema` lists the features, and the groups are *, conditions, measurements, gender, facility",
        shown(name)
    )
}

/// What the file's `features` leave after `exclude`; never the target.
fn inputs(file: &File, target: Target) -> Result<Vec<Input>> {
    let mut chosen = Vec::new();
    for name in &file.features {
        let of_name = readable(name).map_err(|problem| wrong("features", problem))?;
        let by_name = !matches!(name.as_str(), "*" | "conditions" | "measurements");
        if let (true, Some(feature)) = (by_name, target.feature())
            && of_name.contains(&Input::Clinical(feature))
        {
            return Err(target_as_input(feature));
        }
        chosen.extend(of_name);
    }
    let mut excluded = Vec::new();
    for name in &file.exclude {
        let of_name = readable(name).map_err(|problem| wrong("exclude", problem))?;
        if !of_name.iter().any(|input| chosen.contains(input)) {
            return Err(wrong("exclude", format!("{} is not among `features`: leave it out", shown(name))));
        }
        excluded.extend(of_name);
    }
    // A group leaves the target out by itself.
    excluded.extend(target.feature().map(Input::Clinical));
    let inputs: Vec<Input> = Input::all().filter(|input| chosen.contains(input) && !excluded.contains(input)).collect();
    match inputs.is_empty() {
        true => Err(wrong("features", "no input is left: name some, for example features = [\"*\"]")),
        false => Ok(inputs),
    }
}

fn target_as_input(feature: Feature) -> Error {
    wrong("features", format!("{} is the target, so it cannot be an input: leave it out", feature.spec().name))
}

/// The inputs of a name in `features` or `exclude`.
fn readable(name: &str) -> Result<Vec<Input>, String> {
    use crate::schema::{Column, csv_columns};
    let lower = name.trim().to_ascii_lowercase();
    let gives_away = csv_columns().iter().any(|column| {
        !matches!(column.column, Column::Clinical(_) | Column::Gender | Column::Facility)
            && (column.header.to_ascii_lowercase() == lower || column.synonyms.contains(&lower.as_str()))
    });
    if gives_away || lower == "stay_days" {
        return Err(format!(
            "{} can never be an input: names, ids, dates and the stay identify a patient or give the outcome away",
            shown(name)
        ));
    }
    match Input::named(name) {
        Some(inputs) if inputs == [Input::ConditionCount] => {
            Err(format!("{CONDITION_COUNT:?} is made by a transform of kind count_conditions: add that instead"))
        }
        Some(inputs) => Ok(inputs),
        None => Err(unknown(name)),
    }
}

/// Does a transform of `kind` make sense for the step's input?
fn fits(kind: TransformKind, step: &Step) -> Result<(), &'static str> {
    let input = step.input;
    let number = step.form == Form::Number;
    match kind {
        TransformKind::CountConditions => Ok(()),
        TransformKind::MissingIndicator if matches!(input, Input::Facility | Input::ConditionCount) => Err("it is never missing"),
        TransformKind::MissingIndicator => Ok(()),
        TransformKind::Impute if input == Input::ConditionCount => Err("it is never missing"),
        TransformKind::Impute | TransformKind::Standardize if !number => {
            Err("it becomes one column a level or bin, in which a missing value has none")
        }
        TransformKind::Impute | TransformKind::Standardize => Ok(()),
        TransformKind::Bins if input.is_category() || input.is_condition() => Err("it is not a number"),
        TransformKind::Bins if !number => Err("another transform has turned it into levels or bins already"),
        TransformKind::Bins => Ok(()),
        TransformKind::OneHot if input.is_category() => Err("a category becomes one column a level by itself"),
        TransformKind::OneHot if !input.is_count() => Err("it is no count with few values; use bins for a measurement"),
        TransformKind::OneHot if !number => Err("another transform has turned it into levels or bins already"),
        TransformKind::OneHot => Ok(()),
    }
}

fn change(keys: &TransformKeys, step: &mut Step) -> Result<(), String> {
    match keys.kind {
        TransformKind::CountConditions => {}
        TransformKind::MissingIndicator => step.indicator = true,
        TransformKind::Standardize => step.standardize = true,
        TransformKind::OneHot => step.form = Form::Levels,
        TransformKind::Impute => {
            let with = keys.with.ok_or("impute needs the key `with`: \"mean\", \"median\" or \"zero\"")?;
            if step.impute.is_some_and(|other| other != with) {
                return Err(format!("{} is imputed twice, in different ways: name it once", step.input.name()));
            }
            step.impute = Some(with);
        }
        TransformKind::Bins => {
            let bins = keys.bins.ok_or("the kind bins needs the key `bins`: how many")?;
            if !(2..=BINS_MOST).contains(&bins) {
                return Err(format!("`bins` must be from 2 to {BINS_MOST}"));
            }
            step.form = Form::Bins(bins);
        }
    }
    Ok(())
}
