//! A record as host tensors, and how its parameters are taken from it.

use std::collections::BTreeMap;

use crate::shape::Parameter;
use crate::tensor::{DType, Elements, Tensor};

/// The parameters of a network by the key `<layer>.<parameter>`: a record as host tensors.
pub type Weights = BTreeMap<String, Tensor>;

/// A record that lacks a parameter, or holds it in another type or shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum WeightsError {
    #[error("`{key}` is missing; it must be {expected} {shape:?}")]
    Missing { key: String, expected: DType, shape: Vec<usize> },
    #[error("`{key}` is {found} {found_shape:?} and must be {expected} {shape:?}")]
    Mismatch { key: String, expected: DType, shape: Vec<usize>, found: DType, found_shape: Vec<usize> },
}

/// The tensor `key`, when it has that type and shape.
fn tensor<'a>(
    weights: &'a Weights,
    key: &str,
    expected: DType,
    shape: &[usize],
) -> Result<&'a Tensor, WeightsError> {
    let (key, shape) = (key.to_owned(), shape.to_vec());
    let Some(tensor) = weights.get(&key) else {
        return Err(WeightsError::Missing { key, expected, shape });
    };
    if tensor.dtype() == expected && tensor.shape() == shape {
        return Ok(tensor);
    }
    let (found, found_shape) = (tensor.dtype(), tensor.shape().to_vec());
    Err(WeightsError::Mismatch { key, expected, shape, found, found_shape })
}

/// The 32-bit floats of the tensor `key` of `shape`.
pub(crate) fn floats<'a>(
    weights: &'a Weights,
    key: &str,
    shape: &[usize],
) -> Result<&'a [f32], WeightsError> {
    Ok(tensor(weights, key, DType::F32, shape)?.as_f32().unwrap_or_default())
}

/// The bytes of the tensor `key` of `shape`.
pub(crate) fn bytes<'a>(weights: &'a Weights, key: &str, shape: &[usize]) -> Result<&'a [i8], WeightsError> {
    match tensor(weights, key, DType::I8, shape)?.elements() {
        Elements::I8(values) => Ok(values),
        _ => Ok(&[]),
    }
}

/// The 32-bit floats of a parameter.
pub(crate) fn parameter<'a>(weights: &'a Weights, parameter: &Parameter) -> Result<&'a [f32], WeightsError> {
    floats(weights, &parameter.key, &parameter.shape)
}
