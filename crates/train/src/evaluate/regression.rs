//! Numbers: absolute and squared errors, the share of variance explained.

use network::{Postprocess, Prediction};
use serde::{Deserialize, Serialize};

use super::{EvaluateError, Evaluation, Outcome, mean, misfit, mistakes};
use crate::data::Target;

/// How well one target is told, in the units of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetScore {
    /// Its name.
    pub label: String,
    /// Mean absolute error.
    pub mae: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// 1 minus the squared error over the variance of the target; 1 is perfect, 0 is as good as the mean.
    /// 0 for a target that never changes.
    pub r2: f64,
}

pub(super) fn score(
    postprocess: &Postprocess,
    outcomes: &[Outcome],
    evaluation: &mut Evaluation,
) -> Result<(), EvaluateError> {
    let mut pairs: Vec<(usize, &[f32], &[f32])> = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match (&outcome.target, &outcome.prediction) {
            (Target::Values(truth), Prediction::Values { values })
                if truth.len() == postprocess.labels.len() && values.len() == truth.len() =>
            {
                pairs.push((outcome.index, truth, values));
            }
            _ => return Err(misfit(postprocess, outcome)),
        }
    }
    let targets: Vec<TargetScore> = postprocess
        .labels
        .iter()
        .enumerate()
        .map(|(target, label)| {
            let errors =
                || pairs.iter().map(|(_, truth, told)| f64::from(told[target]) - f64::from(truth[target]));
            let average = mean(pairs.iter().map(|(_, truth, _)| f64::from(truth[target])));
            let variance =
                mean(pairs.iter().map(|(_, truth, _)| (f64::from(truth[target]) - average).powi(2)));
            let squared = mean(errors().map(|error| error * error));
            let r2 = if variance > 0.0 { 1.0 - squared / variance } else { 0.0 };
            TargetScore { label: label.clone(), mae: mean(errors().map(f64::abs)), rmse: squared.sqrt(), r2 }
        })
        .collect();
    let metrics = &mut evaluation.metrics;
    metrics.insert("mae".to_owned(), mean(targets.iter().map(|target| target.mae)));
    metrics.insert("rmse".to_owned(), mean(targets.iter().map(|target| target.rmse)));
    metrics.insert("r2".to_owned(), mean(targets.iter().map(|target| target.r2)));
    evaluation.mistakes = mistakes::of_values(&pairs);
    evaluation.targets = targets;
    Ok(())
}
