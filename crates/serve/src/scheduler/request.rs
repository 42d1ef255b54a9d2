//! One request on its way: its inputs, and the answers of its parts until it has them all.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use network::{NamedTensor, Tensor};
use tokio::sync::oneshot;

use crate::served::{Answer, AskError, Timing};

type Reply = oneshot::Sender<Result<Answer, AskError>>;

/// A request. It is shared by the queue and the batches that hold rows of it.
#[derive(Debug)]
pub(crate) struct Request {
    /// In the order of the signature.
    pub(crate) inputs: Vec<NamedTensor>,
    /// Rows of every input; 1 where there is no batch dimension.
    pub(crate) rows: usize,
    pub(crate) asked: Instant,
    /// Until then it may wait.
    pub(crate) deadline: Option<Instant>,
    /// What the log says of it is said inside this.
    pub(crate) span: tracing::Span,
    answer: Mutex<Assembly>,
}

/// What there is of an answer.
#[derive(Debug)]
struct Assembly {
    /// Gone once the answer was sent.
    reply: Option<Reply>,
    /// The first row and the outputs of each part that came before the last.
    parts: Vec<(usize, Vec<NamedTensor>)>,
    rows: usize,
    timing: Timing,
}

/// Some rows of a request, in a batch.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) request: std::sync::Arc<Request>,
    pub(crate) rows: Range<usize>,
}

impl Part {
    /// Whether it is all of its request.
    pub(crate) fn is_whole(&self) -> bool {
        self.rows.len() == self.request.rows
    }
}

impl Request {
    pub(crate) fn new(
        inputs: Vec<NamedTensor>,
        rows: usize,
        asked: Instant,
        deadline: Option<Instant>,
        reply: Reply,
    ) -> Self {
        let assembly = Assembly { reply: Some(reply), parts: Vec::new(), rows: 0, timing: Timing::default() };
        let span = tracing::Span::current();
        Self { inputs, rows, asked, deadline, span, answer: Mutex::new(assembly) }
    }

    fn answer(&self) -> MutexGuard<'_, Assembly> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits for the answer: it was not sent yet, and the client is there.
    pub(crate) fn is_wanted(&self) -> bool {
        self.answer().reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The rows from `first` on are answered. When these were the last and somebody waits, `note` hears how long it
    /// took before the answer is sent, so that who has an answer finds it counted.
    pub(crate) fn finish(
        &self,
        first: usize,
        rows: usize,
        outputs: Vec<NamedTensor>,
        timing: Timing,
        note: impl FnOnce(Finished),
    ) {
        let mut answer = self.answer();
        let told = &mut answer.timing;
        // What its first part waited is what the request waited.
        if answer_is_first(told) {
            told.queue = timing.queue;
        }
        told.compute_input += timing.compute_input;
        told.compute_infer += timing.compute_infer;
        told.compute_output += timing.compute_output;
        told.batch_rows = timing.batch_rows;
        let timing = answer.timing;
        answer.rows += rows;
        if answer.rows < self.rows {
            answer.parts.push((first, outputs));
            return;
        }
        let Some(reply) = answer.reply.take() else { return };
        let mut parts = std::mem::take(&mut answer.parts);
        drop(answer);
        let outputs = if parts.is_empty() {
            Some(outputs)
        } else {
            parts.push((first, outputs));
            parts.sort_by_key(|(first, _)| *first);
            let rows = |outputs: &[NamedTensor]| outputs.first().map_or(0, |output| output.tensor.rows());
            let pieces = parts.iter().map(|(_, outputs)| (outputs.as_slice(), 0..rows(outputs)));
            join(&pieces.collect::<Vec<_>>())
        };
        // The outputs of parts have the same types and shapes, for all fit the signature.
        let result = outputs.map(|outputs| Answer { outputs, timing }).ok_or(AskError::Failed);
        if result.is_ok() && !reply.is_closed() {
            note(Finished { took: self.asked.elapsed(), timing });
        }
        // The client may have gone in this moment.
        let _ = reply.send(result);
    }

    /// Refuses the whole request. When somebody waits, `note` is called before.
    pub(crate) fn fail(&self, error: AskError, note: impl FnOnce()) {
        let Some(reply) = self.answer().reply.take() else { return };
        if !reply.is_closed() {
            note();
        }
        let _ = reply.send(Err(error));
    }
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) took: Duration,
    pub(crate) timing: Timing,
}

/// Whether no part has been told yet: every part was in a batch of at least one row.
fn answer_is_first(told: &Timing) -> bool {
    told.batch_rows == 0
}

/// Rows of several sets of tensors one after the other, tensor by tensor.
pub(crate) fn join(pieces: &[(&[NamedTensor], Range<usize>)]) -> Option<Vec<NamedTensor>> {
    let (first, _) = pieces.first()?;
    let joined = first.iter().enumerate().map(|(index, one)| {
        let rows = pieces.iter().map(|(tensors, rows)| Some((&tensors.get(index)?.tensor, rows.clone())));
        let tensor = Tensor::join_rows(&rows.collect::<Option<Vec<_>>>()?)?;
        Some(NamedTensor { name: one.name.clone(), tensor })
    });
    joined.collect()
}
