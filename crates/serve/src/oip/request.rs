//! Reading a request: JSON, JSON with the tensors appended (the binary tensor extension), or bare bytes.
//!
//! Reading refuses unknown fields, and everything about a tensor that does not fit its own shape and
//! datatype; whether it fits the *model* is for [`super::infer`] to say. JSON has no NaN or infinity, so
//! they are refused there; in binary they are values like any other.

use network::{DType, Dim, NamedTensor, Signature, Tensor};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::parameters::Place;
use super::types::{InferRequest, RequestedOutput};
use super::{binary, data, parameters};
use crate::error::{Result, ServeError, shown};
use crate::json;

/// Most inputs or outputs that one request may name; no model comes near.
pub const TENSORS: usize = 64;

/// How a body is divided; the header `Inference-Header-Content-Length` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON to the end: there is no header.
    Json,
    /// So many bytes of JSON, then the tensors of those inputs that have a `binary_data_size`, in their order.
    Binary {
        /// Bytes of the JSON, at least one.
        json: usize,
    },
    /// The bytes of the only input and nothing else, for a batch of one: the header is 0.
    Raw,
}

impl Form {
    /// Reads the header, if there is one.
    ///
    /// # Errors
    /// 400 when it is no length.
    pub fn from_header(value: Option<&str>) -> Result<Self> {
        let Some(text) = value.map(str::trim) else { return Ok(Self::Json) };
        // `parse` would take a plus sign.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<usize>() {
            Ok(0) if digits => Ok(Self::Raw),
            Ok(json) if digits => Ok(Self::Binary { json }),
            _ => Err(ServeError::invalid(format_args!(
                "the header Inference-Header-Content-Length must be the length of the JSON in bytes, but is {}",
                shown(text)
            ))),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    id: Option<Value>,
    model_name: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    name: String,
    shape: Vec<serde_json::Number>,
    datatype: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
}

/// Reads an inference request. The signature is that of the model, which alone says what bare bytes are.
///
/// # Errors
/// 400 with what is wrong, 413 for more objects than a request has, 501 for an extension that is not spoken.
pub fn decode(body: &[u8], form: Form, signature: &Signature) -> Result<InferRequest> {
    match form {
        Form::Json => decode_parts(body, None),
        Form::Raw => raw(body, signature),
        Form::Binary { json } => match body.split_at_checked(json) {
            Some((json, tensors)) => decode_parts(json, Some(tensors)),
            None => Err(ServeError::invalid(format_args!(
                "the header Inference-Header-Content-Length is {json}, but the body has {} bytes",
                body.len()
            ))),
        },
    }
}

/// Reads JSON, and the tensors after it where there are some.
fn decode_parts(body: &[u8], tensors: Option<&[u8]>) -> Result<InferRequest> {
    json::check_structure(body, 8 * TENSORS)?;
    let request: Request<'_> = serde_json::from_slice(body).map_err(|error| {
        // Only a body that is wrong is read a second time, to name a misspelt field with what was meant.
        unknown_field(body).unwrap_or_else(|| json::malformed(&error))
    })?;
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
    check_count(request.inputs.len(), outputs.len())?;
    let given = request.parameters.unwrap_or_default();
    parameters::check(&given, "the request")?;
    let binary_output = parameters::flag(&given, "binary_data_output", "the request")?.unwrap_or(false);
    let mut rest = tensors;
    let inputs = request.inputs.into_iter().map(|given| input(given, &mut rest)).collect::<Result<_>>()?;
    if let Some(left) = rest.filter(|rest| !rest.is_empty()) {
        return Err(ServeError::invalid(format_args!(
            "{} bytes are left over after the tensors; the `binary_data_size` of the inputs must add up to the \
             length of the body after its JSON",
            left.len()
        )));
    }
    let outputs = outputs
        .into_iter()
        .map(|Output { name, parameters }| requested(name, parameters.unwrap_or_default(), binary_output))
        .collect::<Result<Vec<_>>>()?;
    Ok(InferRequest {
        id,
        model_name: request.model_name,
        schedule: parameters::schedule(&given)?,
        inputs,
        // An empty list asks for nothing in particular, and gets everything, as with Triton.
        outputs: (!outputs.is_empty()).then_some(outputs),
        binary_output,
    })
}

/// Refuses more inputs or outputs than any model has.
///
/// # Errors
/// 400 with the number that is allowed.
pub fn check_count(inputs: usize, outputs: usize) -> Result<()> {
    if inputs.max(outputs) <= TENSORS {
        return Ok(());
    }
    Err(ServeError::invalid(format_args!("a request may name at most {TENSORS} inputs and outputs")))
}

/// One output that is asked for, whatever it came with.
///
/// # Errors
/// 400 for parameters of a wrong type, 501 for those of an extension that is not spoken.
pub fn requested(name: String, parameters: Map<String, Value>, binary: bool) -> Result<RequestedOutput> {
    let place = Place { what: "output", name: &name };
    parameters::check(&parameters, place)?;
    let binary = parameters::flag(&parameters, "binary_data", place)?.unwrap_or(binary);
    let classes = parameters::classes(&parameters, place)?;
    Ok(RequestedOutput { name, binary, classes })
}

fn input(input: Input<'_>, rest: &mut Option<&[u8]>) -> Result<NamedTensor> {
    let place = Place { what: "input", name: &input.name };
    let refuse = |reason: &str| ServeError::invalid(format_args!("{place}: {reason}"));
    let given = input.parameters.unwrap_or_default();
    parameters::check(&given, place)?;
    // Before the sizes are read: a shape of a million dimensions is refused as such.
    if input.shape.len() > binary::RANK {
        let (found, most) = (input.shape.len(), binary::RANK);
        return Err(refuse(&format!("its shape has {found} dimensions; at most {most} are read")));
    }
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
        let found = shown(&input.datatype);
        refuse(&format!("there is no datatype {found}; the datatypes are {DATATYPES}"))
    })?;
    let tensor = match (parameters::size(&given, place)?, input.data) {
        (None, Some(data)) => data::tensor(dtype, &shape, data),
        (None, None) => return Err(refuse("`data` is missing")),
        (Some(_), Some(_)) => {
            return Err(refuse("it has both `data` and `binary_data_size`; give one of them"));
        }
        (Some(size), None) => {
            let Some(bytes) = *rest else {
                return Err(refuse(
                    "`binary_data_size` needs the header Inference-Header-Content-Length, which tells where the \
                     JSON ends",
                ));
            };
            let Some((bytes, after)) = bytes.split_at_checked(size) else {
                let left = bytes.len();
                return Err(refuse(&format!(
                    "`binary_data_size` is {size}, but the body has {left} bytes left"
                )));
            };
            *rest = Some(after);
            binary::read(dtype, &shape, bytes)
        }
    };
    let tensor = tensor.map_err(|reason| refuse(&reason))?;
    Ok(NamedTensor { name: input.name, tensor })
}

/// A body that is one input, for a batch of one. Its outputs are binary too, since such a client reads no JSON.
fn raw(body: &[u8], signature: &Signature) -> Result<InferRequest> {
    let [spec] = signature.inputs.as_slice() else {
        return Err(ServeError::invalid(format_args!(
            "the header Inference-Header-Content-Length is 0, which is for models with one input; this one has {}",
            signature.inputs.len()
        )));
    };
    let refuse = |reason: String| {
        ServeError::invalid(format_args!("the body is taken as input {}: {reason}", shown(&spec.name)))
    };
    let mut shape: Vec<usize> = spec
        .dims
        .iter()
        .enumerate()
        .map(|(index, dim)| match dim {
            Dim::Fixed(size) => *size,
            // The first is the batch; 0 marks one that the length decides.
            Dim::Named(_) => usize::from(index == 0),
        })
        .collect();
    let varying = spec.dims.iter().skip(1).filter(|dim| matches!(dim, Dim::Named(_))).count();
    if varying > 1 {
        return Err(refuse(format!("{varying} of its dimensions vary, so its shape is unknown; send JSON")));
    }
    let size = binary::element_size(spec.dtype);
    if varying == 1 {
        let fixed = shape.iter().filter(|size| **size != 0).product::<usize>();
        let unit = size.map_or(Some(1), |size| size.checked_mul(fixed)).filter(|unit| *unit > 0);
        let count = match (size, unit) {
            (Some(_), Some(unit)) => body.len() / unit,
            _ => 1,
        };
        for (size, dim) in shape.iter_mut().zip(&spec.dims).skip(1) {
            if matches!(dim, Dim::Named(_)) {
                *size = count;
            }
        }
    }
    let tensor = if spec.dtype == DType::Bytes {
        // One element, which is all of the body; it needs no length before it.
        Tensor::new(shape, network::Elements::Bytes(vec![body.to_vec()])).map_err(|error| error.to_string())
    } else {
        binary::read(spec.dtype, &shape, body)
    };
    Ok(InferRequest {
        inputs: vec![NamedTensor { name: spec.name.clone(), tensor: tensor.map_err(refuse)? }],
        binary_output: true,
        ..InferRequest::default()
    })
}

const DATATYPES: &str = "BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64 and \
                         BYTES";

/// The datatype of that name.
#[must_use]
pub fn dtype(name: &str) -> Option<DType> {
    // The serde names of `DType` are the protocol's.
    DType::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name)).ok()
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

#[cfg(test)]
mod tests;
