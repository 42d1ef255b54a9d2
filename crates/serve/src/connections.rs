//! The connections of HTTP, watched: how many there are, and that none is held by a client that neither sends nor takes
//! anything.
//!
//! The library bounds the time for the head of a connection's *first* request, and for an idle connection on which
//! nothing arrives. It does not bound the head of a later request, nor a client that does not take its answer. So each
//! connection has a `Watched` entry, requests note in it how far they are, and [`watch`] ends those that take too
//! long, by closing their sockets, upon which the library drops what belongs to them. Long answers are handed over in
//! parts, for two reasons: the client's progress can be seen, and no second copy of the whole lies in a buffer.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::rt;
use actix_web::web::Bytes;

use crate::limits::Limits;
use crate::memory::Memory;
use crate::tls::HttpStream;

/// Bytes of an answer that are handed over at a time. A client has `limits.write_timeout_s` for each.
pub const PART: usize = 64 << 10;

/// How often connections are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The connections that there are now.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Watched>>>,
    next: AtomicU64,
    ended: AtomicU64,
    count: AtomicUsize,
    began: Instant,
    idle: Duration,
    stalled: Duration,
    most: usize,
    memory: Arc<Memory>,
}

/// How far the requests of one connection are.
#[derive(Debug)]
struct Watched {
    /// The socket, a second time: it can be closed from here.
    socket: TcpStream,
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// Long answers that are being sent.
    sending: AtomicUsize,
    /// When something was last seen of it, in milliseconds.
    seen: AtomicU64,
}

/// A connection's entry; dropped with the connection.
#[derive(Debug)]
pub struct Entry {
    number: u64,
    watched: Arc<Watched>,
    connections: Arc<Connections>,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: &Limits, memory: &Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            began: Instant::now(),
            // The library ends those on which nothing arrives; here are those on which a head arrives too slowly.
            idle: Duration::from_secs(limits.keep_alive_s + limits.header_timeout_s),
            stalled: Duration::from_secs(limits.write_timeout_s),
            most: limits.max_connections,
            memory: Arc::clone(memory),
        })
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many were ended because their clients took too long.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether nearly all that may be open are, or memory runs short: then none is kept for later requests.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.memory.is_tight() || self.count().saturating_mul(10) > self.most.saturating_mul(9)
    }

    /// Watches a connection; nothing when the system has no more descriptors, and then the connection goes on without.
    #[must_use]
    pub fn add(self: &Arc<Self>, socket: &impl AsFd) -> Option<Entry> {
        let socket = match socket.as_fd().try_clone_to_owned() {
            Ok(descriptor) => TcpStream::from(descriptor),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be watched");
                return None;
            }
        };
        let (busy, sending) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let watched = Arc::new(Watched { socket, busy, sending, seen: AtomicU64::new(self.now()) });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, Arc::clone(&watched));
        Some(Entry { number, watched, connections: Arc::clone(self) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Watched>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Looks at the memory, and ends the connections whose clients take too long.
    fn look(&self) {
        self.memory.look();
        let now = self.now();
        for watched in self.lock().values() {
            let silent = Duration::from_millis(now.saturating_sub(watched.seen.load(Ordering::Acquire)));
            let limit = match (watched.sending.load(Ordering::Acquire), watched.busy.load(Ordering::Acquire))
            {
                (0, 0) => self.idle,
                (0, _) => continue,
                _ => self.stalled,
            };
            if silent > limit {
                // It may have ended in this moment; then there is nothing to end.
                let _ = watched.socket.shutdown(Shutdown::Both);
                watched.seen.store(u64::MAX, Ordering::Release);
                self.ended.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(
                    seconds = silent.as_secs(),
                    "a connection was ended: its client takes too long"
                );
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.number);
        self.connections.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks at the connections as long as it is polled.
pub async fn watch(connections: Arc<Connections>) {
    loop {
        rt::time::sleep(LOOK).await;
        connections.look();
    }
}

/// What the server calls with each new connection.
pub fn on_connect(
    connections: Arc<Connections>,
) -> impl Fn(&dyn Any, &mut Extensions) + Send + Clone + 'static {
    move |io, extensions| {
        let encrypted = || io.downcast_ref::<HttpStream>().map(|stream| stream.get_ref().0);
        let socket = io.downcast_ref::<rt::net::TcpStream>().or_else(encrypted);
        if let Some(entry) = socket.and_then(|socket| connections.add(socket)) {
            extensions.insert(entry);
        }
    }
}

/// A request from its head to the beginning of its answer.
#[derive(Debug)]
pub struct Busy {
    watched: Arc<Watched>,
    connections: Arc<Connections>,
}

impl Busy {
    /// Notes that a request has come; nothing where its connection is not watched.
    #[must_use]
    pub fn begin(request: &ServiceRequest) -> Option<Self> {
        let entry = request.conn_data::<Entry>()?;
        entry.watched.busy.fetch_add(1, Ordering::AcqRel);
        Some(Self { watched: Arc::clone(&entry.watched), connections: Arc::clone(&entry.connections) })
    }

    /// Notes that the answer is there, and has a long one sent in parts.
    #[must_use]
    pub fn answer<B: MessageBody + 'static>(
        self,
        response: ServiceResponse<B>,
    ) -> ServiceResponse<EitherBody<B, BoxBody>> {
        let crowded = self.connections.is_crowded();
        let mut response = response.map_body(|_, body| match body.size() {
            BodySize::Sized(length) if length > PART as u64 => match body.try_into_bytes() {
                Ok(bytes) => EitherBody::right(BoxBody::new(Parts::new(bytes, &self))),
                Err(body) => EitherBody::left(body),
            },
            _ => EitherBody::left(body),
        });
        if crowded {
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.watched.seen.store(self.connections.now(), Ordering::Release);
        self.watched.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A long answer that is taken part by part.
#[derive(Debug)]
struct Parts {
    rest: Bytes,
    watched: Arc<Watched>,
    connections: Arc<Connections>,
}

impl Parts {
    fn new(rest: Bytes, busy: &Busy) -> Self {
        busy.watched.seen.store(busy.connections.now(), Ordering::Release);
        busy.watched.sending.fetch_add(1, Ordering::AcqRel);
        Self { rest, watched: Arc::clone(&busy.watched), connections: Arc::clone(&busy.connections) }
    }
}

impl MessageBody for Parts {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        // Asked for when the parts before have gone.
        self.watched.seen.store(self.connections.now(), Ordering::Release);
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PART);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.watched.seen.store(self.connections.now(), Ordering::Release);
        self.watched.sending.fetch_sub(1, Ordering::AcqRel);
    }
}
