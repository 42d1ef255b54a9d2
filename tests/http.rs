//! The server from outside: what it answers, and what it refuses.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::{Server, root};

const ZERO: &[u8] = &[
    0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0,
    0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0,
];

fn png() -> Vec<u8> {
    let pixels: Vec<u8> = ZERO.iter().map(|value| value * 15).collect();
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, &pixels, 8, 8, image::ExtendedColorType::L8)
        .expect("an image is written");
    bytes
}

#[test]
fn one_model_answers_in_every_form() {
    let server = Server::of_trained();
    let rows: Vec<&[u8]> = ZERO.chunks(8).collect();
    let base64 = base64::engine::general_purpose::STANDARD.encode(png());
    for input in [json!(ZERO), json!(rows), json!(base64)] {
        let (status, body) = server.post_json("/predict", &json!({ "input": input }));
        assert_eq!((status, &body["prediction"]["class"]), (200, &json!("0")), "{body}");
    }
    for path in
        ["/models/digits/predict", "/models/digits/versions/1/predict", "/models/digits/versions/2/predict"]
    {
        let (status, body) = server.post(path, "image/png", &png());
        assert_eq!((status, &body["prediction"]["class"]), (200, &json!("0")), "{path}: {body}");
    }
    let (status, body) = server.post_json("/models/digits/predict", &json!({ "inputs": [ZERO, rows] }));
    assert_eq!(status, 200, "{body}");
    let classes: Vec<&Value> =
        body["predictions"].as_array().unwrap().iter().map(|one| &one["class"]).collect();
    assert_eq!(classes, [&json!("0"), &json!("0")]);
    let boundary = "----boundary";
    let mut form = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n").into_bytes();
    form.extend(png());
    form.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
    let (status, body) = server.post("/predict", &format!("multipart/form-data; boundary={boundary}"), &form);
    assert_eq!(status, 200, "{body}");
}

#[test]
fn floats_and_int8_are_served_side_by_side() {
    let server = Server::of_quantized();
    for (version, precision) in [(1, "f32"), (2, "int8")] {
        let path = format!("/models/digits/versions/{version}");
        let (status, view) = server.get(&path);
        assert_eq!((status, &view["precision"]), (200, &json!(precision)), "{view}");
        assert_eq!(view["kernels"], "engine", "{view}");
        let (status, answer) = server.post_json(&format!("{path}/predict"), &json!({ "input": ZERO }));
        assert_eq!((status, &answer["prediction"]["class"]), (200, &json!("0")), "{answer}");
        assert_eq!(answer["version"], version);
        let (_, metadata) = server.get(&format!("/v2/models/digits/versions/{version}"));
        assert_eq!(metadata["parameters"]["precision"], precision);
    }
    assert_eq!(server.post_json("/predict", &json!({ "input": ZERO })).1["version"], 1);
}

#[test]
fn a_table_row_is_answered_from_json_and_csv() {
    let server = Server::of_trained();
    let csv =
        std::fs::read_to_string(root().join("crates/train/data/breast-cancer/breast-cancer.csv")).unwrap();
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let values: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row: serde_json::Map<String, Value> = header
        .iter()
        .zip(&values)
        .filter_map(|(name, value)| value.parse::<f64>().ok().map(|value| ((*name).to_owned(), json!(value))))
        .collect();
    let (status, body) = server.post_json("/models/cancer/predict", &json!({ "input": row }));
    assert_eq!(status, 200, "{body}");
    let three: Vec<&str> = csv.lines().take(4).collect();
    let (status, table) = server.post("/models/cancer/predict", "text/csv", three.join("\n").as_bytes());
    assert_eq!(status, 200, "{table}");
    assert_eq!(table["predictions"][0]["class"], body["prediction"]["class"]);
    assert_eq!(table["predictions"].as_array().map(Vec::len), Some(3));
}

#[test]
fn the_open_inference_protocol_is_spoken_in_json() {
    let server = Server::of_trained();
    assert_eq!(server.get("/v2/health/live").0, 200);
    assert_eq!(server.get("/v2/health/ready").0, 200);
    assert_eq!(server.get("/v2/models/digits/ready").0, 200);
    assert_eq!(server.get("/v2").1["name"].as_str().map(str::is_empty), Some(false));
    let (status, metadata) = server.get("/v2/models/digits");
    assert_eq!(status, 200, "{metadata}");
    assert_eq!(metadata["inputs"][0]["datatype"], "FP32");
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 1, 8, 8]));
    let name = &metadata["inputs"][0]["name"];
    let data = vec![0.0f32; 128];
    let request = json!({ "id": "x1", "inputs": [{ "name": name, "shape": [2, 1, 8, 8], "datatype": "FP32", "data": data }] });
    let (status, answer) = server.post_json("/v2/models/digits/versions/1/infer", &request);
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["id"], &answer["model_version"]), (&json!("x1"), &json!("1")));
    assert_eq!(answer["outputs"][0]["shape"], json!([2, 10]));
    assert_eq!(answer["outputs"][0]["data"].as_array().map(Vec::len), Some(20));
    let huge = json!({ "inputs": [{ "name": name, "shape": [16, 1152921504606846978u64], "datatype": "FP32", "data": [] }] });
    for (request, part) in [
        (huge, "shape"),
        (json!({ "inputs": [] }), "`inputs` is empty"),
        (
            json!({ "inputs": [{ "name": "nope", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": data }] }),
            "nope",
        ),
        (
            json!({ "inputs": [{ "name": name, "shape": [1, 1, 8, 8], "datatype": "FP33", "data": [] }] }),
            "FP33",
        ),
    ] {
        let (status, answer) = server.post_json("/v2/models/digits/infer", &request);
        assert_eq!(status, 400, "{answer}");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(part)), "{part}: {answer}");
    }
}

#[test]
fn what_is_wrong_gets_its_status_and_a_reason() {
    let server = Server::of_trained();
    let json_type = "application/json";
    let deep = "[".repeat(100_000);
    let cases: &[(&str, &str, &[u8], u16, &str)] = &[
        ("/predict", json_type, b"{\"input\": [1, 2]}", 400, "64"),
        ("/predict", json_type, b"{\"imput\": [1, 2]}", 400, "imput"),
        ("/predict", json_type, b"{", 400, "JSON"),
        ("/predict", json_type, deep.as_bytes(), 400, ""),
        ("/predict", json_type, b"{\"inputs\": []}", 400, ""),
        ("/predict", "image/png", b"no picture", 400, "image"),
        ("/predict", "application/x-tar", b"x", 415, "content"),
        ("/models/digitz/predict", json_type, b"{\"input\": []}", 404, "digitz"),
        ("/models/digits/versions/99/predict", json_type, b"{\"input\": []}", 404, "99"),
        ("/nowhere", json_type, b"{}", 404, ""),
    ];
    for (path, content_type, body, status, part) in cases {
        let (found, answer) = server.post(path, content_type, body);
        assert_eq!(found, *status, "{path} {content_type}: {answer}");
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{path}: no error: {answer}"));
        assert!(
            error.to_lowercase().contains(&part.to_lowercase()),
            "{path}: `{error}` does not name {part}"
        );
    }
    assert_eq!(server.get("/predict").0, 405);
    let large = vec![b' '; 17 << 20];
    assert_eq!(server.post("/predict", json_type, &large).0, 413);
    assert_eq!(server.get("/v2/health/live").0, 200, "and it lives on");
}

#[test]
fn with_several_models_and_no_default_the_list_is_given() {
    let models = crate::support::trained().path("models");
    let server = Server::start(&["--models", &models]);
    let (status, answer) = server.post_json("/predict", &json!({ "input": ZERO }));
    assert_eq!(status, 400, "{answer}");
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("digits") && error.contains("cancer"), "{error}");
}

#[test]
fn a_damaged_package_does_not_stop_the_others() {
    let place = crate::support::Place::new();
    for seed in ["1", "2"] {
        place
            .train(&[
                "--config",
                "configs/train/breast-cancer.toml",
                "--set",
                "train.epochs=2",
                "--seed",
                seed,
            ])
            .ok();
    }
    std::fs::write(place.path("models/breast-cancer/2/weights.bpk"), b"damaged").unwrap();
    let server = Server::start(&["--models", &place.path("models")]);
    assert_eq!(server.get("/v2/models/breast-cancer/versions/1/ready").0, 200);
    assert_ne!(server.get("/v2/models/breast-cancer/versions/2/ready").0, 200);
}
