//! What a call sends, bounded together with all others and in time: as [`crate::body`] does it for HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::codegen::{Body as HttpBody, Bytes};

use crate::body::{Held, InFlight};
use crate::limits::Limits;
use crate::telemetry::Opened;

/// The body of a call. What has arrived of it counts as in memory until the call is done with it.
pub struct Bounded {
    inner: tonic::body::Body,
    held: Held,
    deadline: Option<Deadline>,
}

/// When the next part must have come.
struct Deadline {
    limits: Limits,
    began: Instant,
    received: usize,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    fn new(limits: Limits) -> Self {
        let began = Instant::now();
        let sleep = Box::pin(tokio::time::sleep_until(began + limits.body_patience(0)));
        Self { limits, began, received: 0, sleep }
    }

    fn advance(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes);
        let until = self.began + self.limits.body_patience(self.received);
        if until > self.sleep.deadline() {
            self.sleep.as_mut().reset(until);
        }
    }
}

impl Bounded {
    /// Bounds a body; without limits in time it may go on for ever, as streams do.
    #[must_use]
    pub fn new(inner: tonic::body::Body, in_flight: &Arc<InFlight>, in_time: Option<Limits>) -> Self {
        Self { inner, held: Held::new(in_flight), deadline: in_time.map(Deadline::new) }
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
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                // A stream is read message by message, so what it sent in all is not in memory.
                if let (Some(length), true) = (frame.data_ref().map(Bytes::len), self.deadline.is_some()) {
                    self.held.grow(length)?;
                    self.deadline.iter_mut().for_each(|deadline| deadline.advance(length));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                if let Some(deadline) = &mut self.deadline
                    && deadline.sleep.as_mut().poll(context).is_ready()
                {
                    return Poll::Ready(Some(Err(Status::deadline_exceeded(
                        "the message did not arrive in time",
                    ))));
                }
                Poll::Pending
            }
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
