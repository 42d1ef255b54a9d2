//! The gRPC service called as the generated code calls it. What travels on the wire is tested with real clients
//! ([`crate::clients`]).

use std::sync::Arc;
use std::time::SystemTime;

use actix_web::web::Data;
use futures_util::StreamExt as _;
use serde_json::json;
use serve::access::config::AccessConfig;
use serve::access::presented::Presented;
use serve::access::principal::Scope;
use serve::access::{Access, Need, Target, rpc};
use serve::compression::{Coding, pack};
use serve::config::Limits;
use serve::grpc::health::HealthCheck;
use serve::grpc::inference::grpc_inference_service_server::GrpcInferenceService as _;
use serve::grpc::inference::model_infer_request::InferInputTensor;
use serve::grpc::inference::{
    InferTensorContents, LogSettingsRequest, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest,
    ModelReadyRequest, ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest,
    ServerReadyRequest, TraceSettingRequest, trace_setting_request,
};
use serve::grpc::service::Inference;
use serve::load::{self, Options};
use serve::pool::Pool;
use serve::scheduler::{QueueSettings, Scheduler, SchedulerOptions};
use serve::state::State;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_server::Health as _;

use crate::access::write_keys;
use crate::server::{Ask, ask, scheduler, state, three_models};

fn request(shape: &[i64], values: &[f32]) -> ModelInferRequest {
    let contents = InferTensorContents { fp32_contents: values.to_vec(), ..Default::default() };
    ModelInferRequest {
        model_name: "prices".to_owned(),
        id: "7".to_owned(),
        inputs: vec![InferInputTensor {
            name: "input".to_owned(),
            datatype: "FP32".to_owned(),
            shape: shape.to_vec(),
            contents: Some(contents),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[actix_web::test]
async fn grpc_answers_what_http_answers() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let service = Inference::new(Arc::clone(&state));
    let json =
        json!({ "inputs": [{ "name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3] }] });
    let expected = ask(&state, Ask::json("/v2/models/prices/infer", json)).await.json();
    let typed = request(&[1, 3], &[1.0, 2.0, 3.0]);
    let mut raw = typed.clone();
    raw.inputs[0].contents = None;
    raw.raw_input_contents =
        vec![[1.0f32, 2.0, 3.0].into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into()];
    for message in [typed, raw] {
        let answer = service.model_infer(Request::new(message)).await.unwrap().into_inner();
        assert_eq!((answer.id.as_str(), answer.model_version.as_str()), ("7", "1"));
        assert_eq!(answer.outputs[0].shape, [1, 2]);
        let values: Vec<f32> = answer.raw_output_contents[0]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|chunk| f32::from_le_bytes(*chunk))
            .collect();
        for (value, expected) in values.iter().zip(expected["outputs"][0]["data"].as_array().unwrap()) {
            assert_eq!(f64::from(*value) as f32, expected.as_f64().unwrap() as f32);
        }
    }
    let name = || "prices".to_owned();
    let metadata = ModelMetadataRequest { name: name(), ..Default::default() };
    let metadata = service.model_metadata(Request::new(metadata)).await.unwrap().into_inner();
    assert_eq!((metadata.versions, metadata.inputs[0].shape.clone()), (vec!["1".to_owned()], vec![-1, 3]));
    let config = ModelConfigRequest { name: name(), ..Default::default() };
    let config = service.model_config(Request::new(config)).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.input[0].data_type, config.input[0].dims.as_slice()), (11, &[3][..]), "TYPE_FP32");
    assert!(config.max_batch_size > 0);
    let all = service.model_statistics(Request::new(ModelStatisticsRequest::default())).await.unwrap();
    assert_eq!(all.into_inner().model_stats.len(), 4);
    let index = service.repository_index(Request::new(RepositoryIndexRequest::default())).await.unwrap();
    assert!(index.into_inner().models.iter().all(|model| model.state == "READY"));
    assert!(service.server_ready(Request::new(ServerReadyRequest {})).await.unwrap().into_inner().ready);
    state.drain();
    assert!(!service.server_ready(Request::new(ServerReadyRequest {})).await.unwrap().into_inner().ready);
}

#[actix_web::test]
async fn refusals_have_the_codes_of_grpc() {
    let models = three_models();
    models.damage("digits", 2);
    let state = state(&models, None, Limits { max_rows: 2, ..Limits::default() });
    let service = Inference::new(Arc::clone(&state));
    let good = || request(&[1, 3], &[1.0, 2.0, 3.0]);
    let with = |change: fn(&mut ModelInferRequest)| {
        let mut message = good();
        change(&mut message);
        message
    };
    let cases = [
        (with(|message| message.model_name = "price".to_owned()), Code::NotFound, "did you mean"),
        (with(|message| message.model_version = "9".to_owned()), Code::NotFound, "no version"),
        (with(|message| message.inputs.clear()), Code::InvalidArgument, "`inputs` is empty"),
        (
            with(|message| message.inputs[0].datatype = "FP8".to_owned()),
            Code::InvalidArgument,
            "no datatype `FP8`",
        ),
        (
            with(|message| message.inputs[0].datatype = "BF16".to_owned()),
            Code::InvalidArgument,
            "raw_input_contents",
        ),
        (
            with(|message| message.inputs[0].datatype = "INT8".to_owned()),
            Code::InvalidArgument,
            "belongs in `int_contents`",
        ),
        (with(|message| message.inputs[0].shape = vec![-1, 3]), Code::InvalidArgument, "no size"),
        (with(|message| message.inputs[0].shape = vec![1 << 62, 8]), Code::InvalidArgument, "can be counted"),
        (with(|message| message.inputs[0].shape = vec![1; 17]), Code::InvalidArgument, "at most 16"),
        (
            with(|message| message.inputs[0].shape = vec![1, 4]),
            Code::InvalidArgument,
            "`fp32_contents` holds 3",
        ),
        (
            with(|message| message.raw_input_contents = vec![vec![0; 12].into()]),
            Code::InvalidArgument,
            "it has both",
        ),
        (
            with(|message| message.raw_input_contents = vec![Default::default(); 2]),
            Code::InvalidArgument,
            "2 entries",
        ),
        (request(&[3, 3], &[0.0; 9]), Code::InvalidArgument, "one request may hold 2"),
        (
            with(|message| message.inputs = vec![Default::default(); 65]),
            Code::InvalidArgument,
            "at most 64 inputs and outputs",
        ),
        (
            with(|message| message.outputs = vec![Default::default(); 65]),
            Code::InvalidArgument,
            "at most 64 inputs and outputs",
        ),
    ];
    for (message, code, part) in cases {
        let status = service.model_infer(Request::new(message)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(part), "{status}");
        assert!(service.model_infer(Request::new(good())).await.is_ok(), "after {part}");
    }
    let ready = |name: &str, version: &str| {
        let message = ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        service.model_ready(Request::new(message))
    };
    assert!(ready("digits", "1").await.unwrap().into_inner().ready);
    assert!(!ready("digits", "2").await.unwrap().into_inner().ready, "there, but not loaded");
    assert_eq!(ready("digits", "3").await.unwrap_err().code(), Code::NotFound);
    let load = RepositoryModelLoadRequest { model_name: "digits".to_owned(), ..Default::default() };
    let status = service.repository_model_load(Request::new(load)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let value = trace_setting_request::SettingValue { value: vec!["5".to_owned()] };
    let settings =
        TraceSettingRequest { settings: [("trace_rate".to_owned(), value)].into(), ..Default::default() };
    assert_eq!(
        service.trace_setting(Request::new(settings)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let look =
        service.trace_setting(Request::new(TraceSettingRequest::default())).await.unwrap().into_inner();
    assert_eq!(look.settings["trace_level"].value, ["OFF"]);
    assert!(service.log_settings(Request::new(LogSettingsRequest::default())).await.is_ok());
    let other = RepositoryIndexRequest { repository_name: "other".to_owned(), ..Default::default() };
    let status = service.repository_index(Request::new(other)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[actix_web::test]
async fn health_is_that_of_the_server_and_of_its_models() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let health = HealthCheck::new(Arc::clone(&state));
    let check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health
            .check(Request::new(request))
            .await
            .map(|answer| answer.into_inner().status)
            .map_err(|status| status.code())
    };
    for service in ["", "inference.GRPCInferenceService", "prices"] {
        assert_eq!(check(service).await, Ok(1), "{service}");
    }
    assert_eq!(check("nowhere").await, Err(Code::NotFound));
    state.drain();
    assert_eq!(check("").await, Ok(2));
    assert_eq!(check("prices").await, Ok(1), "a model still answers while the server drains");
}

/// What has been read counts until it is answered, however it came and whatever it was packed in: else those that wait
/// would be more than may be in memory.
#[actix_web::test]
async fn what_waits_for_its_answer_is_in_memory() {
    // Two requests do not fill a batch.
    const ROWS: usize = 15;
    let models = three_models();
    let rows = |count: usize| request(&[count as i64, 3], &vec![1.0; 3 * count]);
    let json = json!({ "inputs": vec![[1, 2, 3]; ROWS] }).to_string();
    let one = prost::Message::encoded_len(&rows(ROWS)).max(json.len());
    let json = format!("{json:one$}");
    // Room for two of them, and not for three.
    let limits = Limits { max_body_bytes: one, max_bytes_in_flight: 2 * one + one / 4, ..Limits::default() };
    // A while passes before a worker takes a request.
    let queue = QueueSettings { max_delay_us: 300_000, ..QueueSettings::default() };
    let options = SchedulerOptions { workers: 1, queue, ..SchedulerOptions::default() };
    let state = State::new(Pool::new(2, 8).unwrap(), Scheduler::new(options).unwrap(), limits);
    let state = actix_web::web::Data::new(state);
    load::discover(&state, &models.open(), None).unwrap();
    load::load(&state, &models.open(), &Options::default()).unwrap();
    let service = Inference::new(Arc::clone(&state));

    let calls = (0..3).map(|_| service.model_infer(Request::new(rows(ROWS))));
    let mut codes: Vec<_> = futures_util::future::join_all(calls)
        .await
        .into_iter()
        .map(|answer| answer.map_or_else(|status| status.code(), |_| Code::Ok))
        .collect();
    codes.sort_by_key(|code| *code as i32);
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::Unavailable]);

    for coding in [None, Some(Coding::Gzip), Some(Coding::Zstd)] {
        let asks = (0..3).map(|_| {
            let ask_for = match coding {
                None => Ask::json("/models/prices/predict", &json),
                Some(coding) => {
                    let packed = pack(coding, json.as_bytes()).unwrap();
                    Ask::post("/models/prices/predict", "application/json", packed)
                        .header("content-encoding", coding.name())
                }
            };
            ask(&state, ask_for)
        });
        let answers = futures_util::future::join_all(asks).await;
        let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 503], "{coding:?}");
    }
    assert_eq!(state.in_flight.bytes(), 0);
}

#[actix_web::test]
async fn who_watches_is_looked_at_for_as_long_as_that_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml");
    write_keys(&keys, &[("brz_read", "scopes = [\"read\"]")]);
    let config = AccessConfig { keys: Some(keys.clone()), ..AccessConfig::default() };
    let access = Access::read(&config, Arc::new(SystemTime::now)).unwrap();
    let models = three_models();
    let state = State::new(Pool::new(2, 8).unwrap(), scheduler(), Limits::default()).with_access(access);
    let state = Data::new(state);
    load::discover(&state, &models.open(), None).unwrap();
    load::load(&state, &models.open(), &Options::default()).unwrap();
    let presented = Presented::read([&b"Bearer brz_read"[..]], []);
    let admitted = state.access.admit(&presented, Need::Open, Target::Later, None).unwrap();
    let mut request = Request::new(HealthCheckRequest { service: "prices".to_owned() });
    request.extensions_mut().insert(admitted);
    let health = HealthCheck::new(Arc::clone(&state));
    let mut told = health.watch(request).await.unwrap().into_inner();
    assert_eq!(told.next().await.unwrap().unwrap().status, 1);
    write_keys(&keys, &[]);
    state.access.reload(&config).unwrap();
    assert_eq!(told.next().await.unwrap().unwrap_err().code(), Code::Unauthenticated);
    assert!(told.next().await.is_none(), "it ends with that");
}

/// Every method of the services has a need of its own: what the door does not know, it lets nobody but keys to, and here
/// nothing is left unknown.
#[test]
fn every_call_of_grpc_is_known_at_the_door() {
    let generated = include_str!("../../src/grpc/generated/inference.rs");
    let mut methods = std::collections::BTreeSet::new();
    for part in generated.split("\"/inference.GRPCInferenceService/").skip(1) {
        methods.insert(part.split('"').next().unwrap());
    }
    assert!(methods.len() >= 14, "{methods:?}");
    for method in &methods {
        let need = rpc::need(&format!("/inference.GRPCInferenceService/{method}"));
        let changes = method.starts_with("RepositoryModel");
        assert_ne!(need, Need::Known, "{method}");
        assert_eq!(need == Need::Scope(Scope::Admin), changes, "{method}");
        assert_eq!(
            need == Need::Open,
            method.starts_with("ServerLive") || method.starts_with("ServerReady"),
            "{method}"
        );
    }
    for path in
        ["", "/", "/inference.GRPCInferenceService", "/inference.GRPCInferenceService/x", "/a.B/C", "//x"]
    {
        assert_eq!(rpc::need(path), Need::Known, "{path}");
    }
}
