//! `[train]`: how long, in what portions, and what is watched.

use network::Task;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The keys of `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// How often every sample is seen at most.
    pub epochs: usize,
    /// Samples per step.
    pub batch_size: usize,
    /// Every random draw follows from it: the split, the initial weights, the order, shifts and dropout.
    pub seed: u64,
    /// Where it runs: `cpu`, `flex`, `ndarray`, `vulkan`, `wgpu` or `cuda` with an optional index as in
    /// `cuda:1`, or `auto` for the best there is. `run.json` and the package say what that was.
    pub device: String,
    /// Threads of the CPU backends; left out: one per core. Results repeat to the bit with 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The share of the target that is spread over all classes (Szegedy et al. 2016), in [0, 1).
    #[serde(default)]
    pub label_smoothing: f32,
    /// `none`, `balanced` (inverse frequency in the training split), or one factor per class or label.
    #[serde(default)]
    pub class_weights: ClassWeights,
    /// Random changes of training images.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// Stop when the validation part has not improved for a while, and take the best weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStoppingConfig>,
    /// How often the state of the training is written.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
}

/// The keys of `[train.augment]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Images move by up to this many pixels in each direction; what enters is black (raw zero).
    #[serde(default)]
    pub shift: usize,
}

/// The keys of `[train.early_stopping]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStoppingConfig {
    /// Epochs without improvement after which training ends.
    pub patience: usize,
    /// What is watched on the validation part: `loss`, or the task's metric (`accuracy`,
    /// `label_accuracy`, `mae`).
    #[serde(default)]
    pub metric: Metric,
    /// A smaller improvement does not count.
    #[serde(default)]
    pub min_delta: f64,
}

/// The keys of `[train.checkpoint]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// A checkpoint at the end of every this many epochs; 0: only at the end and on Ctrl-C.
    #[serde(default = "one")]
    pub every_epochs: usize,
    /// A checkpoint every this many steps as well; 0: none within an epoch.
    #[serde(default)]
    pub every_steps: u64,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_epochs: one(), every_steps: 0 }
    }
}

fn one() -> usize {
    1
}

/// A number per epoch that a choice can follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The loss; lower is better.
    #[default]
    Loss,
    /// The share of samples whose class is right (multi-class, binary).
    Accuracy,
    /// The share of labels that are right, over all samples (multi-label).
    LabelAccuracy,
    /// The mean absolute error in the units of the data (regression); lower is better.
    Mae,
}

impl Metric {
    /// The metric that is shown beside the loss.
    #[must_use]
    pub fn of(task: Task) -> Self {
        match task {
            Task::MultiClass | Task::Binary => Self::Accuracy,
            Task::MultiLabel => Self::LabelAccuracy,
            Task::Regression => Self::Mae,
        }
    }

    /// The name as configurations and metrics files write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
            Self::LabelAccuracy => "label_accuracy",
            Self::Mae => "mae",
        }
    }

    /// A value for people: shares as per cent, errors as they are.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Accuracy | Self::LabelAccuracy => format!("{:6.2} %", value * 100.0),
            Self::Loss | Self::Mae => format!("{value:.4}"),
        }
    }

    /// Whether more is better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        matches!(self, Self::Accuracy | Self::LabelAccuracy)
    }
}

/// How much each class counts in the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "WeightsForm", into = "WeightsForm")]
pub enum ClassWeights {
    /// All the same.
    #[default]
    None,
    /// Inverse frequency in the training split.
    Balanced,
    /// One factor per class or label.
    Factors(Vec<f32>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WeightsForm {
    Rule(WeightsRule),
    Factors(Vec<f32>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WeightsRule {
    None,
    Balanced,
}

impl From<WeightsForm> for ClassWeights {
    fn from(form: WeightsForm) -> Self {
        match form {
            WeightsForm::Rule(WeightsRule::None) => Self::None,
            WeightsForm::Rule(WeightsRule::Balanced) => Self::Balanced,
            WeightsForm::Factors(factors) => Self::Factors(factors),
        }
    }
}

impl From<ClassWeights> for WeightsForm {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::None => Self::Rule(WeightsRule::None),
            ClassWeights::Balanced => Self::Rule(WeightsRule::Balanced),
            ClassWeights::Factors(factors) => Self::Factors(factors),
        }
    }
}

impl FitConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let least = |key, value: usize| {
            if value == 0 { Err(ConfigError::value(key, "1 or more", value)) } else { Ok(()) }
        };
        least("train.epochs", self.epochs)?;
        least("train.batch_size", self.batch_size)?;
        if let Some(threads) = self.threads {
            least("train.threads", threads)?;
            if threads > model::device::MAX_THREADS {
                let expected = format!("at most {}", model::device::MAX_THREADS);
                return Err(ConfigError::value("train.threads", expected, threads));
            }
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(ConfigError::value("train.label_smoothing", "in [0, 1)", self.label_smoothing));
        }
        if let ClassWeights::Factors(factors) = &self.class_weights
            && !factors.iter().all(|factor| *factor > 0.0 && factor.is_finite())
        {
            return Err(ConfigError::value("train.class_weights", "numbers above 0", format!("{factors:?}")));
        }
        if let Some(stopping) = &self.early_stopping {
            least("train.early_stopping.patience", stopping.patience)?;
            if !(stopping.min_delta >= 0.0 && stopping.min_delta.is_finite()) {
                return Err(ConfigError::value(
                    "train.early_stopping.min_delta",
                    "0 or more",
                    stopping.min_delta,
                ));
            }
        }
        Ok(())
    }

    /// Checks what depends on the task and the number of classes, labels or targets.
    ///
    /// # Errors
    /// An option that does not apply to the task, or as many factors as there are not classes.
    pub fn check_task(&self, task: Task, labels: usize, images: bool) -> Result<(), ConfigError> {
        let kind = format!("`{}`", task.name());
        if self.label_smoothing > 0.0 && task == Task::Regression {
            let hint = "it belongs to classes and labels";
            return Err(ConfigError::DoesNotApply { key: "train.label_smoothing", kind, hint });
        }
        if self.class_weights != ClassWeights::None && task == Task::Regression {
            let hint = "it belongs to classes and labels";
            return Err(ConfigError::DoesNotApply { key: "train.class_weights", kind, hint });
        }
        if let ClassWeights::Factors(factors) = &self.class_weights
            && factors.len() != labels
        {
            let found = format!("{} numbers", factors.len());
            return Err(ConfigError::value(
                "train.class_weights",
                format!("{labels} numbers, one per class"),
                found,
            ));
        }
        if self.augment.shift > 0 && !images {
            let hint = "only images can be shifted";
            return Err(ConfigError::DoesNotApply {
                key: "train.augment.shift",
                kind: "a table".to_owned(),
                hint,
            });
        }
        if let Some(stopping) = &self.early_stopping
            && stopping.metric != Metric::Loss
            && stopping.metric != Metric::of(task)
        {
            let expected = format!("`loss` or `{}` for {kind}", Metric::of(task).name());
            return Err(ConfigError::value("train.early_stopping.metric", expected, stopping.metric.name()));
        }
        Ok(())
    }
}
