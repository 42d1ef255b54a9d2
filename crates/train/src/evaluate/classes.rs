//! Classes: accuracy with its interval, confusion, precision, recall, F1, log loss.

use network::{Postprocess, Prediction, Task};
use serde::{Deserialize, Serialize};

use super::{Calibration, EvaluateError, Evaluation, Outcome, auroc, mean, misfit, mistakes, ratio};
use crate::data::Target;

/// How well one class or label is recognised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Its name.
    pub label: String,
    /// The share of its predictions that are right; 0 when it is never predicted.
    pub precision: f64,
    /// The share of its samples that are found; 0 when there are none.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// How many samples it has.
    pub support: u64,
}

impl ClassScore {
    /// From counts: rightly predicted, predicted, present.
    pub(super) fn from_counts(label: &str, hits: u64, predicted: u64, support: u64) -> Self {
        Self {
            label: label.to_owned(),
            precision: ratio(hits, predicted),
            recall: ratio(hits, support),
            f1: ratio(2 * hits, predicted + support),
            support,
        }
    }
}

/// An interval of an accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How many answers were right.
    pub correct: u64,
    /// Out of how many.
    pub total: u64,
}

/// Wilson's 95 % score interval (1927): unlike the usual one it stays within [0, 1] and is right for
/// accuracies close to 1.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts of samples are far below 2^52")]
pub fn wilson(correct: u64, total: u64) -> Interval {
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (total.max(1) as f64, ratio(correct, total));
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let low = ((centre - spread) / scale).max(0.0);
    let high = ((centre + spread) / scale).min(1.0);
    Interval { low, high, correct, total }
}

/// One answered sample of a class task.
pub(super) struct Answer<'a> {
    pub(super) index: usize,
    pub(super) truth: usize,
    pub(super) guess: usize,
    pub(super) probability: f32,
    pub(super) probabilities: &'a [f32],
    pub(super) logits: &'a [f32],
}

pub(super) fn score(
    postprocess: &Postprocess,
    outcomes: &[Outcome],
    evaluation: &mut Evaluation,
) -> Result<(), EvaluateError> {
    let labels = &postprocess.labels;
    let mut answers = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match (&outcome.target, &outcome.prediction) {
            (Target::Class(truth), Prediction::Class { index, probability, probabilities, logits, .. })
                if *truth < labels.len() =>
            {
                answers.push(Answer {
                    index: outcome.index,
                    truth: *truth,
                    guess: *index,
                    probability: *probability,
                    probabilities,
                    logits,
                });
            }
            _ => return Err(misfit(postprocess, outcome)),
        }
    }
    let mut confusion = vec![vec![0u64; labels.len()]; labels.len()];
    for answer in &answers {
        confusion[answer.truth][answer.guess] += 1;
    }
    let correct: u64 = (0..labels.len()).map(|class| confusion[class][class]).sum();
    let interval = wilson(correct, answers.len() as u64);
    let classes: Vec<ClassScore> = labels
        .iter()
        .enumerate()
        .map(|(class, label)| {
            let predicted = confusion.iter().map(|row| row[class]).sum();
            ClassScore::from_counts(label, confusion[class][class], predicted, confusion[class].iter().sum())
        })
        .collect();
    let calibration = Calibration::measure(
        answers.iter().map(|answer| (f64::from(answer.probability), answer.truth == answer.guess)),
    );

    let metrics = &mut evaluation.metrics;
    let mut put = |name: &str, value: f64| {
        metrics.insert(name.to_owned(), value);
    };
    put("accuracy", ratio(correct, answers.len() as u64));
    put("macro_f1", mean(classes.iter().map(|class| class.f1)));
    put(
        "balanced_accuracy",
        mean(classes.iter().filter(|class| class.support > 0).map(|class| class.recall)),
    );
    put("log_loss", mean(answers.iter().map(|answer| log_loss(postprocess, answer))));
    put("ece", calibration.ece);
    if labels.len() > 5 {
        let hits = answers.iter().filter(|answer| in_top(answer, 5)).count();
        put("top5_accuracy", ratio(hits as u64, answers.len() as u64));
    }
    if postprocess.task == Task::Binary
        && let Some(area) = auroc(answers.iter().map(|answer| (answer.logits[0], answer.truth == 1)))
    {
        put("auroc", area);
        put("f1", classes[1].f1);
    }
    evaluation.mistakes = mistakes::of_classes(&answers, labels);
    evaluation.interval = Some(interval);
    evaluation.classes = classes;
    evaluation.confusion = confusion;
    evaluation.calibration = Some(calibration);
    Ok(())
}

/// Whether the true class is among the `k` most probable; ties go to the earlier class.
fn in_top(answer: &Answer<'_>, k: usize) -> bool {
    let own = answer.probabilities[answer.truth];
    let before = |(class, p): (usize, &f32)| *p > own || (*p == own && class < answer.truth);
    answer.probabilities.iter().enumerate().filter(|&pair| before(pair)).count() < k
}

/// Minus the logarithm of the true class's probability, from the logits: a probability that rounds to 0
/// would make it infinite.
fn log_loss(postprocess: &Postprocess, answer: &Answer<'_>) -> f64 {
    let temperature = f64::from(postprocess.temperature);
    let scaled = answer.logits.iter().map(|&logit| f64::from(logit) / temperature);
    if postprocess.task == Task::Binary {
        let z = f64::from(answer.logits[0]) / temperature;
        return softplus(if answer.truth == 1 { -z } else { z });
    }
    let highest = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled.map(|z| (z - highest).exp()).sum();
    highest + sum.ln() - f64::from(answer.logits[answer.truth]) / temperature
}

/// `ln(1 + exp(x))` without overflow.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
