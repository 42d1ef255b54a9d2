//! The application over a temporary registry, and the requests of the tests.

use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::{Method, StatusCode};
use actix_web::test;
use actix_web::web::{Bytes, Data};
use serde_json::Value;
use serve::config::Limits;
use serve::front::Front;
use serve::load::Options;
use serve::pool::Pool;
use serve::scheduler::{Scheduler, SchedulerOptions};
use serve::state::State;
use serve::{app, load};

use crate::registry::{Models, digits, flowers, prices};

/// The state of a server over these models, loaded.
pub(crate) fn state(models: &Models, default: Option<&str>, limits: Limits) -> Data<State> {
    state_with(models, default, limits, &Options::default())
}

/// As [`state`], with the models somewhere else or in another precision.
pub(crate) fn state_with(
    models: &Models,
    default: Option<&str>,
    limits: Limits,
    options: &Options,
) -> Data<State> {
    let state = Data::new(State::new(Pool::new(2, 8).unwrap(), scheduler(), limits));
    let default = default.map(|name| name.parse().unwrap());
    load::discover(&state, &models.open(), default).unwrap();
    load::load(&state, &models.open(), options).unwrap();
    state
}

/// The state of a server without models.
pub(crate) fn idle(scheduler: Scheduler) -> State {
    State::new(Pool::new(2, 64).unwrap(), scheduler, Limits::default())
}

/// As [`idle`], with a front of the test's own.
pub(crate) fn empty_state(front: Front) -> State {
    idle(scheduler()).with_front(front)
}

/// Two compute workers and the defaults.
pub(crate) fn scheduler() -> Scheduler {
    Scheduler::new(SchedulerOptions { workers: 2, ..SchedulerOptions::default() }).unwrap()
}

/// `digits` with versions 1 and 2 (1 is in production), `flowers` and `prices`.
pub(crate) fn three_models() -> Models {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish("digits", &digits(), 2);
    models.open().promote("digits", 1, "production").unwrap();
    models.publish("flowers", &flowers(), 3);
    models.publish("prices", &prices(), 4);
    models
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), headers: vec![], body: Bytes::new() }
    }

    pub(crate) fn post(path: &str, content_type: &str, body: impl Into<Bytes>) -> Self {
        let ask = Self { method: Method::POST, body: body.into(), ..Self::get(path) };
        if content_type.is_empty() { ask } else { ask.header("content-type", content_type) }
    }

    pub(crate) fn json(path: &str, body: impl ToString) -> Self {
        Self::post(path, "application/json", body.to_string())
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Enough of it to recognise.
    pub(crate) fn shown(&self) -> String {
        let body = self.body.slice(..self.body.len().min(100));
        format!("{} {:.100} {:?} {body:?}", self.method, self.path, self.headers)
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: actix_web::http::header::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends one request to a new application over the state.
pub(crate) async fn ask(state: &Data<State>, ask: Ask) -> Answer {
    let application = test::init_service(app::new(state.clone(), app::endpoints)).await;
    let mut request = test::TestRequest::with_uri(&ask.path).method(ask.method.clone());
    // The payload sets a content length, which a header of the test may contradict.
    request = request.set_payload(ask.body);
    for (name, value) in &ask.headers {
        request = request.insert_header((name.as_str(), value.as_str()));
    }
    let response = test::call_service(&application, request.to_request()).await;
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, body: test::read_body(response).await }
}

/// A request that must be refused with `status` and an error that contains `part`.
pub(crate) struct Refusal(pub(crate) Ask, pub(crate) u16, pub(crate) &'static str);

/// Sends each request and checks the refusal; afterwards the server must still be alive.
pub(crate) async fn check_refusals(state: &Data<State>, refusals: Vec<Refusal>) {
    static CHECKED: AtomicUsize = AtomicUsize::new(0);
    for Refusal(request, status, part) in refusals {
        let shown = request.shown();
        let answer = ask(state, request).await;
        assert_eq!(answer.status.as_u16(), status, "{shown}: {answer:?}");
        let error = answer.error();
        assert!(error.contains(part), "{shown}: {error}");
        for secret in ["/tmp", "weights.bpk", "manifest.json", "panicked"] {
            assert!(!error.contains(secret), "{shown} leaks {secret}: {error}");
        }
        assert_eq!(answer.header("content-type"), "application/json", "{shown}");
        assert_eq!(ask(state, Ask::get("/v2/health/live")).await.status, 200, "after {shown}");
        CHECKED.fetch_add(1, Ordering::Relaxed);
    }
}
