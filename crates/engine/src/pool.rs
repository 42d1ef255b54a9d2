//! Threads that help with one piece of work at a time.
//!
//! Why not a general work-stealing pool: a forward pass is tens of steps of a few microseconds each, so a helper
//! must be awake already, the caller must never wait for one that is not, and nothing may be allocated. Here the
//! caller always works itself; helpers that are awake join in, and whoever finds the pool busy works alone,
//! which is what a server with as many requests as cores wants.
#![allow(unsafe_code, reason = "a borrowed closure is lent to threads that outlive it")]

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a helper looks for more work before it sleeps: about as long as it takes to fall asleep and to be woken.
///
/// It neither looks for longer nor offers its processor to others while it does. On few processors the thread that
/// brings the next job would wait for the one, and with the other a thread that ought to be behind all others gets the
/// processor for a whole time slice: only one that is woken takes it back at once.
const PATIENCE: Duration = Duration::from_micros(20);

/// The gate through which helpers enter a job: an open flag, the number of the job, helpers inside.
const OPEN: u64 = 1 << 63;
const JOB: u64 = 1 << 16;
const INSIDE: u64 = JOB - 1;

/// The most threads of a pool; the count of those inside must stay within [`INSIDE`].
const MOST_THREADS: usize = 1024;

type Job<'a> = &'a (dyn Fn(usize) + Sync);

struct Shared {
    gate: AtomicU64,
    /// Valid while the gate is open or somebody is inside.
    job: UnsafeCell<Option<Job<'static>>>,
    busy: AtomicBool,
    stop: AtomicBool,
    failed: AtomicBool,
    sleeping: AtomicUsize,
    /// The caller, once it sleeps until everybody has left.
    waiting: Mutex<Option<Thread>>,
}

// SAFETY: `job` is written only by the holder of `busy` while the gate is closed and nobody is inside, and read
// only from inside.
unsafe impl Sync for Shared {}
// SAFETY: as above; the job itself is `Sync`.
unsafe impl Send for Shared {}

impl Shared {
    fn lock_waiting(&self) -> MutexGuard<'_, Option<Thread>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fixed number of threads, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool of `threads` threads, at most 1,024: the caller's and the helpers. Where the system gives fewer, the pool
    /// has fewer.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            waiting: Mutex::new(None),
        });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("engine-{index}"));
            builder.spawn(move || help(&shared, index)).ok()
        };
        let helpers: Vec<JoinHandle<()>> = (1..threads.clamp(1, MOST_THREADS)).filter_map(start).collect();
        let handles = helpers.iter().map(|helper| helper.thread().clone()).collect();
        Self { shared, helpers, handles }
    }

    /// The number of threads, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `job(0)` here and `job(1..threads)` on those helpers that are free meanwhile; returns when all of
    /// them have. A job must be complete when only `job(0)` ran. When the pool is busy, only that runs.
    ///
    /// # Panics
    /// When the job panics.
    pub(crate) fn run(&self, job: Job<'_>) {
        let shared = &*self.shared;
        if self.helpers.is_empty() || shared.busy.swap(true, Ordering::Acquire) {
            return job(0);
        }
        // SAFETY: nobody is inside and the gate is closed, so nobody reads the job. Its lifetime ends in this
        // function, which does not return, nor unwind, before the gate is closed and everybody has left: see
        // `Closing`.
        unsafe {
            *shared.job.get() = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job));
        }
        let number = (shared.gate.load(Ordering::Relaxed) & !(OPEN | INSIDE)).wrapping_add(JOB) & !OPEN;
        let closing = Closing(shared);
        shared.gate.store(OPEN | number, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            self.handles.iter().for_each(Thread::unpark);
        }
        job(0);
        let failed = closing.close();
        assert!(!failed, "a helper of the engine's pool panicked");
    }
}

/// Closes the gate, waits until all have left, and frees the pool.
struct Closing<'a>(&'a Shared);

impl Closing<'_> {
    /// Whether a helper failed. It is asked before the pool is free, for the flag is the next caller's then.
    fn close(self) -> bool {
        let failed = self.end();
        std::mem::forget(self);
        failed
    }

    fn end(&self) -> bool {
        self.0.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let inside = || self.0.gate.load(Ordering::Acquire) & INSIDE != 0;
        let mut spins = 0u32;
        while inside() && spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        }
        if inside() {
            // Whoever left before this is seen to have left; whoever leaves after it finds this.
            *self.0.lock_waiting() = Some(std::thread::current());
            while inside() {
                std::thread::park();
            }
            *self.0.lock_waiting() = None;
        }
        let failed = self.0.failed.swap(false, Ordering::Relaxed);
        self.0.busy.store(false, Ordering::Release);
        failed
    }
}

/// When the caller's own part of the job panics.
impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Turns of waiting, some ten microseconds, before something else gets the core.
const SPINS: u32 = 200;

/// A moment of waiting; after some ten microseconds other threads get the core, for the one that is waited for may be
/// kept from its own by one of them.
pub(crate) fn wait(spins: &mut u32) {
    *spins = spins.saturating_add(1);
    if *spins < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn help(shared: &Shared, index: usize) {
    let mut last = 0;
    loop {
        let gate = shared.gate.load(Ordering::Acquire);
        let number = gate & !(OPEN | INSIDE);
        if gate & OPEN != 0 && number != last {
            if shared.gate.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                last = number;
                // SAFETY: this thread is inside, so the job is there and lives.
                let job = unsafe { *shared.job.get() };
                if let Some(job) = job
                    && catch_unwind(AssertUnwindSafe(|| job(index))).is_err()
                {
                    shared.failed.store(true, Ordering::Relaxed);
                }
                leave(shared);
            }
            continue;
        }
        if !idle(shared, last) {
            return;
        }
    }
}

/// Leaves a job, and wakes the caller where this was the last.
fn leave(shared: &Shared) {
    if shared.gate.fetch_sub(1, Ordering::AcqRel) & INSIDE == 1 {
        // It is not taken out: whoever comes late to this line may wake the caller of a later job, which looks again.
        shared.lock_waiting().iter().for_each(Thread::unpark);
    }
}

/// Waits for the next job; `false` when the pool ends.
fn idle(shared: &Shared, last: u64) -> bool {
    let news = || {
        let gate = shared.gate.load(Ordering::SeqCst);
        gate & OPEN != 0 && gate & !(OPEN | INSIDE) != last
    };
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for _ in 0..64 {
            if news() {
                return true;
            }
            std::hint::spin_loop();
        }
        if shared.stop.load(Ordering::Acquire) {
            return false;
        }
    }
    // The announcement of sleep and the look at the gate are ordered against the caller's opening of the gate
    // and its look at the sleepers: one of the two sees the other.
    shared.sleeping.fetch_add(1, Ordering::SeqCst);
    while !news() && !shared.stop.load(Ordering::SeqCst) {
        std::thread::park();
    }
    shared.sleeping.fetch_sub(1, Ordering::SeqCst);
    !shared.stop.load(Ordering::Acquire)
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for helper in self.helpers.drain(..) {
            // A helper catches panics, so there is nothing to hear from it.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_enters_is_waited_for() {
        let pool = Pool::new(4);
        for round in 0..2_000u64 {
            let next = AtomicUsize::new(0);
            let sum = AtomicU64::new(0);
            pool.run(&|_| {
                loop {
                    let item = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if item >= 50 {
                        break;
                    }
                    sum.fetch_add(item * round, Ordering::Relaxed);
                }
            });
            assert_eq!(sum.into_inner(), 1225 * round);
            if round % 500 == 0 {
                // Long enough for the helpers to fall asleep.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn a_caller_that_is_done_sleeps_until_its_helpers_are() {
        let pool = Pool::new(3);
        for round in 0..200 {
            let (entered, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
            pool.run(&|thread| {
                if thread == 0 {
                    let start = Instant::now();
                    while entered.load(Ordering::SeqCst) == 0 && start.elapsed() < Duration::from_secs(5) {
                        std::thread::yield_now();
                    }
                    return;
                }
                entered.fetch_add(1, Ordering::SeqCst);
                // Long enough for the caller to fall asleep, or just about, or not.
                std::thread::sleep(Duration::from_micros([1_000, 20, 0][round % 3]));
                left.fetch_add(1, Ordering::SeqCst);
            });
            let entered = entered.into_inner();
            assert!(entered > 0);
            assert_eq!(entered, left.into_inner());
        }
    }

    #[test]
    fn a_busy_pool_lets_the_caller_work_alone() {
        let pool = Pool::new(2);
        let inner = AtomicUsize::new(0);
        pool.run(&|index| {
            if index == 0 {
                pool.run(&|index| {
                    assert_eq!(index, 0);
                    inner.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(inner.into_inner(), 1);
    }
}
