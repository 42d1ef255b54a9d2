//! Evaluation: the only implementation of metrics.
//!
//! Training, the report, `evaluate` and every gate of compression score predictions here, and predictions
//! come from [`predict::Predictor`] alone, so a reported score is a score of the thing that is served.
//! Sums run in the order of the samples in 64-bit floats: the same predictions give the same bits.

mod align;
mod calibration;
mod choice;
mod classes;
mod labels;
mod mistakes;
mod packed;
mod precision;
mod ranking;
mod regression;

use std::collections::BTreeMap;

use model::Precision;
use network::{Postprocess, Prediction, Task};
use serde::{Deserialize, Serialize};

pub use self::align::{AlignError, align, data_config_for};
pub use self::calibration::{Bin, Calibration};
pub use self::choice::{Choice, Chosen, choose};
pub use self::classes::{ClassScore, Interval, wilson};
pub use self::mistakes::Mistake;
pub use self::packed::{PackedDataError, data_for, data_with_seed, packed_config, packed_data};
pub use self::precision::{MetricChange, PrecisionReport, Scored, compare_precisions};
pub use self::ranking::auroc;
pub use self::regression::TargetScore;
use crate::data::{DataError, DataSet, SplitRecord, Target};

/// How many of the worst mistakes are kept.
pub const MISTAKES: usize = 24;

/// Samples per call of the predictor.
const BATCH: usize = 256;

/// Everything that is known about a model's answers to one split; `evaluation.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The version of this format.
    pub format: String,
    /// Which part of the data was scored.
    pub split: String,
    /// How many samples.
    pub samples: usize,
    /// What the model tells.
    pub task: Task,
    /// The classes, labels or targets.
    pub labels: Vec<String>,
    /// Every number by its name; what they mean is in `README.md`.
    pub metrics: BTreeMap<String, f64>,
    /// The 95 % interval of the accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// One line per class or label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassScore>,
    /// Counts; rows are true classes, columns predicted ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<u64>>,
    /// Whether probabilities mean what they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// One line per regression target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetScore>,
    /// The worst mistakes, worst first.
    pub mistakes: Vec<Mistake>,
    /// Which data was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataFacts>,
}

/// Which data was scored, so that it can be known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFacts {
    /// The name of the data set.
    pub name: String,
    /// Its digest.
    pub sha256: String,
    /// How it was split.
    pub split: SplitRecord,
}

impl Evaluation {
    /// The metric that is named first wherever there is room for only one.
    #[must_use]
    pub fn headline(&self) -> (&'static str, f64) {
        let name = headline(self.task);
        (name, self.metrics.get(name).copied().unwrap_or(f64::NAN))
    }
}

/// The name of the metric that counts most for a task.
#[must_use]
pub fn headline(task: Task) -> &'static str {
    match task {
        Task::MultiClass | Task::Binary => "accuracy",
        Task::MultiLabel => "micro_f1",
        Task::Regression => "mae",
    }
}

/// One answered sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its index in the data set.
    pub index: usize,
    /// What is right.
    pub target: Target,
    /// What the model says.
    pub prediction: Prediction,
}

/// An evaluation that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// There is nothing to score.
    #[error("the {split} split has no samples")]
    Empty {
        /// Which split.
        split: String,
    },
    /// A sample that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A sample that the model cannot answer.
    #[error("sample {index} cannot be predicted: {message}")]
    Predict {
        /// Its index in the data set; the first of the batch when the whole batch failed.
        index: usize,
        /// What the predictor said.
        message: String,
    },
    /// A sample whose numbers do not fit the precision.
    #[error("sample {index} needs numbers that {precision} does not have")]
    Overflow {
        /// Its index in the data set.
        index: usize,
        /// What the model computed in.
        precision: Precision,
    },
    /// A target that is not of the model's task.
    #[error("sample {index} has a target that does not belong to a {task} model")]
    Target {
        /// Its index in the data set.
        index: usize,
        /// The model's task.
        task: &'static str,
    },
}

/// Predicts and scores the samples `indices` of `data`; `progress` hears how many are done.
///
/// # Errors
/// When a sample cannot be read or predicted, or there is none.
pub fn evaluate(
    predictor: &predict::Predictor,
    data: &DataSet,
    split: &str,
    indices: &[usize],
    progress: &mut dyn FnMut(usize),
) -> Result<Evaluation, EvaluateError> {
    Ok(evaluate_outcomes(predictor, data, split, indices, progress)?.0)
}

/// [`evaluate`], with the answers that were scored.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_outcomes(
    predictor: &predict::Predictor,
    data: &DataSet,
    split: &str,
    indices: &[usize],
    progress: &mut dyn FnMut(usize),
) -> Result<(Evaluation, Vec<Outcome>), EvaluateError> {
    let outcomes = outcomes(predictor, data, indices, progress)?;
    let mut evaluation = score(predictor.postprocess(), split, &outcomes)?;
    let (name, sha256) = (data.name.clone(), data.sha256.clone());
    evaluation.data = Some(DataFacts { name, sha256, split: data.splits.record.clone() });
    Ok((evaluation, outcomes))
}

/// Predicts the samples `indices` of `data`.
///
/// # Errors
/// When a sample cannot be read or predicted.
pub fn outcomes(
    predictor: &predict::Predictor,
    data: &DataSet,
    indices: &[usize],
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Outcome>, EvaluateError> {
    let mut outcomes = Vec::with_capacity(indices.len());
    for batch in indices.chunks(BATCH) {
        let inputs = batch.iter().map(|&index| data.source.read(index)).collect::<Result<Vec<_>, _>>()?;
        let first = batch.first().copied().unwrap_or(0);
        let predictions = predictor.predict(&inputs).map_err(|error| match error {
            predict::PredictError::Overflow { row, precision } => {
                EvaluateError::Overflow { index: batch.get(row).copied().unwrap_or(first), precision }
            }
            error => EvaluateError::Predict { index: first, message: chain(&error) },
        })?;
        for (&index, prediction) in batch.iter().zip(predictions) {
            outcomes.push(Outcome { index, target: data.source.target(index)?, prediction });
        }
        progress(outcomes.len());
    }
    Ok(outcomes)
}

/// Scores predictions.
///
/// # Errors
/// When there are none, or a target does not belong to the task.
pub fn score(
    postprocess: &Postprocess,
    split: &str,
    outcomes: &[Outcome],
) -> Result<Evaluation, EvaluateError> {
    if outcomes.is_empty() {
        return Err(EvaluateError::Empty { split: split.to_owned() });
    }
    let mut evaluation = Evaluation {
        format: "1.0".to_owned(),
        split: split.to_owned(),
        samples: outcomes.len(),
        task: postprocess.task,
        labels: postprocess.labels.clone(),
        metrics: BTreeMap::new(),
        interval: None,
        classes: Vec::new(),
        confusion: Vec::new(),
        calibration: None,
        targets: Vec::new(),
        mistakes: Vec::new(),
        data: None,
    };
    match postprocess.task {
        Task::MultiClass | Task::Binary => classes::score(postprocess, outcomes, &mut evaluation)?,
        Task::MultiLabel => labels::score(postprocess, outcomes, &mut evaluation)?,
        Task::Regression => regression::score(postprocess, outcomes, &mut evaluation)?,
    }
    Ok(evaluation)
}

/// The refusal of a target or prediction of another task.
fn misfit(postprocess: &Postprocess, outcome: &Outcome) -> EvaluateError {
    EvaluateError::Target { index: outcome.index, task: postprocess.task.name() }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// `part / whole`, 0 when there is no whole (a class that is never predicted has precision 0).
#[allow(clippy::cast_precision_loss, reason = "counts of samples are far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The mean; 0 for nothing.
#[allow(clippy::cast_precision_loss, reason = "counts of samples are far below 2^52")]
fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests;
