//! What listens at a version: counts what it answers, and copies a share of that to a shadow.
//!
//! The caller waits for neither. A copy is made of the inputs beforehand and of the outputs afterwards, for the share
//! alone; it is dropped when the queue of copies is full, and a thread behind all others answers and compares.

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use network::{NamedTensor, Prediction};

use super::tally::{Shadowed, Tally};
use crate::cache::footprint;
use crate::served::{Answer, AskError, Call, Served};

/// So many copies may wait, and so many bytes of them.
const WAITING: usize = 64;
const WAITING_BYTES: usize = 64 << 20;

/// How far two numbers may be apart and still be the same answer, as a share of the larger one; below 1, the number
/// itself. Where there are classes, they are compared instead.
const SAME: f64 = 1e-3;

/// Listens at one version.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(super) tally: Arc<Tally>,
    pub(super) copies: Option<Copies>,
}

/// Where copies go.
#[derive(Debug)]
pub(super) struct Copies {
    /// Of 10,000 requests.
    pub(super) share: u64,
    pub(super) turn: AtomicU64,
    /// It must not keep a version from being unloaded.
    pub(super) shadow: Weak<Served>,
    pub(super) shadowed: Arc<Shadowed>,
    pub(super) sender: Sender,
}

/// The way to the thread that answers copies.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    copies: SyncSender<Copied>,
    held: Arc<Held>,
}

/// What waits, and what is being answered.
#[derive(Debug, Default)]
struct Held {
    waiting: AtomicUsize,
    bytes: AtomicUsize,
}

/// One request that was answered.
#[derive(Debug)]
struct Copied {
    inputs: Vec<NamedTensor>,
    outputs: Vec<NamedTensor>,
    took: Duration,
    bytes: usize,
    shadow: Weak<Served>,
    shadowed: Arc<Shadowed>,
}

impl Tap {
    /// Listens to one request, which `ask` has answered.
    pub(crate) async fn listen<F>(&self, call: Call, ask: impl FnOnce(Call) -> F) -> Result<Answer, AskError>
    where
        F: Future<Output = Result<Answer, AskError>>,
    {
        let copies = self.copies.as_ref().filter(|copies| copies.takes() && copies.has_room(&call.inputs));
        let copied = copies.map(|copies| (copies, call.inputs.clone()));
        let start = Instant::now();
        let result = ask(call).await;
        let took = start.elapsed();
        match &result {
            Ok(answer) => {
                self.tally.add(true, took);
                if let Some((copies, inputs)) = copied {
                    copies.send(inputs, answer.outputs.clone(), took);
                }
            }
            Err(AskError::Failed | AskError::Expired { .. }) => self.tally.add(false, took),
            // The client's mistake, or the whole server's load: it says nothing of the version.
            Err(_) => {}
        }
        result
    }
}

impl Copies {
    /// Whether it is a request's turn to be copied: evenly spread, from the first on.
    fn takes(&self) -> bool {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = |turns: u64| u128::from(turns) * u128::from(self.share) / 10_000;
        count(turn.wrapping_add(1)) > count(turn)
    }

    /// Whether these inputs would be taken now. What would not need not be copied first; it counts as dropped.
    fn has_room(&self, inputs: &[NamedTensor]) -> bool {
        let Held { waiting, bytes } = &*self.sender.held;
        let room = waiting.load(Ordering::Acquire) < WAITING
            && bytes.load(Ordering::Acquire).saturating_add(size(inputs)) <= WAITING_BYTES;
        if !room {
            self.shadowed.dropped.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    fn send(&self, inputs: Vec<NamedTensor>, outputs: Vec<NamedTensor>, took: Duration) {
        let bytes = size(&inputs) + size(&outputs);
        let (shadow, shadowed) = (Weak::clone(&self.shadow), Arc::clone(&self.shadowed));
        let held = &self.sender.held;
        let now = held.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        held.waiting.fetch_add(1, Ordering::AcqRel);
        let copied = Copied { inputs, outputs, took, bytes, shadow, shadowed };
        if now > WAITING_BYTES || self.sender.copies.try_send(copied).is_err() {
            held.waiting.fetch_sub(1, Ordering::AcqRel);
            held.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.shadowed.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Sender {
    /// Starts the thread, which ends with the last sender.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let (copies, received) = sync_channel(WAITING);
        let held = Arc::<Held>::default();
        let sender = Self { copies, held: Arc::clone(&held) };
        std::thread::Builder::new().name("shadow".to_owned()).spawn(move || {
            crate::loader::give_way();
            answer(&received, &held);
        })?;
        Ok(sender)
    }
}

fn answer(received: &Receiver<Copied>, held: &Held) {
    while let Ok(copied) = received.recv() {
        held.waiting.fetch_sub(1, Ordering::AcqRel);
        if let Some(shadow) = copied.shadow.upgrade() {
            let start = Instant::now();
            let result = shadow.run(&copied.inputs);
            let took = start.elapsed();
            match result {
                Ok(outputs) => {
                    let (rows, agreed, difference) = compare(&shadow, &copied.outputs, &outputs);
                    copied.shadowed.add(rows, agreed, difference);
                    copied.shadowed.tally.add(true, took);
                    copied.shadowed.answering.add(true, copied.took);
                }
                Err(_) => {
                    copied.shadowed.failed.fetch_add(1, Ordering::Relaxed);
                    copied.shadowed.tally.add(false, took);
                }
            }
        }
        held.bytes.fetch_sub(copied.bytes, Ordering::AcqRel);
    }
}

/// How many rows there are, in how many the answers are the same, and the largest difference of two numbers.
fn compare(shadow: &Served, answered: &[NamedTensor], copied: &[NamedTensor]) -> (u64, u64, f64) {
    let rows = answered.first().map_or(0, |output| output.tensor.rows());
    let mut same = vec![true; rows];
    let mut largest = 0.0f64;
    for output in answered {
        let other = copied.iter().find(|other| other.name == output.name);
        let Some(other) = other.filter(|other| other.tensor.shape() == output.tensor.shape()) else {
            same.fill(false);
            continue;
        };
        match (output.tensor.as_f32(), other.tensor.as_f32()) {
            (Some(mine), Some(theirs)) => {
                let width = (mine.len() / rows.max(1)).max(1);
                for (place, (mine, theirs)) in mine.iter().zip(theirs).enumerate() {
                    let (mine, theirs) = (f64::from(*mine), f64::from(*theirs));
                    let difference = (mine - theirs).abs();
                    largest = largest.max(difference);
                    let close = difference <= SAME * mine.abs().max(theirs.abs()).max(1.0);
                    if let Some(same) = same.get_mut(place / width).filter(|_| !close) {
                        *same = false;
                    }
                }
            }
            _ if output.tensor == other.tensor => {}
            _ => same.fill(false),
        }
    }
    // What a person would call the same answer is the class, not its probability.
    if let Some(predictor) = shadow.predictor()
        && let (Ok(mine), Ok(theirs)) = (predictor.finish(answered), predictor.finish(copied))
    {
        for ((same, mine), theirs) in same.iter_mut().zip(&mine).zip(&theirs) {
            match (mine, theirs) {
                (Prediction::Class { class: mine, .. }, Prediction::Class { class: theirs, .. }) => {
                    *same = mine == theirs
                }
                (Prediction::Labels { labels: mine, .. }, Prediction::Labels { labels: theirs, .. }) => {
                    *same = mine == theirs;
                }
                _ => {}
            }
        }
    }
    let agreed = same.iter().filter(|same| **same).count();
    (rows as u64, agreed as u64, largest)
}

fn size(tensors: &[NamedTensor]) -> usize {
    tensors.iter().map(footprint).sum()
}
