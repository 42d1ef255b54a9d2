//! A request that has ended as spans: the request itself, and what its time was spent on.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::context::{Context, Stage};
use super::otlp::{Attribute, ERROR, INTERNAL, SERVER, Span};
use super::request::{Ended, Outcome};
use super::sample;

/// What instants are in the time of day.
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The parent of a span is in another process: bit 9, where bit 8 says that this is known; bit 0 is that it is sampled.
const REMOTE: u32 = 0x301;
/// It is in this one.
const LOCAL: u32 = 0x101;

/// The spans of a request; none where it is not traced.
pub(super) fn of(context: &Context, ended: &Ended<'_>) -> Vec<Span> {
    let Some(trace) = context.trace.as_ref().filter(|_| context.is_sampled()) else { return Vec::new() };
    let clock = Clock::now();
    let noted = context.noted().clone();
    let mut attributes = Vec::new();
    let name = match ended.outcome {
        Outcome::Http { method, status } => {
            attributes.push(Attribute::text("http.request.method", method));
            attributes.extend(ended.route.map(|route| Attribute::text("http.route", route)));
            attributes.push(Attribute::text("url.scheme", "http"));
            match status {
                Some(status) => {
                    attributes.push(Attribute::number("http.response.status_code", u64::from(status)));
                }
                None => attributes.push(Attribute::text("error.type", "client_gone")),
            }
            let method = if method == "_OTHER" { "HTTP" } else { method };
            ended.route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
        }
        Outcome::Grpc { code } => {
            let route = ended.route.unwrap_or_default();
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
    if let Some(served) = &noted.served {
        model.push(Attribute::text("brazier.model.name", served.name()));
        model.push(Attribute::number("brazier.model.version", served.version()));
        attributes.extend(model.iter().cloned());
        if noted.rows > 0 {
            attributes.push(Attribute::number("brazier.rows", noted.rows as u64));
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
        kind: SERVER,
        start: clock.at(context.began()),
        end: clock.nanos,
        attributes,
        status: ended.outcome.is_fault().then_some(ERROR),
        flags: if trace.parent.is_some() { REMOTE } else { LOCAL },
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
    let stages: Vec<Span> = noted.stages.iter().map(stage).collect();
    std::iter::once(request).chain(stages).collect()
}
