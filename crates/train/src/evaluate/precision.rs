//! What a lower precision changes: the same samples, model and device, in two precisions.

use std::collections::BTreeMap;

use model::Precision;
use network::Prediction;
use serde::Serialize;

use super::{Evaluation, Outcome};

/// How far the answers of a model in one precision are from those in another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PrecisionReport {
    /// The precision that is looked at.
    pub precision: Precision,
    /// What it is compared with.
    pub reference: Precision,
    /// Every metric in both.
    pub metrics: BTreeMap<String, MetricChange>,
    /// How many samples got another class, or another decision about any label; `None` for numbers.
    pub changed: Option<usize>,
    /// The same as a share of the samples.
    pub changed_share: Option<f64>,
    /// The largest difference between a logit of a sample in one precision and in the other; for numbers,
    /// between the values in the units of the data. `None` where one of them is no finite number.
    pub largest_difference: Option<f64>,
}

/// One metric in two precisions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricChange {
    /// In the precision that it is compared with.
    pub reference: f64,
    /// In the precision that is looked at.
    pub found: f64,
    /// What was found less what it is compared with.
    pub difference: f64,
}

/// The answers to some samples, and their scores.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// What the model computed in.
    pub precision: Precision,
    /// The answers.
    pub outcomes: &'a [Outcome],
    /// The scores.
    pub evaluation: &'a Evaluation,
}

/// Compares the answers to the same samples, in the same order, in two precisions.
#[must_use]
pub fn compare_precisions(reference: Scored<'_>, other: Scored<'_>) -> PrecisionReport {
    let samples = || reference.outcomes.iter().zip(other.outcomes);
    let pairs = || samples().map(|(a, b)| (&a.prediction, &b.prediction));
    let decisions: Vec<bool> = pairs().filter_map(|(a, b)| differently_decided(a, b)).collect();
    let changed = decisions.iter().filter(|different| **different).count();
    let changed = (!decisions.is_empty()).then_some(changed);
    let differences = pairs().flat_map(|(a, b)| outputs(a).iter().zip(outputs(b)));
    let largest =
        differences.map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).try_fold(0.0f64, |most, next| {
            // `max` passes over what is no number.
            next.is_finite().then(|| most.max(next))
        });
    let metrics = reference.evaluation.metrics.iter().filter_map(|(name, &before)| {
        let found = *other.evaluation.metrics.get(name)?;
        Some((name.clone(), MetricChange { reference: before, found, difference: found - before }))
    });
    PrecisionReport {
        precision: other.precision,
        reference: reference.precision,
        metrics: metrics.collect(),
        changed,
        changed_share: changed.map(|changed| changed as f64 / decisions.len() as f64),
        largest_difference: largest,
    }
}

/// Whether two answers decide differently; `None` for numbers, which decide nothing.
fn differently_decided(a: &Prediction, b: &Prediction) -> Option<bool> {
    match (a, b) {
        (Prediction::Class { index: a, .. }, Prediction::Class { index: b, .. }) => Some(a != b),
        (Prediction::Labels { labels: a, .. }, Prediction::Labels { labels: b, .. }) => Some(a != b),
        _ => None,
    }
}

fn outputs(prediction: &Prediction) -> &[f32] {
    match prediction {
        Prediction::Class { logits, .. } | Prediction::Labels { logits, .. } => logits,
        Prediction::Values { values } => values,
    }
}
