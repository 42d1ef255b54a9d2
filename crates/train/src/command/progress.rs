//! What a person sees while a network trains: a live bar with throughput, time left, loss and metric; a line
//! per epoch; JSON events; or Burn's terminal UI.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use burn::train::LearnerSummary;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricEntry, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use clap::ValueEnum;
use cli::{ErrorExt as _, Printer, Progress, Unit};
use train::config::Metric;
use train::fit::{EpochRecord, Interrupter};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressKind {
    /// A bar that moves, and a line per epoch; lines alone where there is no terminal.
    #[default]
    Live,
    /// A line per epoch.
    Plain,
    /// Burn's terminal UI.
    Tui,
    /// Nothing.
    None,
}

/// The display of one training.
pub(super) struct Display {
    printer: Printer,
    kind: ProgressKind,
    /// The bar; made when the number of samples is known.
    bar: Mutex<Option<Progress>>,
    facts: Mutex<Facts>,
}

#[derive(Clone, Copy, Default)]
struct Facts {
    epochs: usize,
    /// Samples per epoch.
    samples: usize,
    metric: Option<Metric>,
}

impl Display {
    pub(super) fn new(printer: &Printer, kind: ProgressKind) -> Arc<Self> {
        let (bar, facts) = (Mutex::new(None), Mutex::new(Facts::default()));
        Arc::new(Self { printer: printer.clone(), kind, bar, facts })
    }

    /// The training is about to begin, or to go on after `done` samples.
    pub(super) fn begin(&self, epochs: usize, samples: usize, metric: Metric, done: u64) {
        *lock(&self.facts) = Facts { epochs, samples, metric: Some(metric) };
        if self.kind == ProgressKind::Live {
            let total = (epochs * samples) as u64;
            let bar = self.printer.progress_from("train", Unit::Count("samples"), done, Some(total));
            *lock(&self.bar) = Some(bar.milestones_only());
        }
    }

    /// The training is over.
    pub(super) fn end(&self) {
        lock(&self.bar).take();
    }

    /// An epoch is over.
    pub(super) fn epoch(&self, record: &EpochRecord) {
        let facts = *lock(&self.facts);
        let Some(metric) = facts.metric else { return };
        let event = record.event(facts.epochs, metric);
        let line = || record.line(facts.epochs, metric);
        match (self.kind, &*lock(&self.bar)) {
            (ProgressKind::None | ProgressKind::Tui, _) => {}
            (_, Some(bar)) => bar.milestone(&event, line),
            (_, None) => self.printer.milestone(&event, line),
        }
    }

    /// Burn's renderer for this display.
    pub(super) fn renderer(self: &Arc<Self>, interrupter: &Interrupter) -> Box<dyn MetricsRenderer> {
        if self.kind == ProgressKind::Tui {
            return tui(interrupter);
        }
        Box::new(Renderer {
            display: self.clone(),
            names: HashMap::new(),
            epoch: 0,
            split: Split::Train,
            seen: HashMap::new(),
        })
    }
}

#[cfg(feature = "tui")]
fn tui(interrupter: &Interrupter) -> Box<dyn MetricsRenderer> {
    Box::new(burn::train::renderer::tui::TuiMetricsRendererWrapper::new(interrupter.clone(), None))
}

/// [`check`] has refused this before.
#[cfg(not(feature = "tui"))]
fn tui(_interrupter: &Interrupter) -> Box<dyn MetricsRenderer> {
    Box::new(burn::train::renderer::CliMetricsRenderer::new())
}

/// Refuses a display that this program was built without, or that has no terminal to draw on.
pub(super) fn check(kind: ProgressKind) -> anyhow::Result<()> {
    if kind != ProgressKind::Tui {
        return Ok(());
    }
    if !cfg!(feature = "tui") {
        return Err(cli::usage_error("the terminal UI is not compiled into this program"))
            .hint("build it with `cargo build --release -p train --features tui`");
    }
    if !std::io::stdout().is_terminal() {
        return Err(cli::usage_error("`--progress tui` needs a terminal"))
            .hint("`--progress plain` prints a line per epoch");
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A thread that panicked while it printed leaves nothing worse than a torn line.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    Train,
    Validation,
}

/// Burn's events as moves of the bar.
struct Renderer {
    display: Arc<Display>,
    names: HashMap<MetricId, String>,
    /// Epochs that are over.
    epoch: usize,
    split: Split,
    /// The last value of each metric on the training samples.
    seen: HashMap<String, f64>,
}

impl MetricsRendererTraining for Renderer {
    fn update_train(&mut self, state: MetricState) {
        let MetricState::Numeric(MetricEntry { metric_id, .. }, Some(entry)) = state else { return };
        let Some(name) = self.names.get(&metric_id) else { return };
        if let NumericEntry::Value(value) | NumericEntry::Aggregated { aggregated_value: value, .. } = entry {
            // A single batch jumps about; a sliding mean can be read.
            let smooth = self.seen.get(name).map_or(value, |before| 0.9 * before + 0.1 * value);
            self.seen.insert(name.clone(), smooth);
        }
    }

    fn update_valid(&mut self, _state: MetricState) {}

    fn on_train_end(&mut self, _summary: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl TrainingProgressLogger for Renderer {
    fn start(&mut self, _epochs: usize, starting_epoch: usize, _items: Option<usize>, _label: Option<&str>) {
        self.epoch = starting_epoch.saturating_sub(1);
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch;
    }

    fn start_split(&mut self, split: &str, _items: usize) {
        self.split = if split.eq_ignore_ascii_case("train") { Split::Train } else { Split::Validation };
    }

    fn update_split(&mut self, items_processed: usize) {
        let facts = *lock(&self.display.facts);
        let bar = lock(&self.display.bar);
        let (Some(bar), Some(metric)) = (&*bar, facts.metric) else { return };
        if self.split == Split::Validation {
            bar.message(format!("epoch {}/{}  validating", self.epoch + 1, facts.epochs));
            return;
        }
        bar.set((self.epoch * facts.samples + items_processed) as u64);
        let value = |name: &str| self.seen.get(name).copied().unwrap_or(f64::NAN);
        let told = metric.text(value(metric.name()));
        let name = metric.name().replace('_', " ");
        bar.message(format!(
            "epoch {}/{}  loss {:.4}  {name} {told}",
            self.epoch + 1,
            facts.epochs,
            value("loss")
        ));
    }

    fn end_split(&mut self) {}

    fn end(&mut self) {}

    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRenderer for Renderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name.to_string());
    }
}

/// Evaluation goes through the predictor, not through Burn; nothing of this is called.
impl MetricsRendererEvaluation for Renderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl EvaluationProgressLogger for Renderer {
    fn start_global_progress(&mut self, _total_tests: usize) {}
    fn start_test(&mut self, _name: &str, _total_items: usize) {}
    fn update_test_progress(&mut self, _items_processed: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}
