//! The worst mistakes: where to look first.

use serde::{Deserialize, Serialize};

use super::{MISTAKES, classes, labels};

/// A sample that was answered wrongly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Its index in the data set.
    pub index: usize,
    /// What is right.
    pub truth: String,
    /// What the model said.
    pub predicted: String,
    /// How wrong it is: the probability of the wrong class, the log loss of labels, the largest absolute
    /// error of numbers.
    pub severity: f64,
}

/// Wrong classes, the most confident first.
pub(super) fn of_classes(answers: &[classes::Answer<'_>], labels: &[String]) -> Vec<Mistake> {
    let wrong = answers.iter().filter(|answer| answer.truth != answer.guess);
    worst(wrong.map(|answer| Mistake {
        index: answer.index,
        truth: labels[answer.truth].clone(),
        predicted: labels[answer.guess].clone(),
        severity: f64::from(answer.probability),
    }))
}

/// Samples of which at least one label is wrong, the highest loss first.
pub(super) fn of_labels(answers: &[labels::Answer<'_>], names: &[String]) -> Vec<Mistake> {
    let list = |on: &[bool]| {
        let given: Vec<&str> =
            names.iter().zip(on).filter(|(_, on)| **on).map(|(name, _)| name.as_str()).collect();
        if given.is_empty() { "(none)".to_owned() } else { given.join(", ") }
    };
    let wrong = answers.iter().filter(|answer| answer.truth != answer.guess);
    worst(wrong.map(|answer| Mistake {
        index: answer.index,
        truth: list(answer.truth),
        predicted: list(&answer.guess),
        severity: answer.loss,
    }))
}

/// The largest errors.
pub(super) fn of_values(pairs: &[(usize, &[f32], &[f32])]) -> Vec<Mistake> {
    let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    worst(pairs.iter().map(|(index, truth, told)| Mistake {
        index: *index,
        truth: list(truth),
        predicted: list(told),
        severity: truth.iter().zip(*told).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max),
    }))
}

fn worst(mistakes: impl Iterator<Item = Mistake>) -> Vec<Mistake> {
    let mut mistakes: Vec<Mistake> = mistakes.collect();
    mistakes.sort_by(|a, b| b.severity.total_cmp(&a.severity).then(a.index.cmp(&b.index)));
    mistakes.truncate(MISTAKES);
    mistakes
}
