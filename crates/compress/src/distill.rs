//! Knowledge distillation: a small network learns from the answers of a large one (Hinton et al. 2015).

use std::sync::Arc;

use network::{Network, Task};
use predict::{DeviceSpec, Parts, PredictError, Predictor};
use serde::{Deserialize, Serialize};
use train::config::{NetworkConfig, NetworkConfigError};
use train::data::DataSet;
use train::fit::{Hint, with_outputs};

use crate::config::{CONFIG_VERSION, GateConfig};
use crate::finetune::{
    Distillation, FinetuneConfig, FinetuneError, FinetuneHooks, Finetuned, Guidance, finetune,
};

/// What a person writes; `configs/compress/distill.toml` says what the keys mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// The network that learns: a preset or layers; without either, the preset `mlp`. (It is not a default value, for a
    /// file that gives layers would then have both.)
    pub student: NetworkConfig,
    /// How the teacher's answers enter the loss.
    pub teaching: TeachingConfig,
    /// How the student is trained.
    pub finetune: FinetuneConfig,
    /// What may be lost.
    pub gate: GateConfig,
}

/// How a teacher's answers enter the loss; see [`Distillation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeachingConfig {
    /// The share of the teacher in the loss, in [0, 1]; the rest are the labels.
    pub alpha: f64,
    /// By how much both logits are divided before they are compared; left out: 4. A regression has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Layers of the student that learn what layers of the teacher give.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<HintConfig>,
}

/// A layer that learns from a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HintConfig {
    /// The teacher's layer, not inside a residual block.
    pub teacher: String,
    /// The student's layer, not inside a residual block.
    pub student: String,
    /// The factor of the mean squared difference.
    #[serde(default = "unit")]
    pub weight: f64,
}

fn unit() -> f64 {
    1.0
}

/// The preset of the student where none is given.
pub const STUDENT: &str = "mlp";

/// The temperature where none is given.
const TEMPERATURE: f64 = 4.0;

impl Default for DistillConfig {
    fn default() -> Self {
        let mut finetune = FinetuneConfig { epochs: 20, ..FinetuneConfig::default() };
        // The student begins with nothing.
        finetune.optimizer.learning_rate = 1e-3;
        Self {
            version: CONFIG_VERSION,
            student: NetworkConfig::default(),
            teaching: TeachingConfig::default(),
            finetune,
            gate: GateConfig::default(),
        }
    }
}

impl Default for TeachingConfig {
    fn default() -> Self {
        Self { alpha: 0.7, temperature: None, hints: Vec::new() }
    }
}

/// A distillation that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum DistillError {
    #[error("the student cannot be built")]
    Student(#[from] NetworkConfigError),
    #[error(
        "teacher and student prepare their inputs differently, so they would see different things; make the student \
         with the preprocessing of the teacher"
    )]
    Preprocess,
    #[error(
        "the teacher tells {teacher} and the student {student}; both must tell the same, in the same order"
    )]
    Answers { teacher: String, student: String },
    #[error("`teaching.hints`: the teacher has no layer `{layer}` to learn from: {reason}")]
    Hint { layer: String, reason: String },
    #[error("`teaching.temperature` does not apply to a regression, whose outputs are compared as they are")]
    Temperature,
    #[error("the teacher cannot answer")]
    Teacher(#[from] PredictError),
    #[error(transparent)]
    Finetune(#[from] FinetuneError),
}

/// A student, not packed yet.
#[derive(Clone, Debug)]
pub struct Distilled {
    /// The student.
    pub parts: Parts,
    /// How it was trained.
    pub tuned: Finetuned,
}

impl DistillConfig {
    /// The first value that cannot be: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        if self.version != CONFIG_VERSION {
            return Some(("version".to_owned(), "must be 1".to_owned()));
        }
        if self.student.preset.is_some() && self.student.layers.is_some() {
            return Some(("student".to_owned(), "must have `preset` or `layers`, not both".to_owned()));
        }
        let teaching = self.teaching.fault("teaching");
        teaching.or_else(|| nested("finetune", self.finetune.fault())).or_else(|| self.gate.fault())
    }
}

impl TeachingConfig {
    /// The first value that cannot be, in the table `table`: its key, and what it must be.
    #[must_use]
    pub fn fault(&self, table: &str) -> Option<(String, String)> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let checks = [
            (!(0.0..=1.0).contains(&self.alpha), "alpha", "must be from 0 to 1"),
            (!self.temperature.is_none_or(positive), "temperature", "must be above 0"),
            (!self.hints.iter().all(|hint| positive(hint.weight)), "hints", "must have weights above 0"),
        ];
        let fault = checks.into_iter().find(|(wrong, _, _)| *wrong);
        fault.map(|(_, key, message)| (format!("{table}.{key}"), message.to_owned()))
    }
}

/// A fault of a table inside a configuration, with the name of the table before its key.
pub(crate) fn nested(table: &str, fault: Option<(String, String)>) -> Option<(String, String)> {
    fault.map(|(key, message)| (format!("{table}.{key}"), message))
}

/// Prepares a teacher for a student: what [`Guidance`] wants of it. It computes on the CPU as it is served, in int8
/// where it is quantized.
///
/// # Errors
/// When the two do not prepare their inputs alike or do not tell the same, or a hint names no layer of the teacher.
pub fn teach(
    teacher: &Parts,
    student: &Parts,
    config: &TeachingConfig,
) -> Result<Distillation, DistillError> {
    if teacher.preprocess != student.preprocess {
        return Err(DistillError::Preprocess);
    }
    let told = |parts: &Parts| {
        let postprocess = &parts.postprocess;
        format!("{} {:?}{}", postprocess.task.name(), postprocess.labels, scaling(parts))
    };
    let answers = (told(teacher), told(student));
    if answers.0 != answers.1 {
        let (teacher, student) = answers;
        return Err(DistillError::Answers { teacher, student });
    }
    if config.temperature.is_some() && teacher.postprocess.task == Task::Regression {
        return Err(DistillError::Temperature);
    }
    let layers: Vec<String> = config.hints.iter().map(|hint| hint.teacher.clone()).collect();
    let hint = |hint: &HintConfig| {
        let info = teacher.network.layers().iter().find(|info| info.name == hint.teacher);
        let shape = info.map(|info| info.output.clone()).ok_or_else(|| DistillError::Hint {
            layer: hint.teacher.clone(),
            reason: known(&teacher.network),
        })?;
        Ok(Hint { student: hint.student.clone(), shape, weight: hint.weight })
    };
    let hints = config.hints.iter().map(hint).collect::<Result<Vec<_>, DistillError>>()?;
    let network = with_outputs(&teacher.network, &layers)
        .map_err(|error| DistillError::Hint { layer: layers.join("`, `"), reason: error.to_string() })?;
    let predictor = Predictor::from_parts(Parts { network, ..teacher.clone() }, DeviceSpec::Cpu)?;
    let temperature = config.temperature.unwrap_or(TEMPERATURE);
    Ok(Distillation { teacher: Arc::new(predictor), alpha: config.alpha, temperature, hints })
}

/// Outputs of a regression mean the same only with the same scaling.
fn scaling(parts: &Parts) -> String {
    parts.postprocess.target.as_ref().map_or_else(String::new, |scaling| format!(" {scaling:?}"))
}

fn known(network: &Network) -> String {
    let names = network.layers().iter().map(|info| format!("`{}`", info.name));
    format!("its layers are {}", names.collect::<Vec<_>>().join(", "))
}

/// The loss of a step that may be taught: by `teacher`, or, where only the configuration asks for it, by the network
/// as it was before the step.
///
/// # Errors
/// As [`teach`].
pub(crate) fn taught(
    student: &Parts,
    config: Option<&TeachingConfig>,
    teacher: Option<&Parts>,
) -> Result<Option<Distillation>, DistillError> {
    match (config, teacher) {
        (None, None) => Ok(None),
        (Some(config), teacher) => teach(teacher.unwrap_or(student), student, config).map(Some),
        (None, Some(teacher)) => teach(teacher, student, &TeachingConfig::default()).map(Some),
    }
}

/// The student of a configuration with fresh weights: it reads and tells what the teacher does.
///
/// # Errors
/// When its layers do not fit the input or the outputs.
pub fn student(teacher: &Parts, config: &DistillConfig) -> Result<Parts, DistillError> {
    let outputs = teacher.postprocess.output_width();
    let mut network = config.student.clone();
    if network.is_empty() {
        network.preset = Some(STUDENT.to_owned());
    }
    let network = network.build(&teacher.preprocess.output_shape(), outputs)?;
    let weights = model::initial_weights(&network, config.finetune.seed);
    Ok(Parts { network, weights, quantization: None, ..teacher.clone() })
}

/// Trains a student, from fresh weights, on the data that the teacher was trained on.
///
/// # Errors
/// When the student cannot be built or taught.
pub fn distill(
    teacher: &Parts,
    data: &DataSet,
    config: &DistillConfig,
    hooks: &mut FinetuneHooks<'_>,
) -> Result<Distilled, DistillError> {
    let mut student = student(teacher, config)?;
    // What was fitted to the teacher's answers does not belong to the student's.
    student.postprocess.temperature = 1.0;
    student.postprocess.thresholds.clear();
    let distillation = Some(teach(teacher, &student, &config.teaching)?);
    let guidance = Guidance { distillation, ..Guidance::default() };
    let tuned = finetune(&student, data, &config.finetune, guidance, hooks)?;
    let parts = Parts { weights: tuned.weights.clone(), ..student };
    Ok(Distilled { parts, tuned })
}
