//! Which layers are integers, which of them compute in int8, and what their bytes mean.
//!
//! Weights are `integer · scale` with one scale per output, the integers in −127..=127 (Jacob et al. 2018 with a
//! scale per channel, as Krishnamoorthi 2018). Values are `(byte − zero point) · scale`, so zero is a byte and
//! padding is exact; scale and zero point are fixed by a calibration (*static*) or found for each sample when it is
//! there (*dynamic*). A record keeps an int8 layer as plain tensors: `<layer>.weight` of 8-bit integers in the shape
//! of the network, `<layer>.scale` and `<layer>.bias` of 32-bit floats, one per output. A layer whose *weights alone*
//! are integers has a `scale` of `[outputs, blocks]`, computes in floats, and is only smaller. Other layers are as
//! always. Everything that decides an answer is here, fixed when the package is made: nothing depends on the machine.
//!
//! It deliberately does not compute in int8, which is the engine's, nor choose layers and ranges, which is what a
//! calibration is for.

mod integers;

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::integers::{
    Granularity, dequantize, int8_outputs, quantize_weights, quantize_weights_only, quantize_weights_with,
    with_fixed_ranges,
};
use crate::shape::Network;
use crate::tensor::LengthError;
use crate::weights::{Weights, WeightsError};

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

    /// The steps of one sample of a dynamic layer, from the least and the greatest of all values that the layer
    /// reads of it. The zero point is 0 where none is negative and 128 elsewhere, so that what it adds to the sums
    /// is one of two numbers that are known beforehand; the scale is the least that covers the values. A range that
    /// is empty or too narrow for a scale is given the scale 1 and the zero point 0.
    #[must_use]
    pub fn of_sample(least: f32, most: f32) -> Self {
        let (least, most) = (f64::from(least.min(0.0)), f64::from(most.max(0.0)));
        let (scale, zero_point) =
            if least < 0.0 { ((-least / 128.0).max(most / 127.0), 128) } else { (most / 255.0, 0) };
        let scale = scale as f32;
        if is_scale(scale) { Self { scale, zero_point } } else { Self { scale: 1.0, zero_point: 0 } }
    }
}

/// Which layers are integers, with the ranges of their values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// The layers that compute in int8, in the order of the network: dense, or conv2d with one group; each has a
    /// bias. Every other layer computes in 32-bit floats.
    pub layers: Vec<String>,
    /// The values that those layers read or write, by the name of the layer that makes them (the last of those
    /// that run as one) or of the input. Layers in `dynamic` need none.
    pub activations: BTreeMap<String, Affine>,
    /// Where the ranges of the values come from; nothing where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Those of `layers`, in the same order, whose input is quantized with a range of its own for each sample, and
    /// that give floats: `(sum of products) · (scale of the sample · scale of the output) + bias`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dynamic: Vec<String>,
    /// The layers that compute in floats with weights that are integers in the record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weight_only: BTreeMap<String, WeightOnly>,
}

/// How the weights of a layer that computes in floats are kept: `integer · scale`, with a scale for each block of
/// so many weights of one output, in the order in which the output's weights lie (the last block may be shorter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightOnly {
    /// 8: the integers are from −127 to 127; 4: from −7 to 7, each in a byte of its own.
    pub bits: u8,
    /// Weights of one output that share a scale; at least 1.
    pub block: usize,
}

impl WeightOnly {
    /// The greatest integer; nothing for bits that there are not.
    #[must_use]
    pub fn greatest(self) -> Option<i8> {
        match self.bits {
            8 => Some(GREATEST),
            4 => Some(7),
            _ => None,
        }
    }
}

/// How the ranges of the values were found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The method.
    pub method: CalibrationMethod,
    /// For the methods `percentile` and `auto`: which share of the values lies within the range, above 50 and at
    /// most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
    /// For the method `auto`: what was chosen for each value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chosen: BTreeMap<String, CalibrationMethod>,
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
    /// The range that loses least information about the distribution: Kullback–Leibler (Migacz 2017).
    Entropy,
    /// The range with the least mean squared error of the rounded values.
    Mse,
    /// For each value the one of these that costs the network's outputs least.
    Auto,
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
            Self::Entropy => "entropy",
            Self::Mse => "mse",
            Self::Auto => "auto",
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
    #[error("layer `{layer}` is in `dynamic`, but not at that place in `layers`")]
    Dynamic { layer: String },
    #[error("layer `{layer}` in `weight_only`: {reason}")]
    WeightOnly { layer: String, reason: String },
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
    #[error("`{key}` is {value} at index {index}; int{bits} weights are from -{greatest} to {greatest}")]
    Weight { key: String, index: usize, value: i8, bits: u8, greatest: i8 },
    #[error("`{key}` is {value} at index {index}, which no integer stands for")]
    NotFinite { key: String, index: usize, value: f32 },
    #[error("`{key}`: {source}")]
    Length { key: String, source: LengthError },
}

/// Whether a number can be a scale.
fn is_scale(scale: f32) -> bool {
    scale.is_normal() && scale > 0.0
}

impl Quantization {
    /// A plan of layers in int8 whose values have ranges from a calibration.
    #[must_use]
    pub fn calibrated(
        layers: Vec<String>,
        activations: BTreeMap<String, Affine>,
        calibration: Calibration,
    ) -> Self {
        Self { layers, activations, calibration: Some(calibration), ..Self::default() }
    }

    /// Checks the plan against a network: its layers exist, can compute in int8 and are in order; its activations
    /// are values of the network with usable scales.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self, network: &Network) -> Result<(), QuantizationError> {
        integers::check_layers(network, self)?;
        let mut layers = self.layers.iter();
        if let Some(layer) = self.dynamic.iter().find(|name| !layers.any(|layer| layer == *name)) {
            return Err(QuantizationError::Dynamic { layer: layer.clone() });
        }
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
        match &self.calibration {
            Some(calibration) => calibration.check(self),
            None if self.activations.is_empty() => Ok(()),
            None => {
                let reason = "there are ranges in `activations`, and nothing says where they come from";
                Err(QuantizationError::Calibration { reason: reason.to_owned() })
            }
        }
    }

    /// Whether some layer computes in int8, and not just has integers for weights.
    #[must_use]
    pub fn computes_int8(&self) -> bool {
        !self.layers.is_empty()
    }

    /// How a layer is quantized, in a word: `int8`, `int8 dynamic`, `int8 weights`, `int4 weights` or `f32`.
    #[must_use]
    pub fn precision(&self, layer: &str) -> &'static str {
        let is = |names: &[String]| names.iter().any(|name| name == layer);
        match self.weight_only.get(layer) {
            Some(WeightOnly { bits: 4, .. }) => "int4 weights",
            Some(_) => "int8 weights",
            None if is(&self.dynamic) => "int8 dynamic",
            None if is(&self.layers) => "int8",
            None => "f32",
        }
    }

    /// Checks the tensors of the layers that are integers: their types, shapes, scales and the range of their
    /// integers.
    ///
    /// # Errors
    /// The first thing that cannot be, with the tensor and the place in it.
    pub fn check_weights(&self, network: &Network, weights: &Weights) -> Result<(), QuantizationError> {
        integers::check(network, self, weights)
    }

    /// The shapes of the tensors `<layer>.scale`, by the name of the layer: of all layers whose weights are integers,
    /// as far as they are in the network.
    #[must_use]
    pub fn scale_shapes<'a>(&'a self, network: &'a Network) -> BTreeMap<&'a str, Vec<usize>> {
        integers::scale_shapes(network, self)
    }
}

impl Calibration {
    /// Ranges by one method for all values, from so many samples of the training split; a percentile is to be added.
    #[must_use]
    pub fn new(method: CalibrationMethod, samples: usize, seed: u64) -> Self {
        Self { method, percentile: None, chosen: BTreeMap::new(), samples, split: "train".to_owned(), seed }
    }

    fn check(&self, plan: &Quantization) -> Result<(), QuantizationError> {
        use CalibrationMethod::{Auto, Percentile};
        let wrong = |reason: String| Err(QuantizationError::Calibration { reason });
        let method = self.method.name();
        match (self.method, self.percentile) {
            (Percentile | Auto, Some(share)) if !(share > 50.0 && share <= 100.0) => {
                return wrong(format!("`percentile` must be above 50 and at most 100, but is {share}"));
            }
            (Percentile | Auto, Some(_)) => {}
            (Percentile, None) => return wrong(format!("the method {method} needs a `percentile`")),
            (_, Some(_)) => return wrong(format!("the method {method} has no percentile")),
            (_, None) => {}
        }
        if let Some((name, chosen)) = self.chosen.iter().next()
            && self.method != Auto
        {
            let chosen = chosen.name();
            return wrong(format!("the method {method} chooses nothing, but `{name}` has {chosen}"));
        }
        if let Some(name) = self.chosen.keys().find(|name| !plan.activations.contains_key(*name)) {
            return wrong(format!("a method was chosen for `{name}`, which has no range"));
        }
        if self.samples == 0 {
            return wrong("`samples` must be at least 1".to_owned());
        }
        Ok(())
    }
}
