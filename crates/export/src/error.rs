//! What can go wrong when a model is exported.

use network::{QuantizationError, WeightsError};

/// A model that the other format cannot hold, or one that contradicts itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum ExportError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Quantization(#[from] QuantizationError),
    #[error("the record's tensor `{key}` belongs to no layer of the network")]
    Unused { key: String },
    #[error(
        "layer `{layer}` computes in int8, but there is no range for `{value}`, which it reads; there are {known}"
    )]
    Range { layer: String, value: String, known: String },
    #[error("`{key}` is {value} at index {index}: in steps of {step:e} its sums do not fit 32 bits")]
    Bias { key: String, index: usize, value: f32, step: f64 },
    #[error("layer `{layer}` ({kind}) has no counterpart in ONNX that this version knows")]
    Unsupported { layer: String, kind: &'static str },
    #[error("output `{name}` has the name of an input, which ONNX does not allow; rename one of them")]
    OutputName { name: String },
    #[error(
        "the model has {bytes} bytes, and one ONNX file holds at most {limit}; write safetensors instead"
    )]
    TooLarge { bytes: u64, limit: u64 },
    #[error("tensor `{key}` has elements of type {dtype}, which no weight of a network has")]
    Dtype { key: String, dtype: network::DType },
    #[error("the tensors cannot be written as safetensors")]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error("the description of the model cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}
