//! The network with what is asked of it, as Burn's learner wants it.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use model::{Hook, Net, ParameterState, Value};
use network::Network;

use super::batches::Batch;
use super::guidance::Hint;
use super::hints::{Regressor, regressors};
use super::hold::Held;
use super::metrics::{LossInput, ScoreInput};
use super::objective::{Objective, Purpose};
use super::simulate::Simulation;
use super::step::Told;
use super::{FitError, Plan};

/// What a step needs besides the network.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) objective: Objective,
    /// The factor of the sum of absolute weights.
    pub(super) l1: f64,
    /// With autodiff.
    pub(super) device: Device,
    /// How much of the teacher is in the loss.
    pub(super) lesson: Option<Lesson>,
    /// Rounds as int8 will.
    pub(super) simulation: Option<Simulation>,
    /// The name of the network's input, which may be rounded too.
    input: String,
}

/// The numbers of a distillation.
#[derive(Debug)]
pub(super) struct Lesson {
    alpha: f64,
    temperature: f64,
    /// The factor of each hint.
    hints: Vec<f64>,
}

/// What is trained along with the network and dropped afterwards.
#[derive(Module, Debug, Default)]
pub(super) struct Companions {
    /// The logarithms of learned steps.
    pub(super) steps: Vec<Param<Tensor<1>>>,
    /// One for each hint.
    regressors: Vec<Regressor>,
}

/// The network with its objective.
#[derive(Module, Debug)]
pub(super) struct Trainee {
    pub(super) net: Net,
    pub(super) companions: Companions,
    #[module(skip)]
    context: Arc<Context>,
}

impl Context {
    pub(super) fn new(plan: &Plan, device: &Device) -> Self {
        let guidance = &plan.guidance;
        let lesson = guidance.distillation.as_ref().map(|distillation| Lesson {
            alpha: distillation.alpha,
            temperature: distillation.temperature,
            hints: distillation.hints.iter().map(|hint| hint.weight).collect(),
        });
        let simulation = guidance.fake_quantization.as_ref().map(Simulation::new);
        let input = plan.network.spec().inputs.first().map(|input| input.name.clone()).unwrap_or_default();
        let plain = Self::plain(plan.objective.clone(), plan.optimizer.l1, device.clone());
        Self { lesson, simulation, input, ..plain }
    }

    /// Without guidance.
    pub(super) fn plain(objective: Objective, l1: f64, device: Device) -> Self {
        Self { objective, l1, device, lesson: None, simulation: None, input: String::new() }
    }

    /// What has to be trained along.
    pub(super) fn companions(
        &self,
        network: &Network,
        hints: &[Hint],
        seed: u64,
    ) -> Result<Companions, FitError> {
        let steps = self.simulation.as_ref().map(|simulation| simulation.steps(&self.device));
        let regressors = regressors(network, hints, seed, &self.device)?;
        Ok(Companions { steps: steps.unwrap_or_default(), regressors })
    }
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
    pub(super) fn new(net: Net, companions: Companions, context: Arc<Context>) -> Self {
        Self { net, companions, context }
    }

    pub(super) fn objective(&self) -> &Objective {
        &self.context.objective
    }

    pub(super) fn simulation(&self) -> Option<&Simulation> {
        self.context.simulation.as_ref()
    }

    /// All that an optimizer moves.
    pub(super) fn parameters(&self) -> Vec<ParameterState> {
        let mut parameters = self.net.parameters();
        self.companions.list(&mut parameters);
        parameters
    }

    /// Forward and backward; nothing is read from the device.
    pub(super) fn teach(&self, mut batch: Batch, held: Option<&Held>) -> (Told, GradientsParams) {
        let context = &self.context;
        let input = input(&mut batch, &context.device);
        let (mut outputs, seen) = match &context.simulation {
            None => (self.net.run(vec![input], Some(&batch.draws)), Vec::new()),
            Some(simulation) => {
                let rounding = simulation.train(&self.companions.steps);
                let input = rounding.value(&context.input, input);
                let outputs = self.net.run_hooked(vec![input], Some(&batch.draws), &rounding);
                (outputs, rounding.seen())
            }
        };
        let logits = outputs.remove(0).flatten();
        let hard = |logits: Tensor<2>| {
            context.objective.loss(logits, &batch.targets, Purpose::Train, &context.device)
        };
        let loss = match (&context.lesson, batch.taught.take()) {
            (Some(lesson), Some(taught)) => self.lesson(lesson, &logits, outputs, taught, hard),
            _ => hard(logits.clone()),
        };
        let told =
            Told { loss: loss.clone().detach(), logits: logits.detach(), targets: batch.targets, seen };
        let norm = if context.l1 > 0.0 { self.net.l1_norm() } else { None };
        let total = match norm {
            Some(norm) => loss + norm * context.l1,
            None => loss,
        };
        let mut gradients = GradientsParams::from_grads(total.backward(), self);
        if let Some(held) = held {
            held.gradients(&mut gradients, &self.net);
        }
        (told, gradients)
    }

    /// The loss with a teacher: its answer comes first in what is taught, then the values of the hints.
    fn lesson(
        &self,
        lesson: &Lesson,
        logits: &Tensor<2>,
        values: Vec<Value>,
        taught: Vec<Vec<f32>>,
        hard: impl Fn(Tensor<2>) -> Tensor<1>,
    ) -> Tensor<1> {
        let context = &self.context;
        let mut taught = taught.into_iter();
        let answer = taught.next().unwrap_or_default();
        let soft = context.objective.soft_loss(logits.clone(), answer, lesson.temperature, &context.device);
        let mut loss = soft * lesson.alpha;
        if lesson.alpha < 1.0 {
            loss = loss + hard(logits.clone()) * (1.0 - lesson.alpha);
        }
        let hints = self.companions.regressors.iter().zip(&lesson.hints).zip(values).zip(taught);
        for (((regressor, weight), value), wanted) in hints {
            loss = loss + regressor.loss(value, wanted) * *weight;
        }
        loss
    }

    /// Forward alone, with the running statistics; nothing is read from the device.
    pub(super) fn look(&self, mut batch: Batch) -> Told {
        let context = &self.context;
        let device = context.device.clone().inner();
        let input = input(&mut batch, &device);
        let logits = match &context.simulation {
            None => self.net.forward(input),
            Some(simulation) => {
                let rounding = simulation.look();
                let input = rounding.value(&context.input, input);
                self.net.run_hooked(vec![input], None, &rounding).remove(0).flatten()
            }
        };
        let loss = context.objective.loss(logits.clone(), &batch.targets, Purpose::Watch, &device);
        Told { loss, logits, targets: batch.targets, seen: Vec::new() }
    }
}

impl Companions {
    fn list(&self, parameters: &mut Vec<ParameterState>) {
        let mut add = |key: String, id, shape: &[usize]| {
            parameters.push(ParameterState { key, id, shape: shape.to_vec(), is_trained: true });
        };
        for (index, step) in self.steps.iter().enumerate() {
            add(format!("step.{index}"), step.id, &step.dims());
        }
        for (index, regressor) in self.regressors.iter().enumerate() {
            let [weight, bias] = regressor.ids();
            add(format!("hint.{index}.weight"), weight, &[]);
            add(format!("hint.{index}.bias"), bias, &[]);
        }
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
        let (told, grads) = self.teach(batch, None);
        TrainOutput { grads, item: told.read_or_nan(self) }
    }
}

impl InferenceStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> StepOutput {
        self.look(batch).read_or_nan(self)
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
