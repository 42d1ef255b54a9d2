//! The one way out: from raw outputs to classes, labels or values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a model is asked to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One class out of several; softmax over one logit per class.
    MultiClass,
    /// One of two classes; the sigmoid of one logit is the probability of the second.
    Binary,
    /// Any number of labels; one sigmoid per label.
    MultiLabel,
    /// Numbers.
    Regression,
}

impl Task {
    /// The name as configurations write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MultiClass => "multi_class",
            Self::Binary => "binary",
            Self::MultiLabel => "multi_label",
            Self::Regression => "regression",
        }
    }
}

/// How raw outputs become answers; stored in the package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postprocess {
    /// What is told.
    pub task: Task,
    /// The classes, the labels, or the names of the target columns.
    pub labels: Vec<String>,
    /// Logits are divided by it before the activation (Guo et al. 2017); 1 changes nothing.
    #[serde(default = "unit")]
    pub temperature: f32,
    /// From which probability on a label is given (multi-label: one per label; binary: one, for the
    /// second class); empty: 0.5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<f32>,
    /// Undoes the scaling of a regression's targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetScaling>,
}

fn unit() -> f32 {
    1.0
}

/// `value = output · std + mean`, per target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetScaling {
    /// The mean of each target in the training split.
    pub mean: Vec<f32>,
    /// Its standard deviation.
    pub std: Vec<f32>,
}

/// A typed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Prediction {
    /// One class.
    Class {
        /// The most probable class (binary: by the threshold).
        class: String,
        /// Its position among the labels.
        index: usize,
        /// Its probability.
        probability: f32,
        /// One per label; they sum to 1.
        probabilities: Vec<f32>,
        /// The raw outputs.
        logits: Vec<f32>,
    },
    /// Any number of labels.
    Labels {
        /// Those at or above their threshold.
        labels: Vec<String>,
        /// One per label.
        probabilities: Vec<f32>,
        /// The raw outputs.
        logits: Vec<f32>,
    },
    /// Numbers in the units of the training data.
    Values {
        /// One per target.
        values: Vec<f32>,
    },
}

/// A postprocessing that does not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum PostprocessError {
    #[error("{task} with {labels} labels needs {expected} outputs, but the network gives {found}")]
    Width { task: &'static str, labels: usize, expected: usize, found: usize },
    #[error("{field} has {found} values, but {expected} are needed")]
    Field { field: &'static str, expected: usize, found: usize },
    #[error("the temperature must be above 0, but is {0}")]
    Temperature(f32),
    #[error("the labels must be at least {expected} and differ, but are {found:?}")]
    Labels { expected: usize, found: Vec<String> },
}

impl Postprocess {
    /// A postprocessing without temperature, thresholds and target scaling.
    #[must_use]
    pub fn new(task: Task, labels: Vec<String>) -> Self {
        Self { task, labels, temperature: 1.0, thresholds: Vec::new(), target: None }
    }

    /// How many outputs the network must give.
    #[must_use]
    pub fn output_width(&self) -> usize {
        if self.task == Task::Binary { 1 } else { self.labels.len() }
    }

    /// Checks that the fields fit each other and a network that gives `outputs` numbers.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub fn check(&self, outputs: usize) -> Result<(), PostprocessError> {
        let least = match self.task {
            Task::MultiClass | Task::Binary => 2,
            Task::MultiLabel | Task::Regression => 1,
        };
        let mut distinct = self.labels.clone();
        distinct.sort();
        distinct.dedup();
        if distinct.len() != self.labels.len()
            || self.labels.len() < least
            || (self.task == Task::Binary && self.labels.len() != 2)
        {
            return Err(PostprocessError::Labels { expected: least, found: self.labels.clone() });
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(PostprocessError::Temperature(self.temperature));
        }
        let expected = self.output_width();
        if !self.thresholds.is_empty() && self.thresholds.len() != expected {
            return Err(PostprocessError::Field {
                field: "thresholds",
                expected,
                found: self.thresholds.len(),
            });
        }
        if let Some(TargetScaling { mean, std }) = &self.target {
            let found = mean.len().min(std.len());
            if mean.len() != expected || std.len() != expected {
                return Err(PostprocessError::Field { field: "target scaling", expected, found });
            }
        }
        self.check_width(outputs)
    }

    fn check_width(&self, found: usize) -> Result<(), PostprocessError> {
        let expected = self.output_width();
        if expected == found {
            return Ok(());
        }
        Err(PostprocessError::Width { task: self.task.name(), labels: self.labels.len(), expected, found })
    }

    /// The probabilities of one sample: per class (binary: of both), per label; empty for a regression.
    #[must_use]
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f32> {
        match self.task {
            Task::MultiClass => softmax(logits, self.temperature),
            Task::Binary => {
                let p = sigmoid(logits.first().copied().unwrap_or(0.0) / self.temperature);
                vec![1.0 - p, p]
            }
            Task::MultiLabel => logits.iter().map(|logit| sigmoid(logit / self.temperature)).collect(),
            Task::Regression => Vec::new(),
        }
    }

    fn threshold(&self, index: usize) -> f32 {
        self.thresholds.get(index).copied().unwrap_or(0.5)
    }

    /// Turns the raw outputs of one sample into an answer.
    ///
    /// # Errors
    /// When the number of outputs is not [`Postprocess::output_width`].
    pub fn apply(&self, logits: &[f32]) -> Result<Prediction, PostprocessError> {
        self.check_width(logits.len())?;
        let probabilities = self.probabilities(logits);
        let logits = logits.to_vec();
        Ok(match self.task {
            Task::MultiClass | Task::Binary => {
                let index = if self.task == Task::Binary {
                    usize::from(probabilities[1] >= self.threshold(0))
                } else {
                    argmax(&probabilities)
                };
                let class = self.labels.get(index).cloned().unwrap_or_default();
                Prediction::Class { class, index, probability: probabilities[index], probabilities, logits }
            }
            Task::MultiLabel => {
                let given =
                    (0..self.labels.len()).filter(|&index| probabilities[index] >= self.threshold(index));
                let labels = given.map(|index| self.labels[index].clone()).collect();
                Prediction::Labels { labels, probabilities, logits }
            }
            Task::Regression => {
                let scale = |(index, output): (usize, f32)| match &self.target {
                    Some(TargetScaling { mean, std }) => {
                        output * std.get(index).copied().unwrap_or(1.0)
                            + mean.get(index).copied().unwrap_or(0.0)
                    }
                    None => output,
                };
                Prediction::Values { values: logits.into_iter().enumerate().map(scale).collect() }
            }
        })
    }
}

impl Prediction {
    /// The `k` most probable labels, best first; ties go to the earlier label. Empty for a regression.
    #[must_use]
    pub fn top_k(&self, k: usize, labels: &[String]) -> Vec<(String, f32)> {
        let probabilities = match self {
            Self::Class { probabilities, .. } | Self::Labels { probabilities, .. } => probabilities,
            Self::Values { .. } => return Vec::new(),
        };
        let mut pairs: Vec<(String, f32)> =
            labels.iter().cloned().zip(probabilities.iter().copied()).collect();
        pairs.sort_by(|a, b| b.1.total_cmp(&a.1));
        pairs.truncate(k);
        pairs
    }
}

/// `exp(x / t) / Σ exp(x / t)`, computed without overflow.
fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| ((logit - highest) / temperature).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

fn sigmoid(x: f32) -> f32 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let power = x.exp();
        power / (1.0 + power)
    }
}

/// The position of the largest value; the first of equals.
fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn softmax_survives_large_logits_and_follows_the_temperature() {
        let mut post = Postprocess::new(Task::MultiClass, labels(&["a", "b", "c"]));
        let Prediction::Class { class, probability, probabilities, .. } =
            post.apply(&[1e4, 0.0, -1e4]).unwrap()
        else {
            panic!("a class was expected");
        };
        assert_eq!((class.as_str(), probability), ("a", 1.0));
        assert_eq!(probabilities, [1.0, 0.0, 0.0]);
        post.temperature = 2.0;
        let halved = post.probabilities(&[2.0, 0.0, 0.0]);
        post.temperature = 1.0;
        assert_eq!(halved, post.probabilities(&[1.0, 0.0, 0.0]));
    }

    #[test]
    fn binary_decides_by_its_threshold() {
        let mut post = Postprocess::new(Task::Binary, labels(&["no", "yes"]));
        post.thresholds = vec![0.9];
        for (logit, expected) in [(0.0, "no"), (2.0, "no"), (3.0, "yes"), (-90.0, "no")] {
            let Prediction::Class { class, probabilities, .. } = post.apply(&[logit]).unwrap() else {
                panic!("a class was expected");
            };
            assert_eq!(class, expected, "logit {logit}");
            assert!((probabilities[0] + probabilities[1] - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn regression_returns_to_the_units_of_the_data() {
        let mut post = Postprocess::new(Task::Regression, labels(&["price"]));
        post.target = Some(TargetScaling { mean: vec![10.0], std: vec![2.0] });
        assert_eq!(post.apply(&[1.5]).unwrap(), Prediction::Values { values: vec![13.0] });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let post = Postprocess::new(Task::MultiClass, labels(&["a", "b"]));
        let message = "multi_class with 2 labels needs 2 outputs, but the network gives 3";
        assert_eq!(post.check(3).unwrap_err().to_string(), message);
        assert_eq!(post.apply(&[0.0; 3]).unwrap_err().to_string(), message);
        assert!(Postprocess::new(Task::Binary, labels(&["a", "b", "c"])).check(1).is_err());
        assert!(Postprocess::new(Task::MultiClass, labels(&["a", "a"])).check(2).is_err());
        assert!(Postprocess { temperature: 0.0, ..post }.check(2).is_err());
    }
}
