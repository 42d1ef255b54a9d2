//! Writing a response: JSON, with the tensors that were asked for in binary appended.
//!
//! JSON has no NaN or infinity: they are written as `null`. It has no BF16 and no bytes that are not UTF-8 either;
//! a client that wants those asks for binary.

use half::f16;
use network::{Elements, NamedTensor};
use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};

use super::binary;
use super::types::{InferResponse, Output};
use crate::error::{Result, ServeError, shown};

/// A response as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The body.
    pub body: Vec<u8>,
    /// Where its JSON ends, when there are tensors after it; the header `Inference-Header-Content-Length` says it.
    pub json_length: Option<usize>,
}

/// Writes an inference response.
///
/// # Errors
/// 400 when an output that was asked for in JSON holds what JSON cannot carry.
pub fn encode(response: &InferResponse) -> Result<Encoded> {
    let outputs = response.outputs.iter().map(view).collect::<Result<Vec<_>>>()?;
    let head = Head {
        model_name: &response.model_name,
        model_version: &response.model_version,
        id: response.id.as_deref(),
        outputs,
    };
    let mut body = serde_json::to_vec(&head).map_err(ServeError::internal)?;
    let json_length = response.outputs.iter().any(|output| output.binary).then_some(body.len());
    for Output { tensor, .. } in response.outputs.iter().filter(|output| output.binary) {
        binary::write(tensor.tensor.elements(), &mut body).map_err(ServeError::internal)?;
    }
    Ok(Encoded { body, json_length })
}

#[derive(Serialize)]
struct Head<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<View<'a>>,
}

/// An output in the JSON.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Bool(&'a [bool]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F16(#[serde(serialize_with = "widened")] &'a [u16]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Bytes(Vec<&'a str>),
}

fn widened<S: Serializer>(halves: &&[u16], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(halves.len()))?;
    for &bits in *halves {
        list.serialize_element(&f16::from_bits(bits).to_f32())?;
    }
    list.end()
}

fn view(output: &Output) -> Result<View<'_>> {
    let Output { tensor: NamedTensor { name, tensor }, binary } = output;
    let (parameters, data) = if *binary {
        (Some(Size { binary_data_size: binary::size(tensor.elements()) }), None)
    } else {
        let unfit = |what: &str| {
            ServeError::invalid(format_args!(
                "output {} holds {what}, which JSON cannot carry; ask for it with the parameter `binary_data`",
                shown(name)
            ))
        };
        (None, Some(data(tensor.elements()).map_err(unfit)?))
    };
    Ok(View { name, datatype: tensor.dtype().name(), shape: tensor.shape(), parameters, data })
}

fn data(elements: &Elements) -> std::result::Result<Data<'_>, &'static str> {
    Ok(match elements {
        Elements::Bool(values) => Data::Bool(values),
        Elements::U8(values) => Data::U8(values),
        Elements::U16(values) => Data::U16(values),
        Elements::U32(values) => Data::U32(values),
        Elements::U64(values) => Data::U64(values),
        Elements::I8(values) => Data::I8(values),
        Elements::I16(values) => Data::I16(values),
        Elements::I32(values) => Data::I32(values),
        Elements::I64(values) => Data::I64(values),
        Elements::F16(values) => Data::F16(values),
        Elements::F32(values) => Data::F32(values),
        Elements::F64(values) => Data::F64(values),
        Elements::Bytes(values) => {
            let texts: std::result::Result<Vec<&str>, _> =
                values.iter().map(|bytes| std::str::from_utf8(bytes)).collect();
            Data::Bytes(texts.map_err(|_| "bytes that are no UTF-8")?)
        }
        Elements::Bf16(_) => return Err("BF16"),
        _ => return Err("a datatype"),
    })
}
