//! Traffic between versions: shares, stickiness, shadows, candidates that come in and go back, and what is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use network::{NamedTensor, Signature, Tensor, TensorSpec};
use serde_json::{Value, json};
use serve::executor::{ExecuteError, Executor};
use serve::load;
use serve::load::Options;
use serve::served::Served;
use serve::state::{State, Version};
use serve::traffic::{Plan, Traffic};

use crate::registry::{Models, prices};
use crate::server::{Answer, Ask, ask, idle, scheduler};

/// A server's state whose traffic is directed.
pub(crate) struct Directed {
    pub(crate) state: Data<State>,
    pub(crate) traffic: Arc<Traffic>,
}

impl Drop for Directed {
    fn drop(&mut self) {
        self.traffic.stop();
    }
}

pub(crate) const PATH: &str = "/v2/repository/models/prices/traffic";

/// `prices` with three versions of other weights; 1 is in production.
pub(crate) fn three_versions() -> Models {
    let models = Models::new();
    for seed in 1..=3 {
        models.publish("prices", &prices(), seed);
    }
    models.open().promote("prices", 1, "production").unwrap();
    models
}

pub(crate) fn direct(models: &Models, configured: BTreeMap<String, Plan>) -> Directed {
    let state = Data::new(idle(scheduler()));
    load::discover(&state, &models.open(), None).unwrap();
    let clock = || Some("2026-01-01T00:00:00Z".to_owned());
    let traffic = Traffic::start(&state, models.open(), configured, clock).unwrap();
    load::load(&state, &models.open(), &Options::default()).unwrap();
    state.allow_changes(true);
    traffic.tick(&state);
    Directed { state, traffic }
}

async fn predict(directed: &Directed, user: &str) -> Answer {
    let request = Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] })).header("x-user", user);
    ask(&directed.state, request).await
}

pub(crate) async fn version(directed: &Directed, user: &str) -> u64 {
    let answer = predict(directed, user).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["version"].as_u64().unwrap()
}

pub(crate) async fn change(directed: &Directed, action: Value) -> Value {
    let answer = ask(&directed.state, Ask::json(PATH, &action)).await;
    assert_eq!(answer.status, 200, "{action}: {answer:?}");
    answer.json()
}

pub(crate) async fn view(directed: &Directed) -> Value {
    ask(&directed.state, Ask::get(PATH)).await.json()
}

pub(crate) fn history(view: &Value) -> Vec<&str> {
    view["history"].as_array().unwrap().iter().filter_map(|event| event["what"].as_str()).collect()
}

#[actix_web::test]
async fn a_split_is_kept_exactly_and_callers_keep_their_version() {
    let models = three_versions();
    let directed = direct(&models, BTreeMap::new());
    assert_eq!(view(&directed).await["default"], 1);
    assert_eq!(version(&directed, "anybody").await, 1);
    change(&directed, json!({ "action": "set", "split": { "1": 75, "3": 25 } })).await;
    let mut counts = BTreeMap::new();
    for _ in 0..100 {
        *counts.entry(version(&directed, "anybody").await).or_insert(0u64) += 1;
    }
    assert!(counts[&3].abs_diff(25) <= 2, "{counts:?}");
    // What a request names is what it gets; the protocol's route is split as well.
    let body =
        json!({ "inputs": [{ "name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3] }] });
    let mut third = 0;
    for _ in 0..40 {
        let named = ask(&directed.state, Ask::json("/v2/models/prices/versions/2/infer", &body)).await.json();
        assert_eq!(named["model_version"], "2");
        let answer = ask(&directed.state, Ask::json("/v2/models/prices/infer", &body)).await.json();
        third += u64::from(answer["model_version"] == "3");
    }
    assert!(third.abs_diff(10) <= 2, "{third}");
    let told = view(&directed).await;
    assert_eq!(told["versions"]["2"]["requests"], 40);
    assert!(told["versions"]["1"]["p99_ms"].as_f64().unwrap() > 0.0);

    change(&directed, json!({ "action": "set", "split": { "1": 50, "3": 50 }, "sticky": "header:x-user" }))
        .await;
    let mut seen = BTreeMap::new();
    for user in ["ann", "bob", "eve", "joe", "kim", "lee", "max", "pat"] {
        let first = version(&directed, user).await;
        for _ in 0..5 {
            assert_eq!(version(&directed, user).await, first, "{user}");
        }
        *seen.entry(first).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let back = change(&directed, json!({ "action": "rollback" })).await;
    assert_eq!(history(&back), ["set", "set", "rolled_back"]);
    assert_eq!(version(&directed, "ann").await, 1);
}

#[actix_web::test]
async fn changes_that_cannot_be_are_refused_and_change_nothing() {
    let models = three_versions();
    models.publish("prices", &prices(), 9);
    models.damage("prices", 4);
    let directed = direct(&models, BTreeMap::new());
    let cases = [
        (json!({ "action": "set", "split": { "1": 1, "9": 1 } }), "version 9 of `prices` is not loaded"),
        (json!({ "action": "set", "split": { "4": 1 } }), "version 4 of `prices` is not loaded"),
        (json!({ "action": "set", "split": { "1": 0 } }), "above 0"),
        (json!({ "action": "set", "split": { "1": -1 } }), "no change of traffic"),
        (json!({ "action": "set", "split": { "1": 1 }, "stick": "client" }), "unknown field `stick`"),
        (json!({ "action": "shadow", "version": 2, "percent": 101 }), "from 0 to 100"),
        (json!({ "action": "promote", "version": 4 }), "not loaded"),
        (json!({ "action": "auto", "candidate": 2, "steps": [] }), "`auto.steps`"),
        (json!({ "action": "explode" }), "no change of traffic"),
        (json!({ "action": "rollback" }), "no earlier version"),
        (json!([1]), "no change of traffic"),
    ];
    for (action, part) in cases {
        let answer = ask(&directed.state, Ask::json(PATH, &action)).await;
        assert_eq!(answer.status, 400, "{action}: {answer:?}");
        assert!(answer.error().contains(part), "{action}: {}", answer.error());
    }
    assert_eq!(history(&view(&directed).await), [""; 0]);
    assert!(!models.path().join("prices/traffic.json").exists());
    let unknown = ask(&directed.state, Ask::get("/v2/repository/models/price/traffic")).await;
    assert_eq!(unknown.status, 404);
    directed.state.allow_changes(false);
    let refused =
        ask(&directed.state, Ask::json(PATH, json!({ "action": "set", "split": { "1": 1 } }))).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(ask(&directed.state, Ask::get(PATH).method(actix_web::http::Method::PUT)).await.status, 405);
}

#[actix_web::test]
async fn what_was_changed_survives_a_restart_until_the_settings_change() {
    let models = three_versions();
    let plan = |weight| {
        let split = [("1".to_owned(), 100 - weight), ("2".to_owned(), weight)].into();
        BTreeMap::from([("prices".to_owned(), Plan { split, ..Plan::default() })])
    };
    let split = |view: &Value| view["split"]["2"].as_u64();
    {
        let directed = direct(&models, plan(10));
        assert_eq!(split(&view(&directed).await), Some(10));
        change(&directed, json!({ "action": "set", "split": { "1": 60, "2": 40 } })).await;
    }
    {
        let directed = direct(&models, plan(10));
        assert_eq!(split(&view(&directed).await), Some(40), "the settings say what they said");
        directed.traffic.configure(&directed.state, plan(20));
        assert_eq!(split(&view(&directed).await), Some(20), "the settings have changed");
    }
    {
        let directed = direct(&models, plan(20));
        let told = view(&directed).await;
        assert_eq!(split(&told), Some(20));
        assert_eq!(history(&told), ["set", "set", "set"]);
        assert_eq!(told["history"][0]["at"], "2026-01-01T00:00:00Z");
        // The alias in the registry is what survives of a promotion, for every program.
        change(&directed, json!({ "action": "promote", "version": 2 })).await;
        assert_eq!(models.open().aliases("prices").unwrap()["production"], 2);
        assert_eq!(version(&directed, "anybody").await, 2);
        change(&directed, json!({ "action": "rollback" })).await;
        assert_eq!(models.open().aliases("prices").unwrap()["production"], 1);
    }
    std::fs::write(models.path().join("prices/traffic.json"), "not JSON").unwrap();
    let directed = direct(&models, BTreeMap::new());
    assert_eq!(version(&directed, "anybody").await, 1, "a damaged file directs nothing");
    let scan = models.open().scan().unwrap();
    assert!(scan.warnings.is_empty(), "{:?}", scan.warnings);
}

/// Adds `plus` to its input after `delay`, or fails.
#[derive(Debug)]
struct Adder {
    signature: Signature,
    plus: f32,
    delay: Duration,
    fails: bool,
}

impl Executor for Adder {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn platform(&self) -> &str {
        "test"
    }

    fn max_rows(&self) -> usize {
        1
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        std::thread::sleep(self.delay);
        if self.fails {
            return Err(ExecuteError::Failed("on purpose".to_owned()));
        }
        let tensor = &inputs[0].tensor;
        let values = tensor.as_f32().unwrap().iter().map(|value| value + self.plus).collect();
        let tensor = Tensor::from_f32(tensor.shape().to_vec(), values).unwrap();
        Ok(vec![NamedTensor { name: "output".to_owned(), tensor }])
    }
}

/// Puts another executor in the place of a version.
fn replace(directed: &Directed, version: u64, plus: f32, delay_ms: u64, fails: bool) {
    let signature = Signature {
        inputs: vec![TensorSpec::batched_f32("input", &[3])],
        outputs: vec![TensorSpec::batched_f32("output", &[3])],
    };
    let adder = Arc::new(Adder { signature, plus, delay: Duration::from_millis(delay_ms), fails });
    let state = &directed.state;
    let served = Served::new("prices", version, adder, &state.scheduler, &state.health);
    state.update(|catalog| {
        catalog.models.get_mut("prices").unwrap().versions.insert(version, Version::Ready(served));
    });
    directed.traffic.tick(state);
}

async fn infer(directed: &Directed) -> u16 {
    let body =
        json!({ "inputs": [{ "name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3] }] });
    ask(&directed.state, Ask::json("/v2/models/prices/infer", &body)).await.status.as_u16()
}

/// Asks until the rules have come to something.
async fn until(directed: &Directed, what: &str) -> Value {
    let began = Instant::now();
    loop {
        for _ in 0..10 {
            let _ = infer(directed).await;
        }
        directed.traffic.tick(&directed.state);
        let told = view(directed).await;
        if history(&told).contains(&what) {
            return told;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no {what}: {told}");
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_web::test]
async fn a_shadow_is_compared_and_never_heard() {
    let models = three_versions();
    let directed = direct(&models, BTreeMap::new());
    replace(&directed, 1, 0.0, 0, false);
    replace(&directed, 2, 0.5, 0, false);
    change(&directed, json!({ "action": "shadow", "version": 2, "percent": 50 })).await;
    for _ in 0..20 {
        assert_eq!(infer(&directed).await, 200);
    }
    let compared = |told: &Value| told["shadow"]["copies"]["compared"].as_u64().unwrap();
    let began = Instant::now();
    let mut told = view(&directed).await;
    while compared(&told) < 10 && began.elapsed() < Duration::from_secs(60) {
        actix_web::rt::time::sleep(Duration::from_millis(10)).await;
        told = view(&directed).await;
    }
    assert_eq!((compared(&told), &told["shadow"]["agreement"]), (10, &json!(0.0)), "{told}");
    assert_eq!(told["shadow"]["copies"]["largest_difference"], 0.5);
    assert_eq!(told["versions"]["1"]["requests"], 20);

    // One that fails, and takes long: no caller notices, and what does not fit the queue is dropped.
    replace(&directed, 2, 0.0, 200, true);
    change(&directed, json!({ "action": "shadow", "version": 2 })).await;
    for _ in 0..100 {
        assert_eq!(infer(&directed).await, 200);
    }
    let told = view(&directed).await;
    let copies = &told["shadow"]["copies"];
    assert!(copies["dropped"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told["versions"]["1"]["errors"], 0);
}

#[actix_web::test]
async fn the_copies_of_one_shadow_do_not_count_for_the_next() {
    let models = three_versions();
    let directed = direct(&models, BTreeMap::new());
    replace(&directed, 1, 0.0, 0, false);
    replace(&directed, 2, 5.0, 20, false);
    replace(&directed, 3, 0.0, 0, false);
    change(&directed, json!({ "action": "shadow", "version": 2 })).await;
    for _ in 0..40 {
        assert_eq!(infer(&directed).await, 200);
    }
    // Most of them wait still.
    change(&directed, json!({ "action": "shadow", "version": 3 })).await;
    for _ in 0..10 {
        assert_eq!(infer(&directed).await, 200);
    }
    let copies = |told: &Value| told["shadow"]["copies"].clone();
    let began = Instant::now();
    let mut told = view(&directed).await;
    while copies(&told)["compared"].as_u64().unwrap() < 10 && began.elapsed() < Duration::from_secs(60) {
        actix_web::rt::time::sleep(Duration::from_millis(10)).await;
        told = view(&directed).await;
    }
    let copies = copies(&told);
    assert_eq!((&copies["compared"], &copies["agreed"]), (&json!(10), &json!(10)), "{told}");
    assert_eq!((&copies["failed"], &copies["largest_difference"]), (&json!(0), &json!(0.0)));
}

#[actix_web::test]
async fn a_candidate_comes_in_by_steps_or_goes_back() {
    let models = three_versions();
    let directed = direct(&models, BTreeMap::new());
    replace(&directed, 1, 0.0, 0, false);
    replace(&directed, 2, 0.0, 0, false);
    let auto = |more: Value| {
        let mut action = json!({
            "action": "auto", "candidate": 2, "steps": [50, 100], "window_s": 1, "min_requests": 20,
            "max_latency_ratio": 1e9,
        });
        action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        action
    };
    let began = change(&directed, auto(json!({}))).await;
    assert_eq!(began["split"], json!({ "1": 50, "2": 50 }));
    let told = until(&directed, "promoted").await;
    assert_eq!(history(&told), ["auto", "step", "promoted"]);
    assert_eq!(models.open().aliases("prices").unwrap()["production"], 2);
    assert_eq!((&told["default"], &told["split"]), (&json!(2), &json!({})));

    // One that fails, that takes long, that says something else.
    replace(&directed, 3, 0.0, 0, true);
    let third = |more: Value| {
        let mut action = auto(json!({ "candidate": 3 }));
        action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        action
    };
    change(&directed, third(json!({}))).await;
    let told = until(&directed, "rolled_back").await;
    let why = |told: &Value| {
        told["history"].as_array().unwrap().last().unwrap()["why"].as_str().unwrap().to_owned()
    };
    assert!(why(&told).contains("requests failed"), "{}", why(&told));
    assert_eq!(infer(&directed).await, 200, "nobody is sent there any more");

    replace(&directed, 3, 0.0, 100, false);
    change(&directed, third(json!({ "max_latency_ratio": 2.0, "quantile": 0.5, "window_s": 5 }))).await;
    let began = Instant::now();
    while !why(&view(&directed).await).contains("its latency") {
        let _ = infer(&directed).await;
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    replace(&directed, 3, 5.0, 0, false);
    change(&directed, json!({ "action": "shadow", "version": 3 })).await;
    change(&directed, third(json!({ "steps": [0, 50], "min_agreement": 0.9 }))).await;
    let began = Instant::now();
    while !why(&view(&directed).await).contains("it agrees in 0.0000") {
        let _ = infer(&directed).await;
        assert!(began.elapsed() < Duration::from_secs(60), "{}", view(&directed).await);
    }
    assert_eq!(models.open().aliases("prices").unwrap()["production"], 2);
}
