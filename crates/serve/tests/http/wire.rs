//! Properties of the wire formats, byte by byte: what was written is read back, and nothing that is sent can do more
//! than be refused.

use network::{DType, Dim, Elements, NamedTensor, Signature, Tensor, TensorSpec};
use proptest::prelude::*;
use serve::oip::request::{self, Form};
use serve::oip::types::{InferResponse, Output};
use serve::oip::{binary, response};
use serve::{compression, grpc, payload};

use crate::executors::DTYPES;

/// A tensor of any datatype and a small shape, its elements any bits.
fn tensor() -> impl Strategy<Value = Tensor> {
    (prop::sample::select(DTYPES.to_vec()), prop::collection::vec(0usize..4, 0..4), any::<u64>()).prop_map(
        |(dtype, shape, seed)| {
            let count = shape.iter().product();
            let bits =
                |index: usize| (seed ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
            let all = (0..count).map(bits);
            let elements = match dtype {
                DType::Bool => Elements::Bool(all.map(|bits| bits & 1 == 1).collect()),
                DType::U8 => Elements::U8(all.map(|bits| bits as u8).collect()),
                DType::U16 => Elements::U16(all.map(|bits| bits as u16).collect()),
                DType::U32 => Elements::U32(all.map(|bits| bits as u32).collect()),
                DType::U64 => Elements::U64(all.collect()),
                DType::I8 => Elements::I8(all.map(|bits| bits as i8).collect()),
                DType::I16 => Elements::I16(all.map(|bits| bits as i16).collect()),
                DType::I32 => Elements::I32(all.map(|bits| bits as i32).collect()),
                DType::I64 => Elements::I64(all.map(|bits| bits as i64).collect()),
                DType::F16 => Elements::F16(all.map(|bits| bits as u16).collect()),
                DType::Bf16 => Elements::Bf16(all.map(|bits| bits as u16).collect()),
                DType::F32 => Elements::F32(all.map(|bits| f32::from_bits(bits as u32)).collect()),
                DType::F64 => Elements::F64(all.map(f64::from_bits).collect()),
                _ => Elements::Bytes(
                    all.map(|bits| bits.to_le_bytes()[..bits as usize % 9].to_vec()).collect(),
                ),
            };
            Tensor::new(shape, elements).unwrap()
        },
    )
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = Vec::new();
    binary::write(tensor.elements(), &mut bytes).unwrap();
    bytes
}

/// A request with binary tensors: its body and where its JSON ends.
fn request_of(tensors: &[Tensor]) -> (Vec<u8>, usize) {
    let inputs: Vec<serde_json::Value> = tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| {
            serde_json::json!({
                "name": format!("i{index}"),
                "shape": tensor.shape(),
                "datatype": tensor.dtype().name(),
                "parameters": { "binary_data_size": bytes(tensor).len() },
            })
        })
        .collect();
    let mut body = serde_json::json!({ "id": "x", "inputs": inputs }).to_string().into_bytes();
    let json = body.len();
    tensors.iter().for_each(|tensor| body.extend(bytes(tensor)));
    (body, json)
}

fn signature(dtype: DType) -> Signature {
    let dims = vec![Dim::Named("batch".to_owned()), Dim::Named("width".to_owned())];
    Signature { inputs: vec![TensorSpec { name: "x".to_owned(), dtype, dims }], outputs: vec![] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn binary_tensors_keep_their_bits(tensor in tensor()) {
        let written = bytes(&tensor);
        prop_assert_eq!(written.len(), binary::size(tensor.elements()));
        let read = binary::read(tensor.dtype(), tensor.shape(), &written).unwrap();
        // Bits and not values: a NaN is not equal to itself.
        prop_assert_eq!(bytes(&read), written.clone());
        // A byte more or less fits no tensor.
        let longer = [written.as_slice(), &[0]].concat();
        prop_assert!(binary::read(tensor.dtype(), tensor.shape(), &longer).is_err());
        if let Some((_, shorter)) = written.split_last() {
            prop_assert!(binary::read(tensor.dtype(), tensor.shape(), shorter).is_err());
        }
    }

    #[test]
    fn requests_with_binary_tensors_are_read_back(tensors in prop::collection::vec(tensor(), 1..5)) {
        let (body, json) = request_of(&tensors);
        let read = request::decode(&body, Form::Binary { json }, &signature(DType::F32)).unwrap();
        prop_assert_eq!(read.inputs.len(), tensors.len());
        for (read, tensor) in read.inputs.iter().zip(&tensors) {
            prop_assert_eq!(read.tensor.shape(), tensor.shape());
            prop_assert_eq!(bytes(&read.tensor), bytes(tensor));
        }
    }

    #[test]
    fn damaged_requests_are_read_or_refused(
        tensors in prop::collection::vec(tensor(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..5),
        shift in -3isize..4,
    ) {
        let (mut body, json) = request_of(&tensors);
        for (place, byte, what) in changes {
            let place = place.index(body.len());
            match what {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                2 => drop(body.remove(place)),
                _ => body.truncate(place.max(1)),
            }
            if body.is_empty() {
                body.push(byte);
            }
        }
        let json = json.saturating_add_signed(shift);
        for form in [Form::Binary { json }, Form::Json, Form::Raw] {
            if let Ok(read) = request::decode(&body, form, &signature(DType::F32)) {
                for NamedTensor { tensor, .. } in &read.inputs {
                    prop_assert_eq!(network::element_count(tensor.shape()), Some(tensor.elements().len()));
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        body in prop::collection::vec(any::<u8>(), 0..200),
        json in 0usize..260,
        dtype in prop::sample::select(DTYPES.to_vec()),
        header in "\\PC{0,12}",
    ) {
        for form in [Form::Json, Form::Raw, Form::Binary { json }] {
            // It returns, which is all that can be said.
            let _ = request::decode(&body, form, &signature(dtype));
        }
        let _ = Form::from_header(Some(&header));
        for coding in compression::Coding::ALL {
            if let Ok(unpacked) = compression::unpack(coding, &body, 1 << 16) {
                prop_assert!(unpacked.len() <= 1 << 16);
            }
        }
        let _ = compression::negotiate(header.split(','));
        if let Ok(message) = <grpc::inference::ModelInferRequest as prost::Message>::decode(body.as_slice()) {
            let _ = grpc::convert::decode(message);
        }
    }

    #[test]
    fn forms_are_read_or_refused(
        parts in prop::collection::vec(
            prop_oneof![
                Just("--b\r\n".to_owned()), Just("--b--".to_owned()), Just("\r\n".to_owned()), Just("\r\n\r\n".to_owned()),
                Just("Content-Disposition: form-data; name=\"f\"; filename=\"a.csv\"\r\n".to_owned()),
                Just("Content-Type: text/csv\r\n".to_owned()), Just("1,2,3\n".to_owned()), "\\PC{0,8}",
            ],
            0..20,
        ),
    ) {
        let body = parts.concat();
        if let Ok(files) = payload::files("multipart/form-data; boundary=b", body.clone().into(), 3) {
            prop_assert!((1..=3).contains(&files.len()));
            prop_assert!(files.iter().map(|file| file.bytes.len()).sum::<usize>() <= body.len());
        }
    }

    #[test]
    fn raw_bodies_are_the_tensor(dtype in prop::sample::select(DTYPES.to_vec()), width in 1usize..9) {
        let size = binary::element_size(dtype).unwrap_or(1);
        let body = vec![1u8; width * size];
        let read = request::decode(&body, Form::Raw, &signature(dtype)).unwrap();
        let tensor = &read.inputs[0].tensor;
        if dtype == DType::Bytes {
            prop_assert_eq!(tensor.elements(), &Elements::Bytes(vec![body]));
        } else {
            prop_assert_eq!(tensor.shape(), &[1, width]);
            prop_assert_eq!(bytes(tensor), body);
        }
        prop_assert!(read.binary_output);
    }

    #[test]
    fn responses_are_json_and_then_the_tensors(tensors in prop::collection::vec((tensor(), any::<bool>()), 0..5)) {
        let named = |(index, (tensor, binary)): (usize, &(Tensor, bool))| Output {
            tensor: NamedTensor { name: format!("o{index}"), tensor: tensor.clone() },
            binary: *binary,
        };
        let outputs: Vec<Output> = tensors.iter().enumerate().map(named).collect();
        let carried = outputs.iter().all(|output| output.binary || match output.tensor.tensor.elements() {
            Elements::Bf16(_) => false,
            Elements::Bytes(all) => all.iter().all(|bytes| std::str::from_utf8(bytes).is_ok()),
            _ => true,
        });
        let answer = InferResponse { model_name: "m".into(), model_version: "1".into(), outputs, ..Default::default() };
        let encoded = response::encode(&answer);
        prop_assert_eq!(encoded.is_ok(), carried);
        let Ok(encoded) = encoded else { return Ok(()) };
        let json_length = encoded.json_length.unwrap_or(encoded.body.len());
        let (json, mut rest) = encoded.body.split_at(json_length);
        let head: serde_json::Value = serde_json::from_slice(json).unwrap();
        for (output, told) in answer.outputs.iter().zip(head["outputs"].as_array().unwrap()) {
            let written = bytes(&output.tensor.tensor);
            if output.binary {
                prop_assert_eq!(&told["parameters"]["binary_data_size"], written.len());
                let (own, after) = rest.split_at(written.len());
                prop_assert_eq!(own, written.as_slice());
                rest = after;
            } else {
                prop_assert_eq!(told["data"].as_array().unwrap().len(), output.tensor.tensor.elements().len());
            }
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn grpc_requests_are_read_back(tensors in prop::collection::vec(tensor(), 1..4)) {
        use grpc::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
        let input = |(index, tensor): (usize, &Tensor)| InferInputTensor {
            name: format!("i{index}"),
            datatype: tensor.dtype().name().to_owned(),
            shape: tensor.shape().iter().map(|&size| size as i64).collect(),
            ..Default::default()
        };
        let message = ModelInferRequest {
            inputs: tensors.iter().enumerate().map(input).collect(),
            raw_input_contents: tensors.iter().map(|tensor| bytes(tensor).into()).collect(),
            ..Default::default()
        };
        let read = grpc::convert::decode(message).unwrap();
        for (read, tensor) in read.inputs.iter().zip(&tensors) {
            prop_assert_eq!(bytes(&read.tensor), bytes(tensor));
        }
    }

    #[test]
    fn packed_bodies_come_back(body in prop::collection::vec(0u8..4, 0..5000)) {
        for coding in compression::Coding::ALL {
            let packed = compression::pack(coding, &body).unwrap();
            prop_assert_eq!(&compression::unpack(coding, &packed, body.len()).unwrap(), &body);
            if !body.is_empty() {
                prop_assert!(compression::unpack(coding, &packed, body.len() - 1).is_err());
            }
        }
    }
}
