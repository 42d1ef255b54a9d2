//! Scheduling: who is computed when, and together with whom.
//!
//! A request waits in the queue of its version. The moment a worker is free it takes the version whose turn it is and
//! everything that waits there, the most urgent first, up to the most rows of a batch; nobody waits for a batch to
//! fill up unless the settings say so. Requests that are longer are split, and their answers joined. What is dead, for
//! its client went away or its time is up, is dropped before it costs compute. A full queue is an answer, not a longer
//! wait.
//!
//! A batch that fails is computed again request by request, so that one that cannot be computed fails alone.

mod batch;
mod request;
mod settings;
mod waiting;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use network::{NamedTensor, SignatureError};
use tokio::sync::oneshot;

use self::batch::Core;
use self::request::Request;
pub use self::settings::{QueueOverrides, QueueSettings, SchedulerOptions, TimeoutAction, default_workers};
use self::waiting::{Place, Rules};
use self::worker::{Refused, Shared};
use crate::cache::{Cache, Digest};
use crate::executor::{ExecuteError, Executor};
use crate::health::Health;
use crate::oip::binary;
use crate::served::{Answer, AskError, Call, Timing};
use crate::stats::{Refusal, Stats};

/// Bytes of inputs that are digested for the cache on the thread of the network: more would keep it from others.
const DIGESTED_HERE: usize = 64 << 10;

/// The compute workers and the queues of all versions. When the last clone and the last queue are gone, the workers
/// end.
#[derive(Clone, Debug)]
pub struct Scheduler {
    workers: Arc<Workers>,
    options: Arc<SchedulerOptions>,
    cache: Option<Arc<Cache>>,
    books: Arc<Books>,
}

/// What versions have done, by model and number, while they are served.
#[derive(Debug, Default)]
struct Books(Mutex<BTreeMap<(String, u64), Weak<Stats>>>);

impl Books {
    /// Those of a version: what takes the place of another goes on with its numbers.
    fn of(&self, model: &str, version: u64) -> Arc<Stats> {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (model.to_owned(), version);
        if let Some(stats) = books.get(&key).and_then(Weak::upgrade) {
            return stats;
        }
        books.retain(|_, stats| stats.strong_count() > 0);
        let stats = Arc::new(Stats::default());
        books.insert(key, Arc::downgrade(&stats));
        stats
    }
}

/// Ends the workers when it is dropped.
#[derive(Debug)]
struct Workers(Arc<Shared>);

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// One version's place in the scheduler; dropping it leaves.
#[derive(Debug)]
pub struct Queue {
    workers: Arc<Workers>,
    id: u64,
    core: Arc<Core>,
    cache: Option<Arc<Cache>>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.workers.0.remove(self.id);
        if let Some(cache) = &self.cache {
            cache.forget(self.id);
        }
    }
}

impl Scheduler {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(options: SchedulerOptions) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let workers = Arc::new(Workers(Arc::clone(&shared)));
        for index in 0..options.workers.max(1) {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("compute-{index}")).spawn(move || shared.work())?;
        }
        let cache = (options.cache_bytes > 0).then(|| Arc::new(Cache::new(options.cache_bytes)));
        Ok(Self { workers, options: Arc::new(options), cache, books: Arc::default() })
    }

    /// A queue for one version of a model.
    #[must_use]
    pub(crate) fn queue(
        &self,
        model: &str,
        version: u64,
        executor: Arc<dyn Executor>,
        health: Arc<Health>,
    ) -> Queue {
        let settings = self.options.of(model);
        let takes = executor.max_rows();
        let most = match settings.max_batch_rows {
            0 => takes,
            rows => rows.min(takes),
        };
        let cache = self.cache.clone().filter(|_| settings.cache);
        let rules = Rules { most: most.max(1), joins: takes > 0, settings };
        let (stats, model) = (self.books.of(model, version), model.to_owned());
        let core = Arc::new(Core { model, version, executor, rules, stats, health });
        let id = self.workers.0.add(Arc::clone(&core));
        Queue { workers: Arc::clone(&self.workers), id, core, cache }
    }
}

impl Queue {
    pub(crate) fn stats(&self) -> &Stats {
        &self.core.stats
    }

    pub(crate) fn settings(&self) -> &QueueSettings {
        &self.core.rules.settings
    }

    /// The most rows of a batch.
    pub(crate) fn batch_rows(&self) -> usize {
        self.core.rules.most
    }

    /// Requests and rows that wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.workers.0.waiting(self.id)
    }

    /// Has inputs answered at once, on this thread, past the queue.
    pub(crate) fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        self.core.run(inputs)
    }

    /// Checks inputs against the signature and counts their rows; 1 without a batch dimension.
    pub(crate) fn rows(&self, inputs: &[NamedTensor]) -> Result<usize, SignatureError> {
        let signature = self.core.executor.signature();
        let checked = signature.check_inputs(inputs);
        if self.core.rules.joins {
            return checked;
        }
        match checked {
            // Without a batch dimension the first dimensions have nothing to do with each other. That they differ is
            // found before the inputs after that one are looked at.
            Ok(_) | Err(SignatureError::Batch { .. }) => {
                for spec in &signature.inputs {
                    let input = inputs.iter().find(|input| input.name == spec.name);
                    let missing = || SignatureError::Missing {
                        name: spec.name.clone(),
                        expected: format!("`{}` {spec}", spec.name),
                    };
                    spec.check(&input.ok_or_else(missing)?.tensor)?;
                }
                Ok(1)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn ask(&self, call: Call) -> Result<Answer, AskError> {
        let asked = Instant::now();
        let stats = &self.core.stats;
        let invalid = |reason: String| {
            stats.refused(Refusal::Invalid, asked.elapsed());
            Err(AskError::Invalid(reason))
        };
        let rows = match self.rows(&call.inputs) {
            Ok(0) => return invalid("the batch is empty; expected at least one row".to_owned()),
            Ok(rows) => rows,
            Err(error) => return invalid(error.to_string()),
        };
        let inputs = self.ordered(call.inputs);
        let Some(cache) = &self.cache else {
            return self.compute(inputs, rows, call.priority, call.timeout, asked).await;
        };
        let (inputs, digest) = self.digested(inputs).await?;
        let Some(digest) = digest else {
            return self.compute(inputs, rows, call.priority, call.timeout, asked).await;
        };
        let found = cache.get(&digest);
        let looked = asked.elapsed();
        if let Some(outputs) = found {
            stats.cache_hit.add(looked);
            stats.answered(rows, asked.elapsed());
            self.core.executor.repeated(&inputs, &outputs);
            return Ok(Answer { outputs, timing: Timing::default() });
        }
        let answer = self.compute(inputs, rows, call.priority, call.timeout, asked).await?;
        let keep = Instant::now();
        cache.put(self.id, digest, &answer.outputs);
        stats.cache_miss.add(looked + keep.elapsed());
        Ok(answer)
    }

    /// The digest of inputs, and the inputs.
    async fn digested(
        &self,
        inputs: Vec<NamedTensor>,
    ) -> Result<(Vec<NamedTensor>, Option<Digest>), AskError> {
        let queue = self.id;
        let bytes: usize = inputs.iter().map(|input| binary::size(input.tensor.elements())).sum();
        let digest = move || {
            let digest = Digest::of(queue, &inputs);
            (inputs, digest)
        };
        if bytes <= DIGESTED_HERE {
            return Ok(digest());
        }
        tokio::task::spawn_blocking(digest).await.map_err(|_| AskError::Failed)
    }

    /// The inputs in the order of the signature, which they fit.
    fn ordered(&self, mut inputs: Vec<NamedTensor>) -> Vec<NamedTensor> {
        let place = |input: &NamedTensor| {
            self.core.executor.signature().inputs.iter().position(|spec| spec.name == input.name)
        };
        inputs.sort_by_key(place);
        inputs
    }

    async fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        rows: usize,
        priority: u32,
        timeout: Option<Duration>,
        asked: Instant,
    ) -> Result<Answer, AskError> {
        let settings = self.settings();
        let deadline = settings.patience(timeout).and_then(|patience| asked.checked_add(patience));
        let (reply, mut answer) = oneshot::channel();
        let request = Arc::new(Request::new(inputs, rows, asked, deadline, reply));
        let priority = settings.priority(priority);
        let place = self.workers.0.push(self.id, priority, request).map_err(|refused| match refused {
            Refused::Full { requests, rows } => {
                self.core.stats.refused(Refusal::Rejected, asked.elapsed());
                AskError::Full(format!(
                    "the request exceeds the maximum queue size of `{}`: {requests} requests with {rows} rows wait \
                     already; try again in a second",
                    self.core.model
                ))
            }
            Refused::Stopped => AskError::Stopped,
        })?;
        let mut ticket = Ticket { queue: self, place, open: true };
        let result = match deadline.filter(|_| settings.timeout_action == TimeoutAction::Reject) {
            None => answer.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), &mut answer).await {
                Ok(result) => result,
                // What is computed already is waited for.
                Err(_) if !ticket.withdraw() => answer.await,
                Err(_) => {
                    let waited = asked.elapsed();
                    self.core.expired(waited);
                    return Err(AskError::Expired { waited });
                }
            },
        };
        ticket.open = false;
        result.unwrap_or(Err(AskError::Failed))
    }
}

/// The place of a request that waits. Dropped while it is open, which it is when the client goes away, it takes the
/// request out of the queue.
struct Ticket<'a> {
    queue: &'a Queue,
    place: Place,
    open: bool,
}

impl Ticket<'_> {
    /// Takes the request out of the queue, if nothing of it was taken to be computed yet.
    fn withdraw(&mut self) -> bool {
        let whole = self.queue.workers.0.withdraw(self.queue.id, self.place, true);
        self.open = !whole;
        whole
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.open {
            self.queue.workers.0.withdraw(self.queue.id, self.place, false);
            self.queue.core.stats.cancelled.fetch_add(1, Relaxed);
        }
    }
}
