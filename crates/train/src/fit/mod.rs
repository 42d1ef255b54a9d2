//! Fitting: from prepared samples and a network to weights.
//!
//! Burn's `SupervisedTraining` runs the training: its learner, its optimizers, its events, metrics and
//! renderers. The loop inside is ours (`strategy.rs`), because Burn's own checkpoints by epoch only, saves no
//! random state and clips gradients per tensor. Ours checkpoints after any step, and since every random draw
//! is a function of (seed, epoch, step, sample) there is no random state to save: a run that was stopped and
//! resumed gives, on one CPU thread, the bits of a run that was not.

mod backward;
mod batches;
mod checkpoint;
mod gradients;
mod guidance;
mod hints;
mod history;
pub mod hold;
mod metrics;
mod objective;
mod optimizer;
mod quiet;
mod simulate;
mod step;
mod stepper;
mod stopping;
mod strategy;
mod trainee;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use burn::train::renderer::MetricsRenderer;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use model::Net;
use network::{Network, Weights};

pub use self::backward::gradients_of;
pub use self::checkpoint::{Checkpoint, CheckpointError, Checkpoints};
pub use self::guidance::{Constraint, Distillation, Guidance, Hint, Teacher};
pub use self::hints::with_outputs;
pub use self::history::{EpochEvent, EpochRecord, write_history};
pub use self::objective::{Objective, balanced_weights};
pub use self::quiet::Quiet;
pub use self::simulate::{FakeQuantization, RangeRule, simulate};
pub use self::stepper::Stepper;
pub use self::stopping::Stopping;
use self::strategy::Strategy;
pub use self::strategy::{Finish, Fitted};
use self::trainee::{Context, Trainee};
use crate::config::{CheckpointConfig, Optimizer, Schedule};
use crate::data::{DataError, Loader};

/// The handle that stops a training after the current step.
pub use burn::train::Interrupter;

/// Everything a training needs to know.
pub struct Plan {
    /// What is trained.
    pub network: Network,
    /// Where the weights start.
    pub weights: Weights,
    /// Layers whose parameters stay as they are.
    pub freeze: Vec<String>,
    /// Hands out prepared samples.
    pub loader: Loader,
    /// The samples that are learned from, by index.
    pub train: Vec<usize>,
    /// The samples that are watched; may be none.
    pub validation: Vec<usize>,
    /// The loss and the metric.
    pub objective: Objective,
    /// Training images move by up to this many pixels.
    pub shift: usize,
    /// How weights follow gradients.
    pub optimizer: Optimizer,
    /// How the learning rate moves.
    pub schedule: Schedule,
    /// What guides it besides the targets.
    pub guidance: Guidance,
    /// How often every sample is seen at most.
    pub epochs: usize,
    /// Samples per step.
    pub batch_size: usize,
    /// Every random draw follows from it.
    pub seed: u64,
    /// When to stop early; without it all epochs run and the last weights are taken.
    pub stopping: Option<Stopping>,
    /// How often the state is written.
    pub checkpoint: CheckpointConfig,
    /// The folder of the run.
    pub directory: PathBuf,
    /// Called after every epoch.
    pub on_epoch: Arc<dyn Fn(&EpochRecord) + Send + Sync>,
    /// Somebody asks the training to end after the current step.
    pub stop: Arc<AtomicBool>,
    /// Where it runs, without autodiff.
    pub device: Device,
}

/// A training that could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum FitError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("the network and its weights do not fit")]
    Net(#[from] model::NetError),
    #[error("the loss is {loss} in epoch {epoch}, step {step}, at the learning rate {learning_rate}")]
    Diverged { loss: f64, epoch: usize, step: u64, learning_rate: f64 },
    #[error("the device could not compute: {0}")]
    Device(String),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("the metrics could not be written")]
    Metrics(#[source] artifact::FileError),
    #[error("the progress display failed: {0}")]
    Display(String),
    #[error("the teacher could not answer: {0}")]
    Teacher(String),
    #[error("a hint cannot be followed: {0}")]
    Hint(String),
    #[error("the weights cannot be held in their form: {0}")]
    Constraint(String),
    #[error("a training with a teacher, a constraint or fake quantization cannot go on from a checkpoint")]
    GuidedResume,
    #[error("the training split is empty")]
    Empty,
    #[error(
        "early stopping needs a validation part; give `data.split.validation` or remove [train.early_stopping]"
    )]
    NoValidation,
    #[error("the loop ended without a result")]
    Lost,
}

impl FitError {
    /// What to try, where there is something to try.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Diverged { .. } => Some(
                "lower `optimizer.learning_rate`, set `optimizer.clip_norm`, or look for extreme values with `data inspect`",
            ),
            Self::Device(_) => Some("`cargo xtask devices` lists the devices and their drivers"),
            _ => None,
        }
    }
}

/// Trains. `renderer` hears everything while it happens; `interrupter` ends the training after the current
/// step; `resume` is where to go on.
///
/// # Errors
/// When data cannot be read, the loss is no number any more, or the state cannot be written.
pub fn fit(
    plan: Plan,
    renderer: Box<dyn MetricsRenderer>,
    interrupter: &Interrupter,
    resume: Option<Checkpoint>,
) -> Result<Fitted, FitError> {
    if plan.train.is_empty() {
        return Err(FitError::Empty);
    }
    if plan.stopping.is_some() && plan.validation.is_empty() {
        return Err(FitError::NoValidation);
    }
    if resume.is_some() && !plan.guidance.is_empty() {
        return Err(FitError::GuidedResume);
    }
    let device = plan.device.clone().autodiff();
    let weights = resume.as_ref().map_or(&plan.weights, |checkpoint| &checkpoint.weights);
    let distillation = plan.guidance.distillation.as_ref();
    let hints = distillation.map(|distillation| distillation.hints.as_slice()).unwrap_or_default();
    let names: Vec<String> = hints.iter().map(|hint| hint.student.clone()).collect();
    let network = with_outputs(&plan.network, &names).map_err(|error| FitError::Hint(error.to_string()))?;
    let net = Net::from_weights(&network, weights, &device)?.freeze_layers(&plan.freeze)?;
    let context = Context::new(&plan, &device);
    let companions = context.companions(&network, hints, plan.seed)?;
    let trainee = Trainee::new(net, companions, Arc::new(context));
    let optimizer = optimizer::build(&plan.optimizer, &trainee.parameters());

    let directory = plan.directory.clone();
    let (epochs, metric) = (plan.epochs, plan.objective.metric());
    let plan = Arc::new(plan);
    let loaders = [
        batches::Batches::new(plan.clone(), batches::Part::Train),
        batches::Batches::new(plan.clone(), batches::Part::Validation),
    ];
    let [train, validation] = loaders.map(Arc::new);
    let done = resume.as_ref().map_or(0, |checkpoint| checkpoint.state.epoch);
    let strategy =
        Arc::new(Strategy::new(plan, optimizer.clone(), train.clone(), validation.clone(), resume));
    let mut training = SupervisedTraining::new(&directory, train, validation)
        .metrics((metrics::LossValue::new(), metrics::ScoreValue::new(metric)))
        .metric_train_numeric(burn::train::metric::LearningRateMetric::new())
        .with_metric_logger(metrics::NoFiles)
        .with_application_logger(None)
        .with_interrupter(interrupter.clone())
        .renderer(renderer)
        .num_epochs(epochs)
        .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
    if done > 0 {
        training = training.checkpoint(done);
    }
    // The learner's own scheduler is not asked: the strategy computes the rate from the step.
    let result = training.launch(Learner::new(trainee, optimizer, 0.0));
    let outcome = strategy.take_outcome();
    if let Some(error) = result.error
        && !matches!(outcome, Some(Err(_)))
    {
        return Err(FitError::Display(error.to_string()));
    }
    outcome.unwrap_or(Err(FitError::Lost))
}

#[cfg(test)]
mod tests;
