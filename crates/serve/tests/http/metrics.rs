//! `/metrics`: well formed, in agreement with the statistics, bounded, and what dashboards and the documentation name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use network::{DType, NamedTensor, Tensor};
use serde_json::{Value, json};
use serve::config::Limits;
use serve::metrics::families;
use serve::served::{Call, Served};

use crate::executors;
use crate::h2;
use crate::scrape::Scrape;
use crate::server::{Ask, ask, empty_state, state, three_models};

fn infer(value: Value) -> Ask {
    let input = json!({ "name": "input", "shape": [1, 3], "datatype": "FP32", "data": value });
    Ask::json("/v2/models/prices/infer", json!({ "inputs": [input] }))
}

async fn scrape(state: &actix_web::web::Data<serve::state::State>) -> Scrape {
    let answer = ask(state, Ask::get("/metrics")).await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    Scrape::read(std::str::from_utf8(&answer.body).unwrap(), false)
}

#[actix_web::test]
async fn a_scrape_agrees_with_the_statistics() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    for _ in 0..3 {
        assert_eq!(ask(&state, infer(json!([1, 2, 3]))).await.status, 200);
    }
    let raw = Ask::json("/models/prices/predict", json!({ "inputs": [[1, 2, 3], [4, 5, 6]] }));
    assert_eq!(ask(&state, raw).await.status, 200);
    // Each of these is of a model that is there, and is refused before its queue or by it.
    let wrong = [infer(json!([1, 2])), Ask::json("/models/prices/predict", json!({ "input": [1] }))];
    for wrong in wrong {
        assert_eq!(ask(&state, wrong).await.status, 400);
    }
    let found = scrape(&state).await;
    let labels = [("model", "prices"), ("version", "1")];
    let with = |name: &'static str, value: &'static str| [labels[0], labels[1], (name, value)];
    let stats = &ask(&state, Ask::get("/v2/models/prices/stats")).await.json()["model_stats"][0];
    let told = |pointer: &str| stats.pointer(pointer).unwrap().as_f64().unwrap();
    for (name, pointer) in [
        ("nv_inference_request_success", "/inference_stats/success/count"),
        ("nv_inference_count", "/inference_count"),
        ("nv_inference_exec_count", "/execution_count"),
        ("brazier_request_seconds_count", "/inference_stats/success/count"),
        ("brazier_queue_seconds_count", "/inference_stats/queue/count"),
        ("brazier_compute_seconds_count", "/execution_count"),
        ("brazier_batch_rows_count", "/execution_count"),
        ("brazier_batch_rows_sum", "/inference_count"),
    ] {
        assert_eq!(found.get(name, &labels), told(pointer), "{name}");
    }
    for (name, pointer) in [
        ("nv_inference_request_duration_us", "/inference_stats/success/ns"),
        ("nv_inference_queue_duration_us", "/inference_stats/queue/ns"),
        ("nv_inference_compute_input_duration_us", "/inference_stats/compute_input/ns"),
        ("nv_inference_compute_infer_duration_us", "/inference_stats/compute_infer/ns"),
        ("nv_inference_compute_output_duration_us", "/inference_stats/compute_output/ns"),
    ] {
        assert_eq!(found.get(name, &labels), (told(pointer) / 1e3).floor(), "{name}");
    }
    assert_eq!((told("/inference_stats/success/count"), told("/inference_count")), (4.0, 5.0));
    assert_eq!(told("/inference_stats/fail/count"), 2.0);
    assert!(told("/last_inference") > 1.6e12, "milliseconds since 1970");
    assert_eq!(found.get("brazier_requests_total", &with("outcome", "ok")), 4.0);
    assert_eq!(found.get("brazier_requests_total", &with("outcome", "invalid")), 2.0);
    assert_eq!(found.get("nv_inference_request_failure", &with("reason", "OTHER")), 2.0);
    assert_eq!(found.get("brazier_preprocess_seconds_count", &labels), 4.0);
    assert_eq!(found.get("nv_inference_pending_request_count", &labels), 0.0);
    assert!(found.get("nv_model_load_duration_secs", &labels) > 0.0);
    assert_eq!(found.get("brazier_model_state", &with("state", "ready")), 1.0);
    assert_eq!(found.get("brazier_model_state", &with("state", "failed")), 0.0);
    assert_eq!(found.get("brazier_model_loads_total", &[("outcome", "success")]), 4.0);
    assert_eq!(found.get("brazier_model_load_seconds_count", &[]), 4.0);
    let answers = |route, method, status| {
        let labels = [("route", route), ("method", method), ("status", status)];
        found.get("brazier_http_responses_total", &labels)
    };
    assert_eq!(answers("/v2/models/{name}/infer", "POST", "2xx"), 3.0);
    assert_eq!(answers("/v2/models/{name}/infer", "POST", "4xx"), 1.0);
    assert_eq!(answers("/models/{name}/predict", "POST", "2xx"), 1.0);
    assert_eq!(found.get("brazier_requests_in_flight", &[("protocol", "http")]), 1.0, "the scrape itself");
    assert_eq!(found.get("brazier_ready", &[]), 1.0);
    if cfg!(target_os = "linux") {
        assert!(found.get("process_resident_memory_bytes", &[]) > 1e6);
    }
    // The other form has the same.
    let open = Ask::get("/metrics").header("accept", "application/openmetrics-text;version=1.0.0");
    let open = ask(&state, open).await;
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let open = Scrape::read(std::str::from_utf8(&open.body).unwrap(), true);
    assert_eq!(open.families.len(), found.families.len());
    assert_eq!(open.get("nv_inference_request_success", &labels), 4.0);
    assert_eq!(open.families["nv_inference_request_success"].kind, "unknown");
    assert_eq!(open.families["brazier_requests"].kind, "counter");
    let packed = ask(&state, Ask::get("/metrics").header("accept-encoding", "gzip")).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
}

#[actix_web::test]
async fn nothing_that_clients_make_up_becomes_a_series() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let mut series = Vec::new();
    for round in 0..2 {
        for number in 0..20 {
            let number = number + 100 * round;
            for path in [
                format!("/v2/models/made-up-{number}/infer"),
                format!("/v2/models/prices/versions/{}/infer", number + 50),
                format!("/made-up/{number}"),
            ] {
                assert_eq!(ask(&state, Ask::json(&path, "{}")).await.status, 404, "{path}");
            }
            let method = actix_web::http::Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
            assert!(ask(&state, Ask::get("/models").method(method)).await.status.is_client_error());
        }
        // The first scrape is counted in the second.
        scrape(&state).await;
        let found = scrape(&state).await;
        assert!(found.samples.keys().all(|key| !key.contains("made-up") && !key.contains("M1")));
        let unmatched = [("route", "unmatched"), ("method", "POST"), ("status", "4xx")];
        assert_eq!(found.get("brazier_http_responses_total", &unmatched), f64::from(20 * (round + 1)));
        series.push(found.samples.len());
    }
    assert_eq!(series[0], series[1]);
}

#[actix_web::test]
async fn who_has_gone_is_counted_where_it_asked() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let app = serve::app::new(state.clone(), serve::app::endpoints);
    let app = actix_web::test::init_service(app).await;
    let request = actix_web::test::TestRequest::post()
        .uri("/v2/models/prices/infer")
        .insert_header(("content-type", "application/json"));
    // Its body never comes, and then it is gone.
    let body: actix_web::dev::Payload =
        actix_web::dev::Payload::Stream { payload: Box::pin(futures_util::stream::pending()) };
    let (request, _) = request.to_request().replace_payload(body);
    let answer = actix_web::test::try_call_service(&app, request);
    assert!(actix_web::rt::time::timeout(Duration::from_millis(100), answer).await.is_err());
    let found = scrape(&state).await;
    let labels = [("route", "/v2/models/{name}/infer"), ("method", "POST"), ("status", "gone")];
    assert_eq!(found.get("brazier_http_responses_total", &labels), 1.0);
    assert_eq!(found.get("brazier_access_refused_total", &[("reason", "forbidden")]), 0.0);
    let refused = Ask::json("/v2/models/prices/trace/setting", "{}");
    assert_eq!(ask(&state, refused).await.status, 403);
    let found = scrape(&state).await;
    assert_eq!(found.get("brazier_access_refused_total", &[("reason", "forbidden")]), 1.0);
}

#[actix_web::test]
async fn a_stream_of_grpc_is_in_flight_as_long_as_it_lasts() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = serve::grpc::server::start(state.clone().into_inner(), listener).unwrap();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let watch = h2::head("/grpc.health.v1.Health/Watch", 1, &[]);
    let message = h2::frame(0, 1, 1, &h2::message(false, &[]));
    stream.write_all(&[h2::HELLO, &watch, &message].concat()).unwrap();
    // Its first message has come, and there will be more.
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).unwrap();
        if head[3] == 0 {
            break;
        }
    }
    let in_flight = async || scrape(&state).await.get("brazier_requests_in_flight", &[("protocol", "grpc")]);
    assert_eq!(in_flight().await, 1.0);
    drop(stream);
    let began = Instant::now();
    while in_flight().await > 0.0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it has ended");
    }
    server.stop(Duration::from_secs(60)).await;
}

#[actix_web::test]
async fn counters_go_on_when_a_version_is_replaced_and_end_with_it() {
    let state = empty_state(Default::default());
    let new = || Served::new("a", 1, executors::identity(DType::F32), &state.scheduler, &state.health);
    let tensor = Tensor::from_f32(vec![1, 1], vec![0.5]).unwrap();
    let call = || Call {
        inputs: vec![NamedTensor { name: "INPUT0".to_owned(), tensor: tensor.clone() }],
        ..Call::default()
    };
    let first = new();
    first.ask(call()).await.unwrap();
    let second = new();
    drop(first);
    second.ask(call()).await.unwrap();
    assert_eq!(second.stats().success.total().count, 2);
    drop(second);
    // The worker that computed the last batch may still hold it for a moment.
    let began = Instant::now();
    while new().stats().success.total().count > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "what was unloaded is forgotten");
        actix_web::rt::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The rows of the table in the documentation: name, type, labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = include_str!("../../../../docs/observability.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let kind = cells.next()?.to_owned();
        if !["counter", "gauge", "histogram"].contains(&kind.as_str()) {
            return None;
        }
        let labels = cells.next()?.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        Some((name, (kind, labels.filter(|label| !label.is_empty()).collect())))
    });
    rows.collect()
}

#[actix_web::test]
async fn the_documentation_names_every_metric_and_no_other() {
    let state = state(&three_models(), None, Limits::default());
    let found = scrape(&state).await;
    let documented = documented();
    let names: Vec<&str> = documented.keys().map(String::as_str).collect();
    assert_eq!(names, found.families.keys().map(String::as_str).collect::<Vec<_>>());
    for family in families() {
        let (kind, labels) = &documented[family.name];
        let own: BTreeSet<String> = family.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!((kind.as_str(), labels), (family.kind.name(), &own), "{}", family.name);
        assert_eq!(found.families[family.name].help, family.help);
        if let Some(labels) = found.labels.get(family.name) {
            assert_eq!(labels, &own, "{}", family.name);
        }
    }
}

/// The names of metrics in an expression, each with the labels that it is selected by.
fn names(expression: &str) -> Vec<(String, BTreeSet<String>)> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|character: char| character.is_ascii_alphabetic()) {
        rest = &rest[start..];
        let end = rest.find(|character: char| !is_word(character)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let selects = after.starts_with('{');
        let metric = ["brazier_", "nv_", "process_"].iter().any(|prefix| word.starts_with(prefix));
        assert!(metric || !selects, "{word} in {expression}");
        let mut labels = BTreeSet::new();
        if selects {
            let (inside, after) = after[1..].split_once('}').unwrap();
            labels.extend(inside.split(',').map(|one| one.split(['=', '!']).next().unwrap().to_owned()));
            rest = after;
        }
        if metric {
            found.push((word.to_owned(), labels));
        }
    }
    found
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), value) {
                    ("expr" | "definition", Value::String(text)) => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn dashboards_and_alerts_ask_for_metrics_that_there_are() {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../../configs/grafana/brazier.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let alerts = include_str!("../../../../configs/grafana/alerts.yml");
    let rules: Vec<String> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ").map(str::to_owned)).collect();
    assert!(found.len() > 30 && rules.len() >= 5, "{} {}", found.len(), rules.len());
    // What labels the server that is scraped is added by Prometheus.
    let scraped = ["instance", "job"];
    for expression in found.iter().chain(&rules) {
        let names = names(expression);
        assert!(!names.is_empty(), "{expression}");
        for (name, labels) in names {
            let suffixed = |family: &&serve::metrics::Family| {
                let histogram = family.kind == serve::metrics::text::Kind::Histogram;
                let suffix = name.strip_prefix(family.name);
                suffix.is_some_and(|suffix| match suffix {
                    "" => !histogram,
                    "_bucket" | "_sum" | "_count" => histogram,
                    _ => false,
                })
            };
            let family = families().find(suffixed).unwrap_or_else(|| panic!("no {name} for {expression}"));
            for label in labels {
                let known = family.labels.contains(&label.as_str()) || scraped.contains(&label.as_str());
                assert!(known, "{name} has no label {label}: {expression}");
            }
        }
    }
    let ids: Vec<u64> =
        dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}
