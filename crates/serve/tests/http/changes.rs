//! What clients may look at, and what they may change only where the configuration lets them.

use std::sync::{Arc, Mutex};

use actix_web::web::Data;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use serve::config::Limits;
use serve::error::{Result, ServeError};
use serve::front::{Control, Front};
use serve::load;

use crate::server::{Ask, Refusal, ask, check_refusals, empty_state, state, three_models};

/// Remembers what it was told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn note(&self, what: &str, name: &str) -> Result<()> {
        if name == "nowhere" {
            return Err(ServeError::not_found("there is no model `nowhere`"));
        }
        self.0.lock().unwrap().push(format!("{what} {name}"));
        Ok(())
    }
}

impl Control for Told {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.note("load", name) })
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.note("unload", name) })
    }
}

#[actix_web::test]
async fn looking_is_free_and_changing_is_not() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let index = ask(&state, Ask::post("/v2/repository/index", "", "")).await.json();
    assert_eq!(index[0], json!({ "name": "digits", "version": "1", "state": "READY", "reason": "" }));
    assert_eq!(index.as_array().unwrap().len(), 4);
    for path in ["/v2/logging", "/v2/trace/setting", "/v2/models/prices/trace/setting"] {
        assert_eq!(ask(&state, Ask::get(path)).await.status, 200, "{path}");
    }
    let changes = [
        ("/v2/repository/models/digits/load", json!({})),
        ("/v2/repository/models/digits/unload", json!({})),
        ("/v2/repository/models/nowhere/load", json!({})),
        ("/v2/logging", json!({ "log_info": false })),
        ("/v2/trace/setting", json!({ "trace_rate": "1" })),
        ("/v2/models/prices/trace/setting", json!({ "trace_rate": "1" })),
    ];
    let refusals =
        changes.map(|(path, body)| Refusal(Ask::json(path, body), 403, "takes no changes from clients"));
    check_refusals(&state, refusals.into()).await;
    let refusals = vec![
        Refusal(Ask::json("/v2/repository/index", json!({ "redy": true })), 400, "did you mean `ready`"),
        Refusal(Ask::json("/v2/repository/index", json!({ "ready": 1 })), 400, "must be a boolean"),
        Refusal(Ask::json("/v2/repository/index", "[".repeat(250_000)), 400, "nests deeper"),
        Refusal(Ask::get("/v2/models/nowhere/trace/setting"), 404, "no model `nowhere`"),
    ];
    check_refusals(&state, refusals).await;
}

#[actix_web::test]
async fn changes_that_are_allowed_reach_what_carries_them_out() {
    let told = Arc::new(Told::default());
    let models = three_models();
    let state = Data::new(empty_state(Front::default()));
    load::discover(&state, &models.open(), None).unwrap();
    load::load(&state, &models.open(), &load::Options::default()).unwrap();
    let load = |name: &str, body: Value| Ask::json(&format!("/v2/repository/models/{name}/load"), body);
    state.allow_changes(true);
    check_refusals(&state, vec![Refusal(load("digits", json!({})), 503, "the server is starting")]).await;
    state.front.control_by(told.clone());
    assert_eq!(ask(&state, load("digits", json!({}))).await.status, 200);
    let unload = Ask::json(
        "/v2/repository/models/digits/unload",
        json!({ "parameters": { "unload_dependents": true } }),
    );
    assert_eq!(ask(&state, unload).await.status, 200);
    assert_eq!(*told.0.lock().unwrap(), ["load digits", "unload digits"]);
    let with = |name: &str, value: Value| load("digits", json!({ "parameters": { name: value } }));
    let refusals = vec![
        Refusal(load("nowhere", json!({})), 404, "no model `nowhere`"),
        Refusal(with("config", json!("{}")), 501, "own repository alone"),
        Refusal(with("file:1/../../etc/x", json!("aGk=")), 501, "own repository alone"),
        Refusal(with("colour", json!("red")), 400, "loading has no parameter `colour`"),
        Refusal(load("digits", json!({ "parameters": [] })), 400, "must be an object"),
        Refusal(Ask::json("/v2/logging", json!({ "log_file": "/etc/passwd" })), 400, "`log_file` is fixed"),
        Refusal(Ask::json("/v2/trace/setting", json!({ "trace_file": "/etc/x" })), 400, "is fixed"),
    ];
    check_refusals(&state, refusals).await;
    assert_eq!(told.0.lock().unwrap().len(), 2, "what was refused was not carried out");
    let log = ask(&state, Ask::json("/v2/logging", json!({ "log_verbose_level": 1 }))).await.json();
    assert_eq!(log["log_verbose_level"], 1);
    let trace = Ask::json("/v2/models/prices/trace/setting", json!({ "trace_level": ["TIMESTAMPS"] }));
    assert_eq!(ask(&state, trace).await.json()["trace_level"], json!(["TIMESTAMPS"]));
    assert_eq!(ask(&state, Ask::get("/v2/trace/setting")).await.json()["trace_level"], json!(["OFF"]));
}
