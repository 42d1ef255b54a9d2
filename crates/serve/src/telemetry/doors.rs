//! What came in through HTTP and through gRPC, and how it was answered: counters by route. There are as many as there
//! are routes, whatever clients ask for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::stats::{Histogram, LATENCY_US, LOAD_MS};

/// What is counted of both.
#[derive(Debug)]
pub struct Doors {
    http: Mutex<BTreeMap<String, Arc<Route>>>,
    /// Requests that ask for nothing there is.
    unmatched: Arc<Route>,
    grpc: Vec<Arc<Route>>,
    /// Calls of what is no method.
    grpc_unmatched: Arc<Route>,
    /// Requests that are being answered.
    pub http_open: Open,
    /// Calls whose answers are not all handed over.
    pub grpc_open: Open,
    /// How loading models went.
    pub loads: Loads,
}

/// How many there are at the moment.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<AtomicU64>);

/// One of those; it counts until it is dropped.
#[derive(Debug)]
pub struct Opened(Arc<AtomicU64>);

impl Open {
    /// One more.
    #[must_use]
    pub fn enter(&self) -> Opened {
        self.0.fetch_add(1, Relaxed);
        Opened(Arc::clone(&self.0))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// How loading models went, over all of them.
#[derive(Debug)]
pub struct Loads {
    /// Versions that were loaded.
    pub succeeded: AtomicU64,
    /// Versions that could not be.
    pub failed: AtomicU64,
    /// Milliseconds that either took.
    pub took: Histogram<11>,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    name: String,
    /// By method and code ([`HTTP_METHODS`], [`CLASSES`]), or by code alone.
    answers: Vec<AtomicU64>,
    /// Microseconds from the head of the request to that of the answer.
    pub latency: Histogram<16>,
}

/// The methods of HTTP that are told apart.
pub const HTTP_METHODS: [&str; 4] = ["GET", "HEAD", "POST", "other"];

/// The statuses of HTTP, by class. What a client did not wait for has no status: it is of the class `gone`.
pub const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "gone"];

/// The codes of gRPC, in their order.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What is asked for that is not there.
pub const UNMATCHED: &str = "unmatched";

/// Every method of the services that there are.
const GRPC_METHODS: [&str; 18] = [
    "inference.GRPCInferenceService/ServerLive",
    "inference.GRPCInferenceService/ServerReady",
    "inference.GRPCInferenceService/ServerMetadata",
    "inference.GRPCInferenceService/ModelReady",
    "inference.GRPCInferenceService/ModelMetadata",
    "inference.GRPCInferenceService/ModelInfer",
    "inference.GRPCInferenceService/ModelStreamInfer",
    "inference.GRPCInferenceService/ModelConfig",
    "inference.GRPCInferenceService/ModelStatistics",
    "inference.GRPCInferenceService/RepositoryIndex",
    "inference.GRPCInferenceService/RepositoryModelLoad",
    "inference.GRPCInferenceService/RepositoryModelUnload",
    "inference.GRPCInferenceService/TraceSetting",
    "inference.GRPCInferenceService/LogSettings",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

impl Default for Doors {
    fn default() -> Self {
        let grpc = |name: &&str| Route::new(name, GRPC_CODES.len());
        Self {
            http: Mutex::default(),
            unmatched: Route::new(UNMATCHED, HTTP_METHODS.len() * CLASSES.len()),
            grpc: GRPC_METHODS.iter().map(grpc).collect(),
            grpc_unmatched: grpc(&UNMATCHED),
            http_open: Open::default(),
            grpc_open: Open::default(),
            loads: Loads {
                succeeded: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                took: Histogram::new(&LOAD_MS),
            },
        }
    }
}

impl Doors {
    /// The counters of a route of HTTP, which is the pattern of a path and never a path that was asked for.
    #[must_use]
    pub fn http(&self, pattern: &str) -> Arc<Route> {
        let mut routes = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Route::new(pattern, HTTP_METHODS.len() * CLASSES.len());
        Arc::clone(routes.entry(pattern.to_owned()).or_insert_with(new))
    }

    /// The counters of what is no route.
    #[must_use]
    pub fn unmatched(&self) -> &Arc<Route> {
        &self.unmatched
    }

    /// The counters of a method of gRPC, by its path.
    #[must_use]
    pub fn grpc(&self, path: &str) -> &Arc<Route> {
        let name = path.strip_prefix('/').unwrap_or(path);
        self.grpc.iter().find(|route| route.name == name).unwrap_or(&self.grpc_unmatched)
    }

    /// All routes of HTTP.
    #[must_use]
    pub fn http_routes(&self) -> Vec<Arc<Route>> {
        let routes = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        routes.values().chain([&self.unmatched]).cloned().collect()
    }

    /// All methods of gRPC.
    pub fn grpc_routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.grpc.iter().chain([&self.grpc_unmatched])
    }
}

impl Loads {
    /// A version was loaded, or could not be, after so long.
    pub fn note(&self, succeeded: bool, took: Duration) {
        let counter = if succeeded { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Relaxed);
        self.took.add(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }
}

impl Route {
    fn new(name: &str, answers: usize) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            answers: (0..answers).map(|_| AtomicU64::new(0)).collect(),
            latency: Histogram::new(&LATENCY_US),
        })
    }

    /// Its name: a pattern of paths, or a service and its method.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts an answer of HTTP; without a status the client went away.
    pub fn answered_http(&self, method: &str, status: Option<u16>, micros: u64) {
        let method = HTTP_METHODS.iter().position(|name| *name == method).unwrap_or(HTTP_METHODS.len() - 1);
        let class = status.map_or(CLASSES.len() - 1, |status| usize::from(status / 100).clamp(1, 5) - 1);
        self.answered(method * CLASSES.len() + class, micros);
    }

    /// Counts an answer of gRPC.
    pub fn answered_grpc(&self, code: usize, micros: u64) {
        // 2 is an unknown code, as that of what is none.
        self.answered(if code < GRPC_CODES.len() { code } else { 2 }, micros);
    }

    fn answered(&self, place: usize, micros: u64) {
        if let Some(counter) = self.answers.get(place) {
            counter.fetch_add(1, Relaxed);
        }
        self.latency.add(micros);
    }

    /// The counts that are not 0, with their places.
    pub fn answers(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.answers.iter().map(|count| count.load(Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0)
    }

    /// The counts of HTTP that are not 0: method, class and count.
    pub fn http_answers(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.answers().filter_map(|(place, count)| {
            let method = HTTP_METHODS.get(place / CLASSES.len())?;
            Some((*method, *CLASSES.get(place % CLASSES.len())?, count))
        })
    }

    /// The counts of gRPC that are not 0: code and count.
    pub fn grpc_answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.answers().filter_map(|(place, count)| Some((*GRPC_CODES.get(place)?, count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_where_they_belong() {
        let doors = Doors::default();
        let route = doors.http("/models/{name}");
        for (method, status) in [("GET", Some(200)), ("GET", Some(204)), ("BREW", Some(418)), ("POST", None)]
        {
            route.answered_http(method, status, 7);
        }
        route.answered_http("HEAD", Some(0), 7);
        let answers: Vec<_> = doors.http("/models/{name}").http_answers().collect();
        assert_eq!(
            answers,
            [("GET", "2xx", 2), ("HEAD", "1xx", 1), ("POST", "gone", 1), ("other", "4xx", 1)]
        );
        assert_eq!(route.latency.buckets().count, 5);
        doors.grpc("/inference.GRPCInferenceService/ModelInfer").answered_grpc(3, 1);
        doors.grpc("/inference.GRPCInferenceService/ModelInfer").answered_grpc(99, 1);
        doors.grpc("/made.up/Name").answered_grpc(12, 1);
        let told: Vec<_> = doors
            .grpc_routes()
            .flat_map(|route| route.grpc_answers().map(|(code, count)| (route.name(), code, count)))
            .collect();
        let infer = "inference.GRPCInferenceService/ModelInfer";
        assert_eq!(
            told,
            [(infer, "UNKNOWN", 1), (infer, "INVALID_ARGUMENT", 1), (UNMATCHED, "UNIMPLEMENTED", 1)]
        );
        let open = doors.http_open.enter();
        assert_eq!(doors.http_open.count(), 1);
        drop(open);
        assert_eq!(doors.http_open.count(), 0);
    }

    #[test]
    fn every_method_of_the_service_is_known() {
        let text = include_str!("../../proto/inference.proto");
        let methods: Vec<&str> =
            text.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()).collect();
        assert!(methods.len() > 10);
        let doors = Doors::default();
        for method in methods {
            let name = format!("inference.GRPCInferenceService/{method}");
            assert_eq!(doors.grpc(&format!("/{name}")).name(), name);
        }
    }
}
