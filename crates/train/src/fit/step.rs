//! One step of the optimizer, the same for a training and for the benchmark.
//!
//! A GPU computes behind the program's back, and every read of it waits until it has caught up. So a step
//! first asks for everything, forward, backward and optimizer, and reads the loss and the outputs last and
//! together. Clipping alone needs a number in between: the norm of the gradients.

use burn::optim::ModuleOptimizer;
use burn::tensor::{Tensor, Transaction};
use burn::train::TrainStep as _;

use super::batches::Batch;
use super::hold::Held;
use super::simulate::Seen;
use super::trainee::{StepOutput, Trainee};
use super::{FitError, gradients};
use crate::data::Target;

/// Teaches the model one batch; returns the model after it, and the loss and the metric of the batch before.
pub(super) fn step(
    model: &Trainee,
    optimizer: &mut ModuleOptimizer,
    batch: Batch,
    learning_rate: f64,
    clip_norm: Option<f64>,
    held: Option<&Held>,
) -> Result<(Trainee, StepOutput), FitError> {
    let (told, mut grads) = model.teach(batch, held);
    if let Some(limit) = clip_norm {
        gradients::clip(&mut grads, model, limit)?;
    }
    let mut after = model.clone().optimize(optimizer, learning_rate.into(), grads);
    if let Some(held) = held {
        after.net = held.hold(after.net);
    }
    Ok((after, told.read(model)?))
}

/// What a pass over a batch gave, still on the device.
pub(super) struct Told {
    /// `[1]`
    pub(super) loss: Tensor<1>,
    /// `[samples, outputs]`
    pub(super) logits: Tensor<2>,
    pub(super) targets: Vec<Target>,
    /// The ends of values that a simulation follows.
    pub(super) seen: Vec<Seen>,
}

impl Told {
    /// Waits for the device and reads all of it in one go; a simulation hears what was seen.
    pub(super) fn read(self, model: &Trainee) -> Result<StepOutput, FitError> {
        let (objective, count) = (model.objective(), self.targets.len());
        let (places, ends): (Vec<usize>, Vec<Tensor<1>>) = self.seen.into_iter().map(Seen::parts).unzip();
        let ends = ends.into_iter().map(|ends| ends.reshape([1, 2]));
        let mut read =
            read_all([self.loss.reshape([1, 1]), self.logits].into_iter().chain(ends))?.into_iter();
        let (loss, logits) = (read.next().unwrap_or_default(), read.next().unwrap_or_default());
        if let Some(simulation) = model.simulation() {
            let ends = read.map(|ends| [0, 1].map(|at| ends.get(at).copied().unwrap_or(f32::NAN)));
            simulation.follow(&places.into_iter().zip(ends).collect::<Vec<_>>());
        }
        let loss = loss.first().copied().map_or(f64::NAN, f64::from);
        let score = objective.score_sum(&logits, &self.targets) / count.max(1) as f64;
        Ok(StepOutput { loss, score, count })
    }

    /// The same for callers that cannot hear of an error: a device that cannot be read gives a loss that is no
    /// number.
    pub(super) fn read_or_nan(self, model: &Trainee) -> StepOutput {
        let count = self.targets.len();
        self.read(model).unwrap_or(StepOutput { loss: f64::NAN, score: 0.0, count })
    }
}

/// Copies tensors to the host with one wait for all of them.
pub(super) fn read_all<const D: usize>(
    tensors: impl IntoIterator<Item = Tensor<D>>,
) -> Result<Vec<Vec<f32>>, FitError> {
    let mut tensors = tensors.into_iter().peekable();
    if tensors.peek().is_none() {
        return Ok(Vec::new());
    }
    // Burn reads tensors with and without gradients not in one go.
    let transaction = tensors.map(Tensor::inner).fold(Transaction::default(), Transaction::register);
    let data = transaction.try_execute().map_err(|error| FitError::Device(error.to_string()))?;
    let values = |data: burn::tensor::TensorData| data.try_cast_as::<f32>()?.try_into_vec::<f32>();
    data.into_iter().map(|data| values(data).map_err(|error| FitError::Device(error.to_string()))).collect()
}
