//! The protocol's messages as JSON.
//!
//! Reading refuses unknown fields, and everything about a tensor that does not fit its own shape and
//! datatype; whether it fits the *model* is for [`super::infer`] to say. JSON has no NaN or infinity: they
//! are refused on the way in and written as `null` on the way out.

use network::{DType, Elements, NamedTensor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::data;
use super::types::{InferRequest, InferResponse, RequestedOutput};
use crate::error::{Kind, Result, ServeError, shown};
use crate::json;

/// Most inputs or outputs that one request may name; no model comes near.
const TENSORS: usize = 64;

#[derive(Deserialize)]
struct Request<'a> {
    id: Option<Value>,
    model_name: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    shape: Vec<serde_json::Number>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Reads an inference request.
///
/// # Errors
/// 400 with what is wrong; 501 when it asks for the binary extension.
pub fn decode(body: &[u8]) -> Result<InferRequest> {
    json::check_structure(body, 8 * TENSORS)?;
    let request: Request<'_> = serde_json::from_slice(body).map_err(|error| {
        // Only a body that is wrong is read a second time, to name a misspelt field before a missing one.
        unknown_field(body).unwrap_or_else(|| json::malformed(&error))
    })?;
    if let Some(error) = unknown_field(body) {
        return Err(error);
    }
    let id = match request.id {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(other) => {
            let kind = json::kind_of(&other);
            return Err(ServeError::invalid(format_args!("`id` must be a string, but is {kind}")));
        }
    };
    if request.inputs.is_empty() {
        return Err(ServeError::invalid("`inputs` is empty; give one tensor for each input of the model"));
    }
    let outputs = request.outputs.unwrap_or_default();
    if request.inputs.len() > TENSORS || outputs.len() > TENSORS {
        return Err(ServeError::invalid(format_args!(
            "a request may name at most {TENSORS} inputs and outputs"
        )));
    }
    check_parameters(&request.parameters, "the request", "binary_data_output")?;
    let inputs = request.inputs.iter().map(input).collect::<Result<_>>()?;
    for output in &outputs {
        check_parameters(&output.parameters, &format!("output {}", shown(&output.name)), "binary_data")?;
    }
    let outputs: Vec<_> = outputs
        .into_iter()
        .map(|output| RequestedOutput { name: output.name, parameters: output.parameters })
        .collect();
    Ok(InferRequest {
        id,
        model_name: request.model_name,
        parameters: request.parameters,
        inputs,
        // An empty list asks for nothing in particular, and gets everything, as with Triton.
        outputs: (!outputs.is_empty()).then_some(outputs),
    })
}

fn input(input: &Input<'_>) -> Result<NamedTensor> {
    let place = format!("input {}", shown(&input.name));
    let refuse = |reason: &str| ServeError::invalid(format_args!("{place}: {reason}"));
    check_parameters(&input.parameters, &place, "binary_data_size")?;
    let shape = input
        .shape
        .iter()
        .map(|size| {
            let whole = size.as_u64().and_then(|size| usize::try_from(size).ok());
            whole.ok_or_else(|| {
                refuse(&format!("{size} in its shape is no size; sizes are whole numbers from 0 on"))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let dtype = dtype(&input.datatype).ok_or_else(|| {
        refuse(&format!(
            "there is no datatype {} that JSON carries; the datatypes are {}",
            shown(&input.datatype),
            DATATYPES
        ))
    })?;
    let data = input.data.ok_or_else(|| refuse("`data` is missing"))?;
    let tensor = data::tensor(dtype, &shape, data).map_err(|reason| refuse(&reason))?;
    Ok(NamedTensor { name: input.name.clone(), tensor })
}

const DATATYPES: &str =
    "BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP32, FP64 and BYTES";

fn dtype(name: &str) -> Option<DType> {
    // The serde names of `DType` are the protocol's.
    DType::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name)).ok()
}

/// Parameters are strings, numbers or booleans. Those of extensions that are not spoken are refused when
/// they ask for something; any other is a hint to some server or proxy, and means nothing here.
fn check_parameters(parameters: &Map<String, Value>, place: &str, binary: &str) -> Result<()> {
    for (name, value) in parameters {
        if matches!(value, Value::Array(_) | Value::Object(_) | Value::Null) {
            return Err(ServeError::invalid(format_args!(
                "parameter {} of {place} must be a string, a number or a boolean, but is {}",
                shown(name),
                json::kind_of(value)
            )));
        }
        if name == binary && *value != Value::Bool(false) {
            return Err(ServeError::new(
                Kind::Unsupported,
                format!(
                    "`{binary}` of {place}: this server does not speak the binary tensor extension; \
                     send and ask for JSON `data` (tritonclient: `binary_data=False`)"
                ),
            ));
        }
    }
    Ok(())
}

/// The first field that the protocol does not have, as an error with a suggestion.
fn unknown_field(body: &[u8]) -> Option<ServeError> {
    type Fields<'a> = std::collections::BTreeMap<String, &'a RawValue>;
    let request: Fields<'_> = serde_json::from_slice(body).ok()?;
    let check = |fields: &Fields<'_>, known: &[&str], place: &str| {
        json::known_fields(fields.keys().map(String::as_str), known, place).err()
    };
    let top = ["id", "model_name", "parameters", "inputs", "outputs"];
    if let Some(error) = check(&request, &top, "the request") {
        return Some(error);
    }
    let lists = [
        ("inputs", &["name", "shape", "datatype", "parameters", "data"][..], "an input"),
        ("outputs", &["name", "parameters"][..], "an output"),
    ];
    for (list, known, place) in lists {
        let Some(items) =
            request.get(list).and_then(|raw| serde_json::from_str::<Vec<Fields<'_>>>(raw.get()).ok())
        else {
            continue;
        };
        if let Some(error) = items.iter().find_map(|item| check(item, known, place)) {
            return Some(error);
        }
    }
    None
}

/// Writes an inference response.
///
/// # Errors
/// 500 when an output holds what JSON cannot carry.
pub fn encode(response: &InferResponse) -> Result<Vec<u8>> {
    let outputs = response.outputs.iter().map(output).collect::<Result<Vec<_>>>()?;
    let response = Response {
        model_name: &response.model_name,
        model_version: response.model_version.to_string(),
        id: response.id.as_deref(),
        outputs,
    };
    serde_json::to_vec(&response).map_err(ServeError::internal)
}

#[derive(Serialize)]
struct Response<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<TensorOut<'a>>,
}

#[derive(Serialize)]
struct TensorOut<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    data: DataOut<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DataOut<'a> {
    Bool(&'a [bool]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Bytes(Vec<&'a str>),
}

fn output(output: &NamedTensor) -> Result<TensorOut<'_>> {
    let data = match output.tensor.elements() {
        Elements::Bool(values) => DataOut::Bool(values),
        Elements::U8(values) => DataOut::U8(values),
        Elements::U16(values) => DataOut::U16(values),
        Elements::U32(values) => DataOut::U32(values),
        Elements::U64(values) => DataOut::U64(values),
        Elements::I8(values) => DataOut::I8(values),
        Elements::I16(values) => DataOut::I16(values),
        Elements::I32(values) => DataOut::I32(values),
        Elements::I64(values) => DataOut::I64(values),
        Elements::F32(values) => DataOut::F32(values),
        Elements::F64(values) => DataOut::F64(values),
        Elements::Bytes(values) => {
            let texts =
                values.iter().map(|bytes| std::str::from_utf8(bytes)).collect::<std::result::Result<_, _>>();
            DataOut::Bytes(texts.map_err(ServeError::internal)?)
        }
        other => return Err(ServeError::internal(format_args!("JSON carries no {}", other.dtype()))),
    };
    let tensor = &output.tensor;
    Ok(TensorOut { name: &output.name, datatype: tensor.dtype().name(), shape: tensor.shape(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_protocol_says() {
        let request = decode(
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
            (
                r#"{"id": 1, "inputs": []}"#.to_owned(),
                Kind::Invalid,
                "`id` must be a string, but is a number",
            ),
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
                with_input(
                    r#""name":"x","shape":[99999999999999999999999999999],"datatype":"FP32","data":[1]"#,
                ),
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
                Kind::Unsupported,
                "binary",
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
            let error = decode(body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(part), "{body}: {error}");
            assert_eq!(error.kind(), kind, "{body}: {error}");
        }
    }
}
