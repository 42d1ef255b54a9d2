//! Scheduling: who is computed when, and together with whom.

mod settings;

use std::sync::Arc;
use std::time::Instant;

pub use self::settings::{QueueOverrides, QueueSettings, SchedulerOptions, TimeoutAction, default_workers};
use crate::error::ServeError;
use crate::executor::Executor;
use crate::health::Health;
use crate::pool::Pool;
use crate::served::{Answer, AskError, Call, Timing};
use crate::stats::Stats;

/// The compute workers and the queues of all versions.
#[derive(Clone, Debug)]
pub struct Scheduler {
    pool: Pool,
    options: Arc<SchedulerOptions>,
}

/// One version's place in the scheduler.
#[derive(Debug)]
pub struct Queue {
    pool: Pool,
    executor: Arc<dyn Executor>,
    settings: QueueSettings,
    stats: Arc<Stats>,
}

impl Scheduler {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(options: SchedulerOptions) -> std::io::Result<Self> {
        let pool = Pool::new(options.workers, options.queue.max_queue_requests)?;
        Ok(Self { pool, options: Arc::new(options) })
    }

    /// A queue for one version of a model.
    #[must_use]
    pub fn queue(
        &self,
        model: &str,
        version: u64,
        executor: Arc<dyn Executor>,
        health: Arc<Health>,
    ) -> Queue {
        let _ = (version, health);
        Queue { pool: self.pool.clone(), executor, settings: self.options.of(model), stats: Arc::default() }
    }
}

impl Queue {
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    pub(crate) fn waiting(&self) -> (usize, usize) {
        (0, 0)
    }

    pub(crate) async fn ask(&self, call: Call) -> Result<Answer, AskError> {
        let executor = Arc::clone(&self.executor);
        let rows = executor.signature().check_inputs(&call.inputs);
        let rows = rows.map_err(|error| AskError::Invalid(error.to_string()))?;
        let job = move || {
            let start = Instant::now();
            let outputs = executor.run(&call.inputs).map_err(ServeError::internal)?;
            Ok((outputs, start.elapsed()))
        };
        let done = self.pool.run(job).await.map_err(|_| AskError::Failed)?;
        let (outputs, compute_infer) = done.value;
        let timing = Timing { queue: done.queued, compute_infer, batch_rows: rows, ..Timing::default() };
        Ok(Answer { outputs, timing })
    }
}
