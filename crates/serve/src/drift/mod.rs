//! Drift: whether what a model meets, and what it answers, still looks like the data that it was trained on.
//!
//! A package tells how the numbers that are watched ([`network::observe`]) were spread over its training data. Here the
//! same numbers of every request are counted by the same bins ([`Sketch`]) and compared ([`psi`]). Everything is taken at
//! the executor, so that every route, protocol, member of an ensemble and copy for a shadow is seen, at the version
//! that answered.
//!
//! No request waits for it: the executor's caller copies some rows into a bounded queue, and one thread behind all
//! others counts. What a second may bring is bounded too ([`DriftConfig::values_per_second`]); rows beyond it are
//! skipped and told as skipped.

pub mod psi;
mod sketch;
mod view;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::device::panic_message;
use network::{NamedTensor, Observer, Signature};
use predict::Predictor;
use serde::{Deserialize, Serialize};

pub use self::sketch::{Compared, Comparison, Counted, Side, Sketch};
pub use self::view::{Drift, DriftSummary, summary, view};
use crate::executor::{ExecuteError, Executor};
use crate::served::Served;

/// Batches that may wait to be counted.
const WAITING: usize = 256;

/// How long the thread that counts lets batches wait before it looks for more.
const REST: Duration = Duration::from_millis(5);

/// What is watched, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriftConfig {
    /// Whether anything is.
    pub enabled: bool,
    /// Seconds that the window looks back.
    pub window_s: u64,
    /// Rows below which nothing is said.
    pub min_samples: u64,
    /// Numbers of prepared inputs that are looked at in a second; rows beyond are skipped.
    pub values_per_second: u64,
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self { enabled: true, window_s: 3600, min_samples: 200, values_per_second: 2_000_000 }
    }
}

impl DriftConfig {
    /// What cannot work: its key and what would.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let faults = [
            (!(1..=31_536_000).contains(&self.window_s), "window_s", "must be from 1 to 31536000"),
            (!(1..=1 << 40).contains(&self.min_samples), "min_samples", "must be from 1 to 1099511627776"),
            (
                !(1..=1 << 40).contains(&self.values_per_second),
                "values_per_second",
                "must be from 1 to 1099511627776",
            ),
        ];
        faults.into_iter().find_map(|(wrong, key, message)| wrong.then_some((key, message)))
    }
}

/// What watches all versions; by default nothing does.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The settings.
    pub config: DriftConfig,
    budget: Option<Arc<Budget>>,
}

/// What one second may bring, and the way to the thread that counts.
#[derive(Debug)]
struct Budget {
    per_second: f64,
    left: Mutex<(f64, Instant)>,
    waiting: AtomicUsize,
    most_waiting: usize,
    samples: SyncSender<Sample>,
}

/// Some rows of one batch.
#[derive(Debug)]
struct Sample {
    sketch: Arc<Sketch>,
    predictor: Arc<Predictor>,
    inputs: Vec<f32>,
    outputs: Vec<NamedTensor>,
    waiting: Arc<Budget>,
}

impl Watch {
    /// Starts the thread that counts, which ends with the last version that is watched.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(config: DriftConfig) -> std::io::Result<Self> {
        if !config.enabled {
            return Ok(Self { config, budget: None });
        }
        let (samples, received) = sync_channel(WAITING);
        std::thread::Builder::new().name("drift".to_owned()).spawn(move || {
            crate::loader::give_way();
            count(&received);
        })?;
        let per_second = config.values_per_second as f64;
        let budget = Budget {
            per_second,
            left: Mutex::new((per_second, Instant::now())),
            waiting: AtomicUsize::new(0),
            most_waiting: usize::try_from(config.values_per_second.saturating_mul(2)).unwrap_or(usize::MAX),
            samples,
        };
        Ok(Self { config, budget: Some(Arc::new(budget)) })
    }

    /// What runs a model: watched, where its package has a reference and anything is watched.
    #[must_use]
    pub fn executor(&self, predictor: Arc<Predictor>) -> Arc<dyn Executor> {
        let observed = predictor.manifest().and_then(|manifest| manifest.reference.observed.as_ref());
        let (Some(budget), Some(observed)) = (&self.budget, observed) else { return Arc::new(predictor) };
        let observer = Observer::new(predictor.preprocess(), predictor.postprocess());
        let sketch = Sketch::new(observer, observed, Duration::from_secs(self.config.window_s));
        if sketch.is_empty() {
            return Arc::new(predictor);
        }
        Arc::new(Watched { predictor, sketch: Arc::new(sketch), budget: Arc::clone(budget) })
    }
}

/// How far a watched feature is from the training data, for metrics.
#[derive(Clone, Debug)]
pub struct FeatureDrift {
    /// `input:NAME` or `output:NAME`.
    pub feature: String,
    /// The population stability index over the window.
    pub psi: f64,
    /// 0 stable, 1 moderate, 2 significant.
    pub level: u64,
}

/// The drift of every watched feature of a version. Empty for what is not watched and while there are too few rows.
#[must_use]
pub fn features(watch: &Watch, served: &Served) -> Vec<FeatureDrift> {
    let Some(sketch) = served.executor().sketch() else { return Vec::new() };
    let known = |feature: Compared| {
        let level = match feature.window.level {
            psi::Level::Collecting => return None,
            psi::Level::Stable => 0,
            psi::Level::Moderate => 1,
            psi::Level::Significant => 2,
        };
        let name = format!("{}:{}", feature.side.name(), feature.reference.name);
        Some(FeatureDrift { feature: name, psi: feature.window.psi?, level })
    };
    sketch.compare(watch.config.min_samples).features.into_iter().filter_map(known).collect()
}

impl Budget {
    /// How many of so many rows of so many numbers may be looked at now. A row that is larger than what a second may
    /// bring is taken when nothing was for long enough.
    fn take(&self, rows: usize, width: usize) -> usize {
        if self.waiting.load(Ordering::Relaxed) >= self.most_waiting {
            return 0;
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (have, since) = &mut *left;
        let now = Instant::now();
        let gained = now.saturating_duration_since(*since).as_secs_f64() * self.per_second;
        *since = now;
        *have = (*have + gained).min(self.per_second);
        let (width, full) = (width.max(1) as f64, *have >= self.per_second);
        // A row that is larger than a second's share is taken in advance, and what comes next waits until it is paid.
        let taken = rows.min(((*have / width).max(0.0) as usize).max(usize::from(full)));
        *have -= taken as f64 * width;
        taken
    }
}

/// A model that is watched.
#[derive(Debug)]
struct Watched {
    predictor: Arc<Predictor>,
    sketch: Arc<Sketch>,
    budget: Arc<Budget>,
}

impl Watched {
    fn offer(&self, inputs: &[NamedTensor], outputs: &[NamedTensor]) {
        let Some((input, values)) = inputs.first().and_then(|input| Some((input, input.tensor.as_f32()?)))
        else {
            return;
        };
        let rows = input.tensor.rows();
        let width = values.len() / rows.max(1);
        let taken = self.budget.take(rows, width);
        if taken < rows {
            self.sketch.skip(rows - taken);
        }
        if taken == 0 {
            return;
        }
        let part = |output: &NamedTensor| {
            let tensor = output.tensor.slice_rows(0..taken)?;
            Some(NamedTensor { name: output.name.clone(), tensor })
        };
        let copied = outputs.iter().map(part).collect::<Option<Vec<_>>>();
        let (Some(inputs), Some(outputs)) = (values.get(..taken * width), copied) else { return };
        self.budget.waiting.fetch_add(inputs.len(), Ordering::Relaxed);
        let sample = Sample {
            sketch: Arc::clone(&self.sketch),
            predictor: Arc::clone(&self.predictor),
            inputs: inputs.to_vec(),
            outputs,
            waiting: Arc::clone(&self.budget),
        };
        if self.budget.samples.try_send(sample).is_err() {
            self.budget.waiting.fetch_sub(taken * width, Ordering::Relaxed);
            self.sketch.skip(taken);
        }
    }
}

impl Executor for Watched {
    fn signature(&self) -> &Signature {
        Executor::signature(&self.predictor)
    }

    fn platform(&self) -> &str {
        self.predictor.platform()
    }

    fn max_rows(&self) -> usize {
        Executor::max_rows(&self.predictor)
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        let outputs = self.predictor.run(inputs)?;
        self.offer(inputs, &outputs);
        Ok(outputs)
    }

    fn predictor(&self) -> Option<&Arc<Predictor>> {
        Some(&self.predictor)
    }

    fn sketch(&self) -> Option<&Arc<Sketch>> {
        Some(&self.sketch)
    }

    fn repeated(&self, inputs: &[NamedTensor], outputs: &[NamedTensor]) {
        self.offer(inputs, outputs);
    }
}

fn count(received: &Receiver<Sample>) {
    while let Ok(first) = received.recv() {
        for sample in std::iter::once(first).chain(received.try_iter()) {
            add(sample);
            network::background::breathe();
        }
        // Waking a thread is a call of the system. Whoever offers meanwhile has none to make.
        std::thread::sleep(REST);
    }
}

fn add(sample: Sample) {
    let Sample { sketch, predictor, inputs, outputs, waiting } = sample;
    let add = std::panic::AssertUnwindSafe(|| match predictor.finish(&outputs) {
        Ok(answers) => sketch.add(&inputs, &answers),
        Err(error) => tracing::debug!(%error, "answers are not counted"),
    });
    if let Err(panic) = std::panic::catch_unwind(add) {
        tracing::error!(cause = panic_message(panic.as_ref()), "counting for drift panicked");
    }
    waiting.waiting.fetch_sub(inputs.len(), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per_second: f64) -> (Budget, Receiver<Sample>) {
        let (samples, received) = sync_channel(1);
        // A second that began now and brings nothing more while the test runs.
        let left = Mutex::new((per_second, Instant::now() + Duration::from_secs(3600)));
        let waiting = AtomicUsize::new(0);
        (Budget { per_second, left, waiting, most_waiting: 1000, samples }, received)
    }

    #[test]
    fn a_second_brings_so_much_and_no_more() {
        let (budget, _received) = budget(100.0);
        assert_eq!([budget.take(4, 20), budget.take(4, 20), budget.take(1, 1)], [4, 1, 0]);
        budget.waiting.store(1000, Ordering::Relaxed);
        assert_eq!(budget.take(0, 1), 0);
        let (budget, _received) = self::budget(100.0);
        // A row that is larger than all of it.
        assert_eq!([budget.take(2, 5000), budget.take(2, 5000)], [1, 0]);
        budget.waiting.store(1000, Ordering::Relaxed);
        *budget.left.lock().unwrap() = (100.0, Instant::now());
        assert_eq!(budget.take(1, 1), 0);
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(DriftConfig::default().fault(), None);
        let fault = |config: DriftConfig| config.fault().map(|(key, _)| key);
        assert_eq!(fault(DriftConfig { window_s: 0, ..DriftConfig::default() }), Some("window_s"));
        assert_eq!(fault(DriftConfig { min_samples: 0, ..DriftConfig::default() }), Some("min_samples"));
        let config = DriftConfig { values_per_second: 0, ..DriftConfig::default() };
        assert_eq!(fault(config), Some("values_per_second"));
    }
}
