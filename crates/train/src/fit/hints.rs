//! Layers of the student that learn the values of the teacher's layers.

use artifact::record::parameter_id;
use burn::module::{Module, Param, ParamId};
use burn::tensor::module::{conv2d, linear};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use model::Value;
use network::spec::OutputSpec;
use network::{Network, ShapeError};

use super::FitError;
use super::guidance::Hint;
use crate::data::regressor_weights;

/// The linear map from a student's channels to a teacher's; for images a 1×1 convolution.
#[derive(Module, Debug)]
pub(super) struct Regressor {
    /// `[teacher, student]`
    weight: Param<Tensor<2>>,
    /// `[teacher]`
    bias: Param<Tensor<1>>,
}

/// The network with the values of these layers as further outputs, in their order: what a teacher of hints
/// answers with.
///
/// # Errors
/// When there is no such layer, or it is inside a residual block.
pub fn with_outputs(network: &Network, layers: &[String]) -> Result<Network, ShapeError> {
    let mut spec = network.spec().clone();
    for (index, layer) in layers.iter().enumerate() {
        spec.outputs.push(OutputSpec { name: format!("hint.{index}"), from: layer.clone() });
    }
    Network::new(spec)
}

/// One regressor for each hint, a function of the seed; checks that the shapes can be matched.
pub(super) fn regressors(
    network: &Network,
    hints: &[Hint],
    seed: u64,
    device: &Device,
) -> Result<Vec<Regressor>, FitError> {
    let regressor = |(index, hint): (usize, &Hint)| {
        let info = network.layers().iter().find(|info| info.name == hint.student);
        let student = info.map(|info| info.output.as_slice()).unwrap_or_default();
        let fit = match (student, hint.shape.as_slice()) {
            ([from], [to]) => Some((*from, *to)),
            ([from, height, width], [to, h, w]) if (height, width) == (h, w) => Some((*from, *to)),
            _ => None,
        };
        let Some((from, to)) = fit else {
            return Err(FitError::Hint(format!(
                "layer `{}` gives {student:?} and shall learn {:?}; all but the first number must be the same",
                hint.student, hint.shape
            )));
        };
        let parameter = |name: &str| ParamId::from(parameter_id(&format!("hint.{index}.{name}")));
        let values = regressor_weights(seed, index as u64, from, to);
        let weight = Tensor::from_data(TensorData::new(values, [to, from]), device).require_grad();
        Ok(Regressor {
            weight: Param::initialized(parameter("weight"), weight),
            bias: Param::initialized(parameter("bias"), Tensor::zeros([to], device).require_grad()),
        })
    };
    hints.iter().enumerate().map(regressor).collect()
}

impl Regressor {
    pub(super) fn ids(&self) -> [ParamId; 2] {
        [self.weight.id, self.bias.id]
    }

    /// The mean squared difference between the map of a student's value and the teacher's, row-major.
    pub(super) fn loss(&self, student: Value, teacher: Vec<f32>) -> Tensor<1> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let [to, from] = weight.dims();
        let device = weight.device();
        let mapped: Tensor<2> = match student {
            Value::Rank4(images) => {
                let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
                conv2d(images, weight.reshape([to, from, 1, 1]), Some(bias), options).flatten(1, 3)
            }
            other => linear(other.flatten(), weight.transpose(), Some(bias)),
        };
        let shape = mapped.dims();
        let difference = mapped - Tensor::from_data(TensorData::new(teacher, shape), &device);
        (difference.clone() * difference).mean()
    }
}
