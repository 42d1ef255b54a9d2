//! Which layers compute in int8, and what their bytes mean.
//!
//! Weights are `integer · scale` with one scale per output, the integers in −127..=127 (Jacob et al. 2018 with a
//! scale per channel, as Krishnamoorthi 2018). Values are `(byte − zero point) · scale`, so zero is a byte and
//! padding is exact. A record keeps them as plain tensors: `<layer>.weight` of 8-bit integers in the shape of the
//! network, `<layer>.scale` and `<layer>.bias` of 32-bit floats, one per output; other layers are as always.
//! Everything that decides an answer is here, fixed when the package is made: nothing depends on the machine.
//!
//! It deliberately does not compute in int8, which is the engine's, nor choose layers and ranges, which is what a
//! calibration is for.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shape::{LayerInfo, Network, Parameter, Role};
use crate::spec::{Layer, Op};
use crate::tensor::{Elements, LengthError, Tensor};
use crate::weights::{self, Weights, WeightsError};

/// The greatest integer of a weight. −128 is left out, so that every weight has its negative and sums of pairs
/// of products fit 16 bits where the processor has no wider instruction.
pub const GREATEST: i8 = 127;

/// The parameter of an int8 layer that holds the scale of each output, beside `weight` and `bias`.
pub const SCALE: &str = "scale";

/// What the bytes of a value mean: `(byte − zero_point) · scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// The step between two bytes; above 0.
    pub scale: f32,
    /// The byte that stands for 0.
    pub zero_point: u8,
}

impl Affine {
    /// The finest steps that cover a range. The range is widened to hold 0, which is then exactly a byte. One
    /// that is empty, or too narrow or too wide for a scale, is given the scale 1 and the zero point 0.
    #[must_use]
    pub fn covering(least: f32, most: f32) -> Self {
        let (least, most) = (f64::from(least.min(0.0)), f64::from(most.max(0.0)));
        let scale = ((most - least) / 255.0) as f32;
        if !is_scale(scale) {
            return Self { scale: 1.0, zero_point: 0 };
        }
        let zero_point = (-least / f64::from(scale)).round_ties_even().clamp(0.0, 255.0);
        Self { scale, zero_point: zero_point as u8 }
    }
}

/// The precision plan of a network, with the ranges of its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// The layers that compute in int8, in the order of the network: dense, or conv2d with one group; each has a
    /// bias. Every other layer computes in 32-bit floats.
    pub layers: Vec<String>,
    /// The values that those layers read or write, by the name of the layer that makes them (the last of those
    /// that run as one) or of the input.
    pub activations: BTreeMap<String, Affine>,
    /// Where the ranges of the values come from.
    pub calibration: Calibration,
}

/// How the ranges of the values were found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The method.
    pub method: CalibrationMethod,
    /// For the method `percentile`: which share of the values lies within the range, above 50 and at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
    /// How many samples were looked at.
    pub samples: usize,
    /// The split they are from, such as `train`.
    pub split: String,
    /// The seed that drew them.
    pub seed: u64,
}

/// How a range is made of the values that were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationMethod {
    /// From the least to the greatest.
    MinMax,
    /// Between percentiles; what lies outside saturates.
    Percentile,
    /// A moving average of what batches had in training.
    MovingAverage,
    /// Learned in training by gradients.
    Learned,
}

impl CalibrationMethod {
    /// The name as configurations write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "min-max",
            Self::Percentile => "percentile",
            Self::MovingAverage => "moving-average",
            Self::Learned => "learned",
        }
    }
}

/// A plan or a record that cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum QuantizationError {
    #[error("there is no layer `{layer}` to compute in int8; those with weights are {known}")]
    Layer { layer: String, known: String },
    #[error("layer `{layer}` ({kind}) cannot compute in int8: {reason}")]
    Kind { layer: String, kind: &'static str, reason: &'static str },
    #[error(
        "layer `{layer}` is listed twice or out of order; int8 layers are listed in the order of the network"
    )]
    Order { layer: String },
    #[error("activation `{name}` is no layer and no input of the network")]
    Activation { name: String },
    #[error("the scale of activation `{name}` is {scale} and must be a normal number above 0")]
    ActivationScale { name: String, scale: f32 },
    #[error("calibration: {reason}")]
    Calibration { reason: String },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(
        "`{key}` is {scale} at index {index} and must be a normal number above 0, and 127 times it finite"
    )]
    Scale { key: String, index: usize, scale: f32 },
    #[error("`{key}` is -128 at index {index}; int8 weights are from -127 to 127")]
    Weight { key: String, index: usize },
    #[error("`{key}` is {value} at index {index}, which no integer stands for")]
    NotFinite { key: String, index: usize, value: f32 },
    #[error("`{key}`: {source}")]
    Length { key: String, source: LengthError },
}

/// Whether a number can be a scale.
fn is_scale(scale: f32) -> bool {
    scale.is_normal() && scale > 0.0
}

/// The greatest weight of a scale.
fn reaches(scale: f32) -> f32 {
    scale * f32::from(GREATEST)
}

impl Quantization {
    /// Checks the plan against a network: its layers exist, can compute in int8 and are in order; its activations
    /// are values of the network with usable scales.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self, network: &Network) -> Result<(), QuantizationError> {
        int8_layers(network, &self.layers)?;
        let inputs = network.spec().inputs.iter().map(|input| input.name.as_str());
        let values: HashSet<&str> =
            inputs.chain(network.layers().iter().map(|layer| layer.name.as_str())).collect();
        for (name, affine) in &self.activations {
            let name = name.clone();
            if !values.contains(name.as_str()) {
                return Err(QuantizationError::Activation { name });
            }
            if !is_scale(affine.scale) {
                return Err(QuantizationError::ActivationScale { name, scale: affine.scale });
            }
        }
        self.calibration.check()
    }

    /// Checks the tensors of the int8 layers: their types, shapes, scales and the range of their integers.
    ///
    /// # Errors
    /// The first thing that cannot be, with the tensor and the place in it.
    pub fn check_weights(&self, network: &Network, weights: &Weights) -> Result<(), QuantizationError> {
        for layer in int8_layers(network, &self.layers)? {
            let (integers, _) = layer.read(weights)?;
            let key = || layer.weight.key.clone();
            if let Some(index) = integers.iter().position(|&integer| integer < -GREATEST) {
                return Err(QuantizationError::Weight { key: key(), index });
            }
            weights::floats(weights, &layer.key("bias"), &[layer.outputs])?;
        }
        Ok(())
    }
}

impl Calibration {
    fn check(&self) -> Result<(), QuantizationError> {
        let wrong = |reason: String| Err(QuantizationError::Calibration { reason });
        let method = self.method.name();
        match (self.method, self.percentile) {
            (
                CalibrationMethod::MinMax | CalibrationMethod::MovingAverage | CalibrationMethod::Learned,
                Some(_),
            ) => {
                return wrong(format!("the method {method} has no percentile"));
            }
            (CalibrationMethod::Percentile, None) => {
                return wrong(format!("the method {method} needs a `percentile`"));
            }
            (CalibrationMethod::Percentile, Some(share)) if !(share > 50.0 && share <= 100.0) => {
                return wrong(format!("`percentile` must be above 50 and at most 100, but is {share}"));
            }
            _ => {}
        }
        if self.samples == 0 {
            return wrong("`samples` must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// The weights as 32-bit floats, for every device without int8 arithmetic: each integer times the scale of its
/// output, rounded once. The `scale` tensors are gone, and the result is a record of the network.
///
/// # Errors
/// As [`Quantization::check_weights`].
pub fn dequantize(
    network: &Network,
    quantization: &Quantization,
    weights: &Weights,
) -> Result<Weights, QuantizationError> {
    quantization.check_weights(network, weights)?;
    let layers = int8_layers(network, &quantization.layers)?;
    let mut replaced = Weights::new();
    for layer in &layers {
        let (integers, scales) = layer.read(weights)?;
        let value = |(index, &integer): (usize, &i8)| f32::from(integer) * scales[layer.output(index)];
        let values = integers.iter().enumerate().map(value).collect();
        replaced.insert(layer.weight.key.clone(), layer.tensor(Elements::F32(values))?);
    }
    let scales: HashSet<String> = layers.iter().map(|layer| layer.key(SCALE)).collect();
    for (key, tensor) in weights {
        if !scales.contains(key) && !replaced.contains_key(key) {
            replaced.insert(key.clone(), tensor.clone());
        }
    }
    Ok(replaced)
}

/// The reverse of [`dequantize`]: the weights of `layers` as 8-bit integers, symmetric around zero, with the scale
/// `max|w| / 127` for each output (1 where that is no normal number, as for an output without weights), rounded
/// to the nearest integer, ties to even. Everything else stays.
///
/// # Errors
/// When a layer cannot compute in int8, or its weights are missing, of another shape or not finite.
pub fn quantize_weights(
    network: &Network,
    layers: &[String],
    weights: &Weights,
) -> Result<Weights, QuantizationError> {
    let mut quantized = weights.clone();
    for layer in int8_layers(network, layers)? {
        let values = weights::parameter(weights, layer.weight)?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let (key, value) = (layer.weight.key.clone(), values[index]);
            return Err(QuantizationError::NotFinite { key, index, value });
        }
        weights::floats(weights, &layer.key("bias"), &[layer.outputs])?;
        let mut greatest = vec![0.0f32; layer.outputs];
        for (index, value) in values.iter().enumerate() {
            let greatest = &mut greatest[layer.output(index)];
            *greatest = greatest.max(value.abs());
        }
        let scale = |&greatest: &f32| {
            let scale = (f64::from(greatest) / f64::from(GREATEST)) as f32;
            // The greatest floats are a multiple of no scale: the quotient may be rounded beyond them.
            let scale = if reaches(scale).is_finite() { scale } else { scale.next_down() };
            if is_scale(scale) { scale } else { 1.0 }
        };
        let scales: Vec<f32> = greatest.iter().map(scale).collect();
        let integer = |(index, &value): (usize, &f32)| {
            let steps = f64::from(value) / f64::from(scales[layer.output(index)]);
            steps.round_ties_even().clamp(f64::from(-GREATEST), f64::from(GREATEST)) as i8
        };
        let integers = values.iter().enumerate().map(integer).collect();
        quantized.insert(layer.weight.key.clone(), layer.tensor(Elements::I8(integers))?);
        let key = layer.key(SCALE);
        let scales = Tensor::from_f32(vec![layer.outputs], scales);
        let scales = scales.map_err(|source| QuantizationError::Length { key: key.clone(), source })?;
        quantized.insert(key, scales);
    }
    Ok(quantized)
}

/// A layer that computes in int8.
struct Int8Layer<'a> {
    name: &'a str,
    weight: &'a Parameter,
    outputs: usize,
    /// So many weights in a row belong to one output, then the next output's follow, round and round.
    run: usize,
}

impl Int8Layer<'_> {
    fn key(&self, parameter: &str) -> String {
        format!("{}.{parameter}", self.name)
    }

    /// The output that the weight at `index` belongs to.
    fn output(&self, index: usize) -> usize {
        index / self.run % self.outputs
    }

    fn tensor(&self, elements: Elements) -> Result<Tensor, QuantizationError> {
        let key = || self.weight.key.clone();
        Tensor::new(self.weight.shape.clone(), elements)
            .map_err(|source| QuantizationError::Length { key: key(), source })
    }

    /// Integers and scales, the scales checked.
    fn read<'a>(&self, weights: &'a Weights) -> Result<(&'a [i8], &'a [f32]), QuantizationError> {
        let integers = weights::bytes(weights, &self.weight.key, &self.weight.shape)?;
        let key = self.key(SCALE);
        let scales = weights::floats(weights, &key, &[self.outputs])?;
        let usable = |scale: f32| is_scale(scale) && reaches(scale).is_finite();
        match scales.iter().position(|&scale| !usable(scale)) {
            Some(index) => Err(QuantizationError::Scale { key, index, scale: scales[index] }),
            None => Ok((integers, scales)),
        }
    }
}

/// Looks the layers of a plan up, and checks that they can compute in int8 and are in the order of the network.
fn int8_layers<'a>(network: &'a Network, names: &[String]) -> Result<Vec<Int8Layer<'a>>, QuantizationError> {
    let all = network.spec().all_layers();
    let positions: HashMap<&str, usize> =
        all.iter().enumerate().map(|(position, layer)| (layer.name.as_str(), position)).collect();
    let mut layers: Vec<Int8Layer<'a>> = Vec::with_capacity(names.len());
    let mut earliest = 0;
    for name in names {
        let Some(&position) = positions.get(name.as_str()) else {
            return Err(QuantizationError::Layer { layer: name.clone(), known: with_weights(&all) });
        };
        // Shape inference lists the layers in the same order.
        let (layer, info) = (all[position], &network.layers()[position]);
        let (outputs, weight) = int8_shape(layer, info)?;
        if position < earliest {
            return Err(QuantizationError::Order { layer: name.clone() });
        }
        earliest = position + 1;
        let run = if matches!(layer.op, Op::Dense(_)) { 1 } else { weight.len() / outputs };
        layers.push(Int8Layer { name: &info.name, weight, outputs, run });
    }
    Ok(layers)
}

/// The number of outputs and the weight of a layer that can compute in int8.
fn int8_shape<'a>(layer: &Layer, info: &'a LayerInfo) -> Result<(usize, &'a Parameter), QuantizationError> {
    let (outputs, bias) = match &layer.op {
        Op::Dense(dense) => (Ok(dense.units), dense.bias),
        Op::Conv2d(conv) if conv.groups > 1 => (Err("it has more than one group"), conv.bias),
        Op::Conv2d(conv) => (Ok(conv.channels), conv.bias),
        _ => (Err("only dense and conv2d layers can"), false),
    };
    let outputs = outputs.and_then(|outputs| if bias { Ok(outputs) } else { Err("it has no bias") });
    let weight = info.parameters.iter().find(|parameter| parameter.role == Role::Weight);
    let found = outputs.and_then(|outputs| Ok((outputs, weight.ok_or("it has no weights")?)));
    found.map_err(|reason| QuantizationError::Kind {
        layer: layer.name.clone(),
        kind: layer.op.type_name(),
        reason,
    })
}

fn with_weights(layers: &[&Layer]) -> String {
    const SHOWN: usize = 8;
    let names: Vec<String> = layers
        .iter()
        .filter(|layer| matches!(layer.op, Op::Dense(_) | Op::Conv2d(_)))
        .map(|layer| format!("`{}`", layer.name))
        .collect();
    let more = names.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", names[..names.len() - more].join(", "))
}
