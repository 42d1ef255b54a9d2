//! What platforms expect besides the protocol, and the description of all routes.

use serde_json::{Value, json};
use serve::config::Limits;
use serve::front::{Front, Paths};
use serve::load;
use serve::routes::table::{ENDPOINTS, Method};

use crate::server::{Ask, Refusal, ask, check_refusals, empty_state, state, three_models};

#[actix_web::test]
async fn sagemaker_and_kubernetes_find_their_routes() {
    let models = three_models();
    let state = state(&models, Some("prices"), Limits::default());
    for path in ["/ping", "/healthz", "/readyz"] {
        assert_eq!(ask(&state, Ask::get(path)).await.status, 200, "{path}");
    }
    let expected = ask(&state, Ask::json("/predict", json!({ "inputs": [[1, 2, 3]] }))).await.json();
    let answer = ask(&state, Ask::json("/invocations", json!({ "inputs": [[1, 2, 3]] }))).await;
    assert_eq!(answer.json(), expected);
    // The protocol's tensors, with the length of the JSON in the type.
    let json = json!({
        "inputs": [{
            "name": "input", "shape": [1, 3], "datatype": "FP32", "parameters": { "binary_data_size": 12 },
        }],
        "parameters": { "binary_data_output": true },
    })
    .to_string();
    let tensors: Vec<u8> = [1.0f32, 2.0, 3.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let body = [json.as_bytes(), &tensors].concat();
    let binary = |size: &str| {
        let content_type = format!("application/vnd.sagemaker-triton.binary+json{size}");
        Ask::post("/invocations", &content_type, body.clone())
    };
    let answer = ask(&state, binary(&format!("; json-header-size={}", json.len()))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.header("content-type").rsplit('=').next().unwrap().parse::<usize>().unwrap();
    assert_eq!(answer.body.len() - told, 8, "two numbers after the JSON");
    let refusals = vec![
        Refusal(binary(""), 400, "needs a `json-header-size`"),
        Refusal(binary(";json-header-size=x"), 400, "must be the length"),
    ];
    check_refusals(&state, refusals).await;
    state.drain();
    assert_eq!(ask(&state, Ask::get("/ping")).await.status, 503);
    assert_eq!(ask(&state, Ask::get("/healthz")).await.status, 200);
}

#[actix_web::test]
async fn vertex_chooses_its_routes_and_sends_instances() {
    let models = three_models();
    let paths = Paths {
        health: Some("/v1/endpoints/7/health".to_owned()),
        // One that is there already stays what it is.
        predict: Some("/v1/endpoints/7:predict".to_owned()),
    };
    let state = actix_web::web::Data::new(empty_state(Front::new(paths)));
    load::discover(&state, &models.open(), Some("digits".parse().unwrap())).unwrap();
    load::load(&state, &models.open(), &load::Options::default()).unwrap();
    assert_eq!(ask(&state, Ask::get("/v1/endpoints/7/health")).await.status, 200);
    let body = json!({ "instances": [vec![0; 64], vec![1; 64]], "parameters": { "top": 3 } });
    let answer = ask(&state, Ask::json("/v1/endpoints/7:predict", &body)).await.json();
    let predictions = answer["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 2);
    assert_eq!(predictions[0]["top"].as_array().unwrap().len(), 3);
    let predict = |body: Value| Ask::json("/predict", body);
    let refusals = vec![
        Refusal(predict(json!({ "instances": [], "inputs": [] })), 400, "both `inputs` and `instances`"),
        Refusal(predict(json!({ "instances": 1 })), 400, "`instances` must be an array"),
        Refusal(predict(json!({ "instances": [], "parameters": [] })), 400, "`parameters` must be an object"),
        Refusal(predict(json!({ "instances": [], "parameters": { "tpo": 1 } })), 400, "unknown field `tpo`"),
        Refusal(predict(json!({ "instances": [], "parameters": { "top": 0 } })), 400, "from 1 on"),
        Refusal(predict(json!({ "instances": [] })), 400, "there are no inputs"),
        Refusal(Ask::get("/v1/endpoints/7:predict"), 405, "this route takes POST"),
    ];
    check_refusals(&state, refusals).await;
}

#[actix_web::test]
async fn every_route_is_described_and_answers() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let document = ask(&state, Ask::get("/openapi.json")).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    for endpoint in ENDPOINTS {
        let path =
            endpoint.path.replace("{name}", "prices").replace("{version}", "1").replace("{file}", "app.js");
        let (method, request) = match endpoint.method {
            Method::Get => ("get", Ask::get(&path)),
            Method::Post => ("post", Ask::json(&path, "{}")),
        };
        let described = &document["paths"][endpoint.path][method];
        assert_eq!(described["summary"], endpoint.summary);
        let answer = ask(&state, request).await;
        let status = answer.status.as_u16();
        assert_ne!(status, 405, "{method} {path} is described, but not there");
        // Nothing directs traffic or loads models here, which is a server that is starting.
        assert!(status != 404 && (status < 500 || status == 503), "{method} {path}: {answer:?}");
        assert!(
            described["responses"].get(status.to_string()).is_some(),
            "{method} {path}: {status} is not described"
        );
    }
    let page = ask(&state, Ask::get("/docs")).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(!page.header("content-security-policy").is_empty());
}
