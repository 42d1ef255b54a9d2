//! One request as it goes through the server: its ids, and what is learned of it on the way.
//!
//! The middleware of HTTP and the service of gRPC run each request inside a [`Context`], and whoever learns something
//! notes it by the functions here: there is nothing to hand from function to function. Outside of a request they do
//! nothing.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::doors::Route;
use super::sample::{self, Parent, RequestId, Sampler};
use crate::access::principal::{Known, Principal};
use crate::served::{Served, Timing};

tokio::task_local! {
    static CURRENT: Arc<Context>;
}

/// A request.
#[derive(Debug)]
pub struct Context {
    id: RequestId,
    began: Instant,
    /// Its place in a trace, where there are traces.
    pub(super) trace: Option<Trace>,
    noted: Mutex<Noted>,
}

/// A place in a trace.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) id: u128,
    pub(super) span: u64,
    pub(super) parent: Option<u64>,
    /// Whether that is in another process.
    pub(super) remote: bool,
    pub(super) state: String,
    sampled: AtomicBool,
}

/// What is known of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub(super) served: Option<Arc<Served>>,
    pub(super) rows: usize,
    /// Who asks, where that is known.
    pub(super) principal: Option<Arc<Principal>>,
    /// Where it came in, where there is a route.
    pub(super) route: Option<Arc<Route>>,
    pub(super) stages: Vec<Stage>,
}

/// A part of the time of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) start: Instant,
    pub(super) took: Duration,
    /// Rows of the batch.
    pub(super) batch_rows: usize,
}

/// A header that tells how a request is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// `x-request-id`.
    Id,
    /// `traceparent`.
    Parent,
    /// `tracestate`.
    State,
}

/// The most stages of one request that are kept: a long request is computed in many passes.
const STAGES: usize = 64;

impl Context {
    /// A request with these headers, of which `sampler` says whether it is traced.
    pub(super) fn new<'a>(header: impl Fn(Header) -> Option<&'a str>, sampler: Option<Sampler>) -> Arc<Self> {
        let trace = sampler.map(|sampler| {
            let parent = header(Header::Parent).and_then(Parent::read);
            let id = parent.map_or_else(sample::trace_id, |parent| parent.trace);
            let sampled = sampler.takes(id, parent.map(|parent| parent.sampled));
            // What has lost its parent has lost the state that belongs to it.
            let state = parent.and_then(|_| sample::state(header(Header::State)?));
            Trace {
                id,
                span: sample::span_id(),
                parent: parent.map(|parent| parent.span),
                remote: parent.is_some(),
                state: state.unwrap_or("").to_owned(),
                sampled: AtomicBool::new(sampled),
            }
        });
        let id = RequestId::accepted(header(Header::Id));
        Arc::new(Self { id, began: Instant::now(), trace, noted: Mutex::default() })
    }

    /// One message of this, which is a stream.
    pub(super) fn message(&self) -> Arc<Self> {
        let trace = self.trace.as_ref().map(|trace| Trace {
            id: trace.id,
            span: sample::span_id(),
            parent: Some(trace.span),
            remote: false,
            state: trace.state.clone(),
            sampled: AtomicBool::new(trace.sampled.load(Relaxed)),
        });
        let principal = self.noted().principal.clone();
        let noted = Mutex::new(Noted { principal, ..Noted::default() });
        Arc::new(Self { id: self.id.clone(), began: Instant::now(), trace, noted })
    }

    /// What the request is called.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// When it came.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Runs something as a part of this request.
    pub fn scope<F: Future>(self: &Arc<Self>, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(Arc::clone(self), work)
    }

    /// The same of something that does not wait.
    pub fn within<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::clone(self), work)
    }

    pub(super) fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_sampled(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.sampled.load(Relaxed))
    }
}

/// The request that this is a part of.
#[must_use]
pub fn current() -> Option<Arc<Context>> {
    CURRENT.try_with(Arc::clone).ok()
}

fn with(note: impl FnOnce(&Context)) {
    // Outside of a request there is nobody to tell.
    let _ = CURRENT.try_with(|context| note(context));
}

/// Notes which version is asked.
pub fn asks(served: &Arc<Served>) {
    with(|context| context.noted().served = Some(Arc::clone(served)));
}

/// Notes who asks, which whoever brings nothing to be known by does not say.
pub fn principal(who: &Arc<Principal>) {
    if who.known != Known::Anonymous {
        with(|context| context.noted().principal = Some(Arc::clone(who)));
    }
}

/// Notes by which route it came in.
pub fn route(route: &Arc<Route>) {
    with(|context| context.noted().route = Some(Arc::clone(route)));
}

/// Notes that rows were read and preprocessed, which took so long and began then.
pub fn prepared(rows: usize, start: Instant, took: Duration) {
    with(|context| {
        let mut noted = context.noted();
        noted.rows += rows;
        if context.is_sampled() {
            noted.push(Stage { name: "preprocess", start, took, batch_rows: 0 });
        }
    });
}

/// Notes how the time of an answer was spent that was asked for at `start`.
pub fn answered(start: Instant, timing: &Timing) {
    with(|context| {
        if !context.is_sampled() {
            return;
        }
        let mut noted = context.noted();
        let batch_rows = timing.batch_rows;
        // Without a batch the response cache answered.
        if batch_rows == 0 {
            return noted.push(Stage { name: "cache", start, took: start.elapsed(), batch_rows });
        }
        noted.push(Stage { name: "queue", start, took: timing.queue, batch_rows: 0 });
        let took = timing.compute_input + timing.compute_infer + timing.compute_output;
        noted.push(Stage { name: "compute", start: start + timing.queue, took, batch_rows });
    });
}

/// Has this request traced, whatever the sampler says, where there are traces.
pub fn trace() {
    with(|context| {
        if let Some(trace) = &context.trace {
            trace.sampled.store(true, Relaxed);
        }
    });
}

impl Noted {
    fn push(&mut self, stage: Stage) {
        if self.stages.len() < STAGES {
            self.stages.push(stage);
        }
    }
}
