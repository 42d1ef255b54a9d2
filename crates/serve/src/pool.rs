//! Threads that prepare, behind a bounded queue.
//!
//! Reading a body is asynchronous; parsing it, decoding images and preprocessing are not, so they run here: the
//! threads of the network stay free to answer health checks, and those that compute ([`crate::scheduler`]) are not
//! held up by a large picture. What is small is done at once where it is ([`Pool::run_sized`]), for handing it over
//! would take longer. A full queue is an answer (503), not a longer wait, and the work of a client that went away is
//! skipped. A panic in a job is that job's failure alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::device::panic_message;
use tokio::sync::oneshot;

use crate::error::{Result, ServeError};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and a queue of fixed length. Dropping it lets the threads finish the queue.
#[derive(Clone, Debug)]
pub struct Pool {
    sender: SyncSender<Job>,
    queue: usize,
}

/// What a job returned and how long it waited for a thread.
#[derive(Clone, Copy, Debug)]
pub struct Done<T> {
    /// The job's result.
    pub value: T,
    /// Time between the request for work and its start.
    pub queued: Duration,
}

/// Up to so many bytes of text are read or written on the thread that has them: it takes some tens of microseconds,
/// about as long as waking another thread and being woken by it.
const SMALL_BYTES: usize = 16 << 10;

impl Pool {
    /// Starts `threads` threads that share a queue of `queue` waiting jobs; both are at least 1.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(threads: usize, queue: usize) -> std::io::Result<Self> {
        let queue = queue.max(1);
        let (sender, receiver) = sync_channel::<Job>(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        for index in 0..threads.max(1) {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new().name(format!("prepare-{index}")).spawn(move || {
                while let Some(job) = next(&receiver) {
                    job()
                }
            })?;
        }
        Ok(Self { sender, queue })
    }

    /// Runs a job whose time grows with `bytes` of text: here when they are few, otherwise on a thread of the pool.
    ///
    /// # Errors
    /// As [`Pool::run`].
    pub async fn run_sized<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Done<T>> {
        if bytes > SMALL_BYTES {
            return self.run(job).await;
        }
        let value = contained(job)?;
        Ok(Done { value, queued: Duration::ZERO })
    }

    /// Runs `job` on a thread of the pool.
    ///
    /// # Errors
    /// 503 when the queue is full, 500 when the job panics, otherwise the job's own error.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Done<T>> {
        let (reply, answer) = oneshot::channel();
        let asked = Instant::now();
        // What the log says of the request is said inside its span, on that thread too.
        let span = tracing::Span::current();
        let job: Job = Box::new(move || {
            if reply.is_closed() {
                return;
            }
            let queued = asked.elapsed();
            let result = span.in_scope(|| contained(job));
            // The client may be gone by now; then nobody wants the answer.
            let _ = reply.send(result.map(|value| Done { value, queued }));
        });
        self.sender.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => ServeError::unavailable(format_args!(
                "the server is busy: {} requests are waiting already; try again in a second",
                self.queue
            )),
            TrySendError::Disconnected(_) => ServeError::internal("the pool has stopped"),
        })?;
        answer.await.unwrap_or_else(|_| Err(ServeError::internal("the pool dropped a job")))
    }
}

/// A job's result; a panic is a failure of its own. The job owns everything it touches, so nothing half-changed
/// outlives the panic.
fn contained<T>(job: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| {
        let cause = panic_message(panic.as_ref());
        Err(ServeError::internal(format_args!("a job panicked: {cause}")))
    })
}

fn next(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::error::Kind;

    #[actix_web::test]
    async fn a_full_queue_refuses_and_recovers() {
        let pool = Pool::new(1, 1).unwrap();
        let (started, wait_for_start) = channel();
        let (release, hold) = channel::<()>();
        let occupied = {
            let pool = pool.clone();
            actix_web::rt::spawn(async move {
                pool.run(move || {
                    started.send(()).unwrap();
                    hold.recv().unwrap();
                    Ok(1)
                })
                .await
            })
        };
        actix_web::rt::task::yield_now().await;
        wait_for_start.recv().unwrap();
        let waiting = {
            let pool = pool.clone();
            actix_web::rt::spawn(async move { pool.run(|| Ok(2)).await })
        };
        actix_web::rt::task::yield_now().await;
        let refused = pool.run(|| Ok(3)).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Unavailable);
        release.send(()).unwrap();
        assert_eq!(occupied.await.unwrap().unwrap().value, 1);
        assert_eq!(waiting.await.unwrap().unwrap().value, 2);
        assert_eq!(pool.run(|| Ok(4)).await.unwrap().value, 4);
    }

    #[actix_web::test]
    async fn a_panic_is_one_jobs_failure() {
        let pool = Pool::new(1, 4).unwrap();
        let error = pool.run::<()>(|| panic!("on purpose")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        assert!(!error.to_string().contains("purpose"), "the client is not told what the log says");
        assert_eq!(pool.run(|| Ok(7)).await.unwrap().value, 7);
    }
}
