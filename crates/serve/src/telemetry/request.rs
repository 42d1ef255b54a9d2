//! The beginning and the end of a request: its id, its span, its line in the log, its counters, its trace.

use std::sync::Arc;

use tracing::Span;

use super::Telemetry;
use super::context::{Context, Header};
use super::doors::{Opened, Route};
use super::settings::Access;
use super::spans::Record;
use crate::stats::micros;

/// A request that is being answered. Dropped before it has ended, it ends as one whose client did not wait.
#[derive(Debug)]
pub struct Running {
    telemetry: Arc<Telemetry>,
    context: Arc<Context>,
    span: Span,
    door: Door,
    _open: Option<Opened>,
    ended: bool,
}

/// Where it came in.
#[derive(Clone, Debug)]
enum Door {
    Http(&'static str),
    Grpc(Arc<Route>),
    /// One message of a stream, which is a call already.
    Message(Arc<Route>),
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// Without a status the client was gone.
    Http { method: &'static str, status: Option<u16> },
    /// With a code of gRPC.
    Grpc { code: usize },
}

/// The code of gRPC of what was given up by the client.
const CANCELLED: usize = 1;

impl Outcome {
    /// Whether the server is at fault.
    pub(super) fn is_fault(self) -> bool {
        match self {
            Self::Http { status, .. } => status.is_some_and(|status| status >= 500),
            // Those that OpenTelemetry counts as errors of a server.
            Self::Grpc { code } => matches!(code, 2 | 4 | 12 | 13 | 14 | 15),
        }
    }
}

impl Running {
    /// A request over HTTP begins.
    #[must_use]
    pub fn http<'a>(
        telemetry: &Arc<Telemetry>,
        method: &'static str,
        header: impl Fn(Header) -> Option<&'a str>,
    ) -> Self {
        let open = telemetry.doors.http_open.enter();
        Self::new(telemetry, Door::Http(method), Context::new(header, telemetry.sampler()), Some(open))
    }

    /// A call over gRPC begins.
    #[must_use]
    pub fn grpc<'a>(
        telemetry: &Arc<Telemetry>,
        path: &str,
        header: impl Fn(Header) -> Option<&'a str>,
    ) -> Self {
        let route = Arc::clone(telemetry.doors.grpc(path));
        Self::new(telemetry, Door::Grpc(route), Context::new(header, telemetry.sampler()), None)
    }

    /// A message of a stream begins, whose call had this context.
    #[must_use]
    pub fn message(telemetry: &Arc<Telemetry>, path: &str, call: &Context) -> Self {
        let route = Arc::clone(telemetry.doors.grpc(path));
        Self::new(telemetry, Door::Message(route), call.message(), None)
    }

    fn new(telemetry: &Arc<Telemetry>, door: Door, context: Arc<Context>, open: Option<Opened>) -> Self {
        // Of the highest level, so that an error has it when nothing else is logged.
        let span =
            tracing::error_span!("request", request_id = %context.id(), trace_id = tracing::field::Empty);
        if let Some(trace) = &context.trace {
            span.record("trace_id", tracing::field::display(format_args!("{:032x}", trace.id)));
        }
        Self { telemetry: Arc::clone(telemetry), context, span, door, _open: open, ended: false }
    }

    /// What is known of it.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What the log says of it is said inside this.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// It ends with an answer over HTTP.
    pub fn end_http(mut self, status: u16, bytes: Option<u64>) {
        if let Door::Http(method) = self.door {
            self.end(Outcome::Http { method, status: Some(status) }, bytes);
        }
    }

    /// It ends with a code of gRPC.
    pub fn end_grpc(mut self, code: usize) {
        if !matches!(self.door, Door::Http(_)) {
            self.end(Outcome::Grpc { code }, None);
        }
    }

    fn end(&mut self, outcome: Outcome, bytes: Option<u64>) {
        self.ended = true;
        let took = micros(self.context.began().elapsed());
        let route = match &self.door {
            Door::Http(_) => self.context.noted().route.clone(),
            Door::Grpc(route) | Door::Message(route) => Some(Arc::clone(route)),
        };
        let counted = route.as_ref().unwrap_or(self.telemetry.doors.unmatched());
        match (&self.door, outcome) {
            (Door::Message(_), _) => {}
            (_, Outcome::Http { method, status }) => counted.answered_http(method, status, took),
            (_, Outcome::Grpc { code }) => counted.answered_grpc(code, took),
        }
        self.span.in_scope(|| self.log(route.as_deref().map(Route::name), outcome, bytes, took));
        if self.context.is_sampled()
            && let Some(exporter) = &self.telemetry.exporter
        {
            exporter.send(Record::new(&self.context, route, outcome, self.telemetry.scheme()));
        }
    }

    /// One line, without anything that a client could have written but its own id, which was looked at.
    fn log(&self, route: Option<&str>, outcome: Outcome, bytes: Option<u64>, duration_us: u64) {
        const TARGET: &str = "serve::access";
        let wanted = match self.telemetry.log.access {
            Access::Off => false,
            Access::Info => tracing::enabled!(target: TARGET, tracing::Level::INFO),
            Access::Debug => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
        };
        if !wanted {
            return;
        }
        let noted = self.context.noted();
        let (model, version) = noted.served.as_ref().map(|served| (served.name(), served.version())).unzip();
        let principal = noted.principal.as_ref().map(|principal| principal.name.as_str());
        let rows = Some(noted.rows).filter(|rows| *rows > 0);
        let (protocol, method, status, code) = match outcome {
            Outcome::Http { method, status } => ("http", Some(method), Some(status.unwrap_or(499)), None),
            Outcome::Grpc { code } => ("grpc", None, None, Some(code)),
        };
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: TARGET, protocol, method, route, status, code, duration_us, bytes, model, version, rows,
                    principal, "request"
                )
            };
        }
        match self.telemetry.log.access {
            Access::Off => {}
            Access::Info => line!(info),
            Access::Debug => line!(debug),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.door.clone() {
            Door::Http(method) => self.end(Outcome::Http { method, status: None }, None),
            Door::Grpc(_) | Door::Message(_) => self.end(Outcome::Grpc { code: CANCELLED }, None),
        }
    }
}
