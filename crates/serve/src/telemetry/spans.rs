//! A request that has ended as spans: the request itself, and what its time was spent on.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::context::{Context, Stage};
use super::doors::Route;
use super::otlp::{Attribute, ERROR, INTERNAL, SERVER, Span};
use super::request::Outcome;
use super::sample;
use crate::stats::nanos;

/// What instants are in the time of day.
#[derive(Debug)]
struct Clock {
    instant: Instant,
    nanos: u64,
}

impl Clock {
    fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), nanos: nanos(now) }
    }

    fn at(&self, instant: Instant) -> u64 {
        self.nanos.saturating_sub(nanos(self.instant.saturating_duration_since(instant)))
    }
}

/// The parent of a span is in another process: bit 9, where bit 8 says that this is known; bit 0 is that it is sampled.
const REMOTE: u32 = 0x301;
/// It is in this one.
const LOCAL: u32 = 0x101;

/// A request that has ended and is traced, with what its spans are made of. They are made where nobody waits.
#[derive(Debug)]
pub(super) struct Record {
    context: Arc<Context>,
    /// The pattern of the path, where there is a route; the service and method of gRPC.
    route: Option<Arc<Route>>,
    outcome: Outcome,
    /// `http` or `https`.
    scheme: &'static str,
    /// By name and version: a record that waits must not keep a model in memory.
    model: Option<(String, u64)>,
    rows: usize,
    stages: Vec<Stage>,
    clock: Clock,
}

impl Record {
    /// Of a request that ends now.
    pub(super) fn new(
        context: &Arc<Context>,
        route: Option<Arc<Route>>,
        outcome: Outcome,
        scheme: &'static str,
    ) -> Self {
        let mut noted = context.noted();
        let model = noted.served.take().map(|served| (served.name().to_owned(), served.version()));
        let (rows, stages) = (noted.rows, std::mem::take(&mut noted.stages));
        drop(noted);
        let context = Arc::clone(context);
        Self { context, route, outcome, scheme, model, rows, stages, clock: Clock::now() }
    }

    /// How many spans it becomes.
    pub(super) fn spans(&self) -> usize {
        1 + self.stages.len()
    }
}

/// The spans of a request.
pub(super) fn of(record: &Record) -> Vec<Span> {
    let Record { context, outcome, clock, .. } = record;
    let Some(trace) = &context.trace else { return Vec::new() };
    let route = record.route.as_ref().map(|route| route.name());
    let mut attributes = Vec::new();
    let name = match *outcome {
        Outcome::Http { method, status } => {
            attributes.push(Attribute::text("http.request.method", method));
            attributes.extend(route.map(|route| Attribute::text("http.route", route)));
            attributes.push(Attribute::text("url.scheme", record.scheme));
            match status {
                Some(status) => {
                    attributes.push(Attribute::number("http.response.status_code", u64::from(status)));
                }
                None => attributes.push(Attribute::text("error.type", "client_gone")),
            }
            let method = if method == "_OTHER" { "HTTP" } else { method };
            route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
        }
        Outcome::Grpc { code } => {
            let route = route.unwrap_or_default();
            let (service, method) = route.split_once('/').unwrap_or((route, ""));
            attributes.push(Attribute::text("rpc.system", "grpc"));
            attributes.push(Attribute::text("rpc.service", service));
            attributes.push(Attribute::text("rpc.method", method));
            attributes.push(Attribute::number("rpc.grpc.status_code", code as u64));
            route.to_owned()
        }
    };
    attributes.push(Attribute::text("brazier.request.id", context.id().as_str()));
    let mut model = Vec::new();
    if let Some((name, version)) = &record.model {
        model.push(Attribute::text("brazier.model.name", name.as_str()));
        model.push(Attribute::number("brazier.model.version", *version));
        attributes.extend(model.iter().cloned());
        if record.rows > 0 {
            attributes.push(Attribute::number("brazier.rows", record.rows as u64));
        }
    }
    let base = Span {
        trace_id: trace.id.to_be_bytes().to_vec(),
        trace_state: trace.state.clone(),
        ..Span::default()
    };
    let request = Span {
        span_id: trace.span.to_be_bytes().to_vec(),
        parent_span_id: trace.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        name,
        kind: if trace.parent.is_none() || trace.remote { SERVER } else { INTERNAL },
        start: clock.at(context.began()),
        end: clock.nanos,
        attributes,
        status: outcome.is_fault().then_some(ERROR),
        flags: if trace.remote { REMOTE } else { LOCAL },
        ..base.clone()
    };
    let stage = |stage: &Stage| {
        let mut attributes = model.clone();
        if stage.batch_rows > 0 {
            attributes.push(Attribute::number("brazier.batch.rows", stage.batch_rows as u64));
        }
        Span {
            span_id: sample::span_id().to_be_bytes().to_vec(),
            parent_span_id: request.span_id.clone(),
            name: stage.name.to_owned(),
            kind: INTERNAL,
            start: clock.at(stage.start),
            end: clock.at(stage.start + stage.took),
            attributes,
            flags: LOCAL,
            ..base.clone()
        }
    };
    let stages: Vec<Span> = record.stages.iter().map(stage).collect();
    std::iter::once(request).chain(stages).collect()
}
