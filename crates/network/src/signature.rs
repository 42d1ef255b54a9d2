//! What a model takes and gives: lists of named tensors.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tensor::{DType, NamedTensor, Tensor};

/// One dimension: a number, or a name for what varies from call to call (`batch`, later `length`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Dim {
    /// Always this size.
    Fixed(usize),
    /// Any size; dimensions of the same name agree within one call.
    Named(String),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Name, element type and dimensions of one input or output, the batch dimension included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorSpec {
    /// The name by which a request gives it.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions; the first is `batch`.
    pub dims: Vec<Dim>,
}

impl TensorSpec {
    /// A batched 32-bit float tensor: `[batch, shape…]`.
    #[must_use]
    pub fn batched_f32(name: &str, shape: &[usize]) -> Self {
        let dims = std::iter::once(Dim::Named("batch".to_owned()))
            .chain(shape.iter().map(|&size| Dim::Fixed(size)))
            .collect();
        Self { name: name.to_owned(), dtype: DType::F32, dims }
    }

    /// The fixed dimensions after the batch, or `None` when one of them varies.
    #[must_use]
    pub fn sample_shape(&self) -> Option<Vec<usize>> {
        self.dims
            .iter()
            .skip(1)
            .map(|dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None })
            .collect()
    }

    /// Checks a tensor's element type and dimensions against this specification.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn check(&self, tensor: &Tensor) -> Result<(), SignatureError> {
        let fits = tensor.dtype() == self.dtype
            && tensor.shape().len() == self.dims.len()
            && tensor.shape().iter().zip(&self.dims).all(|(&size, dim)| match dim {
                Dim::Fixed(fixed) => size == *fixed,
                Dim::Named(_) => true,
            });
        if fits {
            return Ok(());
        }
        Err(SignatureError::Mismatch {
            name: self.name.clone(),
            expected: self.to_string(),
            found: format!("{} {:?}", tensor.dtype(), tensor.shape()),
        })
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", self.dtype)?;
        for (index, dim) in self.dims.iter().enumerate() {
            write!(f, "{}{dim}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// The named inputs and outputs of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signature {
    /// What a prepared batch consists of.
    pub inputs: Vec<TensorSpec>,
    /// What the network returns.
    pub outputs: Vec<TensorSpec>,
}

/// A tensor that does not fit the signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum SignatureError {
    #[error("input `{name}` must be {expected}, but is {found}")]
    Mismatch { name: String, expected: String, found: String },
    #[error("input `{name}` is missing; the model takes {expected}")]
    Missing { name: String, expected: String },
    #[error("there is no input `{name}`; the model takes {expected}")]
    Unknown { name: String, expected: String },
    #[error("input `{name}` is given twice")]
    Duplicate { name: String },
    #[error("input `{name}` has {found} rows, the inputs before it {expected}")]
    Batch { name: String, expected: usize, found: usize },
}

impl Signature {
    /// Checks a set of inputs and returns the number of rows in the batch.
    ///
    /// # Errors
    /// When an input is missing, unknown, doubled, or of another type, shape or batch size.
    pub fn check_inputs(&self, inputs: &[NamedTensor]) -> Result<usize, SignatureError> {
        let takes = || {
            self.inputs.iter().map(|spec| format!("`{}` {spec}", spec.name)).collect::<Vec<_>>().join(", ")
        };
        for (index, input) in inputs.iter().enumerate() {
            if !self.inputs.iter().any(|spec| spec.name == input.name) {
                return Err(SignatureError::Unknown { name: input.name.clone(), expected: takes() });
            }
            if inputs[..index].iter().any(|earlier| earlier.name == input.name) {
                return Err(SignatureError::Duplicate { name: input.name.clone() });
            }
        }
        let mut rows = None;
        for spec in &self.inputs {
            let Some(input) = inputs.iter().find(|input| input.name == spec.name) else {
                return Err(SignatureError::Missing { name: spec.name.clone(), expected: takes() });
            };
            spec.check(&input.tensor)?;
            let found = input.tensor.shape().first().copied().unwrap_or(1);
            match rows {
                None => rows = Some(found),
                Some(expected) if expected != found => {
                    return Err(SignatureError::Batch { name: spec.name.clone(), expected, found });
                }
                Some(_) => {}
            }
        }
        Ok(rows.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, shape: &[usize]) -> NamedTensor {
        let values = vec![0.0; shape.iter().product()];
        NamedTensor { name: name.to_owned(), tensor: Tensor::from_f32(shape.to_vec(), values).unwrap() }
    }

    #[test]
    fn inputs_are_checked_by_name_type_and_shape() {
        let signature = Signature {
            inputs: vec![TensorSpec::batched_f32("a", &[2]), TensorSpec::batched_f32("b", &[3])],
            outputs: vec![],
        };
        assert_eq!(signature.check_inputs(&[named("b", &[4, 3]), named("a", &[4, 2])]), Ok(4));
        let cases: &[(&[NamedTensor], &str)] = &[
            (
                &[named("a", &[4, 2])],
                "input `b` is missing; the model takes `a` FP32 [batch, 2], `b` FP32 [batch, 3]",
            ),
            (
                &[named("c", &[1])],
                "there is no input `c`; the model takes `a` FP32 [batch, 2], `b` FP32 [batch, 3]",
            ),
            (&[named("a", &[4, 2]), named("a", &[4, 2])], "input `a` is given twice"),
            (
                &[named("a", &[4, 3]), named("b", &[4, 3])],
                "input `a` must be FP32 [batch, 2], but is FP32 [4, 3]",
            ),
            (&[named("a", &[4, 2]), named("b", &[5, 3])], "input `b` has 5 rows, the inputs before it 4"),
        ];
        for (inputs, message) in cases {
            assert_eq!(signature.check_inputs(inputs).unwrap_err().to_string(), *message);
        }
    }
}
