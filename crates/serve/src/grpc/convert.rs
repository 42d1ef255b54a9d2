//! gRPC messages as the protocol's own, and back. Pure functions, as those for JSON are.

use std::collections::BTreeMap;

use network::{DType, Elements, NamedTensor, Tensor};
use serde_json::{Map, Number, Value};
use tonic::{Code, Status};

use super::inference::infer_parameter::ParameterChoice;
use super::inference::model_infer_request::InferInputTensor;
use super::inference::model_infer_response::InferOutputTensor;
use super::inference::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use crate::error::{Kind, Result, ServeError, shown};
use crate::oip::parameters::Place;
use crate::oip::types::{InferRequest, InferResponse, Output};
use crate::oip::{binary, parameters, request};

/// Reads an inference request. The name and the version of the model are the caller's to look at.
///
/// # Errors
/// 400 with what is wrong, 501 for an extension that is not spoken.
pub fn decode(message: ModelInferRequest) -> Result<InferRequest> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents: raw, .. } = message;
    if inputs.is_empty() {
        return Err(ServeError::invalid("`inputs` is empty; give one tensor for each input of the model"));
    }
    request::check_count(inputs.len(), outputs.len())?;
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(ServeError::invalid(format_args!(
            "`raw_input_contents` has {} entries for {} inputs; give one for each, or none",
            raw.len(),
            inputs.len()
        )));
    }
    let given = values(parameters);
    parameters::check(&given, "the request")?;
    let mut raw = raw.into_iter();
    let inputs =
        inputs.into_iter().map(|tensor| input(tensor, raw.next().as_deref())).collect::<Result<_>>()?;
    let outputs = outputs
        .into_iter()
        .map(|output| request::requested(output.name, values(output.parameters), true))
        .collect::<Result<Vec<_>>>()?;
    Ok(InferRequest {
        id: (!id.is_empty()).then_some(id),
        model_name: None,
        schedule: parameters::schedule(&given)?,
        inputs,
        outputs: (!outputs.is_empty()).then_some(outputs),
        binary_output: true,
    })
}

fn input(tensor: InferInputTensor, raw: Option<&[u8]>) -> Result<NamedTensor> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = tensor;
    let place = Place { what: "input", name: &name };
    let refuse = |reason: String| ServeError::invalid(format_args!("{place}: {reason}"));
    parameters::check(&values(parameters), place)?;
    let dtype = request::dtype(&datatype)
        .ok_or_else(|| refuse(format!("there is no datatype {}", shown(&datatype))))?;
    if shape.len() > binary::RANK {
        let (found, most) = (shape.len(), binary::RANK);
        return Err(refuse(format!("its shape has {found} dimensions; at most {most} are read")));
    }
    let shape = shape
        .into_iter()
        .map(|size| {
            usize::try_from(size).map_err(|_| {
                refuse(format!("{size} in its shape is no size; sizes are whole numbers from 0 on"))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let tensor = match (raw, contents) {
        (Some(bytes), None) => binary::read(dtype, &shape, bytes),
        // Some clients send an empty message beside the bytes.
        (Some(bytes), Some(contents)) if contents == InferTensorContents::default() => {
            binary::read(dtype, &shape, bytes)
        }
        (Some(_), Some(_)) => {
            Err("it has both `contents` and `raw_input_contents`; give one of them".to_owned())
        }
        (None, contents) => typed(dtype, &shape, contents.unwrap_or_default()),
    };
    Ok(NamedTensor { tensor: tensor.map_err(refuse)?, name })
}

/// Typed contents: a list for each width of numbers.
fn typed(
    dtype: DType,
    shape: &[usize],
    contents: InferTensorContents,
) -> std::result::Result<Tensor, String> {
    let count = binary::count(shape)?;
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let lists = [
        ("bool_contents", bool_contents.len()),
        ("int_contents", int_contents.len()),
        ("int64_contents", int64_contents.len()),
        ("uint_contents", uint_contents.len()),
        ("uint64_contents", uint64_contents.len()),
        ("fp32_contents", fp32_contents.len()),
        ("fp64_contents", fp64_contents.len()),
        ("bytes_contents", bytes_contents.len()),
    ];
    let wanted = match dtype {
        DType::Bool => "bool_contents",
        DType::I8 | DType::I16 | DType::I32 => "int_contents",
        DType::I64 => "int64_contents",
        DType::U8 | DType::U16 | DType::U32 => "uint_contents",
        DType::U64 => "uint64_contents",
        DType::F32 => "fp32_contents",
        DType::F64 => "fp64_contents",
        DType::Bytes => "bytes_contents",
        other => return Err(format!("{other} has no typed contents; send it in `raw_input_contents`")),
    };
    if let Some((other, _)) = lists.iter().find(|(name, length)| *length > 0 && *name != wanted) {
        return Err(format!("{dtype} belongs in `{wanted}`, not in `{other}`"));
    }
    let found = lists.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, length)| *length);
    if found != count {
        return Err(format!("its shape {shape:?} has {count} elements, but `{wanted}` holds {found}"));
    }
    let elements = match dtype {
        DType::Bool => Elements::Bool(bool_contents),
        DType::I8 => Elements::I8(narrow(&int_contents, dtype)?),
        DType::I16 => Elements::I16(narrow(&int_contents, dtype)?),
        DType::I32 => Elements::I32(int_contents),
        DType::I64 => Elements::I64(int64_contents),
        DType::U8 => Elements::U8(narrow(&uint_contents, dtype)?),
        DType::U16 => Elements::U16(narrow(&uint_contents, dtype)?),
        DType::U32 => Elements::U32(uint_contents),
        DType::U64 => Elements::U64(uint64_contents),
        DType::F32 => Elements::F32(fp32_contents),
        DType::F64 => Elements::F64(fp64_contents),
        _ => Elements::Bytes(bytes_contents.iter().map(|bytes| bytes.to_vec()).collect()),
    };
    Tensor::new(shape.to_vec(), elements).map_err(|error| error.to_string())
}

fn narrow<T: TryFrom<W>, W: Copy + std::fmt::Display>(
    wide: &[W],
    dtype: DType,
) -> std::result::Result<Vec<T>, String> {
    let read =
        |&value: &W| T::try_from(value).map_err(|_| format!("{value} is outside the range of {dtype}"));
    wide.iter().map(read).collect()
}

/// Parameters as JSON has them, which is how the rest of the server reads them. A number without a form in JSON
/// becomes `null`, which is refused.
fn values(parameters: BTreeMap<String, InferParameter>) -> Map<String, Value> {
    let value = |parameter: InferParameter| match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Value::Bool(value),
        Some(ParameterChoice::Int64Param(value)) => Value::Number(value.into()),
        Some(ParameterChoice::Uint64Param(value)) => Value::Number(value.into()),
        Some(ParameterChoice::DoubleParam(value)) => {
            Number::from_f64(value).map_or(Value::Null, Value::Number)
        }
        Some(ParameterChoice::StringParam(value)) => Value::String(value),
        None => Value::Null,
    };
    parameters.into_iter().map(|(name, parameter)| (name, value(parameter))).collect()
}

/// Writes an inference response. The outputs are raw contents whatever the inputs were, as with Triton.
///
/// # Errors
/// 500 when an output has no such form.
pub fn encode(response: InferResponse) -> Result<ModelInferResponse> {
    let InferResponse { model_name, model_version, id, outputs, .. } = response;
    let mut message =
        ModelInferResponse { model_name, model_version, id: id.unwrap_or_default(), ..Default::default() };
    for Output { tensor: NamedTensor { name, tensor }, .. } in outputs {
        let size = |&size: &usize| i64::try_from(size).map_err(ServeError::internal);
        message.outputs.push(InferOutputTensor {
            name,
            datatype: tensor.dtype().name().to_owned(),
            shape: tensor.shape().iter().map(size).collect::<Result<_>>()?,
            ..Default::default()
        });
        let mut bytes = Vec::new();
        binary::write(tensor.elements(), &mut bytes).map_err(ServeError::internal)?;
        message.raw_output_contents.push(bytes.into());
    }
    Ok(message)
}

/// The code that an error has over gRPC.
#[must_use]
pub fn code(error: &ServeError) -> Code {
    match error.kind() {
        Kind::Invalid | Kind::TooLarge | Kind::MediaType => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Method | Kind::Unsupported => Code::Unimplemented,
        Kind::Timeout | Kind::Deadline => Code::DeadlineExceeded,
        Kind::Unauthorized => Code::Unauthenticated,
        Kind::TooMany => Code::ResourceExhausted,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// A refusal as gRPC has it.
impl From<ServeError> for Status {
    fn from(error: ServeError) -> Self {
        Self::new(code(&error), error.to_string())
    }
}
