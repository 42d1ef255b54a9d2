//! From the description of a network and its weights to the Burn module.

use std::collections::BTreeMap;

use artifact::record::parameter_id;
use burn::module::{Flag, Param, ParamId, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, LayerNorm, LayerNormConfig, Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use network::spec::{self, Op};
use network::{Network, Role, Weights};

use crate::layer::{Dropout, Layer, Plain, pair};
use crate::net::{Net, NetError, Node, Nodes};
use crate::precision::Precision;
use crate::value::Maker;

pub(crate) fn assemble(
    network: &Network,
    weights: &Weights,
    device: &Device,
    precision: Precision,
) -> Result<Net, NetError> {
    check(network, weights)?;
    let spec = network.spec();
    let mut slots = Slots::default();
    spec.outputs.iter().for_each(|output| slots.ask_for(&output.from));
    slots.ask_for_sources(&spec.layers);
    let last = spec.layers.last().map(|layer| layer.name.as_str());
    let first = spec.inputs.first().map(|input| input.name.as_str());
    let nodes = Assembler { weights, tensors: Maker { device, precision } }.nodes(&spec.layers, &slots)?;
    let output = |output: &spec::OutputSpec| {
        let is_last = last.or(first) == Some(output.from.as_str());
        if is_last { None } else { slots.get(&output.from) }
    };
    Ok(Net {
        inputs: spec.inputs.iter().map(|input| slots.get(&input.name)).collect(),
        outputs: spec.outputs.iter().map(output).collect(),
        nodes,
    })
}

/// The weights must be exactly those of the network: nothing missing, nothing over.
fn check(network: &Network, weights: &Weights) -> Result<(), NetError> {
    let mut known = BTreeMap::new();
    for parameter in network.parameters() {
        known.insert(parameter.key.as_str(), ());
        let Some(tensor) = weights.get(&parameter.key) else {
            return Err(NetError::Missing { key: parameter.key.clone(), shape: parameter.shape.clone() });
        };
        if tensor.as_f32().is_none() || tensor.shape() != parameter.shape {
            return Err(NetError::Mismatch {
                key: parameter.key.clone(),
                expected: format!("FP32 {:?}", parameter.shape),
                found: format!("{} {:?}", tensor.dtype(), tensor.shape()),
            });
        }
    }
    match weights.keys().find(|key| !known.contains_key(key.as_str())) {
        Some(key) => Err(NetError::Unused { key: key.clone() }),
        None => Ok(()),
    }
}

/// Numbers for the results that a later layer or an output asks for by name.
#[derive(Default)]
struct Slots(BTreeMap<String, usize>);

impl Slots {
    fn ask_for(&mut self, name: &str) {
        let next = self.0.len();
        self.0.entry(name.to_owned()).or_insert(next);
    }

    fn ask_for_sources(&mut self, layers: &[spec::Layer]) {
        let mut previous = None;
        for layer in layers {
            // What stands directly before needs no slot.
            if let Some(source) = layer.from.first().filter(|&source| Some(source) != previous) {
                self.ask_for(source);
            }
            previous = Some(&layer.name);
        }
    }

    fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }
}

struct Assembler<'a> {
    weights: &'a Weights,
    tensors: Maker<'a>,
}

impl Assembler<'_> {
    fn nodes(&self, layers: &[spec::Layer], slots: &Slots) -> Result<Nodes, NetError> {
        let node = |layer: &spec::Layer| {
            Ok(Node {
                name: layer.name.clone(),
                read: layer.from.first().and_then(|source| slots.get(source)),
                keep: slots.get(&layer.name),
                layer: self.layer(&layer.name, &layer.op)?,
            })
        };
        Ok(Nodes { nodes: layers.iter().map(node).collect::<Result<_, _>>()?, slots: slots.0.len() })
    }

    /// The branch of a residual block; its layers see each other and the block's input, nothing else.
    fn branch(&self, layers: &[spec::Layer]) -> Result<Nodes, NetError> {
        let mut slots = Slots::default();
        slots.ask_for_sources(layers);
        self.nodes(layers, &slots)
    }

    fn layer(&self, name: &str, op: &Op) -> Result<Layer, NetError> {
        let plain = match op {
            Op::Dense(dense) => return self.dense(name, dense).map(Layer::Dense),
            Op::Conv2d(conv) => return self.conv2d(name, conv).map(Layer::Conv2d),
            Op::BatchNorm(norm) => return self.batch_norm(name, norm).map(Layer::BatchNorm),
            Op::LayerNorm(norm) => return self.layer_norm(name, norm).map(Layer::LayerNorm),
            Op::Dropout(dropout) => {
                return Ok(Layer::Dropout(Dropout::new(dropout.probability, name.to_owned())));
            }
            Op::Residual(block) => {
                let (body, shortcut) = (self.branch(&block.body)?, self.branch(&block.shortcut)?);
                return Ok(Layer::Residual { body, shortcut });
            }
            Op::Relu(_) => Plain::Relu,
            Op::LeakyRelu(relu) => Plain::LeakyRelu(relu.slope),
            Op::Gelu(_) => Plain::Gelu,
            Op::Sigmoid(_) => Plain::Sigmoid,
            Op::Tanh(_) => Plain::Tanh,
            Op::Silu(_) => Plain::Silu,
            Op::MaxPool2d(pool) => Plain::MaxPool2d(pool.clone()),
            Op::AvgPool2d(pool) => Plain::AvgPool2d(pool.clone()),
            Op::GlobalAvgPool(_) => Plain::GlobalAvgPool,
            Op::GlobalMaxPool(_) => Plain::GlobalMaxPool,
            Op::Flatten(_) => Plain::Flatten,
            // The list of operations is open: those of a later version may need the CPU engine.
            other => return Err(NetError::Unsupported { layer: name.to_owned(), kind: other.type_name() }),
        };
        Ok(Layer::Plain(plain))
    }

    fn dense(&self, name: &str, dense: &spec::Dense) -> Result<Linear, NetError> {
        let bias = if dense.bias { Some(self.parameter(name, Role::Bias)?) } else { None };
        Ok(Linear { weight: self.parameter(name, Role::Weight)?, bias })
    }

    fn conv2d(&self, name: &str, conv: &spec::Conv2d) -> Result<Conv2d, NetError> {
        let weight: Param<Tensor<4>> = self.parameter(name, Role::Weight)?;
        let [out_channels, per_group, ..] = weight.dims();
        let [vertical, horizontal] = pair(conv.padding);
        // Burn's layer is made first, without drawing anything: its parameters are lazy.
        let mut layer = Conv2dConfig::new([per_group * conv.groups, out_channels], pair(conv.kernel))
            .with_stride(pair(conv.stride))
            .with_dilation(pair(conv.dilation))
            .with_groups(conv.groups)
            .with_padding(PaddingConfig2d::Explicit(vertical, horizontal, vertical, horizontal))
            .with_bias(false)
            .init(self.tensors.device);
        layer.weight = weight;
        if conv.bias {
            layer.bias = Some(self.parameter(name, Role::Bias)?);
        }
        Ok(layer)
    }

    fn batch_norm(&self, name: &str, norm: &spec::BatchNorm) -> Result<BatchNorm, NetError> {
        let running = |role: Role| {
            let key = format!("{name}.{}", role.name());
            let id = ParamId::from(parameter_id(&key));
            self.tensor::<1>(&key).map(|tensor| RunningState::with_id(id, tensor))
        };
        Ok(BatchNorm {
            gamma: self.parameter(name, Role::Gamma)?,
            beta: self.parameter(name, Role::Beta)?,
            training: Param::<Flag>::from_bool(true),
            running_mean: running(Role::RunningMean)?,
            running_var: running(Role::RunningVar)?,
            momentum: norm.momentum,
            epsilon: norm.epsilon,
        })
    }

    fn layer_norm(&self, name: &str, norm: &spec::LayerNorm) -> Result<LayerNorm, NetError> {
        let gamma: Param<Tensor<1>> = self.parameter(name, Role::Gamma)?;
        let [width] = gamma.dims();
        let mut layer = LayerNormConfig::new(width).with_epsilon(norm.epsilon).init(self.tensors.device);
        layer.gamma = gamma;
        layer.beta = Some(self.parameter(name, Role::Beta)?);
        Ok(layer)
    }

    /// A trained parameter. Its identity comes from its key, so an optimizer's saved state finds it again.
    fn parameter<const D: usize>(&self, name: &str, role: Role) -> Result<Param<Tensor<D>>, NetError> {
        let key = format!("{name}.{}", role.name());
        let mut parameter = Param::from_tensor(self.tensor::<D>(&key)?);
        parameter.id = ParamId::from(parameter_id(&key));
        Ok(parameter)
    }

    fn tensor<const D: usize>(&self, key: &str) -> Result<Tensor<D>, NetError> {
        // `check` has looked at every key, so neither can fail.
        let missing = || NetError::Missing { key: key.to_owned(), shape: Vec::new() };
        let tensor = self.weights.get(key).ok_or_else(missing)?;
        let values = tensor.as_f32().ok_or_else(missing)?.to_vec();
        let shape: [usize; D] = tensor.shape().try_into().map_err(|_| missing())?;
        Ok(self.tensors.make(values, shape))
    }
}
