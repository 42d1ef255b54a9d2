//! What a call sends, bounded together with all others and in time: as [`crate::body`] does it for HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::codegen::{Body as HttpBody, Bytes};

use crate::body::{Held, InFlight};
use crate::limits::Limits;
use crate::telemetry::Opened;

/// The body of a call. Of a message that has not all arrived, what is there counts as in memory, and the rest must come
/// in time. Between the messages of a stream there is nothing to count, and it may wait as long as it likes: until the
/// server ends.
pub struct Bounded {
    inner: tonic::body::Body,
    limits: Limits,
    held: Held,
    message: Framing,
    deadline: Option<Deadline>,
    /// Of a stream: the end of the server.
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// When the next part must have come. Only the time counts in which it was waited for: while an earlier message of a
/// stream is answered, the client may not even be able to send.
#[derive(Default)]
struct Deadline {
    received: usize,
    waited: Duration,
    since: Option<Instant>,
    /// Made when something has to be waited for: most messages are there when they are asked for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn advance(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes);
        self.waited += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }

    /// Whether it has passed; if not, the task is woken when it does.
    fn is_over(&mut self, limits: &Limits, context: &mut Context<'_>) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let until = since + limits.body_patience(self.received).saturating_sub(self.waited);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if until > sleep.deadline() {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(context).is_ready()
    }
}

/// Where in a message the bytes of a body are: each has a head of five, which tells its length.
#[derive(Debug, Default)]
struct Framing {
    head: [u8; 5],
    known: usize,
    left: usize,
}

impl Framing {
    /// Goes on, to the end of the message at most: how many of the bytes belong to it, and whether that was its end.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        while let (Some(slot), Some(&byte)) = (self.head.get_mut(self.known), bytes.get(taken)) {
            *slot = byte;
            self.known += 1;
            taken += 1;
            if self.known == self.head.len() {
                let [_, a, b, c, d] = self.head;
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            }
        }
        let part = self.left.min(bytes.len() - taken);
        self.left -= part;
        let whole = self.known == self.head.len() && self.left == 0;
        if whole {
            self.known = 0;
        }
        (taken + part, whole)
    }
}

impl Bounded {
    /// Bounds the body of a call with one message, which must arrive in time from now on.
    #[must_use]
    pub fn message(inner: tonic::body::Body, in_flight: &Arc<InFlight>, limits: Limits) -> Self {
        let (held, message, deadline) = (Held::new(in_flight), Framing::default(), Some(Deadline::default()));
        Self { inner, limits, held, message, deadline, end: None }
    }

    /// Bounds the body of a call with many, of which each must arrive in time once it has begun. From `ending` on it is
    /// not read any further: what it has asked is answered, and then it ends.
    #[must_use]
    pub fn stream(
        inner: tonic::body::Body,
        in_flight: &Arc<InFlight>,
        limits: Limits,
        ending: &CancellationToken,
    ) -> Self {
        let end = Some(Box::pin(ending.clone().cancelled_owned()));
        Self { deadline: None, end, ..Self::message(inner, in_flight, limits) }
    }

    /// Counts what has come.
    fn received(&mut self, bytes: &[u8]) -> Result<(), Status> {
        if self.end.is_none() {
            self.held.grow(bytes.len())?;
            self.deadline.iter_mut().for_each(|deadline| deadline.advance(bytes.len()));
            return Ok(());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (taken, whole) = self.message.take(rest);
            if whole {
                self.held.clear();
                self.deadline = None;
            } else {
                self.held.grow(taken)?;
                self.deadline.get_or_insert_default().advance(taken);
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Why nothing more is waited for, if so; otherwise the task is woken when that changes.
    fn fault(&mut self, context: &mut Context<'_>) -> Option<Status> {
        if let Some(deadline) = &mut self.deadline {
            let over = deadline.is_over(&self.limits, context);
            return over.then(|| Status::deadline_exceeded("the message did not arrive in time"));
        }
        let ended = self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready());
        ended.then(|| Status::unavailable("the server is shutting down"))
    }
}

/// The body of an answer, with the call that it belongs to.
pub struct Answered {
    inner: tonic::body::Body,
    _call: Opened,
}

impl Answered {
    /// The call ends with the body.
    #[must_use]
    pub fn new(inner: tonic::body::Body, call: Opened) -> Self {
        Self { inner, _call: call }
    }
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    self.received(bytes)?;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => self.fault(context).map_or(Poll::Pending, |fault| Poll::Ready(Some(Err(fault)))),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_wherever_the_bytes_are_cut() {
        let message = |length: u32| {
            let mut bytes = vec![0];
            bytes.extend(length.to_be_bytes());
            bytes.resize(5 + length as usize, 7);
            bytes
        };
        let lengths = [0, 3, 300, 0, 0, 1];
        let bytes: Vec<u8> = lengths.into_iter().flat_map(message).collect();
        for part in [1, 2, 5, 7, 64, bytes.len()] {
            let (mut framing, mut sizes, mut size) = (Framing::default(), Vec::new(), 0);
            for chunk in bytes.chunks(part) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    let (taken, whole) = framing.take(rest);
                    size += taken;
                    rest = &rest[taken..];
                    if whole {
                        sizes.push(size);
                        size = 0;
                    }
                }
            }
            assert_eq!(sizes, lengths.map(|length| length as usize + 5), "{part}");
            assert_eq!(size, 0);
        }
    }
}
