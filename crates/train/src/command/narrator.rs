//! What a person is told between the steps of a training.

use std::sync::Arc;

use cli::{Printer, Progress, Unit};
use train::config::{Metric, TrainConfig};
use train::pipeline::{Observer, Stage};
use train::prepare::Prepared;

use super::device;
use super::progress::Display;

/// Tells a person what happens.
pub(super) struct Narrator<'a> {
    printer: &'a Printer,
    display: Arc<Display>,
    config: &'a TrainConfig,
    epochs: usize,
    samples: usize,
    metric: Metric,
    /// The bar of the evaluation.
    scoring: Option<Progress>,
}

impl<'a> Narrator<'a> {
    pub(super) fn new(
        printer: &'a Printer,
        display: Arc<Display>,
        config: &'a TrainConfig,
        dry_run: bool,
    ) -> Self {
        let epochs = if dry_run { 1 } else { config.train.epochs };
        Self { printer, display, config, epochs, samples: 0, metric: Metric::Loss, scoring: None }
    }
}

impl Observer for Narrator<'_> {
    fn stage(&mut self, stage: Stage<'_>) {
        match stage {
            Stage::Device(device) if device.asked != device.taken => {
                self.printer.status(device::took(device.taken));
            }
            Stage::Prepared(prepared) => self.prepared(prepared),
            Stage::Started { run, step } => {
                self.printer.status(format!("run {} in {}", run.id(), run.path().display()));
                let per_epoch = self.samples.div_ceil(self.config.train.batch_size).max(1) as u64;
                let done = step / per_epoch * self.samples as u64
                    + step % per_epoch * self.config.train.batch_size as u64;
                if step > 0 {
                    self.printer.status(format!("going on after step {step}"));
                }
                self.display.begin(self.epochs, self.samples, self.metric, done);
            }
            Stage::Fitted(_) => self.display.end(),
            Stage::Evaluating { done, total } => {
                let begin = || {
                    let bar = self.printer.progress("evaluate", Unit::Count("samples"), Some(total as u64));
                    bar.milestones_only()
                };
                self.scoring.get_or_insert_with(begin).set(done as u64);
            }
            Stage::Evaluated(_) => self.scoring = None,
            _ => {}
        }
    }
}

impl Narrator<'_> {
    fn prepared(&mut self, prepared: &Prepared) {
        let splits = &prepared.data.splits;
        self.samples = splits.train.len();
        self.metric = Metric::of(prepared.data.task);
        let what = match (&self.config.network.preset, &prepared.init) {
            (Some(preset), _) => preset.clone(),
            (None, Some(init)) if self.config.network.is_empty() => format!("the network of {}", init.parent),
            _ => "own layers".to_owned(),
        };
        self.printer.status(format!(
            "{}: {} training, {} validation, {} test samples; {what}: {} parameters, {} multiply–accumulates",
            prepared.data.name,
            cli::grouped(splits.train.len() as u64),
            cli::grouped(splits.validation.len() as u64),
            cli::grouped(splits.test.len() as u64),
            cli::grouped(prepared.network.parameter_count()),
            cli::grouped(prepared.network.macs()),
        ));
        if let Some(init) = &prepared.init {
            self.printer.status(format!(
                "from {}: {} tensors loaded: {}",
                init.parent,
                init.loaded.len(),
                init.loaded.join(", ")
            ));
            for (key, reason) in &init.fresh {
                self.printer.status(format!("  new: {key} ({reason})"));
            }
            for key in &init.unused {
                self.printer.status(format!("  unused: {key}"));
            }
            if !prepared.freeze.is_empty() {
                self.printer.status(format!("  frozen: {}", prepared.freeze.join(", ")));
            }
        }
        if prepared.data.splits.validation.is_empty() {
            self.printer.status("there is no validation part, so nothing is watched while training");
        }
    }
}
