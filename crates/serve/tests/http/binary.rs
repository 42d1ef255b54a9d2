//! The binary tensor extension over HTTP, and packed bodies: what is answered, and what hostile headers get.

use std::io::{Read as _, Write as _};

use actix_web::web::Data;
use flate2::read::{GzDecoder, ZlibDecoder};
use network::DType;
use serde_json::{Value, json};
use serve::config::Limits;
use serve::front::Front;
use serve::served::Served;
use serve::state::{Model, State, Version};

use crate::executors;
use crate::server::{Answer, Ask, Refusal, ask, check_refusals, empty_state, state, three_models};

const INFER: &str = "/v2/models/prices/infer";

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn binary(path: &str, json: &Value, tensors: &[u8]) -> Ask {
    let json = json.to_string();
    let body = [json.as_bytes(), tensors].concat();
    Ask::post(path, "application/octet-stream", body)
        .header("Inference-Header-Content-Length", &json.len().to_string())
}

fn request(size: usize) -> Value {
    json!({
        "id": "7",
        "inputs": [{
            "name": "input", "shape": [1, 3], "datatype": "FP32", "parameters": { "binary_data_size": size },
        }],
        "parameters": { "binary_data_output": true },
    })
}

/// The JSON of an answer and the bytes after it.
fn split(answer: &Answer) -> (Value, Vec<u8>) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    let length: usize = answer.header("inference-header-content-length").parse().unwrap();
    let (json, tensors) = answer.body.split_at(length);
    (serde_json::from_slice(json).unwrap(), tensors.to_vec())
}

#[actix_web::test]
async fn binary_tensors_give_what_json_gives() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let json =
        json!({ "inputs": [{ "name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3] }] });
    let answer = ask(&state, Ask::json(INFER, &json)).await.json();
    let expected: Vec<f32> = answer["outputs"][0]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect();
    let tensors = floats(&[1.0, 2.0, 3.0]);
    let (head, bytes) = split(&ask(&state, binary(INFER, &request(12), &tensors)).await);
    assert_eq!((&head["id"], &head["outputs"][0]["shape"]), (&json!("7"), &json!([1, 2])));
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 8);
    assert!(head["outputs"][0].get("data").is_none());
    assert_eq!(bytes, floats(&expected));
    // An output may say for itself what it wants.
    let mut own = request(12);
    own["outputs"] = json!([{ "name": "logits", "parameters": { "binary_data": false } }]);
    let answer = ask(&state, binary(INFER, &own, &tensors)).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json()["outputs"][0]["data"].as_array().unwrap().len(), 2);
    // The body alone, for one row.
    let bare =
        Ask::post(INFER, "application/octet-stream", tensors).header("inference-header-content-length", "0");
    assert_eq!(split(&ask(&state, bare).await).1, bytes);
}

#[actix_web::test]
async fn lengths_that_cannot_be_are_refused() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let tensors = floats(&[1.0, 2.0, 3.0]);
    let with_header = |value: &str| {
        let good = binary(INFER, &request(12), &tensors);
        let body = good.body.clone();
        Ask::post(INFER, "application/octet-stream", body).header("Inference-Header-Content-Length", value)
    };
    let shape = |shape: Value, size: usize| {
        let mut body = request(size);
        body["inputs"][0]["shape"] = shape;
        binary(INFER, &body, &tensors)
    };
    let mut refusals = vec![
        Refusal(with_header("99999999999"), 400, "but the body has"),
        Refusal(with_header("99999999999999999999999"), 400, "must be the length of the JSON"),
        Refusal(with_header("-1"), 400, "must be the length of the JSON"),
        Refusal(with_header("1e3"), 400, "must be the length of the JSON"),
        Refusal(with_header("7"), 400, "not valid JSON"),
        Refusal(with_header("0"), 400, "the body is taken as input `input`: its shape"),
        Refusal(binary(INFER, &request(12), &tensors[1..]), 400, "the body has 11 bytes left"),
        Refusal(binary(INFER, &request(11), &tensors), 400, "needs 12 bytes, but there are 11"),
        Refusal(
            binary(INFER, &request(12), &[tensors.clone(), vec![0]].concat()),
            400,
            "1 bytes are left over",
        ),
        Refusal(binary(INFER, &request(usize::MAX), &tensors), 400, "the body has 12 bytes left"),
        Refusal(
            shape(json!([16, 1_152_921_504_606_846_978_u64]), 12),
            400,
            "more elements than can be counted",
        ),
        Refusal(shape(json!([4, 1_152_921_504_606_846_978_u64]), 12), 400, "more than can be counted"),
        Refusal(shape(json!([1, 4]), 12), 400, "needs 16 bytes"),
        Refusal(shape(json!([3]), 12), 400, "must be FP32 [batch, 3], but is FP32 [3]"),
        Refusal(shape(json!([0, 3]), 0), 400, "12 bytes are left over"),
        Refusal(Ask::json(INFER, request(12)), 400, "needs the header"),
    ];
    for _ in 0..20 {
        let packed = gzip(&with_header("99999999999").body);
        let ask = Ask::post(INFER, "", packed)
            .header("content-encoding", "gzip")
            .header("inference-header-content-length", "99999999999");
        refusals.push(Refusal(ask, 400, "but the body has"));
    }
    check_refusals(&state, refusals).await;
}

/// As small as it gets.
pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

/// A server with the identity of FP32 alone.
fn echo() -> Data<State> {
    let state = empty_state(Front::default());
    let served = Served::new("echo", 1, executors::identity(DType::F32), &state.scheduler, &state.health);
    let model = Model { versions: [(1, Version::Ready(served))].into(), ..Model::default() };
    state.update(|catalog| drop(catalog.models.insert("echo".to_owned(), model)));
    state.loaded();
    Data::new(state)
}

#[actix_web::test]
async fn bodies_are_packed_both_ways() {
    let state = echo();
    let values: Vec<f32> = (0..4096u16).map(|index| f32::from(index % 5)).collect();
    let tensors = floats(&values);
    let json = json!({
        "inputs": [{
            "name": "INPUT0", "shape": [1, 4096], "datatype": "FP32",
            "parameters": { "binary_data_size": tensors.len() },
        }],
        "parameters": { "binary_data_output": true },
    });
    let plain = binary("/v2/models/echo/infer", &json, &tensors);
    let zstd = |body: &[u8]| serve::compression::pack(serve::compression::Coding::Zstd, body).unwrap();
    let deflate = |body: &[u8]| serve::compression::pack(serve::compression::Coding::Deflate, body).unwrap();
    for coding in ["gzip", "deflate", "zstd"] {
        let packed = match coding {
            "gzip" => gzip(&plain.body),
            "deflate" => deflate(&plain.body),
            _ => zstd(&plain.body),
        };
        let ask_for = Ask { body: packed.into(), ..plain.clone() };
        let answer =
            ask(&state, ask_for.header("content-encoding", coding).header("accept-encoding", coding)).await;
        assert_eq!(answer.status, 200, "{coding}: {answer:?}");
        assert_eq!(answer.header("content-encoding"), coding);
        assert!(answer.body.len() < tensors.len(), "{coding}");
        let mut body = Vec::new();
        let (mut gzip, mut zlib) = (GzDecoder::new(&answer.body[..]), ZlibDecoder::new(&answer.body[..]));
        match coding {
            "gzip" => assert_ne!(gzip.read_to_end(&mut body).unwrap(), 0),
            "deflate" => assert_ne!(zlib.read_to_end(&mut body).unwrap(), 0),
            _ => {
                body = serve::compression::unpack(serve::compression::Coding::Zstd, &answer.body, 1 << 20)
                    .unwrap()
            }
        }
        // The length is that of the JSON before packing.
        let length: usize = answer.header("inference-header-content-length").parse().unwrap();
        assert_eq!(body[length..], tensors, "{coding}");
    }
    // Short answers are not worth it, and a client that wants none gets none.
    let short = Ask::get("/v2").header("accept-encoding", "gzip");
    assert_eq!(ask(&state, short).await.header("content-encoding"), "");
    assert_eq!(ask(&state, plain.header("accept-encoding", "br")).await.header("content-encoding"), "");
}

#[actix_web::test]
async fn packed_bodies_are_bounded_unpacked() {
    let models = three_models();
    let state = state(&models, None, Limits { max_body_bytes: 1 << 16, ..Limits::default() });
    let bomb = serve::compression::pack(serve::compression::Coding::Zstd, &vec![b' '; 64 << 20]).unwrap();
    assert!(bomb.len() < 1 << 16);
    let send = |body: Vec<u8>, coding: &str| Ask::post(INFER, "", body).header("content-encoding", coding);
    let refusals = vec![
        Refusal(send(bomb.clone(), "zstd"), 413, "larger than the 65536 bytes"),
        Refusal(send(bomb[..bomb.len() / 2].to_vec(), "zstd"), 413, "larger"),
        Refusal(send(b"no frame".to_vec(), "zstd"), 400, "cannot be unpacked"),
        Refusal(send(b"no frame".to_vec(), "deflate"), 400, "cannot be unpacked"),
        Refusal(send(vec![], "gzip, zstd"), 415, "is not read"),
    ];
    check_refusals(&state, refusals).await;
}
