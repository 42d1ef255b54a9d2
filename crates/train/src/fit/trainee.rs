//! The network with what is asked of it, as Burn's learner wants it.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use model::{Net, Value};

use super::batches::Batch;
use super::metrics::{LossInput, ScoreInput};
use super::objective::{Objective, Purpose};

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

    /// Gathers what is told about a batch. A device that cannot be read gives a loss that is no number, and
    /// that ends the training.
    fn output(
        &self,
        loss: burn::tensor::Tensor<1>,
        logits: burn::tensor::Tensor<2>,
        batch: &Batch,
    ) -> StepOutput {
        let count = batch.targets.len();
        let loss = loss.try_into_scalar::<f32>().map_or(f64::NAN, f64::from);
        let logits = logits.try_into_vec_as::<f32>().unwrap_or_default();
        let score = self.context.objective.score_sum(&logits, &batch.targets) / count.max(1) as f64;
        StepOutput { loss, score, count }
    }
}

/// The batch on a device. Its shape has two to five dimensions, which shape inference has made sure of.
fn input(batch: &mut Batch, device: &Device) -> Value {
    let values = std::mem::take(&mut batch.values);
    Value::from_vec(values, &batch.shape, device)
        .unwrap_or_else(|| burn::tensor::Tensor::<2>::zeros([0, 0], device).into())
}

impl TrainStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, mut batch: Batch) -> TrainOutput<StepOutput> {
        let context = &self.context;
        let logits = self.net.forward_train(input(&mut batch, &context.device), &batch.draws);
        let loss = context.objective.loss(logits.clone(), &batch.targets, Purpose::Train, &context.device);
        let output = self.output(loss.clone().detach(), logits.detach(), &batch);
        let norm = if context.l1 > 0.0 { self.net.l1_norm() } else { None };
        let total = match norm {
            Some(norm) => loss + norm * context.l1,
            None => loss,
        };
        TrainOutput::new(self, total.backward(), output)
    }
}

impl InferenceStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, mut batch: Batch) -> StepOutput {
        let device = self.context.device.clone().inner();
        let logits = self.net.forward(input(&mut batch, &device));
        let loss = self.context.objective.loss(logits.clone(), &batch.targets, Purpose::Watch, &device);
        self.output(loss, logits, &batch)
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
