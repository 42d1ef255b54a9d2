//! What the server tells of its requests: a line in the log, an id, counters, and spans for a collector.
//!
//! One middleware for HTTP ([`http`]) and one for gRPC ([`grpc`]) begin and end a request ([`Running`]). What is learned
//! of it on the way is noted in its [`Context`] by [`route`], [`principal`], [`asks`], [`prepared`] and [`answered`], from
//! wherever it is known. Metrics are made elsewhere ([`crate::metrics`]), from the counters here and those of the models.
//!
//! Nothing of it can fail or delay a request: counting is an atomic, and spans go to a bounded queue.

mod context;
mod doors;
mod export;
pub mod grpc;
pub mod http;
mod otlp;
mod request;
mod sample;
mod settings;
mod spans;

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use self::context::{Context, Header, answered, asks, current, prepared, principal, route, trace};
pub use self::doors::{CLASSES, Doors, GRPC_CODES, HTTP_METHODS, Loads, Open, Opened, Route, UNMATCHED};
use self::export::Exporter;
pub use self::export::Spans;
pub use self::request::Running;
use self::sample::Sampler;
pub use self::sample::{RequestId, SamplerKind};
pub use self::settings::{Access, Fault, Format, LogConfig, MetricsConfig, TraceConfig, from_environment};

/// What the server tells of its requests, and where it counts them.
#[derive(Debug)]
pub struct Telemetry {
    /// What came in, and how it was answered.
    pub doors: Doors,
    log: LogConfig,
    exporter: Option<Exporter>,
    encrypted: bool,
    began: Instant,
    /// The same in seconds since 1970.
    began_at: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            doors: Doors::default(),
            log: LogConfig::default(),
            exporter: None,
            encrypted: false,
            began: Instant::now(),
            began_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Telemetry {
    /// With these settings, which have no faults ([`TraceConfig::fault`]).
    ///
    /// # Errors
    /// When the system gives no thread for traces.
    pub fn new(log: LogConfig, trace: &TraceConfig) -> std::io::Result<Self> {
        let exporter = trace.endpoint.as_deref().map(|url| Exporter::start(url, trace)).transpose()?;
        Ok(Self { log, exporter, ..Self::default() })
    }

    /// The same of a server whose connections are encrypted, or not.
    #[must_use]
    pub fn encrypted(self, encrypted: bool) -> Self {
        Self { encrypted, ..self }
    }

    /// What addresses of the server begin with.
    fn scheme(&self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }

    /// Who decides what is traced, where there are traces.
    fn sampler(&self) -> Option<Sampler> {
        self.exporter.as_ref().map(Exporter::sampler)
    }

    /// Whether there is a collector.
    #[must_use]
    pub fn exports(&self) -> bool {
        self.exporter.is_some()
    }

    /// What became of the spans so far.
    #[must_use]
    pub fn spans(&self) -> Spans {
        self.exporter.as_ref().map(Exporter::counts).unwrap_or_default()
    }

    /// Sends the spans that wait, and waits for that no longer than this. It blocks.
    pub fn flush(&self, within: Duration) {
        if let Some(exporter) = &self.exporter {
            exporter.flush(within);
        }
    }

    /// How long the server has run.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// When it started, in seconds since 1970.
    #[must_use]
    pub fn began(&self) -> f64 {
        self.began_at
    }

    /// Logs the beginning of a body, where that is asked for. `direction` is `request` or `answer`.
    pub fn payload(&self, direction: &'static str, body: &[u8]) {
        if !self.log.payloads {
            return;
        }
        let shown = body.get(..self.log.payload_bytes).unwrap_or(body);
        let payload = String::from_utf8_lossy(shown);
        tracing::info!(target: "serve::payload", direction, bytes = body.len(), payload = &*payload, "payload");
    }

    /// The same of a message of gRPC, as it is read.
    pub fn message(&self, direction: &'static str, message: &impl std::fmt::Debug) {
        if !self.log.payloads {
            return;
        }
        let mut payload = Limited { text: String::new(), most: self.log.payload_bytes };
        // It ends with an error when it is full, which is what it is for.
        let _ = write!(payload, "{message:?}");
        tracing::info!(target: "serve::payload", direction, payload = payload.text, "payload");
    }
}

/// Text up to a length; what comes beyond is not even made.
struct Limited {
    text: String,
    most: usize,
}

impl std::fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.most - self.text.len();
        let fits = text.floor_char_boundary(room.min(text.len()));
        self.text.push_str(text.get(..fits).unwrap_or_default());
        if fits < text.len() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_where_it_must() {
        let mut limited = Limited { text: String::new(), most: 5 };
        assert!(write!(limited, "{:?} é", "ä").is_err());
        assert_eq!(limited.text, "\"ä\" ");
    }
}
