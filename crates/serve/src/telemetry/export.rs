//! Spans on their way to a collector: a bounded queue, and a thread that sends what waits there by OTLP over HTTP.
//!
//! No request waits for any of it. Where the queue is full, spans are dropped; where the collector is away, they are
//! lost; both are counted, and the log says once that the collector is away and once that it is back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use prost::Message as _;

use super::otlp::{Attribute, Export, Exported, Resource, ResourceSpans, Scope, ScopeSpans, Span};
use super::sample::Sampler;
use super::settings::{TraceConfig, pairs};
use super::spans::{self, Record};

/// So many spans are sent at once, at most.
const BATCH: usize = 512;

/// How long the thread lets what comes wait before it looks for more.
const REST: Duration = Duration::from_millis(10);

/// The longest answer of a collector that is read.
const ANSWER: u64 = 64 << 10;

/// What became of the spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// Taken by the collector.
    pub exported: u64,
    /// Not kept, for too many waited.
    pub dropped: u64,
    /// Not taken by the collector.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    /// Spans that wait or are being sent.
    waiting: AtomicUsize,
}

enum Order {
    Request(Record),
    /// Send what there is, and say so.
    Flush(SyncSender<()>),
}

/// The way to the collector.
pub(super) struct Exporter {
    orders: SyncSender<Order>,
    counts: Arc<Counts>,
    most: usize,
    sampler: Sampler,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Starts the thread; it ends with the exporter.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(url: &str, config: &TraceConfig) -> std::io::Result<Self> {
        // A place for each span, and one for the order to send them at the end.
        let (orders, received) = sync_channel(config.queue + 1);
        let counts = Arc::new(Counts::default());
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(config.timeout()))
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment is for the way out, and a collector is near.
            .proxy(None)
            .build()
            .into();
        // Each attribute is there once. The name of the service is a setting of its own.
        let mut resource =
            BTreeMap::from([("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        resource.extend(config.resource.as_deref().and_then(pairs).unwrap_or_default());
        resource.insert("service.name".to_owned(), config.service_name.clone());
        let resource = resource.into_iter().map(|(key, value)| Attribute::text(&key, value)).collect();
        let sender = Sender {
            agent,
            url: url.to_owned(),
            headers: config.headers.as_deref().and_then(pairs).unwrap_or_default(),
            resource,
            counts: Arc::clone(&counts),
            away: false,
        };
        let delay = Duration::from_millis(config.delay_ms);
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || sender.run(&received, delay))?;
        Ok(Self { orders, counts, most: config.queue, sampler: config.sampler() })
    }

    /// Says which requests are traced.
    pub(super) fn sampler(&self) -> Sampler {
        self.sampler
    }

    /// Has the spans of a request made and sent, or drops them.
    pub(super) fn send(&self, request: Record) {
        let count = request.spans();
        let waiting = self.counts.waiting.fetch_add(count, Relaxed) + count;
        if waiting > self.most || self.orders.try_send(Order::Request(request)).is_err() {
            self.counts.waiting.fetch_sub(count, Relaxed);
            self.counts.dropped.fetch_add(count as u64, Relaxed);
        }
    }

    /// Sends what waits, and waits for that no longer than this.
    pub(super) fn flush(&self, within: Duration) {
        let (done, wait) = sync_channel(1);
        if self.orders.try_send(Order::Flush(done)).is_ok() {
            // Who is not done by then loses spans, which is what the limit is for.
            let _ = wait.recv_timeout(within);
        }
    }

    pub(super) fn counts(&self) -> Spans {
        let Counts { exported, dropped, failed, .. } = &*self.counts;
        Spans {
            exported: exported.load(Relaxed),
            dropped: dropped.load(Relaxed),
            failed: failed.load(Relaxed),
        }
    }
}

struct Sender {
    agent: ureq::Agent,
    url: String,
    headers: Vec<(String, String)>,
    resource: Vec<Attribute>,
    counts: Arc<Counts>,
    /// Whether the log has said that the collector is away.
    away: bool,
}

impl Sender {
    fn run(mut self, received: &Receiver<Order>, delay: Duration) {
        const LONG: Duration = Duration::from_secs(3600);
        let mut batch = Vec::new();
        let mut due: Option<Instant> = None;
        loop {
            let wait = due.map_or(LONG, |due| due.saturating_duration_since(Instant::now()));
            match received.recv_timeout(wait) {
                Ok(Order::Request(request)) => {
                    batch.extend(spans::of(&request));
                    due.get_or_insert_with(|| Instant::now() + delay);
                    if batch.len() < BATCH {
                        // Waking a thread is a call of the system. Who sends meanwhile has none to make.
                        std::thread::sleep(REST.min(delay));
                        continue;
                    }
                    self.send(&mut batch);
                }
                Ok(Order::Flush(done)) => {
                    self.send(&mut batch);
                    // Nobody may wait any more.
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => self.send(&mut batch),
                Err(RecvTimeoutError::Disconnected) => return self.send(&mut batch),
            }
            due = None;
        }
    }

    /// Sends all of it, in pieces that a collector takes.
    fn send(&mut self, batch: &mut Vec<Span>) {
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH));
            let spans = std::mem::replace(batch, rest);
            let count = spans.len() as u64;
            let lost = match self.post(spans) {
                Ok(rejected) => {
                    if std::mem::take(&mut self.away) {
                        tracing::info!("traces: the collector takes spans again");
                    }
                    rejected.min(count)
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.away, true) {
                        tracing::warn!(
                            error,
                            "traces: the collector does not take spans; they are lost meanwhile"
                        );
                    }
                    count
                }
            };
            self.counts.failed.fetch_add(lost, Relaxed);
            self.counts.exported.fetch_add(count - lost, Relaxed);
            self.counts.waiting.fetch_sub(usize::try_from(count).unwrap_or(usize::MAX), Relaxed);
        }
    }

    /// Sends one message; returns how many spans of it were rejected.
    fn post(&self, spans: Vec<Span>) -> Result<u64, String> {
        let scope = Scope { name: "brazier".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scopes = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource = Resource { attributes: self.resource.clone() };
        let message = Export { resources: vec![ResourceSpans { resource: Some(resource), scopes }] };
        let mut request = self.agent.post(&self.url).header("content-type", "application/x-protobuf");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response =
            request.send(message.encode_to_vec().as_slice()).map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status()));
        }
        // Without a readable answer it took them all, for it said that it is well.
        let body = response.body_mut().with_config().limit(ANSWER).read_to_vec().unwrap_or_default();
        let partial = Exported::decode(body.as_slice()).unwrap_or_default().partial;
        Ok(partial.map_or(0, |partial| u64::try_from(partial.rejected).unwrap_or(0)))
    }
}
