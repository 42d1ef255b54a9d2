//! Which layers run in int8, and what their bytes mean.
//!
//! A value in bytes stands for `(byte − zero_point) · scale` ([`Affine`]); zero itself is a byte, so padding is
//! exact. Weights are `integer · scale` with one scale per output, the integers in −127..=127. What becomes
//! bytes where is decided here from the plan alone: a value whose readers are all int8 layers is bytes from the
//! start, written so by the layer that makes it; any other value stays f32 and is quantized once for those that
//! want bytes.

use std::collections::{BTreeMap, BTreeSet};

use network::{Affine, Quantization, Tensor, Weights};

use crate::dynamic;
use crate::error::CompileError;
use crate::fuse::is_depthwise;
use crate::graph::{Graph, Kind, Node, ValueId};

/// Which layers run in int8. Everything else runs in f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The dense and convolution layers that run in int8, with the scale of each output's weights; an empty list
    /// stands for the greatest weight over 127, and then batch normalisation that follows is part of the weights.
    /// With scales it stays an operation.
    pub layers: BTreeMap<String, Vec<f32>>,
    /// The values that such layers read or write, by the name of the layer (the last of those that are fused)
    /// or of the input.
    pub values: BTreeMap<String, Affine>,
    /// Those of the layers that find the range of their input in each sample. They give floats, and a value that is
    /// added to them is floats.
    pub dynamic: BTreeSet<String>,
}

impl Plan {
    /// The plan of a package: its quantization, and the scales in the record that holds integers.
    #[must_use]
    pub fn new(quantization: &Quantization, record: &Weights) -> Self {
        let scales = |layer: &String| {
            let scales = record.get(&format!("{layer}.scale")).and_then(Tensor::as_f32).unwrap_or_default();
            (layer.clone(), scales.to_vec())
        };
        let layers = quantization.layers.iter().map(scales).collect();
        let dynamic = quantization.dynamic.iter().cloned().collect();
        Self { layers, values: quantization.activations.clone(), dynamic }
    }
}

/// Marks the layers and values of the plan in the graph, and adds what quantizes at the borders.
pub(crate) fn apply(graph: &mut Graph, plan: &Plan) -> Result<(), CompileError> {
    mark(graph, plan)?;
    let is_int8 = |node: &Node| node.scales.is_some() && !node.dynamic;
    dynamic::apply(graph);
    let mut native = vec![false; graph.shapes.len()];
    for (value, native) in native.iter_mut().enumerate() {
        let reads = |node: &&Node| node.input == value || node.rest == Some(value);
        let maker = graph.nodes.iter().find(|node| node.output == value);
        let made = match maker {
            Some(node) => is_int8(node) && node.act.is_linear(),
            None => value < graph.inputs.len(),
        };
        let is_output = graph.outputs.iter().any(|(_, output)| *output == value);
        let mut readers = graph.nodes.iter().filter(reads).peekable();
        *native = made && !is_output && readers.peek().is_some() && readers.all(is_int8);
    }
    let mut quantized: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let nodes = std::mem::take(&mut graph.nodes);
    for mut node in nodes {
        if is_int8(&node) {
            let name = node.name.clone();
            for value in [Some(&mut node.input), node.rest.as_mut()].into_iter().flatten() {
                let affine = range(graph, plan, &name, *value)?;
                if native[*value] {
                    graph.bytes[*value] = Some(affine);
                    continue;
                }
                let source = *value;
                *value = *quantized.entry(source).or_insert_with(|| {
                    let copy = graph.shapes.len();
                    graph.shapes.push(graph.shapes[source].clone());
                    graph.names.push(graph.names[source].clone());
                    graph.bytes.push(Some(affine));
                    let name = graph.names[source].clone();
                    graph.nodes.push(Node::new(&name, Kind::Quantize, source, copy));
                    copy
                });
            }
        }
        graph.nodes.push(node);
    }
    Ok(())
}

/// The names of the values that each layer with a product reads.
pub(crate) fn read(graph: &Graph) -> BTreeMap<String, Vec<String>> {
    let products = graph.nodes.iter().filter(|node| matches!(node.kind, Kind::Dense(_) | Kind::Conv(_)));
    let values =
        |node: &Node| std::iter::once(node.input).chain(node.rest).map(|v| graph.names[v].clone()).collect();
    products.map(|node| (node.name.clone(), values(node))).collect()
}

/// The names of the values that are bytes.
pub(crate) fn byte_values(graph: &Graph) -> BTreeSet<String> {
    let is_bytes = |value: &ValueId| graph.bytes[*value].is_some() && !graph.per_sample.contains(value);
    (0..graph.names.len()).filter(is_bytes).map(|value| graph.names[value].clone()).collect()
}

fn range(graph: &Graph, plan: &Plan, layer: &str, value: ValueId) -> Result<Affine, CompileError> {
    let name = &graph.names[value];
    let affine = plan.values.get(name).filter(|affine| affine.scale.is_normal() && affine.scale > 0.0);
    affine.copied().ok_or_else(|| CompileError::Range {
        layer: layer.to_owned(),
        value: name.clone(),
        known: list(plan.values.keys()),
    })
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn mark(graph: &mut Graph, plan: &Plan) -> Result<(), CompileError> {
    for (layer, scales) in &plan.layers {
        let with_weights = |node: &&mut Node| matches!(node.kind, Kind::Dense(_) | Kind::Conv(_));
        let found = graph.nodes.iter_mut().filter(with_weights).find(|node| node.name == *layer);
        let Some(node) = found else {
            let nodes = graph.nodes.iter().filter(|node| matches!(node.kind, Kind::Dense(_) | Kind::Conv(_)));
            return Err(CompileError::Plan {
                layer: layer.clone(),
                known: list(nodes.map(|node| &node.name)),
            });
        };
        let finite =
            |weights: &[f64], bias: &[f64]| weights.iter().chain(bias).all(|value| value.is_finite());
        let sound = match &node.kind {
            Kind::Conv(conv) => finite(&conv.weight, &conv.bias),
            Kind::Dense(dense) => finite(&dense.weight, &dense.bias),
            _ => true,
        };
        if !sound {
            return Err(CompileError::NotFinite { layer: layer.clone() });
        }
        let most = match &node.kind {
            Kind::Conv(conv) if conv.groups > 1 || is_depthwise(&node.kind) => {
                return Err(CompileError::Unsupported {
                    layer: layer.clone(),
                    kind: "conv2d",
                    reason: "int8 convolutions have one group; leave it out of the plan".to_owned(),
                });
            }
            Kind::Conv(conv) => greatest(conv.channels, |output| {
                let size = conv.weight.len() / conv.channels;
                conv.weight[output * size..][..size].iter().copied()
            }),
            Kind::Dense(dense) => {
                greatest(dense.units, |output| dense.weight[output..].iter().step_by(dense.units).copied())
            }
            _ => Vec::new(),
        };
        let scales = if scales.is_empty() { most } else { scales.clone() };
        let (expected, found) = (graph.shapes[node.output].first().copied().unwrap_or(0), scales.len());
        if found != expected || !scales.iter().all(|scale| scale.is_normal() && *scale > 0.0) {
            return Err(CompileError::Scales { layer: layer.clone(), expected, found });
        }
        node.scales = Some(scales);
        node.dynamic = plan.dynamic.contains(layer);
    }
    Ok(())
}

/// The scale of each output: its greatest weight over 127, or 1 where all are zero.
fn greatest<W: Iterator<Item = f64>>(outputs: usize, weights: impl Fn(usize) -> W) -> Vec<f32> {
    let scale = |output: usize| {
        let most = weights(output).fold(0.0f64, |most, weight| most.max(weight.abs()));
        let scale = (most / 127.0) as f32;
        if scale.is_normal() { scale } else { 1.0 }
    };
    (0..outputs).map(scale).collect()
}
