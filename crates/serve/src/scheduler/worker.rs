//! The compute workers: whose turn it is, and sleeping while it is nobody's.
//!
//! Which version comes next is decided by stride scheduling: each has a clock that advances by the time that it was
//! computed, divided by its weight, and the one furthest behind comes first. A version that was idle does not save up:
//! its clock is set to that of the others when it has something again.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::device::panic_message;

use super::batch::Core;
use super::request::{Part, Request};
use super::waiting::{Dead, Due, Place, Waiting};

/// How long a worker looks for more before it sleeps: as long as it takes to fall asleep and to be woken. Requests
/// that follow each other closely then cost no system call, and a quiet server costs nothing. Looking for longer keeps
/// the processor from those who bring the next request.
const PATIENCE: Duration = Duration::from_micros(20);

/// The clock of a version of weight 1 advances by this many units in a nanosecond.
const UNITS: u128 = 1 << 10;

/// What the workers and the queues share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Grows with every request, so that a worker that looks for more need not take the lock.
    pushed: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    queues: BTreeMap<u64, Slot>,
    /// Those in which something waits: the others cost a batch nothing, however many there are.
    busy: BTreeSet<u64>,
    next_queue: u64,
    next_request: u64,
    /// The clock of whoever was computed last.
    clock: u128,
    looking: usize,
    asleep: usize,
    stop: bool,
}

#[derive(Debug)]
struct Slot {
    core: Arc<Core>,
    waiting: Waiting,
    /// In 64 bits it would end after 208 days of computing, and with it the sharing.
    clock: u128,
    /// Batches of it that are computed now.
    running: usize,
    /// What a row took lately.
    row_nanos: u64,
}

/// A batch that a worker has taken.
struct Job {
    queue: u64,
    core: Arc<Core>,
    parts: Vec<Part>,
    rows: u64,
    /// By how much the clock was advanced already.
    charged: u128,
}

/// What became of a batch.
#[derive(Debug)]
struct Done {
    queue: u64,
    rows: u64,
    took: u64,
    charged: u128,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full { requests: usize, rows: usize },
    Stopped,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, core: Arc<Core>) -> u64 {
        let mut inner = self.lock();
        let id = inner.next_queue;
        inner.next_queue += 1;
        let slot = Slot { core, waiting: Waiting::default(), clock: inner.clock, running: 0, row_nanos: 0 };
        inner.queues.insert(id, slot);
        id
    }

    pub(crate) fn remove(&self, queue: u64) {
        let mut inner = self.lock();
        inner.busy.remove(&queue);
        let slot = inner.queues.remove(&queue);
        drop(inner);
        // Not under the lock: with it goes the last that holds the model, perhaps.
        drop(slot);
    }

    pub(crate) fn waiting(&self, queue: u64) -> (usize, usize) {
        self.lock().queues.get(&queue).map_or((0, 0), |slot| slot.waiting.count())
    }

    /// Queues a request, and wakes a worker where none is awake.
    pub(crate) fn push(&self, queue: u64, priority: u32, request: Arc<Request>) -> Result<Place, Refused> {
        let mut inner = self.lock();
        if inner.stop {
            return Err(Refused::Stopped);
        }
        let place = (priority, inner.next_request);
        let clock = inner.clock;
        let Some(slot) = inner.queues.get_mut(&queue) else { return Err(Refused::Stopped) };
        if !slot.waiting.has_room(request.rows, &slot.core.rules.settings) {
            let (requests, rows) = slot.waiting.count();
            return Err(Refused::Full { requests, rows });
        }
        if slot.waiting.is_empty() && slot.running == 0 {
            slot.clock = slot.clock.max(clock);
        }
        slot.waiting.push(place, request);
        inner.busy.insert(queue);
        inner.next_request += 1;
        let wake = inner.asleep > 0 && inner.looking == 0;
        drop(inner);
        self.pushed.fetch_add(1, Ordering::Release);
        if wake {
            self.wake.notify_one();
        }
        Ok(place)
    }

    /// Takes a request out of the queue, with `whole` only when no row of it was taken yet. Tells whether it did.
    pub(crate) fn withdraw(&self, queue: u64, place: Place, whole: bool) -> bool {
        let mut inner = self.lock();
        let Some(slot) = inner.queues.get_mut(&queue) else { return false };
        let request = slot.waiting.withdraw(place, whole);
        if slot.waiting.is_empty() {
            inner.busy.remove(&queue);
        }
        drop(inner);
        // Its tensors are freed here, where nobody waits for it.
        request.is_some()
    }

    /// No more requests are taken; the workers end when nothing waits.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_all();
    }

    /// The life of a worker.
    pub(crate) fn work(&self) {
        let mut done = None;
        while let Some(Job { queue, core, parts, rows, charged }) = self.next(done) {
            let began = Instant::now();
            // Whatever panics is a mistake of ours: its requests fail, for nobody answers them, and the worker goes on.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| core.execute(parts))) {
                tracing::error!(cause = panic_message(panic.as_ref()), "a worker panicked");
            }
            let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            done = Some(Done { queue, rows, took, charged });
        }
    }

    /// The next batch, after the one that is done; nothing when the workers are to end.
    fn next(&self, done: Option<Done>) -> Option<Job> {
        let mut inner = self.lock();
        if let Some(done) = done {
            inner.settle(&done);
        }
        let mut may_look = true;
        loop {
            let seen = self.pushed.load(Ordering::Acquire);
            let now = Instant::now();
            let until = match inner.choose(now) {
                Choice::Job(job, dead) => {
                    // Whoever is woken wakes the next, as long as something waits: where that is not due yet, this
                    // may have been the only one that knew when it will be.
                    if inner.asleep > 0 && inner.looking == 0 && !inner.busy.is_empty() {
                        self.wake.notify_one();
                    }
                    drop(inner);
                    job.core.bury(dead);
                    return Some(job);
                }
                Choice::Dropped(core, dead) => {
                    drop(inner);
                    core.bury(dead);
                    inner = self.lock();
                    continue;
                }
                Choice::At(when) => Some(when),
                Choice::Nothing if inner.stop => return None,
                Choice::Nothing => None,
            };
            if may_look {
                may_look = false;
                inner.looking += 1;
                drop(inner);
                self.look(seen);
                inner = self.lock();
                inner.looking -= 1;
                continue;
            }
            inner.asleep += 1;
            inner = match until {
                None => self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(when) => {
                    let left = when.saturating_duration_since(now);
                    self.wake.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inner.asleep -= 1;
        }
    }

    /// Waits a moment for a request.
    fn look(&self, seen: u64) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            for _ in 0..32 {
                if self.pushed.load(Ordering::Acquire) != seen {
                    return;
                }
                std::hint::spin_loop();
            }
        }
    }
}

enum Choice {
    /// A batch, and what was found dead on the way to it.
    Job(Job, Dead),
    /// What was due turned out to be dead.
    Dropped(Arc<Core>, Dead),
    At(Instant),
    Nothing,
}

impl Inner {
    /// Corrects the clock of a version by what its batch really took.
    fn settle(&mut self, done: &Done) {
        let Some(slot) = self.queues.get_mut(&done.queue) else { return };
        slot.running = slot.running.saturating_sub(1);
        let charge = charge(done.took, slot.core.rules.settings.weight);
        slot.clock = slot.clock.saturating_sub(done.charged).saturating_add(charge);
        let row = done.took / done.rows.max(1);
        slot.row_nanos = if slot.row_nanos == 0 { row } else { (slot.row_nanos * 3 + row) / 4 };
    }

    /// The versions in which something waits.
    fn busy(&self) -> impl Iterator<Item = (u64, &Slot)> {
        self.busy.iter().filter_map(|id| Some((*id, self.queues.get(id)?)))
    }

    /// The batch of the version that is due and furthest behind.
    fn choose(&mut self, now: Instant) -> Choice {
        let mut first: Option<(u128, u64)> = None;
        let mut next = None::<Instant>;
        for (id, slot) in self.busy() {
            match slot.waiting.due(&slot.core.rules) {
                Due::Never => {}
                Due::At(when) if when > now => next = Some(next.map_or(when, |next| next.min(when))),
                Due::Now | Due::At(_) => {
                    if first.is_none_or(|(clock, _)| slot.clock < clock) {
                        first = Some((slot.clock, id));
                    }
                }
            }
        }
        let Some((clock, id)) = first else {
            return next.map_or(Choice::Nothing, Choice::At);
        };
        let Some(slot) = self.queues.get_mut(&id) else { return Choice::Nothing };
        let taken = slot.waiting.take(now, &slot.core.rules);
        if slot.waiting.is_empty() {
            self.busy.remove(&id);
        }
        if taken.parts.is_empty() {
            return Choice::Dropped(Arc::clone(&slot.core), taken.dead);
        }
        let rows = taken.parts.iter().map(|part| part.rows.len() as u64).sum();
        // What it will take, so that several workers do not all choose the same version.
        let charged = charge(slot.row_nanos.saturating_mul(rows), slot.core.rules.settings.weight);
        slot.clock = slot.clock.saturating_add(charged);
        slot.running += 1;
        self.clock = self.clock.max(clock);
        let job = Job { queue: id, core: Arc::clone(&slot.core), parts: taken.parts, rows, charged };
        Choice::Job(job, taken.dead)
    }
}

fn charge(nanos: u64, weight: u32) -> u128 {
    u128::from(nanos) * UNITS / u128::from(weight.max(1))
}

#[cfg(test)]
mod tests;
