//! Devices and precisions: what is shown of them, what is refused, and a model that a device gets wrong.

use model::DeviceSpec;
use predict::{DeviceError, Placement, Precision, PredictError};
use serde_json::json;
use serve::config::Limits;
use serve::load::Options;

use crate::registry::{Models, digits, prices};
use crate::server::{Ask, Refusal, ask, check_refusals, state, state_with, three_models};

fn half(precision: Precision) -> Options {
    Options { placement: Placement { device: DeviceSpec::Cpu, precision }, ..Options::default() }
}

#[actix_web::test]
async fn metadata_names_the_device_and_the_precision() {
    let models = three_models();
    for precision in Precision::ALL {
        let state = state_with(&models, None, Limits::default(), &half(precision));
        let expected = json!({ "device": "cpu", "precision": precision.to_string() });
        for path in ["/v2/models/digits", "/v2/models/digits/versions/2"] {
            let model = ask(&state, Ask::get(path)).await.json();
            assert_eq!(model["parameters"], expected);
            assert_eq!(model["inputs"][0]["datatype"], "FP32", "what travels stays as it was");
        }
        let version = ask(&state, Ask::get("/models/digits/versions/1")).await.json();
        assert_eq!(
            (&version["device"], &version["precision"]),
            (&expected["device"], &expected["precision"])
        );
    }
}

/// A package in int8 computes in int8 where the device can, and in what was asked for elsewhere.
#[actix_web::test]
async fn metadata_tells_int8_and_what_computes() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish_int8("digits", &digits(), 1);
    let description = async |options: &Options, version: u64| {
        let state = state_with(&models, None, Limits::default(), options);
        let path = format!("digits/versions/{version}");
        let protocol = ask(&state, Ask::get(&format!("/v2/models/{path}"))).await.json();
        let view = ask(&state, Ask::get(&format!("/models/{path}"))).await.json();
        assert_eq!(protocol["parameters"]["precision"], view["precision"]);
        view
    };
    let plain = Options::default();
    let (floats, int8) = (description(&plain, 1).await, description(&plain, 2).await);
    assert_eq!((&floats["precision"], &int8["precision"]), (&json!("f32"), &json!("int8")));
    assert_eq!(floats.get("quantization"), None);
    assert_eq!(int8["quantization"], json!({ "layers": [weighted_layer(&models)], "of": 1 }));
    for view in [&floats, &int8] {
        assert_eq!(view["kernels"], "engine", "{view}");
        assert!(view["isa"].is_string(), "{view}");
    }
    let bytes = |view: &serde_json::Value| view["record_bytes"].as_u64().unwrap();
    assert!(bytes(&int8) < bytes(&floats), "{} {}", int8["record_bytes"], floats["record_bytes"]);
    let half = description(&half(Precision::F16), 2).await;
    assert_eq!((&half["precision"], &half["kernels"]), (&json!("f16"), &json!("burn")));
    assert_eq!(half["quantization"], int8["quantization"], "the record is what it is");
}

/// The name of the one layer of `digits` that has weights.
fn weighted_layer(models: &Models) -> String {
    let package = models.open().package(&"digits@1".parse().unwrap()).unwrap();
    let layer = package.network().layers().iter().find(|layer| layer.macs > 0).unwrap();
    layer.name.clone()
}

#[actix_web::test]
async fn half_precision_answers_nearly_the_same() {
    let models = three_models();
    let body = json!({ "inputs": [[1, 2, 3], [0.1, 0.2, 0.3]] });
    let mut answers = Vec::new();
    for precision in Precision::ALL {
        let state = state_with(&models, None, Limits::default(), &half(precision));
        let answer = ask(&state, Ask::json("/models/prices/predict", &body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let value = |index: usize| answer.json()["predictions"][index]["values"]["low"].as_f64().unwrap();
        answers.push([value(0), value(1)]);
    }
    for other in &answers[1..] {
        assert_ne!(&answers[0], other);
        for (exact, half) in answers[0].iter().zip(other) {
            assert!((exact - half).abs() < 0.05, "{answers:?}");
        }
    }
}

#[actix_web::test]
async fn values_that_overflow_are_the_clients_to_change() {
    let models = three_models();
    let state = state_with(&models, None, Limits::default(), &half(Precision::F16));
    let message = "too large for the precision of this server, f16";
    let tensor =
        json!({ "name": "input", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 1e30, 2, 3] });
    let refusals = vec![
        Refusal(Ask::json("/models/prices/predict", json!({ "input": [1e30, 2, 3] })), 400, message),
        Refusal(
            Ask::json("/models/prices/predict", json!({ "inputs": [[1, 2, 3], [1e30, 2, 3]] })),
            400,
            "`inputs[1]`: its values are too large",
        ),
        Refusal(
            Ask::json("/v2/models/prices/infer", json!({ "inputs": [tensor] })),
            400,
            "row 1: its values are too large for the precision of this server, f16",
        ),
    ];
    check_refusals(&state, refusals).await;
}

#[actix_web::test]
async fn a_model_that_a_device_gets_wrong_is_refused_and_the_others_serve() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish_spoiled("digits", &digits(), 2);
    models.publish("prices", &prices(), 3);
    let state = state(&models, None, Limits::default());
    assert_eq!(ask(&state, Ask::get("/v2/health/ready")).await.status, 200);
    let list = ask(&state, Ask::get("/models")).await.json();
    assert_eq!(list["models"][0]["versions"][0]["state"], "ready");
    assert_eq!(list["models"][0]["versions"][1]["state"], "failed");
    assert_eq!(list["models"][0]["answers"], 1, "the newest that is ready");
    let prices = ask(&state, Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }))).await;
    assert_eq!(prices.status, 200);
    let refused = Refusal(Ask::get("/v2/models/digits/versions/2/ready"), 503, "could not be loaded");
    check_refusals(&state, vec![refused]).await;
}

/// A GPU that dies takes readiness along, and nothing else; what stands for it here is what its failure is noted as.
#[actix_web::test]
async fn a_device_that_does_not_compute_any_more_is_not_ready() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let failed = || -> PredictError {
        DeviceError::Failed { device: DeviceSpec::Cuda(0), reason: "driver: /tmp/x panicked".to_owned() }
            .into()
    };
    let served = state.catalog().find("prices", &artifact::Selector::Default).cloned().unwrap();
    let predictor = std::sync::Arc::clone(served.predictor().unwrap());
    state.health.note(&predictor, Some(&failed()), || predictor.self_check().map(drop));
    assert_eq!(ask(&state, Ask::get("/v2/health/ready")).await.status, 200, "it answers its samples");

    state.health.note(&predictor, Some(&failed()), || Err(failed()));
    let message = "the device `cuda` does not compute version 1 of `prices` any more";
    let refusals = vec![
        // Which model it is concerns those who may ask for it.
        Refusal(Ask::get("/v2/health/ready"), 503, "a model does not compute any more"),
        Refusal(Ask::get("/v2/models/prices/ready"), 503, message),
    ];
    check_refusals(&state, refusals).await;
    assert_eq!(ask(&state, Ask::get("/v2/models/digits/ready")).await.status, 200);

    // Requests still reach it, and one that is answered says that it is back.
    let answer = ask(&state, Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }))).await;
    assert_eq!(answer.status, 200);
    for path in ["/v2/health/ready", "/v2/models/prices/ready"] {
        assert_eq!(ask(&state, Ask::get(path)).await.status, 200, "{path}");
    }
}

/// Whatever devices this build and machine have: a model answers on them as on the CPU.
#[actix_web::test]
async fn every_device_serves() {
    let models = three_models();
    let body = json!({ "inputs": [[1, 2, 3], [4, 5, 6], [0, 0, 1]] });
    let low = |answer: &serde_json::Value| answer["predictions"][2]["values"]["low"].as_f64().unwrap();
    let mut expected = None;
    for device in DeviceSpec::available() {
        let options = Options { placement: device.into(), batch_sizes: vec![1, 4] };
        let state = state_with(&models, None, Limits::default(), &options);
        let answer = ask(&state, Ask::json("/models/prices/predict", &body)).await.json();
        let expected = *expected.get_or_insert(low(&answer));
        assert!((low(&answer) - expected).abs() < 1e-2, "{device}: {answer}");
        let model = ask(&state, Ask::get("/v2/models/prices")).await.json();
        assert_eq!(model["parameters"]["device"], device.to_string());
    }
}
