//! The self-check: a model must give the answers that it was packed with, at every size of a pass.

use std::iter::once;
use std::time::{Duration, Instant};

use model::{DeviceSpec, Lane, Precision};
use network::quantization::{Quantization, dequantize};
use network::{NamedTensor, Network, Signature, Tensor, Weights};

use crate::batching::Pass;
use crate::error::PredictError;
use crate::placed::{Placed, Rows};
use crate::placement::Placement;
use crate::predictor::Predictor;

/// How many made-up inputs a model without samples is checked with.
const MADE_UP: usize = 4;

/// How far a logit may be from the expected one in a self-check, as a share of the sample's largest logit; where
/// all are smaller than 1, the number itself.
///
/// | precision | share | what it allows for |
/// |---|---|---|
/// | f32 | 0.001 | devices add in different orders |
/// | f32 on `cuda` | 0.01 | the tensor cores of NVIDIA's GPUs round the factors of products to 11 bits (TF32) |
/// | f16 | 0.02 | 11 significant bits in every number |
/// | bf16 | 0.05 | 8 significant bits in every number |
/// | f32 on `cpu` with int8 layers | 0.02 | a sum in another order may round a value to the next byte |
///
/// A share of the largest, because the rounding of a sum is as large as its terms, not as its result. Every way to
/// round must pass and no wrong kernel, so each share is several times the largest difference to a CPU's 32 bits
/// that was seen over all presets, on CPUs and on Mesa's software Vulkan; the source says beside each how much that
/// was. On `cuda` none could be measured.
///
/// Where int8 layers do not run in integers (`int8` is whether the model has any), a device is compared with what a
/// CPU computes from the same weights in floats, so that it needs no tolerance of its own. The packed answers would be
/// a poor measure there: floats are not rounded to bytes, nor cut off at the ends of a range. Over the test sets of
/// MNIST and CIFAR-10 they were off by up to 0.07 in 99 samples of a hundred, and by 0.37 in the worst.
#[must_use]
pub fn tolerance(placement: Placement, int8: bool) -> f32 {
    match (placement.device, placement.precision) {
        // A byte that is one step off somewhere inside: over the whole test sets of MNIST and CIFAR-10, ONNX Runtime,
        // which scales in another order, was off by 0.012 (`keras-cnn`); tiers of the engine by nothing.
        (DeviceSpec::Cpu, Precision::F32) if int8 => 0.02,
        // 8 significant bits; seen were 0.011 (on CPUs alone, for lack of other devices that can).
        (_, Precision::Bf16) => 0.05,
        // 11 significant bits; seen were 0.0022 on CPUs and 0.0036 on Vulkan, which has other kernels.
        (_, Precision::F16) => 0.02,
        // Burn's kernels for NVIDIA's tensor cores round the factors of 32-bit products to 11 bits (TF32). From
        // their source; not measured.
        (DeviceSpec::Cuda(_), _) => 0.01,
        // Devices add in different orders; 32-bit floats then differ in the sixth digit or so: seen were 0.0000015.
        _ => 0.001,
    }
}

/// What a self-check found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SelfCheck {
    /// How many packed samples were compared; 0 for a model without samples.
    pub samples: usize,
    /// How many made-up inputs were compared with what a CPU computes in 32 bits, for a model without samples and
    /// for one with int8 layers where those run in floats.
    pub made_up: usize,
    /// The largest difference to an output that was packed or that the CPU gave.
    pub largest_difference: f32,
}

/// One size of a pass, run and checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    /// The rows of the pass.
    pub rows: usize,
    /// What the comparison found.
    pub check: SelfCheck,
    /// How long the first pass took; on a GPU it may have compiled and tuned kernels.
    pub first: Duration,
    /// How long the same pass took afterwards; `None` on a CPU, which does the same each time and is not asked
    /// again.
    pub again: Option<Duration>,
}

/// Inputs with the answers that they must get.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    inputs: Vec<NamedTensor>,
    /// The network's first output, row by row.
    outputs: Vec<Vec<f32>>,
    origin: Origin,
}

/// Where expected answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Packed,
    Cpu,
    /// There are none; the inputs are run all the same.
    Nowhere,
}

impl Predictor {
    /// Runs the package's samples once and compares the outputs with those that were packed; each may differ by
    /// what [`tolerance`] allows.
    ///
    /// A model without samples, and one with int8 layers where those run in floats, is compared with what a CPU
    /// computes in 32 bits for a few made-up inputs. A model of floats without samples on a CPU in 32 bits would be
    /// compared with itself; it runs one sample of zeros.
    ///
    /// # Errors
    /// The first output that differs, or a sample that cannot be used.
    pub fn self_check(&self) -> Result<SelfCheck, PredictError> {
        let expected = self.expected()?;
        let order: Vec<usize> = (0..expected.outputs.len()).collect();
        let passes: Vec<Pass> = self.batching.passes(order.len()).collect();
        let largest_difference = self.compare(&expected, &order, &passes)?;
        Ok(expected.tally(largest_difference))
    }

    /// Checks every size of [`Predictor::batch_sizes`] as [`Predictor::self_check`] does, each at least twice:
    /// on a GPU the first pass of a size compiles its kernels and tries several of them, the second runs those
    /// that were chosen, and both must be right. Where a pass may have any size, the samples are checked once.
    ///
    /// # Errors
    /// As [`Predictor::self_check`]; the message names the number of rows.
    pub fn warm_up(&self) -> Result<Vec<WarmUp>, PredictError> {
        self.warm_up_sizes(self.batch_sizes())
    }

    /// [`Predictor::warm_up`] for those sizes only that a batch of `rows` needs, for a program that runs one
    /// batch and ends.
    ///
    /// # Errors
    /// As [`Predictor::warm_up`].
    pub fn warm_up_for(&self, rows: usize) -> Result<Vec<WarmUp>, PredictError> {
        let mut sizes: Vec<usize> = self.batching.passes(rows).map(|pass| pass.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        self.warm_up_sizes(&sizes)
    }

    fn warm_up_sizes(&self, sizes: &[usize]) -> Result<Vec<WarmUp>, PredictError> {
        if self.batch_sizes().is_empty() {
            let start = Instant::now();
            let check = self.self_check()?;
            let rows = check.samples.max(check.made_up).clamp(1, self.pass_rows());
            return Ok(vec![WarmUp { rows, check, first: start.elapsed(), again: None }]);
        }
        let expected = self.expected()?;
        sizes.iter().map(|&size| self.warm_up_size(&expected, size)).collect()
    }

    /// Runs passes of one size until every sample has had its turn, and the first of them again.
    fn warm_up_size(&self, expected: &Expected, size: usize) -> Result<WarmUp, PredictError> {
        let count = expected.outputs.len();
        let mut largest_difference = 0.0f32;
        let mut pass = |start: usize| {
            let order: Vec<usize> = (start..start + size).map(|row| row % count).collect();
            let time = Instant::now();
            let difference = self.compare(expected, &order, &[Pass { first: 0, rows: size, size }])?;
            largest_difference = largest_difference.max(difference);
            Ok::<_, PredictError>(time.elapsed())
        };
        let (first, again) = (pass(0)?, pass(0)?);
        for start in (0..count).step_by(size).skip(1) {
            pass(start)?;
        }
        Ok(WarmUp { rows: size, check: expected.tally(largest_difference), first, again: Some(again) })
    }

    /// What a CPU answered where that is the measure, else the packed samples, else zeros without answers.
    fn expected(&self) -> Result<Expected, PredictError> {
        if let Some(reference) = &self.reference {
            return Ok(reference.clone());
        }
        let samples = self.manifest().map(|manifest| manifest.samples.as_slice()).unwrap_or_default();
        if samples.is_empty() {
            let inputs = tensors(self.signature(), 1, &mut || 0.0)?;
            return Ok(Expected { inputs, outputs: vec![Vec::new()], origin: Origin::Nowhere });
        }
        let mut inputs = Vec::with_capacity(samples.len());
        for (index, sample) in samples.iter().enumerate() {
            let input = sample.input.to_raw();
            inputs.push(input.map_err(|error| PredictError::Sample { index, reason: error.to_string() })?);
        }
        let inputs = vec![self.prepare(&inputs)?];
        let outputs = samples.iter().map(|sample| sample.logits.clone()).collect();
        Ok(Expected { inputs, outputs, origin: Origin::Packed })
    }

    /// Runs expected rows in the given order and returns the largest difference.
    fn compare(&self, expected: &Expected, order: &[usize], passes: &[Pass]) -> Result<f32, PredictError> {
        let inputs = expected.inputs(order)?;
        self.signature().check_inputs(&inputs)?;
        let outputs = self.infer_passes(&inputs, order.len(), passes)?;
        let found = outputs.first().and_then(|output| output.tensor.as_f32()).unwrap_or_default();
        let found = found.chunks_exact((found.len() / order.len().max(1)).max(1));
        let mut largest_difference = 0.0f32;
        for ((row, &index), found) in order.iter().enumerate().zip(found) {
            let wanted = &expected.outputs[index];
            let largest = wanted.iter().fold(1.0f32, |largest, output| largest.max(output.abs()));
            let tolerance = tolerance(
                self.placed.placement(),
                self.quantization().is_some_and(Quantization::computes_int8),
            ) * largest;
            for (output, (&expected_value, &found)) in wanted.iter().zip(found).enumerate() {
                let difference = (expected_value - found).abs();
                if difference.is_nan() || difference > tolerance {
                    let pass = passes.iter().find(|pass| (pass.first..pass.first + pass.rows).contains(&row));
                    return Err(PredictError::SelfCheck {
                        index,
                        output,
                        found,
                        expected: expected_value,
                        tolerance,
                        origin: expected.origin.answers(),
                        placement: self.placed.placement(),
                        rows: pass.map_or(order.len(), |pass| pass.size),
                    });
                }
                largest_difference = largest_difference.max(difference);
            }
        }
        Ok(largest_difference)
    }
}

impl Origin {
    /// For the sentence "the model does not give the answers that …".
    fn answers(self) -> &'static str {
        if self == Self::Packed { "it was packed with" } else { "a CPU gives" }
    }
}

impl Expected {
    /// What a CPU answers, in 32 bits, to a few made-up inputs. Also int8 layers compute in floats.
    pub(crate) fn from_cpu(
        network: &Network,
        weights: &Weights,
        quantization: Option<&Quantization>,
    ) -> Result<Self, PredictError> {
        let cpu = Lane::open(&DeviceSpec::Cpu)?;
        let floats = quantization.map(|plan| dequantize(network, plan, weights)).transpose();
        let floats = floats.map_err(artifact::RecordError::from)?;
        let cpu = Placed::new(network, floats.as_ref().unwrap_or(weights), None, cpu, Precision::F32)?;
        // Numbers without a pattern in about ±1.5, as standardised inputs are.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut number = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 * 3.0 - 1.5
        };
        let inputs = tensors(&network.signature(), MADE_UP, &mut number)?;
        let shapes: Vec<&[usize]> =
            inputs.iter().map(|input| input.tensor.shape().get(1..).unwrap_or_default()).collect();
        let rows: Vec<Rows<'_>> = inputs
            .iter()
            .zip(shapes)
            .map(|(input, shape)| (input.tensor.as_f32().unwrap_or_default(), shape))
            .collect();
        let first = cpu.run(&rows, MADE_UP, MADE_UP)?.into_iter().next().unwrap_or_default();
        let width = (first.len() / MADE_UP).max(1);
        let outputs = first.chunks_exact(width).map(<[f32]>::to_vec).collect();
        Ok(Self { inputs, outputs, origin: Origin::Cpu })
    }

    /// The inputs of these rows, in this order.
    fn inputs(&self, order: &[usize]) -> Result<Vec<NamedTensor>, PredictError> {
        let mut chosen = Vec::with_capacity(self.inputs.len());
        for NamedTensor { name, tensor } in &self.inputs {
            let values = tensor.as_f32().unwrap_or_default();
            let width = values.len() / self.outputs.len().max(1);
            let rows = order.iter().flat_map(|row| &values[row * width..(row + 1) * width]);
            let shape = once(order.len()).chain(tensor.shape().iter().skip(1).copied()).collect();
            let tensor = Tensor::from_f32(shape, rows.copied().collect()).map_err(internal)?;
            chosen.push(NamedTensor { name: name.clone(), tensor });
        }
        Ok(chosen)
    }

    fn tally(&self, largest_difference: f32) -> SelfCheck {
        let compared = |origin| if self.origin == origin { self.outputs.len() } else { 0 };
        let (samples, made_up) = (compared(Origin::Packed), compared(Origin::Cpu));
        SelfCheck { samples, made_up, largest_difference }
    }
}

/// A batch for every input.
fn tensors(
    signature: &Signature,
    rows: usize,
    value: &mut impl FnMut() -> f32,
) -> Result<Vec<NamedTensor>, PredictError> {
    let mut tensors = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let shape: Vec<usize> = once(rows).chain(spec.sample_shape().unwrap_or_default()).collect();
        let values = (0..shape.iter().product()).map(|_| value()).collect();
        let tensor = Tensor::from_f32(shape, values).map_err(internal)?;
        tensors.push(NamedTensor { name: spec.name.clone(), tensor });
    }
    Ok(tensors)
}

fn internal(error: impl ToString) -> PredictError {
    PredictError::Internal { reason: error.to_string() }
}
