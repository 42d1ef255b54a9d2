//! What a call sends, bounded together with all others and in time: as [`crate::body`] does it for HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;
use tonic::Status;
use tonic::codegen::{Body as HttpBody, Bytes};

use crate::body::{Held, InFlight};

/// The body of a call. What has arrived of it counts as in memory until the call is done with it.
pub struct Bounded {
    inner: tonic::body::Body,
    held: Held,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    /// Bounds a body; without a time it may go on for ever, as streams do.
    #[must_use]
    pub fn new(inner: tonic::body::Body, in_flight: &Arc<InFlight>, within: Option<Duration>) -> Self {
        let deadline = within.map(|within| Box::pin(tokio::time::sleep(within)));
        Self { inner, held: Held::new(in_flight), deadline }
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
                if let (Some(data), Some(_)) = (frame.data_ref(), &self.deadline) {
                    let length = data.len();
                    self.held.grow(length)?;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                if let Some(deadline) = &mut self.deadline
                    && deadline.as_mut().poll(context).is_ready()
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
