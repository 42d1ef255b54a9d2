//! `POST /predict` and its longer forms.

use std::io::Write as _;

use base64::Engine as _;
use serde_json::{Value, json};
use serve::config::Limits;

use crate::server::{Ask, Refusal, ask, check_refusals, state, three_models};

/// A white bar on black, as a PNG or JPEG file.
pub(crate) fn picture(format: image::ImageFormat) -> Vec<u8> {
    let picture = image::GrayImage::from_fn(40, 60, |x, y| {
        image::Luma([if (18..23).contains(&x) && (10..50).contains(&y) { 255 } else { 0 }])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn png() -> Vec<u8> {
    picture(image::ImageFormat::Png)
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in parts {
        write!(body, "--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n").unwrap();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=XX";

#[actix_web::test]
async fn every_form_of_a_picture_is_the_same_input() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let base64 = base64::engine::general_purpose::STANDARD.encode(png());
    let path = "/models/digits/predict";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&png()).unwrap();
    let asks = [
        Ask::post(path, "image/png", png()),
        Ask::post(path, "IMAGE/PNG; x=y", png()),
        Ask::post(path, "application/octet-stream", png()),
        Ask::post(path, "image/png", gzip.finish().unwrap()).header("content-encoding", "gzip"),
        Ask::json(path, json!({ "input": base64 })),
        Ask::json(path, json!({ "input": format!("data:image/png;base64,{base64}") })),
        Ask::post(path, FORM, form(&[("name=\"f\"; filename=\"a.png\"\r\nContent-Type: image/png", &png())])),
        Ask::post(path, FORM, form(&[("name=\"f\"; filename=\"a.png\"", &png())])),
    ];
    let mut expected = None;
    for request in asks {
        let shown = request.shown();
        let answer = ask(&state, request).await;
        assert_eq!(answer.status, 200, "{shown}: {answer:?}");
        let json = answer.json();
        assert_eq!(json["model"], "digits");
        assert_eq!(json["version"], 1, "production, not the newest");
        let sum: f64 =
            json["prediction"]["probabilities"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        assert!(answer.header("server-timing").starts_with("queue;dur="), "{answer:?}");
        assert_eq!(expected.get_or_insert(json.clone()), &json, "{shown}");
    }
    let jpeg = ask(&state, Ask::post(path, "image/jpeg", picture(image::ImageFormat::Jpeg))).await;
    assert_eq!(jpeg.status, 200);
}

#[actix_web::test]
async fn lists_are_answered_with_lists() {
    let models = three_models();
    let state = state(&models, Some("digits@2"), Limits::default());
    let flat: Vec<u8> = (0..64).map(|i| i % 17).collect();
    let nested: Vec<&[u8]> = flat.chunks(8).collect();
    let one = ask(&state, Ask::json("/predict", json!({ "input": flat }))).await.json();
    assert_eq!(one["version"], 2, "the default model");
    let two = ask(&state, Ask::json("/predict?top=3", json!({ "inputs": [flat, nested] }))).await.json();
    assert_eq!(two["predictions"].as_array().unwrap().len(), 2);
    for prediction in two["predictions"].as_array().unwrap() {
        assert_eq!(prediction["class"], one["prediction"]["class"]);
        let top = prediction["top"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(top[0]["class"], prediction["class"]);
        assert!(top[0]["probability"].as_f64() >= top[1]["probability"].as_f64());
    }
    let csv = |rows: usize| (0..rows).map(|_| vec!["1"; 64].join(",") + "\n").collect::<String>();
    let answer = ask(&state, Ask::post("/predict", "text/csv", csv(1))).await.json();
    assert_eq!(answer["predictions"].as_array().unwrap().len(), 1, "CSV is a list, even of one");
    let files = form(&[
        ("name=\"a\"; filename=\"a.png\"\r\nContent-Type: image/png", &png()),
        ("name=\"b\"; filename=\"b.csv\"\r\nContent-Type: text/csv", csv(2).as_bytes()),
    ]);
    let answer = ask(&state, Ask::post("/predict", FORM, files)).await.json();
    assert_eq!(answer["predictions"].as_array().unwrap().len(), 3);
}

#[actix_web::test]
async fn rows_and_numbers() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let row = json!({ "length": 1.5, "colour": "red" });
    let json_answer = ask(&state, Ask::json("/models/flowers/predict", json!({ "inputs": [row] }))).await;
    let csv = "colour,length\nred,1.5\n";
    let csv_answer = ask(&state, Ask::post("/models/flowers/versions/1/predict", "text/csv", csv)).await;
    assert_eq!(json_answer.json(), csv_answer.json());
    let prediction = &json_answer.json()["predictions"][0];
    assert!(["tulip", "rose"].contains(&prediction["class"].as_str().unwrap()), "{prediction}");
    let prices = ask(&state, Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }))).await.json();
    let values = prices["prediction"]["values"].as_object().unwrap();
    assert!(values["low"].is_number() && values["high"].is_number(), "{prices}");
    for version in ["1", "latest"] {
        let path = format!("/models/prices/versions/{version}/predict");
        assert_eq!(ask(&state, Ask::json(&path, json!({ "input": [1, 2, 3] }))).await.status, 200, "{path}");
    }
    let path = "/models/digits/versions/production/predict";
    let answer = ask(&state, Ask::json(path, json!({ "input": vec![0; 64] }))).await;
    assert_eq!(answer.json()["version"], 1);
}

#[actix_web::test]
async fn the_only_model_is_the_default() {
    let models = crate::registry::Models::new();
    models.publish("prices", &crate::registry::prices(), 1);
    let state = state(&models, None, Limits::default());
    assert_eq!(ask(&state, Ask::json("/predict", json!({ "input": [1, 2, 3] }))).await.status, 200);
}

#[actix_web::test]
async fn refusals_say_what_was_expected() {
    let models = three_models();
    let state = state(&models, None, Limits { max_rows: 3, ..Limits::default() });
    let digits = |body: Value| Ask::json("/models/digits/predict", body);
    let flowers = |body: Value| Ask::json("/models/flowers/predict", body);
    let zeros = vec![0; 64];
    let refusals = vec![
        Refusal(Ask::json("/predict", json!({ "input": zeros })), 400, "`digits`, `flowers`, `prices`"),
        Refusal(
            Ask::json("/models/digit/predict", "{}"),
            404,
            "there is no model `digit`; did you mean `digits`?",
        ),
        Refusal(Ask::json("/models/digits/versions/9/predict", "{}"), 404, "no version `9`"),
        Refusal(Ask::json("/models/digits/versions/01/predict", "{}"), 404, "no version `01`"),
        Refusal(Ask::json("/models/digits/versions/candidate/predict", "{}"), 404, "no version `candidate`"),
        Refusal(Ask::json("/models/digits/predict", ""), 400, "the body is empty"),
        Refusal(Ask::json("/models/digits/predict", "{\"input\": [1,]}"), 400, "not valid JSON"),
        Refusal(Ask::json("/models/digits/predict", "[]"), 400, "the body is an array"),
        Refusal(digits(json!({})), 400, "the request is empty; expected {\"input\": X}"),
        Refusal(
            digits(json!({ "inptu": zeros })),
            400,
            "unknown field `inptu` in the request; did you mean `input`",
        ),
        Refusal(digits(json!({ "input": zeros, "inputs": [] })), 400, "both `input` and `inputs`"),
        Refusal(digits(json!({ "inputs": [] })), 400, "there are no inputs"),
        Refusal(digits(json!({ "inputs": 7 })), 400, "`inputs` must be an array of inputs, but is a number"),
        Refusal(
            digits(json!({ "inputs": [zeros, zeros, zeros, zeros] })),
            413,
            "4 inputs were given; one request may hold 3",
        ),
        Refusal(digits(json!({ "inputs": [zeros, [1]] })), 400, "`inputs[1]`: the array has 1 elements"),
        Refusal(digits(json!({ "input": vec![0; 63] })), 400, "63"),
        Refusal(digits(json!({ "input": { "a": 1 } })), 400, "the model takes an image"),
        Refusal(digits(json!({ "input": "not base64!" })), 400, "base64"),
        Refusal(digits(json!({ "input": "aGVsbG8=" })), 400, "neither PNG nor JPEG"),
        Refusal(digits(json!({ "input": vec![json!(null); 64] })), 400, "null"),
        Refusal(flowers(json!({ "input": { "length": 1 } })), 400, "column `colour` is missing"),
        Refusal(
            flowers(json!({ "input": { "length": "x", "colour": "red" } })),
            400,
            "column `length` must be a number",
        ),
        Refusal(
            flowers(json!({ "input": { "length": null, "colour": "red" } })),
            400,
            "column `length` has no value",
        ),
        Refusal(
            flowers(json!({ "inputs": [{ "length": 1, "color": "red" }] })),
            400,
            "`inputs[0]`: there is no column `color`",
        ),
        Refusal(Ask::post("/models/flowers/predict", "image/png", png()), 400, "the model takes a table row"),
        Refusal(Ask::post("/models/flowers/predict", "text/csv", "length,colour\n"), 400, "no rows"),
        Refusal(Ask::post("/models/flowers/predict", "text/csv", "length,colour\n1\n"), 400, "CSV"),
        Refusal(
            Ask::post("/models/prices/predict", "text/csv", "1,2,3\n".repeat(5)),
            413,
            "one request may hold 3",
        ),
        Refusal(
            Ask::post("/models/digits/predict", "image/png", "\u{89}PNG"),
            400,
            "`input`: the image cannot be read",
        ),
        Refusal(
            Ask::post("/models/digits/predict", "image/png", png()[..60].to_vec()),
            400,
            "the image cannot be read",
        ),
        Refusal(
            Ask::post("/models/digits/predict", "image/webp", "x"),
            415,
            "content type `image/webp` is not read here",
        ),
        Refusal(
            Ask::post("/models/digits/predict", "application/octet-stream", "x"),
            415,
            "`application/octet-stream`",
        ),
        Refusal(
            Ask::post("/models/digits/predict", "application/x-www-form-urlencoded", "a=b"),
            415,
            "application/json",
        ),
        Refusal(Ask::post("/models/digits/predict", "", "x"), 415, "the request has no content type"),
        Refusal(digits(json!({})).header("content-encoding", "br"), 415, "content encoding `br` is not read"),
        Refusal(digits(json!({})).header("content-encoding", "gzip"), 400, "cannot be unpacked"),
        Refusal(Ask::post("/models/digits/predict", FORM, form(&[])), 400, "the form has no file"),
        Refusal(Ask::post("/models/digits/predict", FORM, "--XX\r\n"), 400, "the form cannot be read"),
        Refusal(
            Ask::post("/models/digits/predict", "multipart/form-data", "x"),
            400,
            "the form cannot be read",
        ),
        Refusal(
            Ask::post(
                "/models/digits/predict",
                FORM,
                form(&[("name=\"f\"\r\nContent-Type: application/pdf", b"x")]),
            ),
            415,
            "part `f`",
        ),
        Refusal(
            Ask::json("/models/digits/predict?top=0", "{}"),
            400,
            "`top` must be a whole number from 1 on",
        ),
        Refusal(
            Ask::json("/models/digits/predict?tpo=1", "{}"),
            400,
            "unknown query parameter `tpo`; the only one is `top`",
        ),
    ];
    check_refusals(&state, refusals).await;
    let several = ask(&state, Ask::json("/predict", "{}")).await.json();
    assert_eq!(several["models"], json!(["digits", "flowers", "prices"]));
}
