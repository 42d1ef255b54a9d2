//! The network with what is asked of it, as Burn's learner wants it.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use model::{Net, Value};

use super::batches::Batch;
use super::metrics::{LossInput, ScoreInput};
use super::objective::{Objective, Purpose};
use super::step::Told;

/// What a step needs besides the network.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) objective: Objective,
    /// The factor of the sum of absolute weights.
    pub(super) l1: f64,
    /// With autodiff.
    pub(super) device: Device,
}

/// The network with its objective.
#[derive(Module, Debug)]
pub(super) struct Trainee {
    pub(super) net: Net,
    #[module(skip)]
    context: Arc<Context>,
}

/// What one step tells; in host memory, so that nobody waits for a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepOutput {
    /// The mean loss of the batch.
    pub(super) loss: f64,
    /// The mean metric of the batch.
    pub(super) score: f64,
    /// The number of samples.
    pub(super) count: usize,
}

impl Trainee {
    pub(super) fn new(net: Net, context: Arc<Context>) -> Self {
        Self { net, context }
    }

    pub(super) fn objective(&self) -> &Objective {
        &self.context.objective
    }

    /// Forward and backward; nothing is read from the device.
    pub(super) fn teach(&self, mut batch: Batch) -> (Told, GradientsParams) {
        let context = &self.context;
        let logits = self.net.forward_train(input(&mut batch, &context.device), &batch.draws);
        let loss = context.objective.loss(logits.clone(), &batch.targets, Purpose::Train, &context.device);
        let told = Told { loss: loss.clone().detach(), logits: logits.detach(), targets: batch.targets };
        let norm = if context.l1 > 0.0 { self.net.l1_norm() } else { None };
        let total = match norm {
            Some(norm) => loss + norm * context.l1,
            None => loss,
        };
        (told, GradientsParams::from_grads(total.backward(), self))
    }

    /// Forward alone, with the running statistics; nothing is read from the device.
    pub(super) fn look(&self, mut batch: Batch) -> Told {
        let device = self.context.device.clone().inner();
        let logits = self.net.forward(input(&mut batch, &device));
        let loss = self.context.objective.loss(logits.clone(), &batch.targets, Purpose::Watch, &device);
        Told { loss, logits, targets: batch.targets }
    }
}

/// The batch on a device. Its shape has two to five dimensions, which shape inference has made sure of.
fn input(batch: &mut Batch, device: &Device) -> Value {
    let values = std::mem::take(&mut batch.values);
    Value::from_vec(values, &batch.shape, device)
        .unwrap_or_else(|| burn::tensor::Tensor::<2>::zeros([0, 0], device).into())
}

// Burn's learner asks for these two; the strategy takes `step::step` and `Told::read`, which can fail.

impl TrainStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> TrainOutput<StepOutput> {
        let (told, grads) = self.teach(batch);
        TrainOutput { grads, item: told.read_or_nan(self.objective()) }
    }
}

impl InferenceStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> StepOutput {
        self.look(batch).read_or_nan(self.objective())
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, burn::tensor::ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<LossInput> for StepOutput {
    fn adapt(&self) -> LossInput {
        LossInput { value: self.loss, count: self.count }
    }
}

impl Adaptor<ScoreInput> for StepOutput {
    fn adapt(&self) -> ScoreInput {
        ScoreInput { value: self.score, count: self.count }
    }
}
