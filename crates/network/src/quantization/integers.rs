//! Weights as integers with scales, and back.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{GREATEST, Quantization, QuantizationError, SCALE, WeightOnly, is_scale};
use crate::shape::{LayerInfo, Network, Parameter, Role};
use crate::spec::{Layer, Op};
use crate::tensor::{Elements, Tensor};
use crate::weights::{self, Weights};

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// Those of one output.
    #[default]
    PerChannel,
    /// All of a layer: every output has the same scale.
    PerTensor,
}

/// The weights as 32-bit floats, for everything without integers: each integer times its scale, rounded once. The
/// `scale` tensors are gone, and the result is a record of the network.
///
/// # Errors
/// As [`Quantization::check_weights`].
pub fn dequantize(
    network: &Network,
    quantization: &Quantization,
    weights: &Weights,
) -> Result<Weights, QuantizationError> {
    check(network, quantization, weights)?;
    let mut floats = weights.clone();
    for layer in layers(network, quantization)? {
        let (integers, scales) = layer.read(weights)?;
        let value = |(index, &integer): (usize, &i8)| f32::from(integer) * scales[layer.scale(index)];
        let values = integers.iter().enumerate().map(value).collect();
        floats.remove(&layer.key(SCALE));
        floats.insert(layer.weight.key.clone(), layer.tensor(Elements::F32(values))?);
    }
    Ok(floats)
}

/// As [`dequantize`], of the layers alone that compute in int8 with fixed ranges, for whoever knows no others: the plan
/// without the rest, if anything is left of it, and the record that belongs to it.
///
/// # Errors
/// As [`dequantize`].
pub fn with_fixed_ranges(
    network: &Network,
    quantization: &Quantization,
    weights: &Weights,
) -> Result<(Option<Quantization>, Weights), QuantizationError> {
    let mut fixed =
        Quantization { dynamic: Vec::new(), weight_only: BTreeMap::new(), ..quantization.clone() };
    fixed.layers.retain(|layer| !quantization.dynamic.contains(layer));
    let mut record = dequantize(network, quantization, weights)?;
    for layer in int8_layers(network, &fixed.layers)? {
        for key in [layer.weight.key.clone(), layer.key(SCALE)] {
            record.extend(weights.get(&key).map(|tensor| (key.clone(), tensor.clone())));
        }
    }
    Ok((fixed.computes_int8().then_some(fixed), record))
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
    quantize_weights_with(network, layers, weights, Granularity::PerChannel)
}

/// As [`quantize_weights`], with one scale for all outputs where the granularity says so.
///
/// # Errors
/// As [`quantize_weights`].
pub fn quantize_weights_with(
    network: &Network,
    layers: &[String],
    weights: &Weights,
    granularity: Granularity,
) -> Result<Weights, QuantizationError> {
    let mut quantized = weights.clone();
    for layer in int8_layers(network, layers)? {
        let values = layer.floats(weights)?;
        weights::floats(weights, &layer.key("bias"), &[layer.outputs])?;
        let mut greatest = layer.greatest_of_each(values);
        if granularity == Granularity::PerTensor {
            let most = greatest.iter().copied().fold(0.0, f32::max);
            greatest.fill(most);
        }
        let scales = greatest.into_iter().map(|greatest| scale_for(greatest, layer.most)).collect();
        layer.write(values, scales, &mut quantized)?;
    }
    Ok(quantized)
}

/// The weights of `layers` as integers of few bits in blocks, symmetric around zero, for layers that compute in
/// floats. The scale of a block is the one of a grid between 0.5 and 1 times `max|w| / greatest` with the least
/// squared error: of few bits, most weights gain more from finer steps than the largest lose by saturating.
/// Everything else stays.
///
/// # Errors
/// When a layer has no weights of its own, the bits are neither 4 nor 8, the block is 0, or weights are missing, of
/// another shape or not finite.
pub fn quantize_weights_only<'a>(
    network: &Network,
    layers: impl IntoIterator<Item = (&'a String, &'a WeightOnly)>,
    weights: &Weights,
) -> Result<Weights, QuantizationError> {
    let mut quantized = weights.clone();
    for (name, &how) in layers {
        let layer = weight_only_layer(network, name, how)?;
        let values = layer.floats(weights)?;
        let mut members: Vec<Vec<f32>> = vec![Vec::new(); layer.outputs * layer.blocks];
        for (index, &value) in values.iter().enumerate() {
            members[layer.scale(index)].push(value);
        }
        let scales = members.iter().map(|members| best_scale(members, layer.most)).collect();
        layer.write(values, scales, &mut quantized)?;
    }
    Ok(quantized)
}

/// The number of outputs of a layer that can compute in int8 once it has a bias
/// ([`crate::fold::with_biases`]).
///
/// # Errors
/// Why it cannot, in words.
pub fn int8_outputs(op: &Op) -> Result<usize, &'static str> {
    match op {
        Op::Dense(dense) => Ok(dense.units),
        Op::Conv2d(conv) if conv.groups > 1 => Err("it has more than one group"),
        Op::Conv2d(conv) => Ok(conv.channels),
        _ => Err("only dense and conv2d layers can"),
    }
}

pub(super) fn check_layers(network: &Network, plan: &Quantization) -> Result<(), QuantizationError> {
    layers(network, plan).map(drop)
}

pub(super) fn check(
    network: &Network,
    plan: &Quantization,
    weights: &Weights,
) -> Result<(), QuantizationError> {
    for layer in layers(network, plan)? {
        let (integers, _) = layer.read(weights)?;
        let (key, most) = (layer.weight.key.clone(), layer.most);
        if let Some(index) = integers.iter().position(|integer| !(-most..=most).contains(integer)) {
            let value = integers[index];
            return Err(QuantizationError::Weight { key, index, value, bits: layer.bits, greatest: most });
        }
        if layer.has_bias {
            weights::floats(weights, &layer.key("bias"), &[layer.outputs])?;
        }
    }
    Ok(())
}

pub(super) fn scale_shapes<'a>(
    network: &'a Network,
    plan: &'a Quantization,
) -> BTreeMap<&'a str, Vec<usize>> {
    let int8: HashSet<&str> = plan.layers.iter().map(String::as_str).collect();
    let shape = |info: &'a LayerInfo| {
        let name = info.name.as_str();
        let shape = match plan.weight_only.get(name) {
            Some(&how) => in_blocks(info, how).ok()?.scale_shape(),
            None if int8.contains(name) => vec![*info.output.first()?],
            None => return None,
        };
        Some((name, shape))
    };
    network.layers().iter().filter_map(shape).collect()
}

/// The scale with which integers up to `most` reach a weight.
fn scale_for(greatest: f32, most: i8) -> f32 {
    let scale = (f64::from(greatest) / f64::from(most)) as f32;
    // The greatest floats are a multiple of no scale: the quotient may be rounded beyond them.
    let reaches = (scale * f32::from(most)).is_finite();
    let scale = if reaches { scale } else { scale.next_down() };
    if is_scale(scale) { scale } else { 1.0 }
}

/// The scale of a grid with the least squared error, the coarsest of those alike.
fn best_scale(values: &[f32], most: i8) -> f32 {
    let greatest = values.iter().fold(0.0f32, |greatest, value| greatest.max(value.abs()));
    let error = |scale: f32| -> f64 {
        let error = |&value: &f32| {
            (f64::from(value) - f64::from(integer(value, scale, most)) * f64::from(scale)).powi(2)
        };
        values.iter().map(error).sum()
    };
    let mut best = (scale_for(greatest, most), f64::INFINITY);
    for hundredths in (50..=100).rev().step_by(2) {
        let scale = scale_for((f64::from(greatest) * f64::from(hundredths) / 100.0) as f32, most);
        let error = error(scale);
        if error < best.1 {
            best = (scale, error);
        }
    }
    best.0
}

fn integer(value: f32, scale: f32, most: i8) -> i8 {
    let steps = f64::from(value) / f64::from(scale);
    steps.round_ties_even().clamp(f64::from(-most), f64::from(most)) as i8
}

/// A layer whose weights are integers.
struct IntegerLayer<'a> {
    name: &'a str,
    weight: &'a Parameter,
    outputs: usize,
    /// Whether the weights of one input lie together, as in a dense layer, and not those of one output.
    by_input: bool,
    /// Weights that share a scale, and how many of such blocks an output has.
    block: usize,
    blocks: usize,
    bits: u8,
    /// The greatest integer.
    most: i8,
    has_bias: bool,
    /// Whether the scales have a dimension for the blocks.
    in_blocks: bool,
}

impl IntegerLayer<'_> {
    fn key(&self, parameter: &str) -> String {
        format!("{}.{parameter}", self.name)
    }

    /// The index of the scale of the weight at `index`.
    fn scale(&self, index: usize) -> usize {
        let per_output = self.weight.len() / self.outputs;
        let (output, input) = if self.by_input {
            (index % self.outputs, index / self.outputs)
        } else {
            (index / per_output, index % per_output)
        };
        output * self.blocks + input / self.block
    }

    fn scale_shape(&self) -> Vec<usize> {
        if self.in_blocks { vec![self.outputs, self.blocks] } else { vec![self.outputs] }
    }

    fn tensor(&self, elements: Elements) -> Result<Tensor, QuantizationError> {
        let key = || self.weight.key.clone();
        Tensor::new(self.weight.shape.clone(), elements)
            .map_err(|source| QuantizationError::Length { key: key(), source })
    }

    /// The weights as floats, all of which are finite.
    fn floats<'a>(&self, weights: &'a Weights) -> Result<&'a [f32], QuantizationError> {
        let values = weights::parameter(weights, self.weight)?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let (key, value) = (self.weight.key.clone(), values[index]);
                Err(QuantizationError::NotFinite { key, index, value })
            }
            None => Ok(values),
        }
    }

    /// The greatest magnitude of the weights of each scale.
    fn greatest_of_each(&self, values: &[f32]) -> Vec<f32> {
        let mut greatest = vec![0.0f32; self.outputs * self.blocks];
        for (index, value) in values.iter().enumerate() {
            let greatest = &mut greatest[self.scale(index)];
            *greatest = greatest.max(value.abs());
        }
        greatest
    }

    /// Puts the integers and their scales into a record.
    fn write(&self, values: &[f32], scales: Vec<f32>, record: &mut Weights) -> Result<(), QuantizationError> {
        let each = |(index, &value): (usize, &f32)| integer(value, scales[self.scale(index)], self.most);
        let integers = values.iter().enumerate().map(each).collect();
        record.insert(self.weight.key.clone(), self.tensor(Elements::I8(integers))?);
        let key = self.key(SCALE);
        let scales = Tensor::from_f32(self.scale_shape(), scales);
        let scales = scales.map_err(|source| QuantizationError::Length { key: key.clone(), source })?;
        record.insert(key, scales);
        Ok(())
    }

    /// Integers and scales, the scales checked.
    fn read<'a>(&self, weights: &'a Weights) -> Result<(&'a [i8], &'a [f32]), QuantizationError> {
        let integers = weights::bytes(weights, &self.weight.key, &self.weight.shape)?;
        let key = self.key(SCALE);
        let scales = weights::floats(weights, &key, &self.scale_shape())?;
        let usable = |scale: f32| is_scale(scale) && (scale * f32::from(self.most)).is_finite();
        match scales.iter().position(|&scale| !usable(scale)) {
            Some(index) => Err(QuantizationError::Scale { key, index, scale: scales[index] }),
            None => Ok((integers, scales)),
        }
    }
}

/// All layers of a plan whose weights are integers.
fn layers<'a>(
    network: &'a Network,
    plan: &'a Quantization,
) -> Result<Vec<IntegerLayer<'a>>, QuantizationError> {
    let mut layers = int8_layers(network, &plan.layers)?;
    let int8: HashSet<&str> = plan.layers.iter().map(String::as_str).collect();
    for (name, &how) in &plan.weight_only {
        if int8.contains(name.as_str()) {
            let reason = "it is also in `layers`, and a layer computes in one precision".to_owned();
            return Err(QuantizationError::WeightOnly { layer: name.clone(), reason });
        }
        layers.push(weight_only_layer(network, name, how)?);
    }
    Ok(layers)
}

/// Looks the layers of a plan up, and checks that they can compute in int8 and are in the order of the network.
fn int8_layers<'a>(
    network: &'a Network,
    names: &[String],
) -> Result<Vec<IntegerLayer<'a>>, QuantizationError> {
    let all = network.spec().all_layers();
    let positions: HashMap<&str, usize> =
        all.iter().enumerate().map(|(position, layer)| (layer.name.as_str(), position)).collect();
    let mut layers: Vec<IntegerLayer<'a>> = Vec::with_capacity(names.len());
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
        layers.push(IntegerLayer {
            name: &info.name,
            weight,
            outputs,
            by_input: matches!(layer.op, Op::Dense(_)),
            block: weight.len() / outputs,
            blocks: 1,
            bits: 8,
            most: GREATEST,
            has_bias: true,
            in_blocks: false,
        });
    }
    Ok(layers)
}

/// The number of outputs and the weight of a layer that can compute in int8.
fn int8_shape<'a>(layer: &Layer, info: &'a LayerInfo) -> Result<(usize, &'a Parameter), QuantizationError> {
    let bias = match &layer.op {
        Op::Dense(dense) => dense.bias,
        Op::Conv2d(conv) => conv.bias,
        _ => false,
    };
    let outputs = int8_outputs(&layer.op);
    let outputs = outputs.and_then(|outputs| if bias { Ok(outputs) } else { Err("it has no bias") });
    let found = outputs.and_then(|outputs| Ok((outputs, weight_of(info).ok_or("it has no weights")?)));
    found.map_err(|reason| QuantizationError::Kind {
        layer: layer.name.clone(),
        kind: layer.op.type_name(),
        reason,
    })
}

fn weight_only_layer<'a>(
    network: &'a Network,
    name: &str,
    how: WeightOnly,
) -> Result<IntegerLayer<'a>, QuantizationError> {
    let found = network.layers().iter().find(|info| info.name == name).ok_or_else(|| {
        let known = with_weights(&network.spec().all_layers());
        format!("there is no such layer; those with weights are {known}")
    });
    found
        .and_then(|info| in_blocks(info, how))
        .map_err(|reason| QuantizationError::WeightOnly { layer: name.to_owned(), reason })
}

/// A layer that computes in floats: dense, or a convolution of any groups, with or without a bias.
fn in_blocks(info: &LayerInfo, how: WeightOnly) -> Result<IntegerLayer<'_>, String> {
    let (Some(weight), Some(&outputs)) = (weight_of(info), info.output.first()) else {
        return Err(format!("only dense and conv2d layers have such weights, and it is {}", info.type_name));
    };
    let most = how.greatest().ok_or_else(|| format!("`bits` must be 4 or 8, and is {}", how.bits))?;
    if how.block == 0 {
        return Err("`block` must be at least 1".to_owned());
    }
    let per_output = weight.len() / outputs;
    Ok(IntegerLayer {
        name: &info.name,
        weight,
        outputs,
        by_input: info.type_name == "dense",
        block: how.block,
        blocks: per_output.div_ceil(how.block),
        bits: how.bits,
        most,
        has_bias: info.parameters.iter().any(|parameter| parameter.role == Role::Bias),
        in_blocks: true,
    })
}

fn weight_of(info: &LayerInfo) -> Option<&Parameter> {
    info.parameters.iter().find(|parameter| parameter.role == Role::Weight)
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
