//! The Open Inference Protocol below `/v2`.

use actix_web::http::Method;
use serde_json::{Value, json};
use serve::config::Limits;

use crate::server::{Ask, Refusal, ask, check_refusals, state, three_models};

const INFER: &str = "/v2/models/prices/infer";

fn input(shape: Value, data: Value) -> Value {
    json!({ "inputs": [{ "name": "input", "shape": shape, "datatype": "FP32", "data": data }] })
}

#[actix_web::test]
async fn metadata_and_health() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let get = async |path: &str| ask(&state, Ask::get(path)).await;
    let server = get("/v2").await.json();
    assert_eq!(server["name"], "brazier");
    let extensions: Vec<&str> =
        server["extensions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for extension in ["binary_tensor_data", "model_repository", "statistics", "schedule_policy"] {
        assert!(extensions.contains(&extension), "{extensions:?}");
    }
    assert_eq!(get("/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(get("/v2/health/ready").await.json(), json!({ "ready": true }));
    for path in ["/v2/models/digits", "/v2/models/digits/versions/2"] {
        let model = get(path).await.json();
        assert_eq!(model["name"], "digits");
        assert_eq!(model["versions"], json!(["1", "2"]));
        assert_eq!(model["inputs"], json!([{ "name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8] }]));
        assert_eq!(model["outputs"], json!([{ "name": "logits", "datatype": "FP32", "shape": [-1, 10] }]));
        let ready = get(&format!("{path}/ready")).await;
        assert_eq!(ready.json(), json!({ "name": "digits", "ready": true }));
    }
    assert_eq!(ask(&state, Ask::get("/v2").method(Method::HEAD)).await.status, 200);
}

#[actix_web::test]
async fn infer_answers_what_predict_answers() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let raw = ask(&state, Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }))).await.json();
    let expected = [&raw["prediction"]["values"]["low"], &raw["prediction"]["values"]["high"]];
    let mut request = input(json!([2, 3]), json!([[1, 2, 3], [0, 0, 0]]));
    request["id"] = json!("the id");
    request["outputs"] = json!([{ "name": "logits", "parameters": { "binary_data": false } }]);
    request["parameters"] = json!({ "priority": 1 });
    request["model_name"] = json!("prices");
    for path in [INFER, "/v2/models/prices/versions/1/infer", "/v2/models/prices/versions/latest/infer"] {
        let answer = ask(&state, Ask::json(path, &request)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        assert_eq!(answer["id"], "the id");
        assert_eq!(answer["model_name"], "prices");
        assert_eq!(answer["model_version"], "1");
        let output = &answer["outputs"][0];
        assert_eq!((&output["name"], &output["datatype"]), (&json!("logits"), &json!("FP32")));
        assert_eq!(output["shape"], json!([2, 2]));
        assert_eq!([&output["data"][0], &output["data"][1]], expected);
        assert_eq!(output["data"].as_array().unwrap().len(), 4, "flat, row-major");
    }
    // Flat data, no id, no content type: all of it allowed.
    let flat = input(json!([1, 3]), json!([1, 2, 3])).to_string();
    let answer = ask(&state, Ask::post(INFER, "", flat)).await.json();
    assert!(answer.get("id").is_none());
    assert_eq!(answer["outputs"][0]["data"][0], *expected[0]);
}

#[actix_web::test]
async fn refusals_are_those_of_the_protocol() {
    let models = three_models();
    let state = state(&models, None, Limits { max_rows: 3, ..Limits::default() });
    let infer = |body: Value| Ask::json(INFER, body);
    let good = || input(json!([1, 3]), json!([1, 2, 3]));
    let with = |key: &str, value: Value| {
        let mut body = good();
        body[key] = value;
        infer(body)
    };
    let tensor = |key: &str, value: Value| {
        let mut body = good();
        body["inputs"][0][key] = value;
        infer(body)
    };
    let two = |second: &str| {
        let mut body = good();
        let mut copy = body["inputs"][0].clone();
        copy["name"] = json!(second);
        body["inputs"].as_array_mut().unwrap().push(copy);
        infer(body)
    };
    let refusals = vec![
        Refusal(Ask::get("/v2/models/price"), 404, "did you mean `prices`?"),
        Refusal(Ask::get("/v2/models/prices/versions/7"), 404, "no version `7`"),
        Refusal(Ask::get("/v2/models/prices/versions/7/ready"), 404, "no version `7`"),
        Refusal(Ask::json("/v2/models/price/infer", good()), 404, "there is no model `price`"),
        Refusal(Ask::get("/v2/repository/index"), 405, "this route takes POST, not `GET`"),
        Refusal(Ask::get(INFER), 405, "this route takes POST, not `GET`"),
        Refusal(Ask::json("/v2/health/ready", "{}"), 405, "this route takes GET, HEAD, not `POST`"),
        Refusal(Ask::post(INFER, "text/plain", "{}"), 415, "expected application/json"),
        Refusal(with("parameters", json!({ "binary_data_output": 1 })), 400, "must be a boolean"),
        Refusal(with("parameters", json!({ "priority": -1 })), 400, "whole number from 0 on"),
        Refusal(
            with("outputs", json!([{ "name": "logits", "parameters": { "shared_memory_region": "r" } }])),
            501,
            "does not share memory",
        ),
        Refusal(tensor("parameters", json!({ "binary_data_size": 12 })), 400, "give one of them"),
        Refusal(
            with("output", json!([])),
            400,
            "unknown field `output` in the request; did you mean `outputs`",
        ),
        Refusal(
            with("outputs", json!([{ "name": "logit" }])),
            400,
            "there is no output `logit`; did you mean `logits`; the model gives `logits`",
        ),
        Refusal(with("outputs", json!([{ "name": "logits" }, { "name": "logits" }])), 400, "asked for twice"),
        Refusal(with("model_name", json!("digits")), 400, "`model_name` is `digits`"),
        Refusal(with("id", json!({})), 400, "`id` must be a string"),
        Refusal(with("inputs", json!([])), 400, "`inputs` is empty"),
        Refusal(with("inputs", json!(vec![good()["inputs"][0].clone(); 65])), 400, "at most 64"),
        Refusal(tensor("name", json!("inptu")), 400, "there is no input `inptu`"),
        Refusal(two("extra"), 400, "there is no input `extra`"),
        Refusal(two("input"), 400, "given twice"),
        Refusal(tensor("datatype", json!("INT32")), 400, "must be FP32 [batch, 3], but is INT32 [1, 3]"),
        Refusal(tensor("datatype", json!("FP8")), 400, "no datatype `FP8`"),
        Refusal(tensor("shape", json!([3])), 400, "must be FP32 [batch, 3], but is FP32 [3]"),
        Refusal(tensor("shape", json!([1, 4])), 400, "expected 4 elements, found 3"),
        Refusal(tensor("shape", json!([-1, 3])), 400, "whole numbers from 0 on"),
        Refusal(tensor("shape", json!([1.5, 3])), 400, "1.5 in its shape is no size"),
        Refusal(tensor("data", json!([1, 2, "3"])), 400, "string"),
        Refusal(tensor("data", json!([1, 2, null])), 400, "null"),
        Refusal(tensor("data", json!([1, 2, 1e300])), 400, "outside the range of FP32"),
        Refusal(infer(input(json!([0, 3]), json!([]))), 400, "the batch is empty"),
        Refusal(
            infer(input(json!([4, 3]), json!(vec![0; 12]))),
            413,
            "4 inputs were given; one request may hold 3",
        ),
    ];
    check_refusals(&state, refusals).await;
}
