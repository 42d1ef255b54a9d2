//! What may guide a training besides the targets: a teacher, a form that the weights are held in, the int8
//! arithmetic that the network will run in.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;
use network::{NamedTensor, Weights};
use predict::Predictor;

use super::FitError;
use super::simulate::FakeQuantization;

/// What guides a training; all of it is optional. It is not part of a checkpoint: a training with guidance cannot
/// be resumed.
#[derive(Clone, Debug, Default)]
pub struct Guidance {
    /// Another network whose answers are learned from.
    pub distillation: Option<Distillation>,
    /// A form that the weights are held in.
    pub constraint: Option<Arc<dyn Constraint>>,
    /// Rounds weights and values as int8 will.
    pub fake_quantization: Option<FakeQuantization>,
}

impl Guidance {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.distillation.is_none() && self.constraint.is_none() && self.fake_quantization.is_none()
    }
}

/// Learning from a teacher: `(1 − alpha) · hard + alpha · soft + Σ weight · hint`.
///
/// The soft loss of classes is `T² · KL(softmax(teacher / T) ‖ softmax(student / T))` (Hinton, Vinyals and Dean
/// 2015, section 2; the factor keeps the size of the gradients when T changes), of one or several labels the same
/// for the two outcomes of each label, averaged over the labels; of a regression it is the squared difference to
/// what the teacher gives, without a temperature.
#[derive(Clone, Debug)]
pub struct Distillation {
    /// Gives the answers.
    pub teacher: Arc<dyn Teacher>,
    /// The share of the soft loss, in [0, 1].
    pub alpha: f64,
    /// By how much logits are divided before the softmax; above 0.
    pub temperature: f64,
    /// Layers whose values are learned from as well.
    pub hints: Vec<Hint>,
}

/// A layer of the student that learns the value of one of the teacher's layers, through a linear map of the
/// channels that is learned along and dropped at the end (FitNets, Romero et al. 2015, section 2.2, with a 1×1
/// regressor; the mean squared error is part of one common loss instead of a stage of its own).
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    /// The name of the student's layer, not inside a residual block.
    pub student: String,
    /// The shape of the teacher's value without the batch; all but the first dimension must be the student's.
    pub shape: Vec<usize>,
    /// The factor of the mean squared error.
    pub weight: f64,
}

/// A network that is learned from. It answers on the thread that prepares batches, while the student computes.
pub trait Teacher: Debug + Send + Sync {
    /// Answers a prepared batch: `values` are `shape`, the first dimension the samples, in row-major order. The
    /// first result is the raw outputs `[samples, outputs]`, then comes the value of each hint in their order.
    ///
    /// # Errors
    /// A sentence that says what went wrong.
    fn answer(&self, shape: &[usize], values: &[f32]) -> Result<Vec<Vec<f32>>, String>;
}

/// Its outputs, in the order of the signature.
impl Teacher for Predictor {
    fn answer(&self, shape: &[usize], values: &[f32]) -> Result<Vec<Vec<f32>>, String> {
        let [input] = self.signature().inputs.as_slice() else {
            return Err(format!("it has {} inputs, and a teacher has one", self.signature().inputs.len()));
        };
        let tensor = network::Tensor::from_f32(shape.to_vec(), values.to_vec());
        let tensor = tensor.map_err(|error| error.to_string())?;
        let outputs = self.infer(&[NamedTensor { name: input.name.clone(), tensor }]);
        let outputs = outputs.map_err(|error| error.to_string())?;
        Ok(outputs.iter().map(|output| output.tensor.as_f32().unwrap_or_default().to_vec()).collect())
    }
}

/// A form that weights are held in: zeros that stay zeros, groups of weights that stay equal. It is applied to the
/// parameters before the first step and after every step of the optimizer, whichever optimizer that is.
pub trait Constraint: Debug + Send + Sync {
    /// Says that `step` steps are done, 0 before the first: the form may change now, and `true` says that it did.
    /// `weights` copies all parameters to the host, which is slow on a GPU, so it is called only when they are
    /// looked at.
    ///
    /// # Errors
    /// When the weights cannot be read or do not fit the constraint.
    fn advance(&self, step: u64, weights: &dyn Fn() -> Result<Weights, FitError>) -> Result<bool, FitError>;

    /// Whether a parameter, named `<layer>.<parameter>`, is held.
    fn holds(&self, key: &str) -> bool;

    /// A held parameter in its form; flat, on the device, without gradients.
    fn hold(&self, key: &str, values: Tensor<1>) -> Tensor<1>;

    /// What the optimizer sees of the gradient of a held parameter; before the gradients are clipped.
    fn gradient(&self, _key: &str, gradient: Tensor<1>) -> Tensor<1> {
        gradient
    }

    /// Whether the form is the final one. Only then an epoch may be the best of a training.
    fn is_settled(&self) -> bool {
        true
    }
}
