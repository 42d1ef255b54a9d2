//! Ids of requests, and traces as a collector gets them: read with the official definitions of OTLP.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use actix_web::web::Data;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;
use serve::config::Limits;
use serve::load;
use serve::load::Options;
use serve::pool::Pool;
use serve::state::State;
use serve::telemetry::{LogConfig, Telemetry, TraceConfig};

use crate::registry::Models;
use crate::server::{Ask, ask, scheduler, three_models};

/// What a collector was sent: headers and message.
type Sent = (BTreeMap<String, String>, ExportTraceServiceRequest);

/// A collector that takes what it is sent.
fn collector() -> (SocketAddr, Receiver<Sent>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                while let Some(sent) = read(&mut reader) {
                    // Before the answer, so that who has flushed finds it here.
                    if sender.send(sent).is_err() {
                        return;
                    }
                    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            });
        }
    });
    (address, receiver)
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Sent> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    assert!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Some((headers, ExportTraceServiceRequest::decode(body.as_slice()).unwrap()))
}

fn traced(models: &Models, config: TraceConfig) -> Data<State> {
    assert_eq!(config.fault(), None);
    let telemetry = Telemetry::new(LogConfig::default(), &config).unwrap();
    let state =
        State::new(Pool::new(2, 8).unwrap(), scheduler(), Limits::default()).with_telemetry(telemetry);
    let state = Data::new(state);
    load::discover(&state, &models.open(), None).unwrap();
    load::load(&state, &models.open(), &Options::default()).unwrap();
    state
}

fn config(address: SocketAddr) -> TraceConfig {
    TraceConfig {
        endpoint: Some(format!("http://{address}/v1/traces")),
        delay_ms: 1,
        headers: Some("x-tenant=a%20b".to_owned()),
        resource: Some("deployment.environment.name=test,service.version=of-the-image".to_owned()),
        ..TraceConfig::default()
    }
}

fn spans(sent: &ExportTraceServiceRequest) -> &[Span] {
    &sent.resource_spans[0].scope_spans[0].spans
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text.clone()),
        Any::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const LONG: Duration = Duration::from_secs(60);

fn infer() -> Ask {
    let input = json!({ "name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3] });
    Ask::json("/v2/models/prices/infer", json!({ "inputs": [input] }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[actix_web::test]
async fn a_request_continues_the_trace_of_its_caller() {
    let (address, received) = collector();
    let state = traced(&three_models(), config(address));
    let call = infer()
        .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "vendor=1,other=2")
        .header("x-request-id", "order-7");
    let answer = ask(&state, call).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (200, "order-7"));
    let (headers, sent) = received.recv_timeout(LONG).unwrap();
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["x-tenant"], "a b");
    let resource = &sent.resource_spans[0].resource.as_ref().unwrap().attributes;
    assert_eq!(attribute(resource, "service.name").as_deref(), Some("brazier"));
    assert_eq!(attribute(resource, "deployment.environment.name").as_deref(), Some("test"));
    assert_eq!(attribute(resource, "service.version").as_deref(), Some("of-the-image"));
    assert_eq!(resource.len(), 3, "each is there once: {resource:?}");
    let spans = spans(&sent);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["POST /v2/models/{name}/infer", "preprocess", "queue", "compute"]);
    let root = &spans[0];
    assert_eq!((hex(&root.trace_id).as_str(), hex(&root.parent_span_id).as_str()), (TRACE, PARENT));
    assert_eq!((root.trace_state.as_str(), root.kind), ("vendor=1,other=2", 2));
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v2/models/{name}/infer"),
        ("http.response.status_code", "200"),
        ("brazier.request.id", "order-7"),
        ("brazier.model.name", "prices"),
        ("brazier.model.version", "1"),
        ("brazier.rows", "1"),
    ] {
        assert_eq!(attribute(&root.attributes, key).as_deref(), Some(value), "{key}");
    }
    for span in &spans[1..] {
        assert_eq!((&span.trace_id, &span.parent_span_id, span.kind), (&root.trace_id, &root.span_id, 1));
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(root.start_time_unix_nano <= span.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?}");
    }
    assert_eq!(attribute(&spans[3].attributes, "brazier.batch.rows").as_deref(), Some("1"));
    assert!(root.start_time_unix_nano > 1_600_000_000_000_000_000);
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    assert_eq!(ids.len(), 4);

    // What the caller leaves out is left out; what has no caller is a trace of its own.
    let quiet = infer().header("traceparent", &format!("00-{TRACE}-{PARENT}-00"));
    assert_eq!(ask(&state, quiet).await.status, 200);
    let wrong = Ask::json("/models/prices/predict", "{").header("traceparent", "00-nonsense");
    assert_eq!(ask(&state, wrong).await.status, 400);
    let (_, sent) = received.recv_timeout(LONG).unwrap();
    let root = &self::spans(&sent)[0];
    assert_eq!(root.name, "POST /models/{name}/predict");
    assert!(root.parent_span_id.is_empty() && hex(&root.trace_id) != TRACE);
    assert_eq!(attribute(&root.attributes, "http.response.status_code").as_deref(), Some("400"));
    let raw = Ask::json("/models/prices/predict", json!({ "inputs": [[1, 2, 3], [4, 5, 6]] }));
    assert_eq!(ask(&state, raw).await.status, 200);
    let (_, sent) = received.recv_timeout(LONG).unwrap();
    let names: Vec<&str> = self::spans(&sent).iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["POST /models/{name}/predict", "preprocess", "preprocess", "queue", "compute"]);
    assert_eq!(attribute(&self::spans(&sent)[0].attributes, "brazier.rows").as_deref(), Some("2"));
    state.telemetry.flush(LONG);
    let counted = state.telemetry.spans();
    assert_eq!((counted.exported, counted.dropped, counted.failed), (10, 0, 0));
}

#[actix_web::test]
async fn settings_of_tracing_act_on_what_the_sampler_leaves_out() {
    let (address, received) = collector();
    let config = TraceConfig { ratio: 0.0, ..config(address) };
    let state = traced(&three_models(), config);
    state.allow_changes(true);
    let set = |settings| ask(&state, Ask::json("/v2/models/prices/trace/setting", settings));
    assert_eq!(ask(&state, infer()).await.status, 200);
    set(json!({ "trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "2" })).await;
    for _ in 0..8 {
        assert_eq!(ask(&state, infer()).await.status, 200);
    }
    state.telemetry.flush(LONG);
    let sent: usize = received.try_iter().map(|(_, sent)| spans(&sent).len()).sum();
    assert_eq!(sent, 2 * 4, "one of two, and no more than two");
    assert_eq!(set(json!({})).await.json()["trace_count"], "0");
    set(json!({ "trace_rate": "1", "trace_count": "1" })).await;
    let raw = || Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }));
    for _ in 0..2 {
        assert_eq!(ask(&state, raw()).await.status, 200);
    }
    state.telemetry.flush(LONG);
    let names: Vec<String> =
        received.try_iter().flat_map(|(_, sent)| spans(&sent).to_vec()).map(|span| span.name).collect();
    let expected = ["POST /models/{name}/predict", "preprocess", "preprocess", "queue", "compute"];
    assert_eq!(names, expected, "raw inputs too");
}

#[actix_web::test]
async fn a_collector_that_is_away_delays_nobody() {
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = TraceConfig { queue: 8, timeout_ms: 60_000, ..config(silent.local_addr().unwrap()) };
    let state = traced(&three_models(), config);
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(ask(&state, infer()).await.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(50), "nobody waits for the collector");
    assert!(state.telemetry.spans().dropped >= 32, "{:?}", state.telemetry.spans());
    // One that is not there at all.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let state = traced(&three_models(), self::config(gone));
    assert_eq!(ask(&state, infer()).await.status, 200);
    state.telemetry.flush(LONG);
    assert_eq!(state.telemetry.spans().failed, 4);
    let told = ask(&state, Ask::get("/metrics")).await;
    let told = std::str::from_utf8(&told.body).unwrap();
    assert!(told.contains("brazier_trace_spans_total{outcome=\"failed\"} 4\n"), "{told}");
}

#[actix_web::test]
async fn every_answer_has_an_id() {
    let state = traced(&three_models(), TraceConfig::default());
    for request in [
        infer(),
        Ask::get("/"),
        Ask::get("/nowhere"),
        Ask::get("/models").method(actix_web::http::Method::DELETE),
        Ask::json("/models/prices/predict", "{"),
        Ask::get("/v2/models/%ff"),
    ] {
        let shown = request.shown();
        let made = ask(&state, request.clone()).await.header("x-request-id").to_owned();
        assert_eq!(made.len(), 32, "{shown}");
        let again = ask(&state, request.clone()).await.header("x-request-id").to_owned();
        assert_ne!(made, again, "{shown}");
        let given = ask(&state, request.clone().header("x-request-id", "a.b-c_1")).await;
        assert_eq!(given.header("x-request-id"), "a.b-c_1", "{shown}");
        let replaced = ask(&state, request.header("x-request-id", "a b")).await;
        assert_eq!(replaced.header("x-request-id").len(), 32, "{shown}");
    }
}

#[actix_web::test]
async fn calls_of_grpc_have_all_of_it_too() {
    use std::sync::Arc;

    use serve::grpc::inference::ModelReadyRequest;
    use serve::grpc::inference::grpc_inference_service_server::GrpcInferenceService as _;
    use serve::grpc::service::Inference;
    use serve::telemetry::grpc::{begin, observe};
    use tonic::codegen::http::{HeaderMap, Response};

    let (address, received) = collector();
    let state = traced(&three_models(), config(address)).into_inner();
    let service = Inference::new(Arc::clone(&state));
    let call = async |name: &str, id: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
        headers.insert("x-request-id", id.parse().unwrap());
        let message = ModelReadyRequest { name: name.to_owned(), ..Default::default() };
        let answer = async {
            Ok(match service.model_ready(tonic::Request::new(message)).await {
                Ok(_) => Response::new(tonic::body::Body::empty()),
                Err(status) => status.into_http(),
            })
        };
        let running = begin(&state.telemetry, "/inference.GRPCInferenceService/ModelReady", &headers);
        observe(running, answer).await.unwrap()
    };
    for (name, code) in [("prices", "0"), ("nowhere", "5")] {
        let answer = call(name, "call-1").await;
        assert_eq!(answer.headers()["x-request-id"], "call-1");
        let (_, sent) = received.recv_timeout(LONG).unwrap();
        let root = &spans(&sent)[0];
        assert_eq!(root.name, "inference.GRPCInferenceService/ModelReady");
        assert_eq!((hex(&root.trace_id).as_str(), hex(&root.parent_span_id).as_str()), (TRACE, PARENT));
        assert_eq!(attribute(&root.attributes, "rpc.grpc.status_code").as_deref(), Some(code));
        assert_eq!(attribute(&root.attributes, "rpc.method").as_deref(), Some("ModelReady"));
    }
    let told = serve::metrics::write(&state, serve::metrics::text::Form::Prometheus);
    for code in ["OK", "NOT_FOUND"] {
        let line = format!(
            "brazier_grpc_responses_total{{method=\"inference.GRPCInferenceService/ModelReady\",code=\"{code}\"}} 1\n"
        );
        assert!(told.contains(&line), "{told}");
    }
}
