//! safetensors: the record's tensors under their keys, readable in every language.

use std::collections::BTreeMap;

use network::{Elements, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use crate::error::ExportError;
use crate::model::Model;

/// The bytes before the header: its length, least significant first.
const LENGTH: usize = 8;

/// The model's weights as a safetensors file. Names, types and shapes are those of the record, so an int8 model
/// has integer weights with scales. The metadata is the model's and, as JSON, its `network` and `quantization`.
/// Equal models give equal bytes.
///
/// # Errors
/// When a tensor holds what no weight is.
pub fn safetensors(model: &Model) -> Result<Vec<u8>, ExportError> {
    let mut tensors = Vec::with_capacity(model.weights().len());
    for (key, tensor) in model.weights() {
        tensors.push((key.as_str(), tensor.shape(), elements(key, tensor)?));
    }
    let mut views = Vec::with_capacity(tensors.len());
    for (key, shape, (dtype, bytes)) in &tensors {
        views.push((*key, TensorView::new(*dtype, shape.to_vec(), bytes)?));
    }
    let file = safetensors::serialize(views, None)?;
    let mut metadata = model.metadata().clone();
    metadata.insert("network".to_owned(), serde_json::to_string(model.network().spec())?);
    if let Some(quantization) = model.quantization() {
        metadata.insert("quantization".to_owned(), serde_json::to_string(quantization)?);
    }
    with_metadata(file, &metadata)
}

fn elements(key: &str, tensor: &Tensor) -> Result<(Dtype, Vec<u8>), ExportError> {
    match tensor.elements() {
        Elements::F32(values) => Ok((Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect())),
        Elements::F64(values) => Ok((Dtype::F64, values.iter().flat_map(|v| v.to_le_bytes()).collect())),
        Elements::I8(values) => Ok((Dtype::I8, values.iter().flat_map(|v| v.to_le_bytes()).collect())),
        Elements::U8(values) => Ok((Dtype::U8, values.clone())),
        Elements::I32(values) => Ok((Dtype::I32, values.iter().flat_map(|v| v.to_le_bytes()).collect())),
        Elements::I64(values) => Ok((Dtype::I64, values.iter().flat_map(|v| v.to_le_bytes()).collect())),
        _ => Err(ExportError::Dtype { key: key.to_owned(), dtype: tensor.dtype() }),
    }
}

/// Puts `__metadata__` first into the header. The library writes it from a hash map, whose order, and with it the
/// digest of the file, would be another each time.
fn with_metadata(file: Vec<u8>, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, ExportError> {
    let mut length = [0u8; LENGTH];
    length.copy_from_slice(&file[..LENGTH]);
    let (header, data) = file[LENGTH..].split_at(u64::from_le_bytes(length) as usize);
    let tensors = header.strip_prefix(b"{").unwrap_or(header).trim_ascii_end();
    let mut first = format!(r#"{{"__metadata__":{}"#, serde_json::to_string(metadata)?).into_bytes();
    if tensors != b"}" {
        first.push(b',');
    }
    first.extend_from_slice(tensors);
    // The data begins at a multiple of eight bytes, behind spaces.
    first.resize(first.len().next_multiple_of(LENGTH), b' ');
    let mut bytes = Vec::with_capacity(LENGTH + first.len() + data.len());
    bytes.extend_from_slice(&(first.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&first);
    bytes.extend_from_slice(data);
    Ok(bytes)
}
