//! The connections of gRPC, bounded: so many at a time, and none that says nothing or takes nothing for long.
//!
//! The library asks silent clients of HTTP/2 whether they are there, but only once they have spoken HTTP/2 at all; and it
//! waits for ever for a client that does not take what it is sent. [`Guarded`] is a stream that fails in both cases,
//! whatever lies below it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpIncoming};

use crate::limits::Limits;
use crate::tls::Peer;

/// What a client sends first: the preface of HTTP/2, and the head of its settings (RFC 9113, sections 3.4 and 4.1).
const BEGINNING: usize = 24 + 9;

/// How long none is accepted after that has failed.
const PAUSE: Duration = Duration::from_millis(50);

/// A stream that fails when the other side does not begin, or does not go on taking, in time.
#[derive(Debug)]
pub struct Guarded<S> {
    inner: S,
    peer: Peer,
    /// What has been read, until it is a beginning.
    read: usize,
    beginning: Option<Pin<Box<Sleep>>>,
    /// Runs while something waits to be written.
    stalled: Option<Pin<Box<Sleep>>>,
    patience: Duration,
    /// One of the connections that there may be.
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S> Guarded<S> {
    /// Guards a stream to somebody. The permit is given back when it is dropped.
    #[must_use]
    pub fn new(inner: S, peer: Peer, limits: &Limits, permit: Option<OwnedSemaphorePermit>) -> Self {
        let beginning = Some(Box::pin(tokio::time::sleep(Duration::from_secs(limits.header_timeout_s))));
        let patience = Duration::from_secs(limits.write_timeout_s);
        Self { inner, peer, read: 0, beginning, stalled: None, patience, _permit: permit }
    }

    /// What became of writing; while nothing is taken, time runs.
    fn written<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if stalled.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(late("the client does not take its answers")));
        }
        Poll::Pending
    }
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        if self.beginning.is_some() {
            self.read = self.read.saturating_add(buffer.filled().len() - before);
            if self.read >= BEGINNING {
                self.beginning = None;
            }
        }
        if let (Poll::Pending, Some(beginning)) = (&result, &mut self.beginning)
            && beginning.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(late("the client says nothing")));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(context);
        self.written(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(context);
        self.written(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S> Connected for Guarded<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// The connections that come to a socket, as they are.
pub fn plain(listener: TcpListener) -> impl Stream<Item = io::Result<(TcpStream, Peer)>> + Unpin {
    TcpIncoming::from(listener).with_nodelay(Some(true)).map(|stream| {
        let stream = stream?;
        let address = stream.peer_addr().ok();
        Ok((stream, Peer { address, identity: None }))
    })
}

/// The streams of `incoming`, guarded, each with who is at its other end. While there are `limits.max_connections`, no further one is accepted.
pub fn guarded<S>(
    incoming: impl Stream<Item = io::Result<(S, Peer)>> + Unpin,
    limits: Limits,
) -> impl Stream<Item = io::Result<Guarded<S>>> {
    let room = Arc::new(Semaphore::new(limits.max_connections));
    futures_util::stream::unfold((incoming, room), move |(mut incoming, room)| async move {
        // The semaphore is never closed.
        let permit = Arc::clone(&room).acquire_owned().await.ok();
        let stream = incoming.next().await?;
        // The system answers at once and again that it has no more descriptors; it may be better in a moment. That a client
        // has gone before it was taken says nothing about the next.
        let gone = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
        };
        if stream.as_ref().is_err_and(|error| !gone(error)) {
            tokio::time::sleep(PAUSE).await;
        }
        let stream = stream.map(|(stream, peer)| Guarded::new(stream, peer, &limits, permit));
        Some((stream, (incoming, room)))
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const NOBODY: Peer = Peer { address: None, identity: None };

    fn limits() -> Limits {
        Limits { header_timeout_s: 1, write_timeout_s: 1, max_connections: 2, ..Limits::default() }
    }

    #[actix_web::test]
    async fn who_does_not_begin_is_not_waited_for() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(&[0; BEGINNING - 1]).await.unwrap();
        let mut guarded = Guarded::new(server, NOBODY, &limits(), None);
        let mut buffer = [0; 64];
        assert_eq!(guarded.read(&mut buffer).await.unwrap(), BEGINNING - 1);
        assert_eq!(guarded.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Once it has begun, silence is HTTP/2's to judge.
        let (mut client, server) = tokio::io::duplex(1024);
        let mut guarded = Guarded::new(server, NOBODY, &limits(), None);
        client.write_all(&[0; BEGINNING]).await.unwrap();
        assert_eq!(guarded.read(&mut buffer).await.unwrap(), BEGINNING);
        let waited = tokio::time::timeout(Duration::from_millis(1500), guarded.read(&mut buffer)).await;
        assert!(waited.is_err(), "{waited:?}");
    }

    #[actix_web::test]
    async fn who_takes_nothing_is_not_waited_for() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut guarded = Guarded::new(server, NOBODY, &limits(), None);
        let error = guarded.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Slow is well, as long as it goes on.
        let taking = async {
            let mut taken = 0;
            while taken < 64 {
                tokio::time::sleep(Duration::from_millis(300)).await;
                taken += client.read(&mut [0; 16]).await.unwrap();
            }
        };
        let (_, server) = tokio::join!(taking, async {
            guarded.stalled = None;
            guarded.write_all(&[0; 48]).await
        });
        server.unwrap();
    }

    #[actix_web::test]
    async fn there_are_so_many_at_a_time() {
        let streams = futures_util::stream::iter((0..3).map(|_| Ok((tokio::io::empty(), NOBODY))));
        let mut accepted = Box::pin(guarded(streams, limits()));
        let first = accepted.next().await.unwrap().unwrap();
        let _second = accepted.next().await.unwrap().unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(100), accepted.next()).await;
        assert!(waiting.is_err());
        drop(first);
        assert!(accepted.next().await.unwrap().is_ok());
    }

    /// Without descriptors accepting fails again and again: that must not take a processor.
    #[actix_web::test]
    async fn who_cannot_accept_waits_a_moment() {
        let (mut failed, began) = (0, std::time::Instant::now());
        let error = || io::Error::from_raw_os_error(24);
        let failing = futures_util::stream::repeat_with(|| Err::<(tokio::io::Empty, Peer), _>(error()));
        let mut accepted = Box::pin(guarded(failing, limits()));
        while began.elapsed() < Duration::from_millis(400) {
            assert!(accepted.next().await.unwrap().is_err());
            failed += 1;
        }
        assert!(failed < 20, "{failed} times");
    }
}
