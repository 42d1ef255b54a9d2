//! The record: a network's tensors as one `.bpk` file, which is Burn's own format.
//!
//! Keys are `<layer>.<parameter>`, so a record does not depend on Rust types or on positions in a list.
//! The file is written with Burn's `burn-pack`, and Burn's `ModuleRecord::load` reads it. Equal tensors
//! give equal bytes: the order is that of the keys, there is no time in it, and the identity that Burn wants
//! for each parameter is a function of its key.
//!
//! ```
//! use artifact::{Limits, record};
//! use network::{Tensor, Weights};
//!
//! let weights = Weights::from([("dense1.bias".to_owned(), Tensor::from_f32(vec![2], vec![0.5, -1.0])?)]);
//! let bytes = record::encode(&weights)?;
//! assert_eq!(record::decode(&bytes, &Limits::default())?, weights);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;

use burn_pack::{Bytes, HEADER_SIZE, Header, Reader, Writer};
use network::quantization::{Quantization, QuantizationError, SCALE};
use network::{DType, Elements, Network, Parameter, Role, Tensor, Weights};

use crate::digest;
use crate::limits::Limits;

/// A record that cannot be written or believed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RecordError {
    #[error("not a Burn record: {reason}")]
    Format { reason: String },
    #[error("the record's {what} is {actual}, and the limit is {limit}")]
    Limit { what: String, actual: u64, limit: u64 },
    #[error("tensor `{name}` has elements of type {dtype}, which a record cannot hold")]
    Dtype { name: String, dtype: String },
    #[error("tensor `{name}` holds a number that is not finite at index {index}")]
    NotFinite { name: String, index: usize },
    #[error("the record does not fit the network: {}", list(missing, extra, different))]
    Mismatch { missing: Vec<String>, extra: Vec<String>, different: Vec<String> },
    #[error("the record does not fit the quantization")]
    Quantization(#[from] QuantizationError),
}

/// Writes tensors as a Burn record.
///
/// # Errors
/// When a tensor holds booleans or byte strings, which a network's parameters never do.
pub fn encode(weights: &Weights) -> Result<Vec<u8>, RecordError> {
    let tensors = weights.iter().map(|(name, tensor)| to_pack(name, tensor)).collect::<Result<_, _>>()?;
    let bytes = Writer::new(tensors).into_bytes().map_err(format_error)?;
    Ok(bytes.to_vec())
}

/// Reads the tensors of a Burn record.
///
/// # Errors
/// When the bytes are no record, are damaged, go beyond the limits, or hold element types that no host
/// tensor has (half precision, Burn's own quantized types). It never panics.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Weights, RecordError> {
    decode_vec(bytes.to_vec(), limits)
}

/// As [`decode`], without a copy of the bytes.
///
/// # Errors
/// As [`decode`].
pub fn decode_vec(bytes: Vec<u8>, limits: &Limits) -> Result<Weights, RecordError> {
    let contents = open(bytes, limits)?;
    contents.into_iter().map(from_pack).collect()
}

/// Name, element type and shape of one tensor of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `<layer>.<parameter>`.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
}

/// What a record holds, without converting any element.
///
/// # Errors
/// As [`decode`].
pub fn entries(bytes: Vec<u8>, limits: &Limits) -> Result<Vec<Entry>, RecordError> {
    let contents = open(bytes, limits)?;
    let entry = |tensor: burn_pack::Tensor| {
        let dtype = host_dtype(&tensor)?;
        Ok(Entry { shape: tensor.shape.to_vec(), name: tensor.name, dtype })
    };
    contents.into_iter().map(entry).collect()
}

/// What [`decode`] would have made of these tensors, as [`entries`] lists it.
#[must_use]
pub fn entries_of(weights: &Weights) -> Vec<Entry> {
    let entry = |(name, tensor): (&String, &Tensor)| Entry {
        name: name.clone(),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
    };
    weights.iter().map(entry).collect()
}

/// What the record of a network must hold, in the order of its layers: its parameters as 32-bit floats, but of a
/// layer whose weights are integers the weight as 8-bit integers, and its scales.
#[must_use]
pub fn expected(network: &Network, quantization: Option<&Quantization>) -> Vec<Entry> {
    let mut scales = quantization.map(|plan| plan.scale_shapes(network)).unwrap_or_default();
    let mut entries = Vec::new();
    for layer in network.layers() {
        let scale = scales.remove(layer.name.as_str());
        for Parameter { key, shape, role } in &layer.parameters {
            let dtype = if scale.is_some() && *role == Role::Weight { DType::I8 } else { DType::F32 };
            entries.push(Entry { name: key.clone(), dtype, shape: shape.clone() });
        }
        if let Some(shape) = scale {
            entries.push(Entry { name: format!("{}.{SCALE}", layer.name), dtype: DType::F32, shape });
        }
    }
    entries
}

/// Checks that a record holds exactly the [`expected`] tensors, each of its type and shape.
///
/// # Errors
/// Lists every tensor that is missing, unknown, or of another shape or type.
pub fn check(
    entries: &[Entry],
    network: &Network,
    quantization: Option<&Quantization>,
) -> Result<(), RecordError> {
    // What is left over in the end is unknown to the network.
    let mut left: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let (mut missing, mut different) = (Vec::new(), Vec::new());
    for expected in expected(network, quantization) {
        let Entry { name, dtype, shape } = &expected;
        match left.remove(name.as_str()) {
            None => missing.push(format!("`{name}` {shape:?}")),
            Some(found) if *found != expected => {
                let is = format!("{} {:?}", found.dtype, found.shape);
                different.push(format!("`{name}` is {is} and must be {dtype} {shape:?}"));
            }
            Some(_) => {}
        }
    }
    let extra: Vec<String> = left.into_keys().map(|name| format!("`{name}`")).collect();
    if missing.is_empty() && extra.is_empty() && different.is_empty() {
        return Ok(());
    }
    Err(RecordError::Mismatch { missing, extra, different })
}

/// As [`check`], of the tensors themselves: the integers and scales of int8 layers are looked at too.
///
/// # Errors
/// As [`check`], or the first integer or scale that cannot be.
pub fn check_weights(
    weights: &Weights,
    network: &Network,
    quantization: Option<&Quantization>,
) -> Result<(), RecordError> {
    check(&entries_of(weights), network, quantization)?;
    quantization.map_or(Ok(()), |plan| Ok(plan.check_weights(network, weights)?))
}

/// Checks that every number is finite: a model that diverged is no model.
///
/// # Errors
/// Names the first tensor that holds an infinity or no number.
pub fn check_finite(weights: &Weights) -> Result<(), RecordError> {
    for (name, tensor) in weights {
        let position = match tensor.elements() {
            Elements::F32(values) => values.iter().position(|value| !value.is_finite()),
            Elements::F64(values) => values.iter().position(|value| !value.is_finite()),
            _ => None,
        };
        if let Some(index) = position {
            return Err(RecordError::NotFinite { name: name.clone(), index });
        }
    }
    Ok(())
}

fn list(missing: &[String], extra: &[String], different: &[String]) -> String {
    let part = |what: &str, names: &[String]| {
        const SHOWN: usize = 8;
        let more = names.len().saturating_sub(SHOWN);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{what} {}{tail}", names[..names.len() - more].join(", "))
    };
    let all = [("missing", missing), ("unknown", extra), ("different:", different)];
    let parts: Vec<String> =
        all.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| part(what, names)).collect();
    parts.join("; ")
}

/// Burn identifies a parameter by a number; ours is the beginning of its key's digest, so that the same
/// parameter has the same identity in every record and in every network built from a description.
#[must_use]
pub fn parameter_id(key: &str) -> u64 {
    u64::from_str_radix(&digest::sha256_hex(key)[..16], 16).unwrap_or_default()
}

fn to_pack(name: &str, tensor: &Tensor) -> Result<burn_pack::Tensor, RecordError> {
    macro_rules! bytes {
        ($values:expr) => {
            $values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()
        };
    }
    use burn_pack::DType as Pack;
    let (dtype, bytes) = match tensor.elements() {
        Elements::F32(values) => (Pack::F32, bytes!(values)),
        Elements::F64(values) => (Pack::F64, bytes!(values)),
        Elements::I8(values) => (Pack::I8, bytes!(values)),
        Elements::I16(values) => (Pack::I16, bytes!(values)),
        Elements::I32(values) => (Pack::I32, bytes!(values)),
        Elements::I64(values) => (Pack::I64, bytes!(values)),
        Elements::U8(values) => (Pack::U8, values.clone()),
        Elements::U16(values) => (Pack::U16, bytes!(values)),
        Elements::U32(values) => (Pack::U32, bytes!(values)),
        Elements::U64(values) => (Pack::U64, bytes!(values)),
        other => {
            let dtype = other.dtype().name().to_owned();
            return Err(RecordError::Dtype { name: name.to_owned(), dtype });
        }
    };
    let shape = tensor.shape().to_vec();
    let id = Some(parameter_id(name));
    Ok(burn_pack::Tensor::new(name.to_owned(), dtype, shape, id, Bytes::from_bytes_vec(bytes)))
}

fn host_dtype(tensor: &burn_pack::Tensor) -> Result<DType, RecordError> {
    use burn_pack::DType as Pack;
    Ok(match tensor.dtype {
        Pack::F32 => DType::F32,
        Pack::F64 => DType::F64,
        Pack::I8 => DType::I8,
        Pack::I16 => DType::I16,
        Pack::I32 => DType::I32,
        Pack::I64 => DType::I64,
        Pack::U8 => DType::U8,
        Pack::U16 => DType::U16,
        Pack::U32 => DType::U32,
        Pack::U64 => DType::U64,
        other => {
            let dtype = format!("{other:?}");
            return Err(RecordError::Dtype { name: tensor.name.clone(), dtype });
        }
    })
}

fn from_pack(tensor: burn_pack::Tensor) -> Result<(String, Tensor), RecordError> {
    let dtype = host_dtype(&tensor)?;
    let (name, _, shape, _, bytes) = tensor.into_parts().map_err(format_error)?;
    macro_rules! elements {
        ($variant:ident, $type:ty) => {{
            let (chunks, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
            Elements::$variant(chunks.iter().map(|chunk| <$type>::from_le_bytes(*chunk)).collect())
        }};
    }
    let elements = match dtype {
        DType::F64 => elements!(F64, f64),
        DType::I8 => elements!(I8, i8),
        DType::I16 => elements!(I16, i16),
        DType::I32 => elements!(I32, i32),
        DType::I64 => elements!(I64, i64),
        DType::U8 => Elements::U8(bytes.to_vec()),
        DType::U16 => elements!(U16, u16),
        DType::U32 => elements!(U32, u32),
        DType::U64 => elements!(U64, u64),
        // `host_dtype` gives no other type.
        _ => elements!(F32, f32),
    };
    network::background::breathe();
    let tensor = Tensor::new(shape.to_vec(), elements)
        .map_err(|error| RecordError::Format { reason: format!("tensor `{name}`: {error}") })?;
    Ok((name, tensor))
}

/// Parses the container and applies every limit before an element is touched.
fn open(bytes: Vec<u8>, limits: &Limits) -> Result<Vec<burn_pack::Tensor>, RecordError> {
    let size = bytes.len() as u64;
    within("size in bytes", size, limits.record_bytes)?;
    let header = bytes.get(..HEADER_SIZE).ok_or_else(|| RecordError::Format {
        reason: format!("it has {size} bytes, and the header alone takes {HEADER_SIZE}"),
    })?;
    let header = Header::from_bytes(header).map_err(format_error)?;
    within("table of contents in bytes", u64::from(header.metadata_size), limits.record_header_bytes)?;
    let tensors = Reader::from_bytes(Bytes::from_bytes_vec(bytes))
        .and_then(Reader::into_tensors)
        .map_err(format_error)?;
    within("number of tensors", tensors.len() as u64, limits.tensors as u64)?;
    let mut total = 0u64;
    for tensor in &tensors {
        within("longest name in bytes", tensor.name.len() as u64, limits.name_bytes as u64)?;
        let name = &tensor.name;
        within(&format!("tensor `{name}` in dimensions"), tensor.shape.len() as u64, limits.rank as u64)?;
        let bytes = tensor.byte_len() as u64;
        within(&format!("tensor `{name}` in bytes"), bytes, limits.tensor_bytes)?;
        total = total.saturating_add(bytes);
    }
    // Tensors that share bytes would let a small file fill the memory.
    within("sum of all tensors in bytes", total, limits.total_bytes.min(size))?;
    Ok(tensors)
}

fn within(what: &str, actual: u64, limit: u64) -> Result<(), RecordError> {
    if actual <= limit {
        return Ok(());
    }
    Err(RecordError::Limit { what: what.to_owned(), actual, limit })
}

fn format_error(error: burn_pack::Error) -> RecordError {
    RecordError::Format { reason: error.to_string() }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
