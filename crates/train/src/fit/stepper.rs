//! Single steps of the training loop over one synthetic batch: what a benchmark measures.
//!
//! The benchmark gives a learning rate so small that the network stays as it was drawn, and the targets move
//! on with every step: a network that learns the batch by heart, or whose units die, leaves Adam moments that
//! decay into denormal numbers, with which the processor is several times slower.

use std::sync::Arc;

use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use model::{Draws, Net};
use network::{Network, Postprocess, Task};

use super::batches::Batch;
use super::trainee::{Companions, Context, Trainee};
use super::{FitError, Objective, optimizer, step};
use crate::config::Optimizer;
use crate::data::Target;

/// A network that is taught one batch with ever other targets, by the code that training runs.
pub struct Stepper {
    model: Trainee,
    optimizer: ModuleOptimizer,
    batch: Batch,
    config: Optimizer,
    classes: usize,
    device: Device,
}

impl Stepper {
    /// A fresh network for `[batch_size, …]` synthetic samples of as many classes as it has outputs.
    ///
    /// # Errors
    /// When the network cannot be built.
    pub fn new(
        network: &Network,
        batch_size: usize,
        config: Optimizer,
        seed: u64,
        device: &Device,
    ) -> Result<Self, FitError> {
        let classes = network.output_shape().first().copied().unwrap_or(1);
        let labels = (0..classes).map(|class| class.to_string()).collect();
        let objective = Objective::new(Postprocess::new(Task::MultiClass, labels), 0.0, Vec::new());
        let plain = device.clone();
        let device = device.clone().autodiff();
        let net = Net::init(network, seed, &device)?;
        let optimizer = optimizer::build(&config, &net.parameters());
        let sample: usize = network.input_shape().iter().product();
        // Centred, as standardised pictures are.
        let values =
            (0..batch_size * sample).map(|index| ((index * 7919) % 1000) as f32 / 250.0 - 2.0).collect();
        let targets = (0..batch_size).map(|index| Target::Class(index % classes)).collect();
        let mut shape = vec![batch_size];
        shape.extend_from_slice(network.input_shape());
        let batch = Batch { shape, values, targets, draws: Draws { seed, epoch: 0, step: 0 }, taught: None };
        let context = Context::plain(objective, config.l1, device);
        let model = Trainee::new(net, Companions::default(), Arc::new(context));
        Ok(Self { model, optimizer, batch, config, classes, device: plain })
    }

    /// One step: forward, backward, optimizer. Returns the loss.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(&mut self) -> Result<f64, FitError> {
        let Optimizer { learning_rate, clip_norm, .. } = self.config;
        let (model, output) =
            step::step(&self.model, &mut self.optimizer, self.batch.clone(), learning_rate, clip_norm, None)?;
        self.model = model;
        self.batch.draws.step += 1;
        let step = self.batch.draws.step as usize;
        for (index, target) in self.batch.targets.iter_mut().enumerate() {
            *target = Target::Class((index + step) % self.classes);
        }
        Ok(output.loss)
    }
    /// Waits until the device has done all that it was asked for, so that a clock can be read.
    ///
    /// # Errors
    /// When the device fails.
    pub fn sync(&self) -> Result<(), FitError> {
        self.device.sync().map_err(|error| FitError::Device(error.to_string()))
    }
}
