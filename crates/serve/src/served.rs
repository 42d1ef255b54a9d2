//! One version as it serves: its executor, its queue, and what it has done so far.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use network::{NamedTensor, Signature, SignatureError};
use predict::Predictor;

use crate::error::{Kind, ServeError};
use crate::executor::Executor;
use crate::health::Health;
use crate::scheduler::{Queue, QueueSettings, Scheduler};
use crate::stats::Stats;
use crate::traffic::Tap;

/// A version that answers requests. Dropping it gives its memory back, once nothing of it is computed any more.
#[derive(Debug)]
pub struct Served {
    name: String,
    version: u64,
    executor: Arc<dyn Executor>,
    queue: Queue,
    /// Who listens, while the traffic of the model is directed.
    tap: RwLock<Option<Arc<Tap>>>,
}

/// One request for prepared tensors.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The inputs of the signature, in any order, batch dimension included.
    pub inputs: Vec<NamedTensor>,
    /// 1 is the most urgent; 0 leaves it to the settings of the model.
    pub priority: u32,
    /// How long it may wait to be computed; `None` leaves it to the settings of the model.
    pub timeout: Option<Duration>,
}

/// What the executor answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// All outputs, in the order of the signature, with as many rows as the inputs had.
    pub outputs: Vec<NamedTensor>,
    /// How long it took.
    pub timing: Timing,
}

/// How long the parts of an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// In the queue, until (the first part of) the request was taken out.
    pub queue: Duration,
    /// Joining it with others.
    pub compute_input: Duration,
    /// In the executor.
    pub compute_infer: Duration,
    /// Taking the answers apart.
    pub compute_output: Duration,
    /// Rows of the (last) batch that it was in; 0: the response cache answered.
    pub batch_rows: usize,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The inputs do not fit the signature, or the executor refuses them.
    #[error("{0}")]
    Invalid(String),
    /// The values of one row of the request cannot be computed.
    #[error("row {row}: {reason}")]
    Row {
        /// The row in the request, from 0.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The queue is full.
    #[error("{0}")]
    Full(String),
    /// Its time was up before it was computed.
    #[error("the request waited {} ms, which is all the time it had, and was not computed", waited.as_millis())]
    Expired {
        /// How long it waited.
        waited: Duration,
    },
    /// The executor failed; the log says how.
    #[error("the server failed to answer; its log says why")]
    Failed,
    /// The server is about to end.
    #[error("the server is shutting down")]
    Stopped,
}

impl From<AskError> for ServeError {
    fn from(error: AskError) -> Self {
        let kind = match error {
            AskError::Invalid(_) | AskError::Row { .. } => Kind::Invalid,
            AskError::Full(_) | AskError::Stopped => Kind::Unavailable,
            AskError::Expired { .. } => Kind::Deadline,
            AskError::Failed => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl Served {
    /// A version with a queue of its own in the scheduler, which has the settings for models of that name.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        version: u64,
        executor: Arc<dyn Executor>,
        scheduler: &Scheduler,
        health: &Arc<Health>,
    ) -> Arc<Self> {
        let name = name.into();
        let queue = scheduler.queue(&name, version, Arc::clone(&executor), Arc::clone(health));
        Arc::new(Self { name, version, executor, queue, tap: RwLock::default() })
    }

    /// A packaged model under its own name and version.
    #[must_use]
    pub fn predictor_of(predictor: Predictor, scheduler: &Scheduler, health: &Arc<Health>) -> Arc<Self> {
        let (name, version) = (predictor.name().to_owned(), predictor.version());
        Self::new(name, version, Arc::new(Arc::new(predictor)), scheduler, health)
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version's number.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What computes.
    #[must_use]
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.executor
    }

    /// What it takes and gives.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        self.executor.signature()
    }

    /// What runs it, as the protocol's metadata names it.
    #[must_use]
    pub fn platform(&self) -> &str {
        self.executor.platform()
    }

    /// The model, where there is exactly one.
    #[must_use]
    pub fn predictor(&self) -> Option<&Arc<Predictor>> {
        self.executor.predictor()
    }

    /// The model, for the routes that take raw inputs.
    ///
    /// # Errors
    /// 400 when what answers is no single model.
    pub fn raw(&self) -> Result<&Arc<Predictor>, ServeError> {
        self.predictor().ok_or_else(|| {
            ServeError::invalid(format_args!(
                "`{}` takes prepared tensors only: use POST /v2/models/{}/infer",
                self.name, self.name
            ))
        })
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.queue.stats()
    }

    /// How its requests are scheduled.
    #[must_use]
    pub fn settings(&self) -> &QueueSettings {
        self.queue.settings()
    }

    /// Requests and rows that wait now.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        self.queue.waiting()
    }

    /// The most rows that are computed at once.
    #[must_use]
    pub fn batch_rows(&self) -> usize {
        self.queue.batch_rows()
    }

    /// Checks inputs against the signature and counts their rows; 1 where there is no batch dimension.
    ///
    /// # Errors
    /// What does not fit.
    pub fn rows(&self, inputs: &[NamedTensor]) -> Result<usize, SignatureError> {
        self.queue.rows(inputs)
    }

    /// Has a request answered. Dropping the future withdraws the request: if it waits still, it costs no compute.
    ///
    /// # Errors
    /// When the inputs do not fit, the queue is full, the time is up, or the executor fails; see [`AskError`].
    pub async fn ask(&self, call: Call) -> Result<Answer, AskError> {
        match self.tap() {
            None => self.queue.ask(call).await,
            Some(tap) => tap.listen(call, |call| self.queue.ask(call)).await,
        }
    }

    /// Who listens.
    pub(crate) fn tap(&self) -> Option<Arc<Tap>> {
        self.tap.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on `tap` listens.
    pub(crate) fn set_tap(&self, tap: Option<Arc<Tap>>) {
        *self.tap.write().unwrap_or_else(PoisonError::into_inner) = tap;
    }
}
