//! Cross-layer equalization: the same network with weights that lose less when they share scales.
//!
//! What one layer gives may be smaller and the next layer's weights larger by the same factor, channel by channel,
//! where nothing in between cares about size: `relu(s · x) = s · relu(x)` for s > 0 (Nagel et al. 2019, section 4.1).
//! The factor `s = √(r₁ / r₂)`, with the greatest weights r₁ of a channel in the first layer and r₂ in the second,
//! makes both alike, so that all channels use the whole of one range. Pairs are repeated until nothing moves.
//!
//! It is a change of the record alone: the network answers as before, to within what floats round.

use std::collections::{BTreeMap, HashMap};

use crate::fold::FoldError;
use crate::shape::{LayerInfo, Network, Role};
use crate::spec::{Layer, Op};
use crate::tensor::Tensor;
use crate::weights::{self, Weights};

/// Rounds over all pairs.
const ROUNDS: usize = 40;
/// A round that moves nothing by more than this share is the last.
const STILL: f64 = 1e-3;
/// The greatest factor of a channel, and the inverse of the least: what is beyond it is a channel that nobody uses.
const MOST: f64 = 1e6;

/// Equalizes every pair of dense layers and convolutions of one group that follow each other with nothing between
/// them but rectifiers (leaky ones too), pooling, dropout and flattening, each of whose values has one reader; inside
/// the branches of residual blocks too. Batch normalisation between two layers parts them: fold it first
/// ([`crate::fold::fold_batch_norm`]). Returns the new record and the pairs, in the order of the network.
///
/// # Errors
/// When a weight or bias of those layers is missing or of another type or shape.
pub fn equalize(network: &Network, weights: &Weights) -> Result<(Weights, Vec<(String, String)>), FoldError> {
    let mut readers: HashMap<&str, usize> = HashMap::new();
    count(&network.spec().layers, &mut readers);
    for output in &network.spec().outputs {
        *readers.entry(&output.from).or_default() += 1;
    }
    let mut pairs = Vec::new();
    find(&network.spec().layers, &readers, &mut pairs);
    let infos: HashMap<&str, &LayerInfo> =
        network.layers().iter().map(|info| (info.name.as_str(), info)).collect();
    let mut wide: BTreeMap<&str, Wide> = BTreeMap::new();
    for name in pairs.iter().flat_map(|(first, second)| [*first, *second]) {
        if let Some(info) = infos.get(name).filter(|_| !wide.contains_key(name)) {
            wide.insert(name, Wide::new(info, weights)?);
        }
    }
    for _ in 0..ROUNDS {
        let moved = pairs.iter().map(|(first, second)| balance(&mut wide, first, second));
        if moved.fold(0.0, f64::max) < STILL {
            break;
        }
    }
    let mut equalized = weights.clone();
    for (layer, wide) in wide {
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let tensor = Tensor::from_f32(wide.shape.clone(), narrow(&wide.weight))?;
        equalized.insert(format!("{layer}.weight"), tensor);
        if let Some(bias) = &wide.bias {
            equalized.insert(format!("{layer}.bias"), Tensor::from_f32(vec![bias.len()], narrow(bias))?);
        }
    }
    let pairs = pairs.into_iter().map(|(first, second)| (first.to_owned(), second.to_owned()));
    Ok((equalized, pairs.collect()))
}

/// Counts who reads what. Names are unique in the whole network, so one count serves all lists.
fn count<'a>(layers: &'a [Layer], readers: &mut HashMap<&'a str, usize>) {
    let mut previous = None;
    for layer in layers {
        if let Some(source) = layer.from.first().map(String::as_str).or(previous) {
            *readers.entry(source).or_default() += 1;
        }
        if let Op::Residual(block) = &layer.op {
            count(&block.body, readers);
            count(&block.shortcut, readers);
        }
        previous = Some(layer.name.as_str());
    }
}

fn find<'a>(layers: &'a [Layer], readers: &HashMap<&str, usize>, pairs: &mut Vec<(&'a str, &'a str)>) {
    // The layer with weights whose value, perhaps rectified or pooled, is that of the layer before this one.
    let mut open: Option<&str> = None;
    let mut previous: Option<&str> = None;
    for layer in layers {
        let follows = previous.is_some_and(|previous| {
            layer.from.first().is_none_or(|from| from == previous) && readers.get(previous) == Some(&1)
        });
        let first = open.take().filter(|_| follows);
        open = match &layer.op {
            Op::Relu(_) | Op::LeakyRelu(_) | Op::Dropout(_) | Op::Flatten(_) => first,
            Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::GlobalAvgPool(_) | Op::GlobalMaxPool(_) => first,
            Op::Dense(_) => Some(layer.name.as_str()),
            Op::Conv2d(conv) if conv.groups == 1 => Some(layer.name.as_str()),
            _ => None,
        };
        if let (Some(first), Some(second)) = (first, open)
            && second == layer.name
        {
            pairs.push((first, second));
        }
        if let Op::Residual(block) = &layer.op {
            find(&block.body, readers, pairs);
            find(&block.shortcut, readers, pairs);
        }
        previous = Some(&layer.name);
    }
}

/// Weights and bias of a layer in 64 bits, until all rounds are over.
struct Wide {
    shape: Vec<usize>,
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
    outputs: usize,
    by_input: bool,
}

impl Wide {
    fn new(info: &LayerInfo, weights: &Weights) -> Result<Self, FoldError> {
        let read = |role: Role| {
            let parameter = info.parameters.iter().find(|parameter| parameter.role == role)?;
            let values = weights::parameter(weights, parameter);
            Some(values.map(|values| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>()))
        };
        let weight = info.parameters.iter().find(|parameter| parameter.role == Role::Weight);
        Ok(Self {
            shape: weight.map(|weight| weight.shape.clone()).unwrap_or_default(),
            weight: read(Role::Weight).transpose()?.unwrap_or_default(),
            bias: read(Role::Bias).transpose()?,
            outputs: info.output.first().copied().unwrap_or(1),
            by_input: info.type_name == "dense",
        })
    }

    /// The output of the weight at `index`.
    fn output(&self, index: usize) -> usize {
        if self.by_input { index % self.outputs } else { index / (self.weight.len() / self.outputs) }
    }

    /// Which of `channels` the weight at `index` reads: a flattened image has its channels one after the other.
    fn channel(&self, index: usize, channels: usize) -> usize {
        let per_output = self.weight.len() / self.outputs;
        let input = if self.by_input { index / self.outputs } else { index % per_output };
        input / (per_output / channels).max(1)
    }
}

/// The greatest weight of each channel.
fn greatest(wide: &Wide, channels: usize, channel: impl Fn(usize) -> usize) -> Vec<f64> {
    let mut greatest = vec![0.0f64; channels];
    for (index, weight) in wide.weight.iter().enumerate() {
        let greatest = &mut greatest[channel(index)];
        *greatest = greatest.max(weight.abs());
    }
    greatest
}

/// Equalizes one pair and says by what share it moved at most.
fn balance(wide: &mut BTreeMap<&str, Wide>, first: &str, second: &str) -> f64 {
    let (Some(one), Some(two)) = (wide.get(first), wide.get(second)) else { return 0.0 };
    let channels = one.outputs;
    let r1 = greatest(one, channels, |index| one.output(index));
    let r2 = greatest(two, channels, |index| two.channel(index, channels));
    let factor = |(r1, r2): (&f64, &f64)| {
        let factor = (r1 / r2).sqrt();
        // A channel that is nowhere, or that nobody reads, has nothing to be equal to.
        if factor.is_finite() && (1.0 / MOST..=MOST).contains(&factor) { factor } else { 1.0 }
    };
    let factors: Vec<f64> = r1.iter().zip(&r2).map(factor).collect();
    if let Some(one) = wide.get_mut(first) {
        for index in 0..one.weight.len() {
            let output = one.output(index);
            one.weight[index] /= factors[output];
        }
        for (bias, factor) in one.bias.iter_mut().flatten().zip(&factors) {
            *bias /= factor;
        }
    }
    if let Some(two) = wide.get_mut(second) {
        for index in 0..two.weight.len() {
            let channel = two.channel(index, channels);
            two.weight[index] *= factors[channel];
        }
    }
    factors.iter().fold(0.0, |most: f64, factor| most.max((factor - 1.0).abs()))
}
