//! What hostile clients send. Afterwards the server is alive, which `check_refusals` asserts each time.

use std::io::Write as _;

use actix_web::web::Bytes;
use serde_json::json;
use serve::config::Limits;

use crate::server::{Ask, Refusal, ask, check_refusals, state, three_models};

const INFER: &str = "/v2/models/prices/infer";
const PREDICT: &str = "/models/prices/predict";

fn shape(shape: &str) -> Ask {
    let body =
        format!(r#"{{"inputs":[{{"name":"input","shape":{shape},"datatype":"FP32","data":[1,2,3]}}]}}"#);
    Ask::json(INFER, body)
}

#[actix_web::test]
async fn shapes_that_overflow_and_json_that_is_deep() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let deep = |depth: usize| format!("{{\"input\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
    let refusals = vec![
        Refusal(shape("[16, 1152921504606846978]"), 400, "more elements than can be counted"),
        Refusal(shape("[4, 1152921504606846978]"), 400, "`data` holds fewer"),
        Refusal(shape("[18446744073709551615, 2]"), 400, "more elements than can be counted"),
        Refusal(shape("[18446744073709551616]"), 400, "whole numbers from 0 on"),
        Refusal(shape("[340282366920938463463374607431768211456]"), 400, ""),
        Refusal(shape("[1e400]"), 400, ""),
        Refusal(shape(&format!("[{}1]", "1,".repeat(100_000))), 400, "100001 dimensions; at most 16"),
        Refusal(Ask::json(PREDICT, deep(120)), 400, "nests deeper than 100 levels"),
        Refusal(Ask::json(PREDICT, deep(50)), 400, "`input`"),
        Refusal(Ask::json(PREDICT, "[".repeat(250_000)), 400, "nests deeper"),
        Refusal(Ask::json(INFER, "[".repeat(250_000)), 400, "nests deeper"),
        Refusal(Ask::json(INFER, "{\"a\":".repeat(60)), 400, ""),
        Refusal(
            Ask::json(PREDICT, format!("{{\"inputs\": [{}0]}}", "{\"a\":0},".repeat(100_000))),
            413,
            "more than 1026 objects",
        ),
        Refusal(
            Ask::json(INFER, format!("{{\"inputs\": [{}0]}}", "{\"a\":0},".repeat(100_000))),
            413,
            "objects",
        ),
        Refusal(
            Ask::json(PREDICT, format!("{{\"inputs\": [{}0]}}", "0,".repeat(100_000))),
            413,
            "one request may hold 1024",
        ),
        Refusal(Ask::json(PREDICT, format!("{{\"input\": [{}0]}}", "[0],".repeat(3_000_000))), 413, "arrays"),
        Refusal(Ask::json(PREDICT, format!("{{\"{}\": 1}}", "x".repeat(1 << 20))), 400, "unknown field `xxx"),
        Refusal(Ask::json(PREDICT, "{\"input\": NaN}"), 400, "not valid JSON"),
        Refusal(Ask::json(PREDICT, "{\"input\": [1, 2, -Infinity]}"), 400, "not valid JSON"),
        Refusal(Ask::json(PREDICT, "{\"input\": [1, 2, 1e39]}"), 400, "too large"),
        Refusal(
            Ask::post(PREDICT, "application/json", Bytes::from_static(b"{\"\xff\": 1}")),
            400,
            "not valid JSON",
        ),
        Refusal(Ask::post(PREDICT, "text/csv", Bytes::from_static(b"\xff\xfe,\0,3\n")), 400, "CSV"),
        Refusal(Ask::post(PREDICT, "text/csv", "1,2,nan\n"), 400, "not a finite number"),
    ];
    check_refusals(&state, refusals).await;
}

#[actix_web::test]
async fn names_that_are_paths_are_only_unknown() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let long = "a".repeat(256);
    let names =
        [" ", "..", "../digits", "%2e%2e", "%2e%2e%2fdigits", "%00", "digits%00", "%ff%fe", "DIGITS", &long];
    for name in names {
        for path in [
            format!("/models/{name}"),
            format!("/v2/models/{name}"),
            format!("/models/digits/versions/{name}"),
        ] {
            let path = path.replace(' ', "%20");
            let answer = ask(&state, Ask::get(&path)).await;
            assert_eq!(answer.status, 404, "{path}: {answer:?}");
            assert!(answer.error().len() < 400, "{path}: {answer:?}");
        }
    }
    assert_eq!(ask(&state, Ask::get("/v2/health/live")).await.status, 200);
}

#[actix_web::test]
async fn bodies_are_bounded_to_the_byte() {
    let models = three_models();
    let limits = Limits { max_body_bytes: 4096, ..Limits::default() };
    let state = state(&models, None, limits);
    let padded = |length: usize| {
        let body = json!({ "input": [1, 2, 3] }).to_string();
        format!("{}{body}", " ".repeat(length - body.len()))
    };
    assert_eq!(ask(&state, Ask::json(PREDICT, padded(4096))).await.status, 200);
    let packed = |length: usize| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b' '; length]).unwrap();
        gzip.finish().unwrap()
    };
    let bomb = |length: usize| {
        Ask::post(PREDICT, "application/json", packed(length)).header("content-encoding", "gzip")
    };
    let refusals = vec![
        Refusal(Ask::json(PREDICT, padded(4097)), 413, "larger than the 4096 bytes"),
        Refusal(Ask::json(PREDICT, padded(4096)).header("content-length", "99999999999"), 413, "larger"),
        Refusal(Ask::json(INFER, padded(4097)), 413, "larger"),
        Refusal(Ask::post(PREDICT, "image/png", vec![0; 5000]), 413, "larger"),
        Refusal(bomb(4096), 400, "the body is empty"),
        Refusal(bomb(4097), 413, "larger"),
        Refusal(bomb(64 << 20), 413, "larger"),
    ];
    check_refusals(&state, refusals).await;
}

#[actix_web::test]
async fn values_are_bounded_to_the_last_one() {
    let models = three_models();
    let exact =
        || Limits { max_json_depth: 3, max_tensor_elements: 6, max_image_pixels: 64, ..Limits::default() };
    let tensor = |rows: usize| {
        let data = vec![1; rows * 3];
        Ask::json(
            INFER,
            json!({ "inputs": [{ "name": "input", "shape": [rows, 3], "datatype": "FP32", "data": data }] }),
        )
    };
    let png = crate::predict::picture(image::ImageFormat::Png);
    let pixels = network::preprocess::image_pixels(&png).unwrap();
    let picture = || Ask::post("/models/digits/predict", "image/png", png.clone());
    let rows = || Ask::json(PREDICT, json!({ "inputs": [[1, 2, 3]] }));
    let index = || Ask::json("/v2/repository/index", json!({}));

    let state = state(&models, None, Limits { max_image_pixels: pixels, ..exact() });
    for ask_for in [rows(), picture(), index()] {
        let shown = ask_for.shown();
        assert_eq!(ask(&state, ask_for).await.status, 200, "{shown}");
    }
    let refusals = vec![
        Refusal(Ask::json(PREDICT, json!({ "inputs": [[[1, 2, 3]]] })), 400, "nests deeper than 3 levels"),
        Refusal(tensor(1), 400, "nests deeper than 3 levels"),
        Refusal(Ask::json("/v2/repository/index", json!({ "a": [[[1]]] })), 400, "nests deeper"),
    ];
    check_refusals(&state, refusals).await;

    let limits = Limits { max_json_depth: 4, max_image_pixels: pixels - 1, ..exact() };
    let state = crate::server::state(&models, None, limits);
    assert_eq!(ask(&state, tensor(2)).await.status, 200);
    let refusals = vec![
        Refusal(tensor(3), 413, "input `input` has 9 elements; a tensor may have 6"),
        Refusal(picture(), 413, "pixels; those of one request may have"),
    ];
    check_refusals(&state, refusals).await;
}

#[actix_web::test]
async fn bodies_in_flight_are_bounded_together() {
    let models = three_models();
    // Each body is allowed by itself, but there is no room for it; nothing stays counted afterwards.
    let limits = Limits { max_bytes_in_flight: 40, ..Limits::default() };
    let state = state(&models, None, limits);
    let small = || Ask::json(PREDICT, json!({ "input": [1, 2, 3] }));
    for _ in 0..10 {
        assert_eq!(ask(&state, small()).await.status, 200);
        let large = Ask::json(PREDICT, json!({ "inputs": vec![[1, 2, 3]; 10] }));
        check_refusals(&state, vec![Refusal(large, 503, "busy")]).await;
    }
}

#[actix_web::test]
async fn a_huge_picture_in_a_small_file_is_refused() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    // The header of a PNG that claims 60,000 × 60,000 pixels.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend_from_slice(&60_000u32.to_be_bytes());
    png.extend_from_slice(&60_000u32.to_be_bytes());
    png.extend_from_slice(&[8, 6, 0, 0, 0, 0, 0, 0, 0]);
    check_refusals(
        &state,
        vec![Refusal(Ask::post("/models/digits/predict", "image/png", png), 400, "the image cannot be read")],
    )
    .await;
}

/// A generator that is enough to damage requests with (xorshift, Marsaglia 2003).
pub(crate) fn damaged(good: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    const BYTES: &[u8] = b"[]{}\",:0-9eE\0\xff";
    let mut bytes = good.to_vec();
    for _ in 0..=next(4) {
        let at = next(bytes.len());
        match next(3) {
            0 => bytes[at] = BYTES[next(BYTES.len())],
            1 => bytes.truncate(at + 1),
            _ => bytes.insert(at, b"[{\"\\"[next(4)]),
        }
    }
    bytes
}

#[actix_web::test]
async fn damaged_requests_are_answered_and_never_500() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let infer = r#"{"id":"1","inputs":[{"name":"input","shape":[1,3],"datatype":"FP32","data":[[1,2,3]]}],"outputs":[{"name":"logits"}]}"#;
    let png = crate::predict::picture(image::ImageFormat::Png);
    let jpeg = crate::predict::picture(image::ImageFormat::Jpeg);
    let goods: [(&str, &str, &[u8]); 5] = [
        (INFER, "application/json", infer.as_bytes()),
        (PREDICT, "application/json", br#"{"inputs":[[1,2,3],[4,5,6]]}"#),
        ("/models/flowers/predict", "text/csv", b"length,colour\n1.5,\"red\"\n2,blue\n"),
        ("/models/digits/predict", "image/png", &png),
        ("/models/digits/predict", "image/jpeg", &jpeg),
    ];
    for (path, content_type, good) in goods {
        for seed in 1..=150 {
            let body = damaged(good, seed);
            let answer = ask(&state, Ask::post(path, content_type, body.clone())).await;
            let fine = answer.status == 200 || answer.status.is_client_error();
            assert!(fine, "{path}, seed {seed}: {answer:?} for {body:?}");
        }
    }
}
