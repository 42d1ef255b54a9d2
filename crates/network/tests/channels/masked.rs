//! A forward pass in which every value knows whether its channel is removed.

use std::collections::BTreeMap;

use network::channels::{Groups, Removal};
use network::spec::{Layer, Op};
use network::{Network, Tensor, Weights};

use crate::reference::{Sample, apply};

/// A value, and for each of its numbers whether it belongs to a removed channel.
#[derive(Clone)]
struct Masked {
    sample: Sample,
    gone: Vec<bool>,
}

/// For each layer that makes removed channels: which of its outputs.
type Filters = BTreeMap<String, Vec<bool>>;

/// One sample through the network, with all outputs. Nothing of a removed channel may come out.
pub(crate) fn run(
    network: &Network,
    weights: &Weights,
    values: &[f64],
    removal: &Removal,
) -> Vec<(String, Vec<f64>)> {
    let groups = Groups::of(network);
    let mut filters = Filters::new();
    for (name, channels) in removal {
        let group = groups.get(name).unwrap();
        for producer in &group.producers {
            let info = network.layers().iter().find(|info| info.name == *producer).unwrap();
            let block = info.output[0] / group.channels;
            filters.insert(
                producer.clone(),
                (0..info.output[0]).map(|output| channels.contains(&(output / block))).collect(),
            );
        }
    }
    let spec = network.spec();
    let sample = Sample { shape: spec.inputs[0].shape.clone(), values: values.to_vec() };
    let input = Masked { gone: vec![false; values.len()], sample };
    let mut scope = BTreeMap::from([(spec.inputs[0].name.clone(), input.clone())]);
    list(&spec.layers, weights, &filters, input, &mut scope);
    let output = |output: &network::spec::OutputSpec| {
        let value = &scope[&output.from];
        assert!(!value.gone.contains(&true), "a removed channel is in the output `{}`", output.name);
        (output.name.clone(), value.sample.values.clone())
    };
    spec.outputs.iter().map(output).collect()
}

fn list(
    layers: &[Layer],
    weights: &Weights,
    filters: &Filters,
    first: Masked,
    scope: &mut BTreeMap<String, Masked>,
) -> Masked {
    let mut value = first;
    for layer in layers {
        let input = layer.from.first().map_or(&value, |from| &scope[from]).clone();
        value = step(layer, weights, filters, input);
        scope.insert(layer.name.clone(), value.clone());
    }
    value
}

fn step(layer: &Layer, weights: &Weights, filters: &Filters, input: Masked) -> Masked {
    let Masked { mut sample, gone } = input;
    let channels = sample.shape[0];
    let plane = gone.len() / channels;
    // Whether all of a channel is gone; half a channel is a fault of the groups.
    let channel_gone = |channel: usize| {
        let of = &gone[channel * plane..(channel + 1) * plane];
        assert!(of.iter().all(|gone| *gone == of[0]), "`{}` reads half a channel", layer.name);
        of[0]
    };
    match &layer.op {
        Op::Dense(_) => {
            zero(&mut sample, &gone);
            made(layer, filters, apply(&layer.name, &layer.op, weights, sample))
        }
        Op::Conv2d(conv) if conv.groups == 1 => {
            zero(&mut sample, &gone);
            made(layer, filters, apply(&layer.name, &layer.op, weights, sample))
        }
        Op::Conv2d(conv) => {
            let (reads, makes) = (channels / conv.groups, conv.channels / conv.groups);
            let output = apply(&layer.name, &layer.op, weights, sample);
            let group_gone = |group: usize| {
                let first = channel_gone(group * reads);
                let all = (1..reads).all(|index| channel_gone(group * reads + index) == first);
                assert!(all, "`{}` reads half a group", layer.name);
                first
            };
            let pixels = output.values.len() / conv.channels;
            let gone = (0..output.values.len()).map(|at| group_gone(at / pixels / makes)).collect();
            Masked { gone, sample: output }
        }
        Op::LayerNorm(_) if sample.shape.len() == 1 => normalise(layer, weights, sample, gone),
        Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::GlobalAvgPool(_) | Op::GlobalMaxPool(_) => {
            let output = apply(&layer.name, &layer.op, weights, sample);
            let pixels = output.values.len() / channels;
            let gone = (0..output.values.len()).map(|at| channel_gone(at / pixels)).collect();
            Masked { gone, sample: output }
        }
        Op::Residual(block) => {
            let input = Masked { sample, gone };
            let body = list(&block.body, weights, filters, input.clone(), &mut BTreeMap::new());
            let shortcut = list(&block.shortcut, weights, filters, input, &mut BTreeMap::new());
            assert_eq!(body.gone, shortcut.gone, "`{}` adds other channels to what is left", layer.name);
            let sum = body.sample.values.iter().zip(&shortcut.sample.values).map(|(a, b)| a + b).collect();
            Masked { sample: Sample { shape: body.sample.shape, values: sum }, gone: body.gone }
        }
        // Everything else keeps each value in its place.
        op => Masked { sample: apply(&layer.name, op, weights, sample), gone },
    }
}

fn zero(sample: &mut Sample, gone: &[bool]) {
    sample.values.iter_mut().zip(gone).filter(|(_, gone)| **gone).for_each(|(value, _)| *value = 0.0);
}

fn made(layer: &Layer, filters: &Filters, sample: Sample) -> Masked {
    let pixels = sample.values.len() / sample.shape[0];
    let gone = match filters.get(&layer.name) {
        Some(filters) => (0..sample.values.len()).map(|at| filters[at / pixels]).collect(),
        None => vec![false; sample.values.len()],
    };
    Masked { sample, gone }
}

/// Layer normalisation of the features that are left.
fn normalise(layer: &Layer, weights: &Weights, sample: Sample, gone: Vec<bool>) -> Masked {
    let left: Vec<usize> = (0..gone.len()).filter(|&at| !gone[at]).collect();
    let mut few = Weights::new();
    for parameter in ["gamma", "beta"] {
        let key = format!("{}.{parameter}", layer.name);
        let all = weights[&key].as_f32().unwrap();
        let values = left.iter().map(|&at| all[at]).collect();
        few.insert(key, Tensor::from_f32(vec![left.len()], values).unwrap());
    }
    let values = left.iter().map(|&at| sample.values[at]).collect();
    let normed = apply(&layer.name, &layer.op, &few, Sample { shape: vec![left.len()], values });
    let mut sample = sample;
    left.iter().zip(normed.values).for_each(|(&at, value)| sample.values[at] = value);
    Masked { sample, gone }
}
