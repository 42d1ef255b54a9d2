//! From the description to a list of operations on numbered values.
//!
//! Residual blocks become their layers and an addition, dropout disappears, names become numbers, and the
//! weights of each operation are read from the record in 64 bits, ready to be folded.

use std::collections::{BTreeMap, BTreeSet};

use network::spec::{Layer, Op, Pair};
use network::{Affine, Network, Weights};

use crate::error::CompileError;
use crate::kernel::Act;

/// The number of a value.
pub(crate) type ValueId = usize;

/// An operation and what it reads and gives.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The layer it came from; after fusion, the first of them.
    pub(crate) name: String,
    /// The names of the layers fused into it.
    pub(crate) fused: Vec<String>,
    pub(crate) kind: Kind,
    pub(crate) input: ValueId,
    /// Added before the activation.
    pub(crate) rest: Option<ValueId>,
    pub(crate) act: Act,
    pub(crate) output: ValueId,
    /// Computed in bytes, with this scale per output; see [`crate::quantize`].
    pub(crate) scales: Option<Vec<f32>>,
    /// Computed in bytes with a range of its own for each sample; see [`crate::dynamic`].
    pub(crate) dynamic: bool,
    /// Computed with weights in bf16; see [`crate::halves`].
    pub(crate) half: bool,
    /// Rounds what it writes to bf16.
    pub(crate) rounds: bool,
}

impl Node {
    /// An operation without anything fused into it.
    pub(crate) fn new(name: &str, kind: Kind, input: ValueId, output: ValueId) -> Self {
        let (name, fused, act) = (name.to_owned(), Vec::new(), Act::Identity);
        let (dynamic, half, rounds) = (false, false, false);
        Self { name, fused, kind, input, rest: None, act, output, scales: None, dynamic, half, rounds }
    }
}

/// What an operation does.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Dense(Dense),
    Conv(Conv),
    /// `x · scale + shift` per channel; empty: nothing but the addend and the activation.
    Map {
        scale: Vec<f64>,
        shift: Vec<f64>,
    },
    LayerNorm {
        gamma: Vec<f32>,
        beta: Vec<f32>,
        epsilon: f64,
    },
    Pool {
        maximum: bool,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    },
    GlobalPool {
        maximum: bool,
    },
    Flatten,
    /// From floats to bytes.
    Quantize,
    /// An input of the network rounded to bf16.
    Round,
}

/// `[inputs][units]` weights.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
    pub(crate) units: usize,
}

/// `[channels][per_group][kernel]` weights.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
    pub(crate) channels: usize,
    pub(crate) per_group: usize,
    pub(crate) groups: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// A 2×2 maximum pooling before the activation.
    pub(crate) pooled: bool,
}

/// The operations of a network in running order.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// The shape of each value, without the batch.
    pub(crate) shapes: Vec<Vec<usize>>,
    pub(crate) nodes: Vec<Node>,
    /// The values of the inputs are the first ones, in order.
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<(String, ValueId)>,
    /// The layer or input that each value is named after.
    pub(crate) names: Vec<String>,
    /// The values that are bytes, and what the bytes mean.
    pub(crate) bytes: Vec<Option<Affine>>,
    /// Those of them whose bytes mean something else in each sample.
    pub(crate) per_sample: BTreeSet<ValueId>,
}

pub(crate) fn sides(pair: Pair) -> [usize; 2] {
    [pair.height, pair.width]
}

impl Graph {
    pub(crate) fn new(network: &Network, weights: &Weights) -> Result<Self, CompileError> {
        check(network, weights)?;
        let spec = network.spec();
        let shapes = network.layers().iter().map(|info| (info.name.as_str(), info.output.as_slice()));
        let mut builder = Builder {
            weights,
            layer_shapes: shapes.collect(),
            shapes: spec.inputs.iter().map(|input| input.shape.clone()).collect(),
            nodes: Vec::new(),
            names: spec.inputs.iter().map(|input| input.name.clone()).collect(),
        };
        let names = spec.inputs.iter().enumerate().map(|(id, input)| (input.name.clone(), id));
        let mut scope: BTreeMap<String, ValueId> = names.collect();
        builder.list(&spec.layers, 0, &mut scope)?;
        // Shape inference has checked that every output is in scope.
        let outputs = spec.outputs.iter().map(|output| {
            let value = scope.get(&output.from).copied().unwrap_or_default();
            (output.name.clone(), value)
        });
        Ok(Self {
            outputs: outputs.collect(),
            inputs: spec.inputs.iter().map(|input| input.name.clone()).collect(),
            bytes: vec![None; builder.shapes.len()],
            per_sample: BTreeSet::new(),
            shapes: builder.shapes,
            nodes: builder.nodes,
            names: builder.names,
        })
    }

    /// How often each value is read, by operations and as an output.
    pub(crate) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.shapes.len()];
        for node in &self.nodes {
            uses[node.input] += 1;
            if let Some(rest) = node.rest {
                uses[rest] += 1;
            }
        }
        for (_, value) in &self.outputs {
            uses[*value] += 1;
        }
        uses
    }
}

/// The weights must be exactly those of the network: nothing missing, nothing over.
fn check(network: &Network, weights: &Weights) -> Result<(), CompileError> {
    let mut known = BTreeSet::new();
    for parameter in network.parameters() {
        known.insert(parameter.key.as_str());
        let Some(tensor) = weights.get(&parameter.key) else {
            return Err(CompileError::Missing { key: parameter.key.clone(), shape: parameter.shape.clone() });
        };
        if tensor.as_f32().is_none() || tensor.shape() != parameter.shape {
            return Err(CompileError::Mismatch {
                key: parameter.key.clone(),
                expected: format!("FP32 {:?}", parameter.shape),
                found: format!("{} {:?}", tensor.dtype(), tensor.shape()),
            });
        }
    }
    match weights.keys().find(|key| !known.contains(key.as_str())) {
        Some(key) => Err(CompileError::Unused { key: key.clone() }),
        None => Ok(()),
    }
}

struct Builder<'a> {
    weights: &'a Weights,
    layer_shapes: BTreeMap<&'a str, &'a [usize]>,
    shapes: Vec<Vec<usize>>,
    nodes: Vec<Node>,
    names: Vec<String>,
}

impl Builder<'_> {
    /// Adds the layers of a list and returns the value of the last one.
    fn list(
        &mut self,
        layers: &[Layer],
        first: ValueId,
        scope: &mut BTreeMap<String, ValueId>,
    ) -> Result<ValueId, CompileError> {
        let mut value = first;
        for layer in layers {
            // A name that is not in scope can only be the residual block's own: its input.
            let named = layer.from.first().and_then(|name| scope.get(name).copied());
            let input = match layer.from.first() {
                Some(_) => named.unwrap_or(first),
                None => value,
            };
            value = self.layer(layer, input)?;
            scope.insert(layer.name.clone(), value);
        }
        Ok(value)
    }

    fn layer(&mut self, layer: &Layer, input: ValueId) -> Result<ValueId, CompileError> {
        let name = layer.name.as_str();
        let map = || Kind::Map { scale: Vec::new(), shift: Vec::new() };
        let mut act = Act::Identity;
        let kind = match &layer.op {
            Op::Dropout(_) => return Ok(input),
            Op::Residual(block) => {
                let body = self.list(&block.body, input, &mut BTreeMap::new())?;
                let shortcut = self.list(&block.shortcut, input, &mut BTreeMap::new())?;
                return Ok(self.push(name, map(), body, Some(shortcut), act));
            }
            Op::Dense(dense) => Kind::Dense(Dense {
                weight: self.read(name, "weight"),
                bias: self.bias(name, dense.units),
                units: dense.units,
            }),
            Op::Conv2d(conv) => Kind::Conv(Conv {
                weight: self.read(name, "weight"),
                bias: self.bias(name, conv.channels),
                channels: conv.channels,
                per_group: self.shapes[input].first().copied().unwrap_or(1) / conv.groups,
                groups: conv.groups,
                kernel: sides(conv.kernel),
                stride: sides(conv.stride),
                padding: sides(conv.padding),
                dilation: sides(conv.dilation),
                pooled: false,
            }),
            Op::BatchNorm(norm) => {
                let (gamma, beta) = (self.read(name, "gamma"), self.read(name, "beta"));
                let (mean, variance) = (self.read(name, "running_mean"), self.read(name, "running_var"));
                let scale: Vec<f64> =
                    gamma.iter().zip(&variance).map(|(g, v)| g / (v + norm.epsilon).sqrt()).collect();
                let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
                Kind::Map { scale, shift }
            }
            Op::LayerNorm(norm) => {
                let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
                let (gamma, beta) = (self.read(name, "gamma"), self.read(name, "beta"));
                Kind::LayerNorm { gamma: narrow(gamma), beta: narrow(beta), epsilon: norm.epsilon }
            }
            Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => Kind::Pool {
                maximum: matches!(layer.op, Op::MaxPool2d(_)),
                kernel: sides(pool.kernel),
                stride: sides(pool.step()),
                padding: sides(pool.padding),
            },
            Op::GlobalAvgPool(_) => Kind::GlobalPool { maximum: false },
            Op::GlobalMaxPool(_) => Kind::GlobalPool { maximum: true },
            Op::Flatten(_) if self.shapes[input].len() == 1 => return Ok(input),
            Op::Flatten(_) => Kind::Flatten,
            activation => {
                act = match activation {
                    Op::Relu(_) => Act::Relu,
                    Op::LeakyRelu(relu) => Act::Leaky(relu.slope as f32),
                    Op::Gelu(_) => Act::Gelu,
                    Op::Sigmoid(_) => Act::Sigmoid,
                    Op::Tanh(_) => Act::Tanh,
                    Op::Silu(_) => Act::Silu,
                    other => {
                        return Err(CompileError::Unsupported {
                            layer: name.to_owned(),
                            kind: other.type_name(),
                            reason: "this version has no kernel for it".to_owned(),
                        });
                    }
                };
                map()
            }
        };
        Ok(self.push(name, kind, input, None, act))
    }

    fn push(&mut self, name: &str, kind: Kind, input: ValueId, rest: Option<ValueId>, act: Act) -> ValueId {
        let output = self.shapes.len();
        let shape = self.layer_shapes.get(name).map_or_else(|| self.shapes[input].clone(), |s| s.to_vec());
        self.shapes.push(shape);
        self.names.push(name.to_owned());
        self.nodes.push(Node { rest, act, ..Node::new(name, kind, input, output) });
        output
    }

    fn read(&self, layer: &str, parameter: &str) -> Vec<f64> {
        let tensor = self.weights.get(&format!("{layer}.{parameter}"));
        let values = tensor.and_then(network::Tensor::as_f32).unwrap_or_default();
        values.iter().map(|&value| f64::from(value)).collect()
    }

    fn bias(&self, layer: &str, count: usize) -> Vec<f64> {
        let mut bias = self.read(layer, "bias");
        bias.resize(count, 0.0);
        bias
    }
}
