//! Everything that an operator looks at, at one moment: what the operator's page shows.
//!
//! Counters grow from the moment a version was loaded, and latencies are histograms; whoever wants rates and quantiles
//! of the last seconds asks twice and takes the difference, as the page does.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use artifact::Selector;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::access::principal::{Principal, Scope};
use crate::drift::{self, DriftSummary};
use crate::metrics;
use crate::served::Served;
use crate::state::{Model, State};
use crate::stats::Buckets;

/// The server.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Operations {
    /// The version of the program.
    pub server: &'static str,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// Why it is not ready; nothing when it is.
    pub fault: Option<String>,
    /// Whether whoever asks may change anything.
    pub changes_allowed: bool,
    /// Bytes of the process in memory, where the system tells.
    pub resident_bytes: Option<u64>,
    /// Bytes of requests in memory.
    pub in_flight_bytes: u64,
    /// By name.
    pub models: Vec<OperatedModel>,
}

/// One model.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OperatedModel {
    /// Its name.
    pub name: String,
    /// The version that answers where a request names none and the traffic is not split.
    pub default: Option<u64>,
    /// The version that each alias points at.
    pub aliases: BTreeMap<String, u64>,
    /// As `GET /v2/repository/models/{name}/traffic` tells it.
    pub traffic: Option<Value>,
    /// By number.
    pub versions: Vec<OperatedVersion>,
}

/// One version.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OperatedVersion {
    /// Its number.
    pub version: u64,
    /// `loading`, `ready`, `unloading`, `failed` or `unloaded`.
    pub state: &'static str,
    /// Why it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it has done, where it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Whether what it meets has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftSummary>,
}

/// What a version has done since it was loaded.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Work {
    /// What runs it.
    pub platform: String,
    /// Requests that were answered.
    pub succeeded: u64,
    /// Requests that were not.
    pub failed: u64,
    /// Of those: the queue was full.
    pub rejected: u64,
    /// Of those: their time was up.
    pub expired: u64,
    /// Requests whose client went away.
    pub cancelled: u64,
    /// Requests that the response cache answered.
    pub cached: u64,
    /// Rows of the requests that were answered.
    pub rows: u64,
    /// Batches that were computed.
    pub batches: u64,
    /// Requests that wait now.
    pub waiting_requests: u64,
    /// Their rows.
    pub waiting_rows: u64,
    /// From the queue to the answer.
    pub latency: Histogram,
    /// In the queue.
    pub queue: Histogram,
    /// Of a batch, in the model.
    pub compute: Histogram,
}

/// How many durations were how long.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Histogram {
    /// How many there were.
    pub count: u64,
    /// Their sum in microseconds.
    pub sum_us: u64,
    /// The longest duration of each bucket in microseconds, and how many were in it or a shorter one.
    pub buckets: Vec<(u64, u64)>,
}

impl From<Buckets> for Histogram {
    fn from(Buckets { cumulative, count, sum }: Buckets) -> Self {
        Self { count, sum_us: sum, buckets: cumulative }
    }
}

/// Everything that somebody may see, now.
#[must_use]
pub fn now(state: &State, who: &Principal) -> Operations {
    let catalog = state.catalog();
    let models = catalog.models.iter().filter(|(name, _)| who.may_see(name));
    Operations {
        server: env!("CARGO_PKG_VERSION"),
        uptime_s: state.telemetry.uptime().as_secs_f64(),
        fault: state.fault(),
        changes_allowed: who.scopes.allows(Scope::Admin),
        resident_bytes: metrics::resident_bytes(),
        in_flight_bytes: state.in_flight.bytes() as u64,
        models: models.map(|(name, model)| operated(state, name, model)).collect(),
    }
}

fn operated(state: &State, name: &str, model: &Model) -> OperatedModel {
    let versions = model.versions.iter().map(|(&number, version)| OperatedVersion {
        version: number,
        state: version.state(),
        reason: model.reasons.get(&number).cloned(),
        work: version.served().map(|served| work(served)),
        drift: version.served().map(|served| drift::summary(&state.drift, served)),
    });
    OperatedModel {
        name: name.to_owned(),
        default: model.number(name, &Selector::Default).ok(),
        aliases: model.aliases.clone(),
        traffic: state.traffic().and_then(|traffic| traffic.view(state, name).ok()),
        versions: versions.collect(),
    }
}

fn work(served: &Served) -> Work {
    let stats = served.stats();
    let (waiting_requests, waiting_rows) = served.waiting();
    Work {
        platform: served.platform().to_owned(),
        succeeded: stats.success.total().count,
        failed: stats.fail.total().count,
        rejected: stats.rejected.load(Relaxed),
        expired: stats.expired.load(Relaxed),
        cancelled: stats.cancelled.load(Relaxed),
        cached: stats.cache_hit.total().count,
        rows: stats.inferences.load(Relaxed),
        batches: stats.batches.load(Relaxed),
        waiting_requests: waiting_requests as u64,
        waiting_rows: waiting_rows as u64,
        latency: stats.latency.buckets().into(),
        queue: stats.queue_latency.buckets().into(),
        compute: stats.infer_latency.buckets().into(),
    }
}
