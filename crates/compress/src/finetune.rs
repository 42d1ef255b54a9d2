//! Training a network further: what pruning, distillation, clustering and quantization-aware training have in common.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};

use network::{Affine, Task, Weights};
use predict::{DeviceError, DeviceSpec, Parts};
use serde::{Deserialize, Serialize};
use train::config::{
    CheckpointConfig, ClassWeights, ConfigError, EarlyStoppingConfig, Metric, OptimizerConfig, OptimizerKind,
    ScheduleConfig, ScheduleKind,
};
use train::data::{DataError, DataKind, DataSet, Loader};
use train::device::guarded;
use train::fit::{EpochRecord, Finish, FitError, Fitted, Interrupter, Objective, Plan, Quiet};
use train::fit::{balanced_weights, fit};
use train::init::InitError;

pub use train::fit::{Constraint, Distillation, FakeQuantization, Guidance};

/// How a network is trained further.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// How often every training sample is seen at most.
    pub epochs: usize,
    /// Samples per step.
    pub batch_size: usize,
    /// Every random draw follows from it: the order, shifts and dropout.
    pub seed: u64,
    /// Images move by up to this many pixels in each direction.
    pub shift: usize,
    /// The share of the target that is spread over all classes, in [0, 1).
    pub label_smoothing: f32,
    /// `none`, `balanced`, or one factor per class or label.
    pub class_weights: ClassWeights,
    /// Layers whose parameters stay as they are; `conv*` names every layer that begins with `conv`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// How weights follow gradients.
    pub optimizer: OptimizerConfig,
    /// How the learning rate moves.
    pub schedule: ScheduleConfig,
    /// Stop when the validation part has not improved for a while, and take the best weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStoppingConfig>,
    /// Prepared samples stay in memory when they need at most so many mebibytes.
    pub cache_mib: u64,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 64,
            seed: 1,
            shift: 0,
            label_smoothing: 0.0,
            class_weights: ClassWeights::None,
            freeze: Vec::new(),
            optimizer: OptimizerConfig {
                kind: OptimizerKind::AdamW,
                learning_rate: 3e-4,
                momentum: None,
                nesterov: None,
                beta1: None,
                beta2: None,
                alpha: None,
                epsilon: None,
                weight_decay: None,
                l1: None,
                clip_norm: None,
            },
            schedule: ScheduleConfig {
                kind: ScheduleKind::Cosine,
                warmup_steps: 0,
                gamma: None,
                every_epochs: None,
                final_factor: None,
            },
            early_stopping: None,
            cache_mib: 512,
        }
    }
}

/// What a fine-tuning needs from its caller while it runs.
pub struct FinetuneHooks<'a> {
    /// Called after every epoch, on the calling thread.
    pub epoch: &'a mut dyn FnMut(&EpochRecord),
    /// Raised to end the training after the current step; what there is then is the result.
    pub stop: Arc<AtomicBool>,
    /// Where it runs.
    pub device: DeviceSpec,
}

/// A network that was trained further.
#[derive(Clone, Debug)]
pub struct Finetuned {
    /// Its weights, floats, in the shapes of the network that was given.
    pub weights: Weights,
    /// The epoch that they are from, counted from 1.
    pub epoch: usize,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
    /// How it ended.
    pub finish: Finish,
    /// What the bytes of each value mean; empty without fake quantization.
    pub activations: BTreeMap<String, Affine>,
}

/// A fine-tuning that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum FinetuneError {
    #[error("`finetune.{key}` {message}")]
    Config { key: String, message: String },
    #[error(
        "the model is quantized already, and integers cannot be trained; take the package that it was made from"
    )]
    Quantized,
    #[error("the weight `{key}` is {value} at index {index}, and training needs numbers")]
    NotFinite { key: String, index: usize, value: f32 },
    #[error("the network reads {network:?} and the preprocessing gives {preprocess:?}")]
    Shape { network: Vec<usize>, preprocess: Vec<usize> },
    #[error("the data is for {found} and the model for {expected}")]
    Task { found: &'static str, expected: &'static str },
    #[error("the training split has no samples")]
    NoSamples,
    #[error("`finetune.freeze` does not fit the network")]
    Freeze(#[from] InitError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("there is no room for what a training writes on its way")]
    Directory(#[source] std::io::Error),
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl From<ConfigError> for FinetuneError {
    fn from(error: ConfigError) -> Self {
        let (key, message) = split(&error);
        Self::Config { key, message }
    }
}

/// The key of a refusal and what is said of it.
fn split(error: &ConfigError) -> (String, String) {
    let text = error.to_string();
    let message = text.strip_prefix(&format!("`{}` ", error.key())).unwrap_or(&text);
    (error.key().to_owned(), message.to_owned())
}

impl FinetuneConfig {
    /// The first value that cannot be: its key, relative to this table, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        let stopping = self.early_stopping.as_ref();
        let factors = match &self.class_weights {
            ClassWeights::Factors(factors) => factors.as_slice(),
            _ => &[],
        };
        let sound = |factor: &f32| *factor > 0.0 && factor.is_finite();
        let least_delta = stopping.map_or(0.0, |stopping| stopping.min_delta);
        let checks = [
            (self.epochs == 0, "epochs", "must be at least 1"),
            (self.batch_size == 0, "batch_size", "must be at least 1"),
            (!(0.0..1.0).contains(&self.label_smoothing), "label_smoothing", "must be in [0, 1)"),
            (!factors.iter().all(sound), "class_weights", "must be numbers above 0"),
            (
                stopping.is_some_and(|stopping| stopping.patience == 0),
                "early_stopping.patience",
                "must be at least 1",
            ),
            (
                !(least_delta >= 0.0 && least_delta.is_finite()),
                "early_stopping.min_delta",
                "must be 0 or more",
            ),
        ];
        if let Some((_, key, message)) = checks.into_iter().find(|(wrong, _, _)| *wrong) {
            return Some((key.to_owned(), message.to_owned()));
        }
        let error = self.optimizer.check().map(|_| ()).and_then(|()| self.schedule.check().map(|_| ()));
        error.err().map(|error| split(&error))
    }

    /// The same for what depends on the data.
    fn misfit(&self, data: &DataSet) -> Option<(&'static str, String)> {
        let task = data.task;
        let regression = task == Task::Regression;
        let metric = self.early_stopping.as_ref().map(|stopping| stopping.metric);
        let own = Metric::of(task);
        let images = matches!(data.kind, DataKind::Image { .. });
        if self.label_smoothing > 0.0 && regression {
            return Some(("label_smoothing", "belongs to classes and labels".to_owned()));
        }
        match &self.class_weights {
            ClassWeights::Factors(factors) if factors.len() != data.labels.len() => {
                let expected = data.labels.len();
                return Some(("class_weights", format!("must be {expected} numbers, one per class")));
            }
            ClassWeights::Balanced | ClassWeights::Factors(_) if regression => {
                return Some(("class_weights", "belongs to classes and labels".to_owned()));
            }
            _ => {}
        }
        if self.shift > 0 && !images {
            return Some(("shift", "belongs to images".to_owned()));
        }
        if metric.is_some() && data.splits.validation.is_empty() {
            return Some(("early_stopping", "needs a validation split, and this data has none".to_owned()));
        }
        if metric.is_some_and(|metric| metric != Metric::Loss && metric != own) {
            let message = format!("must be `loss` or `{}` for this task", own.name());
            return Some(("early_stopping.metric", message));
        }
        None
    }

    /// The number of steps for so many training samples, if no early stopping ends it before.
    #[must_use]
    pub fn steps(&self, samples: usize) -> u64 {
        (samples.div_ceil(self.batch_size.max(1)) * self.epochs) as u64
    }
}

/// Trains the network of `parts` further on the training split of `data`, from its weights, and watches the
/// validation split.
///
/// # Errors
/// When the configuration does not fit the data or the network, or the training fails.
pub fn finetune(
    parts: &Parts,
    data: &DataSet,
    config: &FinetuneConfig,
    guidance: Guidance,
    hooks: &mut FinetuneHooks<'_>,
) -> Result<Finetuned, FinetuneError> {
    check(parts, data, config)?;
    let loader = Loader::new(data.clone(), parts.preprocess.clone(), config.cache_mib << 20);
    let weighting = match &config.class_weights {
        ClassWeights::None => Vec::new(),
        ClassWeights::Factors(factors) => factors.clone(),
        ClassWeights::Balanced => {
            let train = &data.splits.train;
            balanced_weights(data.task, &data.label_counts(train)?, train.len())
        }
    };
    let directory = tempfile::tempdir().map_err(FinetuneError::Directory)?;
    let (told, records) = channel();
    let device = hooks.device.resolve()?;
    let plan = Plan {
        network: parts.network.clone(),
        weights: parts.weights.clone(),
        freeze: train::init::freeze(&parts.network, &config.freeze, None)?,
        loader,
        train: data.splits.train.clone(),
        validation: data.splits.validation.clone(),
        objective: Objective::new(parts.postprocess.clone(), config.label_smoothing, weighting),
        shift: config.shift,
        optimizer: config.optimizer.check()?,
        schedule: config.schedule.check()?,
        guidance,
        epochs: config.epochs,
        batch_size: config.batch_size,
        seed: config.seed,
        stopping: config.early_stopping.as_ref().map(Into::into),
        checkpoint: CheckpointConfig { every_epochs: 0, every_steps: 0 },
        directory: directory.path().to_owned(),
        on_epoch: tell(told.clone()),
        stop: hooks.stop.clone(),
        device: device.open()?,
    };
    // The training has a thread of its own, so that the caller hears of an epoch on this one.
    let fitted = std::thread::scope(|scope| {
        let end = End(told);
        let training = scope.spawn(move || {
            let _end = end;
            guarded(device, || fit(plan, Box::new(Quiet), &Interrupter::new(), None))
        });
        while let Ok(Some(record)) = records.recv() {
            (hooks.epoch)(&record);
        }
        training.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })??;
    let Fitted { weights, epoch, history, finish, activations } = fitted;
    Ok(Finetuned { weights, epoch, history, finish, activations })
}

fn tell(told: Sender<Option<EpochRecord>>) -> Arc<dyn Fn(&EpochRecord) + Send + Sync> {
    // The receiver waits until the training is over.
    Arc::new(move |record| drop(told.send(Some(record.clone()))))
}

/// Says that no epoch will follow, however the training ends.
struct End(Sender<Option<EpochRecord>>);

impl Drop for End {
    fn drop(&mut self) {
        drop(self.0.send(None));
    }
}

fn check(parts: &Parts, data: &DataSet, config: &FinetuneConfig) -> Result<(), FinetuneError> {
    if let Some((key, message)) = config.fault() {
        return Err(FinetuneError::Config { key, message });
    }
    if let Some((key, message)) = config.misfit(data) {
        return Err(FinetuneError::Config { key: key.to_owned(), message });
    }
    if parts.quantization.is_some() {
        return Err(FinetuneError::Quantized);
    }
    if data.splits.train.is_empty() {
        return Err(FinetuneError::NoSamples);
    }
    if data.task != parts.postprocess.task {
        let (found, expected) = (data.task.name(), parts.postprocess.task.name());
        return Err(FinetuneError::Task { found, expected });
    }
    let (network, preprocess) = (parts.network.input_shape().to_vec(), parts.preprocess.output_shape());
    if network != preprocess {
        return Err(FinetuneError::Shape { network, preprocess });
    }
    for (key, tensor) in &parts.weights {
        let values = tensor.as_f32().unwrap_or_default();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let (key, value) = (key.clone(), values[index]);
            return Err(FinetuneError::NotFinite { key, index, value });
        }
    }
    Ok(())
}
