//! Requests as bytes: an inference with binary tensors or JSON, and the simple route.

use serde_json::json;

/// How the numbers of a request travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The binary tensor extension of the Open Inference Protocol, both ways.
    Binary,
    /// JSON of the Open Inference Protocol.
    Json,
    /// `{"input": [numbers]}`, or `{"inputs": …}` for several rows, as most servers have a route of their own for.
    Simple,
}

/// `POST path` with a body.
#[must_use]
pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// A request for `rows` rows of a model's only input, FP32 `[rows, shape…]`, with the numbers of `values` over and over.
#[must_use]
pub fn infer(form: Form, model: &str, input: &str, shape: &[usize], rows: usize, values: &[f32]) -> Vec<u8> {
    let width: usize = shape.iter().product();
    let numbers: Vec<f32> = values.iter().copied().cycle().take(rows * width).collect();
    let shape: Vec<usize> = std::iter::once(rows).chain(shape.iter().copied()).collect();
    let path = format!("/v2/models/{model}/infer");
    let tensor = json!({ "name": input, "datatype": "FP32", "shape": shape });
    match form {
        Form::Binary => {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let mut tensor = tensor;
            tensor["parameters"] = json!({ "binary_data_size": bytes.len() });
            let head =
                json!({ "inputs": [tensor], "parameters": { "binary_data_output": true } }).to_string();
            let headers = format!(
                "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {}\r\n",
                head.len()
            );
            post(&path, &headers, &[head.as_bytes(), &bytes].concat())
        }
        Form::Json => {
            let mut tensor = tensor;
            tensor["data"] = json!(numbers);
            post(&path, JSON, json!({ "inputs": [tensor] }).to_string().as_bytes())
        }
        Form::Simple => {
            let all: Vec<&[f32]> = numbers.chunks(width.max(1)).collect();
            let body = match all.as_slice() {
                [one] => json!({ "input": one }),
                all => json!({ "inputs": all }),
            };
            post(&format!("/models/{model}/predict"), JSON, body.to_string().as_bytes())
        }
    }
}

/// The content type of JSON, as a header.
pub const JSON: &str = "Content-Type: application/json\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_how_long_they_are() {
        let values = [1.0, 2.5];
        let request = infer(Form::Binary, "m", "x", &[2], 2, &values);
        let text = String::from_utf8_lossy(&request);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(": ").parse::<usize>().unwrap()
        };
        let start = request.len() - 16;
        assert_eq!(field("Content-Length"), request.len() - head.len() - 4);
        assert_eq!(field("Inference-Header-Content-Length"), field("Content-Length") - 16);
        let json: serde_json::Value =
            serde_json::from_str(&body[..field("Inference-Header-Content-Length")]).unwrap();
        assert_eq!(json["inputs"][0]["shape"], json!([2, 2]));
        assert_eq!(json["inputs"][0]["parameters"]["binary_data_size"], 16);
        assert_eq!(request[start + 4..start + 8], 2.5f32.to_le_bytes());

        for (form, rows, expected) in [
            (Form::Simple, 1, json!({ "input": [1.0, 2.5] })),
            (Form::Simple, 2, json!({ "inputs": [[1.0, 2.5], [1.0, 2.5]] })),
        ] {
            let request = String::from_utf8(infer(form, "m", "x", &[2], rows, &values)).unwrap();
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), expected);
        }
    }
}
