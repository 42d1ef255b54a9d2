//! A record in few bytes: a lossless wrapper for the tensors of a network, good at small pruned ones.
//!
//! Every tensor is written in the form that is shortest for it: as it is, with its exponents by frequency, or as a
//! list of its few values and, for each element, which one it is. What is written is a stream of bits, each with a
//! probability that a model gives it from what came before, and a range coder makes the bytes of them. The models
//! compute in whole numbers only, so that a file means the same on every machine. [`decode`] gives back the very
//! tensors, so that [`crate::record::encode`] makes the same record of them, bit by bit.
//!
//! A file is four bytes (`BZC` and the version 1), then one stream: the list of tensors (names, types, shapes),
//! the elements of each, and 16 bits of a digest of all. `artifacts/README.md` has it in detail.
//!
//! ```
//! use artifact::{Limits, codec};
//! use network::{Tensor, Weights};
//!
//! let weights = Weights::from([("fc1.weight".to_owned(), Tensor::from_f32(vec![100, 10], vec![0.0; 1000])?)]);
//! let bytes = codec::encode(&weights)?;
//! assert!(bytes.len() < 30);
//! assert_eq!(codec::decode(&bytes, &Limits::default())?, weights);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bits;
mod coder;
mod dense;
mod floats;
mod header;
mod logistic;
mod mixing;
mod numbers;
mod palette;
mod sparse;
mod tensor;
mod view;

use network::{Elements, Tensor, Weights};
use sha2::{Digest, Sha256};

use self::coder::{Coder, Decoder, Encoder};
use self::tensor::{Memory, Side};
use crate::limits::Limits;
use crate::record::{self, Entry};

/// The name of this wrapper in a manifest's `encoding`.
pub const ENCODING: &str = "brazier-codec/1";

/// The first bytes of a file, before the version.
const MAGIC: &[u8; 3] = b"BZC";
const VERSION: u8 = 1;
/// Bytes before the stream.
const START: usize = 4;
/// Bits of the digest at the end.
const CHECK_BITS: u32 = 16;

/// Tensors that cannot be wrapped, or bytes that are no wrapped record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum CodecError {
    #[error("not a coded record: it does not begin with `BZC`")]
    Magic,
    #[error("the coded record has version {found}, and this program reads version {VERSION}")]
    Version { found: u8 },
    #[error("the coded record's {what} is {actual}, and the limit is {limit}")]
    Limit { what: String, actual: u64, limit: u64 },
    #[error("the coded record is damaged: {reason}")]
    Damaged { reason: String },
    #[error("tensor `{name}` has elements of type {dtype}, which a record cannot hold")]
    Dtype { name: String, dtype: String },
}

impl CodecError {
    fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged { reason: reason.into() }
    }
}

/// Wraps tensors. Equal tensors give equal bytes.
///
/// # Errors
/// When a tensor holds booleans or byte strings, which a network's parameters never do.
pub fn encode(weights: &Weights) -> Result<Vec<u8>, CodecError> {
    let entries = entries(weights)?;
    let bytes = write(weights, &entries, false)?;
    let total: u64 = entries.iter().filter_map(|entry| header::size_bytes(entry.dtype, &entry.shape)).sum();
    if total <= Limits::default().expanded(bytes.len() as u64) {
        return Ok(bytes);
    }
    // So empty a record looks like a file that wants to fill the memory, and no reader would take it.
    write(weights, &entries, true)
}

/// Unwraps tensors. Nothing is believed before it is checked against the limits, and memory is taken only for what
/// the list of tensors declares within them.
///
/// # Errors
/// When the bytes are no coded record, are of another version, damaged, cut off or followed by others, or go beyond
/// the limits. It never panics.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Weights, CodecError> {
    let size = bytes.len() as u64;
    within("size in bytes", size, limits.record_bytes)?;
    let (found, stream) = match bytes {
        [b'B', b'Z', b'C', version, stream @ ..] => (*version, stream),
        _ => return Err(CodecError::Magic),
    };
    if found != VERSION {
        return Err(CodecError::Version { found });
    }
    let mut coder = Decoder::new(stream);
    let entries = header::code(&mut coder, &[], limits, size)?;
    let mut memory = Memory::new();
    let mut weights = Weights::new();
    for Entry { name, dtype, shape } in entries {
        let damaged = || CodecError::damaged(format!("tensor `{name}` cannot be read"));
        let count = network::element_count(&shape).ok_or_else(damaged)?;
        let mut elements = bits::zeros(dtype, count).ok_or_else(|| {
            CodecError::damaged(format!("there is no memory for tensor `{name}` {shape:?}"))
        })?;
        if count > 0 {
            tensor::code(&mut coder, &mut memory, &shape, &mut Side::Read(&mut elements))
                .ok_or_else(damaged)?;
        }
        let tensor = Tensor::new(shape, elements).map_err(|error| CodecError::damaged(error.to_string()))?;
        weights.insert(name, tensor);
    }
    let check = coder.uniform(0, CHECK_BITS);
    if !coder.finish() {
        return Err(CodecError::damaged("it is cut off, or other bytes follow it"));
    }
    if check != checksum(&weights) {
        return Err(CodecError::damaged("its tensors are not those of its digest"));
    }
    Ok(weights)
}

/// Names, types and shapes, in the order of a file.
fn entries(weights: &Weights) -> Result<Vec<Entry>, CodecError> {
    let mut entries = record::entries_of(weights);
    if let Some(Entry { name, dtype, .. }) = entries.iter().find(|entry| bits::width(entry.dtype) == 0) {
        return Err(CodecError::Dtype { name: name.clone(), dtype: dtype.name().to_owned() });
    }
    entries.sort_by(|a, b| header::order(&a.name).cmp(&header::order(&b.name)));
    Ok(entries)
}

fn write(weights: &Weights, entries: &[Entry], raw: bool) -> Result<Vec<u8>, CodecError> {
    let mut coder = Encoder::default();
    header::code(&mut coder, entries, &Limits::unlimited(), u64::MAX)?;
    let mut memory = Memory::new();
    for Entry { name, shape, .. } in entries {
        let Some(elements) = weights.get(name).map(Tensor::elements).filter(|elements| !elements.is_empty())
        else {
            continue;
        };
        let plan = if raw { tensor::raw_plan(shape) } else { tensor::plan(&memory, shape, elements) };
        tensor::code(&mut coder, &mut memory, shape, &mut Side::Write(elements, &plan))
            .ok_or_else(|| CodecError::damaged(format!("tensor `{name}` cannot be written")))?;
    }
    coder.uniform(checksum(weights), CHECK_BITS);
    let mut bytes = [MAGIC, &[VERSION][..]].concat();
    debug_assert_eq!(bytes.len(), START);
    bytes.extend(coder.finish());
    Ok(bytes)
}

/// The beginning of a digest of all names, types, shapes and bits.
fn checksum(weights: &Weights) -> u32 {
    const CHUNK: usize = 1 << 12;
    let mut hasher = Sha256::new();
    let number = |hasher: &mut Sha256, number: usize| hasher.update((number as u64).to_le_bytes());
    for (name, tensor) in weights {
        number(&mut hasher, name.len());
        hasher.update(name);
        hasher.update(tensor.dtype().name());
        number(&mut hasher, tensor.shape().len());
        tensor.shape().iter().for_each(|&size| number(&mut hasher, size));
        digest_elements(&mut hasher, tensor.elements(), CHUNK);
    }
    hasher.finalize().iter().take(2).fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn digest_elements(hasher: &mut Sha256, elements: &Elements, chunk: usize) {
    let bytes = bits::width(elements.dtype()) as usize / 8;
    let mut buffer = Vec::with_capacity(chunk * bytes);
    for start in (0..elements.len()).step_by(chunk) {
        buffer.clear();
        for index in start..(start + chunk).min(elements.len()) {
            buffer.extend_from_slice(&bits::get(elements, index).to_le_bytes()[..bytes]);
        }
        hasher.update(&buffer);
        network::background::breathe();
    }
}

fn within(what: &str, actual: u64, limit: u64) -> Result<(), CodecError> {
    if actual <= limit {
        return Ok(());
    }
    Err(CodecError::Limit { what: what.to_owned(), actual, limit })
}

#[cfg(test)]
mod tests;
