//! What is measured: a preset with weights and inputs that every side gets alike.

use std::time::{Duration, Instant};

use engine::{CompileError, Options, Precision, Program};
use export::{ExportError, Model};
use network::fold::{fold_batch_norm, with_biases};
use network::quantization::{Calibration, CalibrationMethod, int8_outputs, quantize_weights};
use network::{Network, Quantization, Role, Tensor, Weights, preset};

use super::BenchError;
use crate::calibrate::{self, Rule};
use crate::quantize::QuantizeError;

/// Rows that the ranges of activations are found with, by both quantizers.
pub(super) const CALIBRATION_ROWS: usize = 256;

/// A preset with random weights, in floats and in integers, and rows of random numbers.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) network: Network,
    /// Batch normalisation is in the weights, for every side.
    floats: Weights,
    /// Every layer that the engine has an int8 kernel for is integers.
    integers: Weights,
    quantization: Quantization,
    /// [`CALIBRATION_ROWS`] rows.
    pub(super) samples: Vec<f32>,
}

impl Subject {
    pub(super) fn new(name: &str) -> Result<Self, BenchError> {
        let network = Network::new(preset(name, shape(name), 10)?)?;
        let weights = weights(&network);
        let (network, floats) = fold_batch_norm(&network, &weights).map_err(QuantizeError::from)?;
        let (network, floats) = with_biases(&network, &floats).map_err(QuantizeError::from)?;
        let values: usize = network.input_shape().iter().product();
        let samples = numbers(3, CALIBRATION_ROWS * values);

        let program = Program::compile(&network, &floats, Options::default())?;
        let activations = calibrate::ranges(&program, &samples, Rule::MinMax)?;
        let layers = network.spec().all_layers().into_iter().filter(|layer| int8_outputs(&layer.op).is_ok());
        let layers: Vec<String> = layers.map(|layer| layer.name.clone()).collect();
        let integers = quantize_weights(&network, &layers, &floats).map_err(QuantizeError::from)?;
        let calibration = Calibration::new(CalibrationMethod::MinMax, CALIBRATION_ROWS, 3);
        let mut quantization = Quantization::calibrated(layers, activations, calibration);
        // Only the ranges that the program uses belong to a plan, as in a package.
        let program = Program::from_record(&network, &integers, Some(&quantization), Options::default())?;
        quantization.activations.retain(|name, _| program.byte_values().contains(name));
        Ok(Self { name: name.to_owned(), network, floats, integers, quantization, samples })
    }

    /// Values of one row.
    pub(super) fn row_values(&self) -> usize {
        self.network.input_shape().iter().product()
    }

    /// Compiles, and says how long that took.
    pub(super) fn compile(&self, precision: Precision) -> Result<(Program, Duration), CompileError> {
        let options = Options::default().with_bf16(precision == Precision::Bf16);
        let int8 = precision == Precision::Int8;
        let record = if int8 { &self.integers } else { &self.floats };
        let quantization = int8.then_some(&self.quantization);
        let start = Instant::now();
        let program = Program::from_record(&self.network, record, quantization, options)?;
        Ok((program, start.elapsed()))
    }

    /// The same as an ONNX file.
    pub(super) fn onnx(&self, int8: bool) -> Result<Vec<u8>, ExportError> {
        let weights = if int8 { &self.integers } else { &self.floats };
        let plan = int8.then(|| self.quantization.clone());
        export::onnx(&Model::new(&self.name, 1, self.network.clone(), weights.clone(), plan))
    }

    /// The weights in floats.
    pub(super) fn weights(&self) -> &Weights {
        &self.floats
    }
}

/// The pictures that the preset is meant for.
fn shape(name: &str) -> &'static [usize] {
    match name {
        "digits-cnn" => &[1, 8, 8],
        "lenet-300-100" | "lenet5" => &[1, 28, 28],
        "mlp" => &[30],
        _ => &[3, 32, 32],
    }
}

/// Numbers in [−1, 1) without a pattern, by Marsaglia's xorshift.
fn numbers(mut state: u64, count: usize) -> Vec<f32> {
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    // The first numbers of a small state are small.
    (0..8).for_each(|_| _ = number());
    (0..count).map(|_| number()).collect()
}

/// Weights whose results neither vanish nor explode: He et al. 2015.
fn weights(network: &Network) -> Weights {
    let tensor = |(index, parameter): (usize, &network::Parameter)| {
        let mut values = numbers(index as u64 + 1, parameter.len());
        let fan_in: usize = match parameter.shape.as_slice() {
            [inputs, _] => *inputs,
            [_, kernel @ ..] => kernel.iter().product(),
            [] => 1,
        };
        let scale = (3.0 / fan_in.max(1) as f32).sqrt();
        match parameter.role {
            Role::RunningVar | Role::Gamma => values.iter_mut().for_each(|value| *value = 0.5 + value.abs()),
            _ => values.iter_mut().for_each(|value| *value *= scale),
        }
        let tensor = Tensor::from_f32(parameter.shape.clone(), values).ok()?;
        Some((parameter.key.clone(), tensor))
    };
    network.parameters().enumerate().filter_map(tensor).collect()
}
