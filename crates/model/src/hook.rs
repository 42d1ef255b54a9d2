//! Looking into a network while it runs, and changing what its layers compute with.

use burn::tensor::Tensor;

use crate::layer::Draws;
use crate::value::Value;

/// Is asked while a network runs ([`Net::run_hooked`](crate::Net::run_hooked)), layer by layer. What it returns is
/// used in place of what it was given, and gradients flow through whatever it does. The methods that are left out
/// change nothing.
///
/// It is what fake quantization is made of: a weight that is rounded on its way into the product, a value that is
/// rounded on its way to the next layer.
pub trait Hook {
    /// The weight `[inputs, units]` of a dense layer.
    fn dense_weight(&self, _layer: &str, weight: Tensor<2>) -> Tensor<2> {
        weight
    }

    /// The weight `[channels, inputs / groups, height, width]` of a convolution.
    fn conv_weight(&self, _layer: &str, weight: Tensor<4>) -> Tensor<4> {
        weight
    }

    /// What a layer gives to those that read it; for a residual block, the sum of its branches.
    fn value(&self, _layer: &str, value: Value) -> Value {
        value
    }
}

/// One operation for tensors of every rank; see [`Value::map`].
pub trait TensorMap {
    /// Applies it.
    fn apply<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D>;
}

/// What a run through the layers carries along.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pass<'a> {
    /// Turns dropout on.
    pub(crate) draws: Option<&'a Draws>,
    pub(crate) hook: Option<&'a dyn Hook>,
}
