//! Requests as clients send them, right and wrong.

use network::TensorSpec;

use super::*;
use crate::error::Kind;

fn decode_json(body: &[u8]) -> Result<InferRequest> {
    decode(body, Form::Json, &Signature { inputs: vec![], outputs: vec![] })
}

#[test]
fn reads_what_the_protocol_says() {
    let request = decode_json(
        br#"{"id": "42", "parameters": {"priority": 1}, "outputs": [{"name": "logits"}],
             "inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]}]}"#,
    )
    .unwrap();
    assert_eq!(request.id.as_deref(), Some("42"));
    assert_eq!(request.inputs[0].tensor.as_f32(), Some(&[1.0, 2.0][..]));
    assert_eq!(request.outputs.unwrap()[0].name, "logits");
}

#[test]
fn refusals_say_what_was_expected() {
    let with_input = |fields: &str| format!(r#"{{"inputs": [{{{fields}}}]}}"#);
    let cases = [
        ("[]".to_owned(), Kind::Invalid, "invalid"),
        ("{}".to_owned(), Kind::Invalid, "missing field `inputs`"),
        (r#"{"inputs": []}"#.to_owned(), Kind::Invalid, "`inputs` is empty"),
        (
            r#"{"input": []}"#.to_owned(),
            Kind::Invalid,
            "unknown field `input` in the request; did you mean `inputs`",
        ),
        (r#"{"id": 1, "inputs": []}"#.to_owned(), Kind::Invalid, "`id` must be a string, but is a number"),
        (
            with_input(r#""name":"x","shape":[1],"dtype":"FP32","data":[1]"#),
            Kind::Invalid,
            "did you mean `datatype`",
        ),
        (
            with_input(r#""name":"x","shape":[-1],"datatype":"FP32","data":[1]"#),
            Kind::Invalid,
            "whole numbers from 0 on",
        ),
        (
            with_input(r#""name":"x","shape":[1e3],"datatype":"FP32","data":[1]"#),
            Kind::Invalid,
            "1000.0 in its shape is no size",
        ),
        (
            with_input(r#""name":"x","shape":[99999999999999999999999999999],"datatype":"FP32","data":[1]"#),
            Kind::Invalid,
            "",
        ),
        (
            with_input(r#""name":"x","shape":[1],"datatype":"FP33","data":[1]"#),
            Kind::Invalid,
            "no datatype `FP33`",
        ),
        (with_input(r#""name":"x","shape":[1],"datatype":"FP32""#), Kind::Invalid, "`data` is missing"),
        (
            with_input(r#""name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}"#),
            Kind::Invalid,
            "needs the header Inference-Header-Content-Length",
        ),
        (
            with_input(r#""name":"x","shape":[1],"datatype":"BF16","data":[1]"#),
            Kind::Invalid,
            "send it in binary",
        ),
        (
            with_input(
                r#""name":"x","shape":[1],"datatype":"FP32","parameters":{"shared_memory_region":"r"}"#,
            ),
            Kind::Unsupported,
            "does not share memory",
        ),
        (
            with_input(r#""name":"x","shape":[1],"datatype":"FP32","parameters":{"a":[1]},"data":[1]"#),
            Kind::Invalid,
            "must be a string",
        ),
        (r#"{"inputs": [{"name": "#.to_owned(), Kind::Invalid, "not valid JSON"),
        ("[".repeat(120), Kind::Invalid, "nests deeper"),
    ];
    for (body, kind, part) in cases {
        let error = decode_json(body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(part), "{body}: {error}");
        assert_eq!(error.kind(), kind, "{body}: {error}");
    }
}

fn signature(dtype: DType, dims: &[Option<usize>]) -> Signature {
    let dim = |size: &Option<usize>| size.map_or_else(|| Dim::Named("n".to_owned()), Dim::Fixed);
    let spec = TensorSpec { name: "x".to_owned(), dtype, dims: dims.iter().map(dim).collect() };
    Signature { inputs: vec![spec], outputs: vec![] }
}

#[test]
fn the_header_is_a_length() {
    assert_eq!(Form::from_header(None).unwrap(), Form::Json);
    assert_eq!(Form::from_header(Some("0")).unwrap(), Form::Raw);
    assert_eq!(Form::from_header(Some(" 17 ")).unwrap(), Form::Binary { json: 17 });
    for wrong in ["", "-1", "+1", "1.5", "0x10", "1,2", "99999999999999999999999999"] {
        assert_eq!(Form::from_header(Some(wrong)).unwrap_err().kind(), Kind::Invalid, "{wrong}");
    }
}

#[test]
fn json_and_binary_inputs_stand_side_by_side() {
    let json = br#"{"inputs":[
        {"name":"a","shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}},
        {"name":"b","shape":[1],"datatype":"INT16","data":[7]},
        {"name":"c","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}"#;
    let body = [&json[..], &[1, 0, 2, 0], &[1, 0, 0, 0, b'z']].concat();
    let form = Form::Binary { json: json.len() };
    let none = signature(DType::F32, &[]);
    let read = decode(&body, form, &none).unwrap();
    let found: Vec<_> = read.inputs.into_iter().map(|input| input.tensor.into_parts().1).collect();
    let expected = [
        network::Elements::I16(vec![1, 2]),
        network::Elements::I16(vec![7]),
        network::Elements::Bytes(vec![vec![b'z']]),
    ];
    assert_eq!(found, expected);
    let long = [&body[..], &[0]].concat();
    let cases: [(&[u8], Form, &str); 4] = [
        (&long, form, "1 bytes are left over"),
        (&body[..body.len() - 1], form, "input `c`: `binary_data_size` is 5, but the body has 4 bytes left"),
        (&body, Form::Binary { json: body.len() + 1 }, "but the body has"),
        (&body, Form::Binary { json: json.len() - 1 }, "not valid JSON"),
    ];
    for (body, form, part) in cases {
        let error = decode(body, form, &none).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_bare_body_is_the_only_input_for_one_row() {
    let shape = |dtype, dims: &[Option<usize>], bytes: usize| {
        let read = decode(&vec![0; bytes], Form::Raw, &signature(dtype, dims));
        read.map(|read| read.inputs[0].tensor.shape().to_vec()).map_err(|error| error.to_string())
    };
    assert_eq!(shape(DType::F32, &[None, Some(3)], 12).unwrap(), [1, 3]);
    assert_eq!(shape(DType::F32, &[None, Some(2), None], 24).unwrap(), [1, 2, 3]);
    assert_eq!(shape(DType::Bytes, &[None, Some(1)], 9).unwrap(), [1, 1]);
    for (dtype, dims, bytes, part) in [
        (DType::F32, &[None, Some(3)][..], 13, "needs 12 bytes, but there are 13"),
        (DType::F32, &[None, Some(2), None], 20, "needs 16 bytes, but there are 20"),
        (DType::F32, &[None, None, None], 4, "2 of its dimensions vary"),
        (DType::F32, &[None, Some(1 << 40), None], 4, "needs 0 bytes"),
        (DType::Bytes, &[None, Some(2)], 9, "2 elements, but 1 were given"),
    ] {
        let error = shape(dtype, dims, bytes).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let two = Signature { inputs: vec![], outputs: vec![] };
    assert!(decode(b"", Form::Raw, &two).unwrap_err().to_string().contains("this one has 0"));
}
