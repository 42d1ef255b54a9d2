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

#[cfg(test)]
mod tests {
    use network::{Network, Weights, preset};
    use safetensors::SafeTensors;

    use super::*;

    fn model(weights: Weights) -> Model {
        let network = Network::new(preset("mlp", &[4], 2).unwrap()).unwrap();
        Model::new("a \"name\"", 7, network, weights, None)
    }

    #[test]
    fn tensors_come_back_with_their_types_and_the_metadata() {
        let tensor = |shape: &[usize], elements| Tensor::new(shape.to_vec(), elements).unwrap();
        let weights = Weights::from([
            ("a.weight".to_owned(), tensor(&[2, 3], Elements::I8(vec![-127, 0, 127, 1, 2, 3]))),
            ("a.scale".to_owned(), tensor(&[3], Elements::F32(vec![0.5, 1e-20, 3.0]))),
            ("b.weight".to_owned(), tensor(&[1, 1], Elements::F32(vec![-0.25]))),
        ]);
        let model = model(weights.clone());
        let file = safetensors(&model).unwrap();
        assert_eq!(file, safetensors(&model).unwrap());
        let (header, metadata) = SafeTensors::read_metadata(&file).unwrap();
        assert_eq!(header % LENGTH, 0);
        let metadata = metadata.metadata().as_ref().unwrap();
        assert_eq!((metadata["name"].as_str(), metadata["version"].as_str()), ("a \"name\"", "7"));
        let spec: network::NetworkSpec = serde_json::from_str(&metadata["network"]).unwrap();
        assert_eq!(&spec, model.network().spec());
        let found = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(found.len(), 3);
        for (key, tensor) in &weights {
            let view = found.tensor(key).unwrap();
            let (dtype, bytes) = elements(key, tensor).unwrap();
            assert_eq!((view.shape(), view.dtype(), view.data()), (tensor.shape(), dtype, bytes.as_slice()));
        }
    }

    #[test]
    fn no_weights_are_a_file_too_and_booleans_are_none() {
        let file = safetensors(&model(Weights::new())).unwrap();
        assert!(SafeTensors::deserialize(&file).unwrap().is_empty());
        let flag = Tensor::new(vec![1], Elements::Bool(vec![true])).unwrap();
        let error = safetensors(&model(Weights::from([("a.flag".to_owned(), flag)]))).unwrap_err();
        assert!(matches!(&error, ExportError::Dtype { key, .. } if key == "a.flag"), "{error}");
    }
}
