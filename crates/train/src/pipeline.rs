//! The whole way from a configuration to a package, step by step, into a run directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use artifact::{FileError, Published, Registry, RegistryError, digest};
use burn::train::renderer::MetricsRenderer;
use model::DeviceSpec;
use predict::{Parts, Predictor};

use crate::config::{Checked, ConfigError, TrainConfig};
use crate::device::guarded;
use crate::evaluate::{EvaluateError, Evaluation, evaluate};
use crate::fit::{
    CheckpointError, Checkpoints, EpochRecord, Finish, FitError, Fitted, Guidance, Interrupter, Plan, fit,
};
use crate::pack::{self, PackError};
use crate::prepare::{PrepareError, Prepared, prepare};
use crate::report::{self, ReportError};
use crate::run::{self, RunDirectory, RunError, RunRecord};

/// What is to be done, besides the configuration.
#[derive(Clone, Debug)]
pub struct Request {
    /// The resolved configuration.
    pub config: TrainConfig,
    /// The same as text, each value with its origin.
    pub config_text: String,
    /// Where run directories are made.
    pub runs: PathBuf,
    /// The registry in which parents are found.
    pub models: PathBuf,
    /// The registry in which the package is made; none: no package.
    pub publish: Option<PathBuf>,
    /// The run to go on with.
    pub resume: Option<RunDirectory>,
    /// One batch through everything: the first of each part, one epoch.
    pub dry_run: bool,
    /// The time, as the caller tells it (RFC 3339).
    pub now: Option<String>,
}

/// Hears what happens.
pub trait Observer {
    /// A step begins or has ended.
    fn stage(&mut self, stage: Stage<'_>);
}

/// The device that was asked for and the one that it came to; they differ for `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenDevice {
    /// What the configuration says.
    pub asked: DeviceSpec,
    /// What is computed on.
    pub taken: DeviceSpec,
}

/// What an observer hears.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Stage<'a> {
    /// The device is open.
    Device(ChosenDevice),
    /// The data is read and split, the network built.
    Prepared(&'a Prepared),
    /// The run has a folder; `step` is above 0 when it goes on.
    Started {
        /// The folder.
        run: &'a RunDirectory,
        /// Steps that are done already.
        step: u64,
    },
    /// Training is over.
    Fitted(&'a Fitted),
    /// The test split is being scored.
    Evaluating {
        /// Samples done.
        done: usize,
        /// Samples in all.
        total: usize,
    },
    /// The test split has been scored.
    Evaluated(&'a Evaluation),
    /// There is a package.
    Published(&'a Published),
}

/// What a training needs from its caller while it runs.
pub struct Hooks<'a> {
    /// Hears what happens.
    pub observer: &'a mut dyn Observer,
    /// Makes the display of epochs and steps.
    pub renderer: &'a mut dyn FnMut(&Interrupter) -> Box<dyn MetricsRenderer>,
    /// Called after every epoch.
    pub epoch: Arc<dyn Fn(&EpochRecord) + Send + Sync>,
    /// Raised to end the training after the current step.
    pub stop: Arc<AtomicBool>,
}

/// What a training leaves.
#[derive(Debug)]
pub struct Trained {
    /// The run's folder.
    pub run: RunDirectory,
    /// The record that is in it.
    pub record: RunRecord,
    /// How it ended.
    pub finish: Finish,
    /// The scores; none when it was interrupted.
    pub evaluation: Option<Evaluation>,
    /// The package, when one was made.
    pub published: Option<Published>,
    /// The time of everything together.
    pub elapsed: Duration,
}

/// A training that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one step")]
pub enum TrainError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Device(#[from] model::DeviceError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error("the model cannot be evaluated")]
    Predict(#[from] predict::PredictError),
    #[error("the model cannot be evaluated")]
    Evaluate(#[from] EvaluateError),
    #[error("the report cannot be made")]
    Report(#[from] ReportError),
    #[error("the model cannot be packed")]
    Pack(#[from] PackError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the model could not be packed when it is trained")]
    NoPlace(#[source] FileError),
    #[error("the model cannot be packed; the training is kept in the run {run}")]
    Publish { run: String, source: Box<RegistryError> },
}

/// Trains, evaluates, packs and reports. A run counts as over when all of that is done: one that was trained
/// and then not packed goes on from there.
///
/// # Errors
/// The error of the step that failed; what was written before stays in the run directory.
pub fn train(request: &Request, hooks: &mut Hooks<'_>) -> Result<Trained, TrainError> {
    let began = Instant::now();
    let config = &request.config;
    let checked = config.check()?;
    let device = device_of(request)?;
    let registry = Registry::open(&request.models)?;
    let opened = device.taken.open()?;
    hooks.observer.stage(Stage::Device(device));
    let device = device.taken;
    let mut prepared = prepare(config, &registry)?;
    if request.dry_run {
        shorten(&mut prepared, config.train.batch_size);
    }
    if let Some(root) = &request.publish {
        // Before the work, not after it.
        pack::check_place(root, &config.name).map_err(TrainError::NoPlace)?;
    }
    hooks.observer.stage(Stage::Prepared(&prepared));

    let mut model = None;
    let (run, resume) = match &request.resume {
        Some(run) => {
            model = run.check_resume(&prepared.data, request.publish.is_some())?.model;
            (run.clone(), Some(Checkpoints::of_run(run.path()).newest()?))
        }
        None => {
            let run = RunDirectory::create(&request.runs, &config.name)?;
            run.write(run::CONFIG_FILE, &request.config_text)?;
            (run, None)
        }
    };
    let mut record = RunRecord { model, ..new_record(request, &run, &prepared, device) };
    run.write_record(&record)?;
    hooks
        .observer
        .stage(Stage::Started { run: &run, step: resume.as_ref().map_or(0, |from| from.state.step) });

    let interrupter = Interrupter::new();
    let renderer = (hooks.renderer)(&interrupter);
    let plan = plan(request, checked, &prepared, &run, opened.clone(), hooks);
    let fitted = guarded(device, || fit(plan, renderer, &interrupter, resume))??;
    // The predictor computes on a stream of its own, which cannot use what training holds.
    guarded(device, || opened.memory_cleanup())?;
    hooks.observer.stage(Stage::Fitted(&fitted));
    record.epochs = fitted.history.len();
    record.best_epoch = fitted.epoch;
    record.train_seconds = fitted.history.iter().map(|epoch| epoch.seconds).sum();
    if fitted.finish == Finish::Interrupted {
        record.finish = Some(fitted.finish);
        run.write_record(&record)?;
        let (finish, elapsed) = (fitted.finish, began.elapsed());
        return Ok(Trained { run, record, finish, evaluation: None, published: None, elapsed });
    }

    let parts = Parts {
        network: prepared.network.clone(),
        preprocess: prepared.preprocess.clone(),
        postprocess: prepared.postprocess.clone(),
        weights: fitted.weights.clone(),
        quantization: None,
    };
    let predictor = Predictor::from_parts(parts.clone(), device)?;
    let scoring = Instant::now();
    let total = prepared.data.splits.test.len();
    if device.is_gpu() {
        // Before its answers are scored: against a CPU's, at every size of a pass that scoring needs.
        predictor.warm_up_for(total)?;
    }
    let evaluation = evaluate(&predictor, &prepared.data, "test", &prepared.data.splits.test, &mut |done| {
        hooks.observer.stage(Stage::Evaluating { done, total });
    })?;
    record.evaluate_seconds = scoring.elapsed().as_secs_f64();
    record.metrics = evaluation.metrics.clone();
    run.write(run::EVALUATION_FILE, run::json(&evaluation)?)?;
    run.write_record(&record)?;
    hooks.observer.stage(Stage::Evaluated(&evaluation));

    let mut published = None;
    if let Some(root) = request.publish.as_ref().filter(|_| record.model.is_none()) {
        let origin = pack::Origin { config, record: &record, device, created: request.now.clone() };
        // Samples are packed with what a CPU answers, so that every device is measured by the same, most exact
        // answers, and not by those of one that rounds more.
        let on_cpu =
            if device.is_gpu() { Some(Predictor::from_parts(parts, DeviceSpec::Cpu)?) } else { None };
        let reference = on_cpu.as_ref().unwrap_or(&predictor);
        let draft = pack::draft(&prepared, &fitted, &evaluation, reference, &origin)?;
        let package = Registry::open(root)
            .and_then(|registry| registry.publish(&config.name, draft))
            .map_err(|source| TrainError::Publish { run: run.id().to_owned(), source: Box::new(source) })?;
        record.model = Some(format!("{}@{}", package.name, package.version));
        run.write_record(&record)?;
        hooks.observer.stage(Stage::Published(&package));
        published = Some(package);
    }
    record.finish = Some(fitted.finish);
    let page = report::Page {
        record: &record,
        config_text: &request.config_text,
        prepared: &prepared,
        history: &fitted.history,
        evaluation: &evaluation,
    };
    run.write(run::REPORT_FILE, report::render(&page)?)?;
    // Last of all: a run that is over cannot go on.
    run.write_record(&record)?;
    Ok(Trained {
        run,
        record,
        finish: fitted.finish,
        evaluation: Some(evaluation),
        published,
        elapsed: began.elapsed(),
    })
}

/// The device of a training, found. A run that goes on takes the device that it began on, whatever `auto` would
/// find today.
fn device_of(request: &Request) -> Result<ChosenDevice, TrainError> {
    let asked: DeviceSpec = request.config.train.device.parse()?;
    let began = match &request.resume {
        Some(run) if asked == DeviceSpec::Auto => Some(run.record()?.device.parse::<DeviceSpec>()?),
        _ => None,
    };
    Ok(ChosenDevice { asked, taken: began.unwrap_or(asked).resolve()? })
}

/// The first batch of every part is all that a dry run sees.
fn shorten(prepared: &mut Prepared, batch_size: usize) {
    let splits = &mut prepared.data.splits;
    for part in [&mut splits.train, &mut splits.validation, &mut splits.test] {
        part.truncate(batch_size);
    }
}

fn new_record(request: &Request, run: &RunDirectory, prepared: &Prepared, device: DeviceSpec) -> RunRecord {
    let config = &request.config;
    RunRecord {
        format: "1.0".to_owned(),
        id: run.id().to_owned(),
        name: config.name.clone(),
        started: request.now.clone(),
        config_sha256: digest::sha256_hex(&request.config_text),
        seed: config.train.seed,
        device: device.to_string(),
        threads: model::device::threads(),
        data: prepared.data.name.clone(),
        data_sha256: prepared.data.sha256.clone(),
        split: prepared.data.splits.record.clone(),
        parent: prepared.init.as_ref().map(|init| init.parent.clone()),
        parameters: prepared.network.parameter_count(),
        crates: run::crate_versions(),
        ..RunRecord::default()
    }
}

fn plan(
    request: &Request,
    checked: Checked,
    prepared: &Prepared,
    run: &RunDirectory,
    device: burn::tensor::Device,
    hooks: &Hooks<'_>,
) -> Plan {
    let settings = &request.config.train;
    Plan {
        network: prepared.network.clone(),
        weights: prepared.weights.clone(),
        freeze: prepared.freeze.clone(),
        loader: prepared.loader(&request.config),
        train: prepared.data.splits.train.clone(),
        validation: prepared.data.splits.validation.clone(),
        objective: prepared.objective.clone(),
        shift: settings.augment.shift,
        optimizer: checked.optimizer,
        schedule: checked.schedule,
        guidance: Guidance::default(),
        epochs: if request.dry_run { 1 } else { settings.epochs },
        batch_size: settings.batch_size,
        seed: settings.seed,
        stopping: settings.early_stopping.as_ref().map(Into::into),
        checkpoint: settings.checkpoint.clone(),
        directory: run.path().to_owned(),
        on_epoch: hooks.epoch.clone(),
        stop: hooks.stop.clone(),
        device,
    }
}
