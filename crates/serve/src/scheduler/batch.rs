//! One batch: joined, run, taken apart, and each request told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::device::panic_message;
use network::NamedTensor;

use super::request::{Part, join};
use super::waiting::{Dead, Rules};
use crate::executor::{ExecuteError, Executor};
use crate::health::Health;
use crate::served::{AskError, Timing};
use crate::stats::{Refusal, Stats};

/// What batches of one version need, shared by its queue and the workers that compute it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) model: String,
    pub(crate) version: u64,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) rules: Rules,
    pub(crate) stats: Arc<Stats>,
    pub(crate) health: Arc<Health>,
}

/// The outputs of each part, and how long they took.
struct Ran {
    outputs: Vec<Vec<NamedTensor>>,
    timing: Timing,
}

impl Core {
    /// Computes a batch. When it fails and has several requests, each is computed alone, so that one that cannot be
    /// computed fails alone.
    pub(crate) fn execute(&self, parts: Vec<Part>) {
        let taken = Instant::now();
        match self.attempt(&parts) {
            Ok(ran) => self.deliver(&parts, ran, taken),
            Err(error) => match parts.as_slice() {
                [part] => self.refuse(part, error),
                // Asking a device that is lost once per request would only take time.
                _ if self.is_lost() => {
                    self.log(&error);
                    parts.iter().for_each(|part| self.fail(part, AskError::Failed));
                }
                _ => {
                    tracing::debug!(model = self.model, version = self.version, %error, requests = parts.len(),
                        "a batch failed; its requests are computed one by one");
                    parts.into_iter().for_each(|part| self.execute_alone(part, taken));
                }
            },
        }
    }

    fn execute_alone(&self, part: Part, taken: Instant) {
        // Meanwhile its client may have gone, or another part of it may have failed.
        if !part.request.is_wanted() {
            return;
        }
        let parts = [part];
        match self.attempt(&parts) {
            Ok(ran) => self.deliver(&parts, ran, taken),
            Err(error) => {
                let [part] = parts;
                self.refuse(&part, error);
            }
        }
    }

    fn attempt(&self, parts: &[Part]) -> Result<Ran, ExecuteError> {
        let start = Instant::now();
        let joined;
        let (inputs, rows) = match parts {
            // A request that is a batch by itself is not copied.
            [part] if part.is_whole() => (part.request.inputs.as_slice(), part.request.rows),
            _ => {
                let pieces: Vec<_> =
                    parts.iter().map(|part| (part.request.inputs.as_slice(), part.rows.clone())).collect();
                joined = join(&pieces)
                    .ok_or_else(|| ExecuteError::Failed("the requests do not join".to_owned()))?;
                (joined.as_slice(), parts.iter().map(|part| part.rows.len()).sum())
            }
        };
        let compute_input = start.elapsed();
        let start = Instant::now();
        let outputs = self.run(inputs)?;
        let compute_infer = start.elapsed();
        let start = Instant::now();
        let outputs = self.take_apart(outputs, parts, rows)?;
        let compute_output = start.elapsed();
        self.stats.batch(rows, compute_input, compute_infer, compute_output);
        let timing =
            Timing { queue: Duration::ZERO, compute_input, compute_infer, compute_output, batch_rows: rows };
        Ok(Ran { outputs, timing })
    }

    /// Runs the executor, and notes how its device is. A panic in it is its failure and nothing more.
    pub(crate) fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        let run = || self.executor.run(inputs);
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            Err(ExecuteError::Failed(format!("it panicked: {}", panic_message(panic.as_ref()))))
        });
        if let Some(predictor) = self.executor.predictor() {
            let error = match &result {
                Ok(_) => None,
                Err(ExecuteError::Model(error)) => Some(error),
                // Nothing of this says how the device is.
                Err(_) => return result,
            };
            self.health.note(predictor, error, || predictor.self_check().map(drop));
        }
        result
    }

    fn is_lost(&self) -> bool {
        self.executor.predictor().is_some_and(|predictor| self.health.fault(predictor).is_some())
    }

    /// The outputs of each part. They must be those of the signature, with the rows that went in.
    fn take_apart(
        &self,
        outputs: Vec<NamedTensor>,
        parts: &[Part],
        rows: usize,
    ) -> Result<Vec<Vec<NamedTensor>>, ExecuteError> {
        let specs = &self.executor.signature().outputs;
        let fits = |(spec, output): (&network::TensorSpec, &NamedTensor)| {
            let rows_fit = !self.rules.joins || output.tensor.rows() == rows;
            output.name == spec.name && rows_fit && spec.check(&output.tensor).is_ok()
        };
        if outputs.len() != specs.len() || !specs.iter().zip(&outputs).all(fits) {
            let found: Vec<String> = outputs
                .iter()
                .map(|output| {
                    format!("`{}` {} {:?}", output.name, output.tensor.dtype(), output.tensor.shape())
                })
                .collect();
            let found = found.join(", ");
            return Err(ExecuteError::Failed(format!("it gave {found} for {rows} rows")));
        }
        if parts.len() == 1 {
            return Ok(vec![outputs]);
        }
        let mut first = 0;
        let apart = parts.iter().map(|part| {
            let range = first..first + part.rows.len();
            first = range.end;
            let cut = |output: &NamedTensor| {
                let tensor = output.tensor.slice_rows(range.clone())?;
                Some(NamedTensor { name: output.name.clone(), tensor })
            };
            outputs.iter().map(cut).collect::<Option<Vec<_>>>()
        });
        apart
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| ExecuteError::Failed("its outputs cannot be taken apart".to_owned()))
    }

    fn deliver(&self, parts: &[Part], ran: Ran, taken: Instant) {
        for (part, outputs) in parts.iter().zip(ran.outputs) {
            let request = &part.request;
            let queue = taken.saturating_duration_since(request.asked);
            let timing = Timing { queue, ..ran.timing };
            let stats = &self.stats;
            request.finish(part.rows.start, part.rows.len(), outputs, timing, |done| {
                stats.answered(request.rows, done.took);
                stats.waited(done.timing.queue);
                stats.compute_input.add(done.timing.compute_input);
                stats.compute_infer.add(done.timing.compute_infer);
                stats.compute_output.add(done.timing.compute_output);
            });
        }
    }

    /// Tells the request of a part that was computed alone what was wrong.
    fn refuse(&self, part: &Part, error: ExecuteError) {
        let told = match error {
            ExecuteError::Row { row, reason } => AskError::Row { row: part.rows.start + row, reason },
            ExecuteError::Input(reason) => AskError::Invalid(reason),
            error => {
                // What is logged belongs to the request whose batch it was.
                part.request.span.in_scope(|| self.log(&error));
                AskError::Failed
            }
        };
        self.fail(part, told);
    }

    fn fail(&self, part: &Part, error: AskError) {
        let why = if error == AskError::Failed { Refusal::Failed } else { Refusal::Invalid };
        part.request.fail(error, || self.stats.refused(why, part.request.asked.elapsed()));
    }

    /// Tells requests whose time is up, and frees what nobody waits for.
    pub(crate) fn bury(&self, dead: Dead) {
        for request in &dead.expired {
            let waited = request.asked.elapsed();
            request.fail(AskError::Expired { waited }, || self.expired(waited));
        }
    }

    /// Counts a request whose time is up.
    pub(crate) fn expired(&self, waited: Duration) {
        self.stats.refused(Refusal::Expired, waited);
    }

    fn log(&self, error: &ExecuteError) {
        tracing::error!(model = self.model, version = self.version, %error, "a request failed");
    }
}
