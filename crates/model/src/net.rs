//! The network as a Burn module: a list of named layers, run in order.

use std::fmt;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::{Device, Tensor};
use network::{Network, Weights};

use crate::assemble;
use crate::hook::{Hook, Pass};
use crate::init::initial_weights;
use crate::layer::{Draws, Layer};
use crate::precision::Precision;
use crate::value::Value;

/// Weights or names that do not belong to a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum NetError {
    #[error("the record has no tensor `{key}`, which the network needs with the shape {shape:?}")]
    Missing { key: String, shape: Vec<usize> },
    #[error("the record's tensor `{key}` must be {expected}, but is {found}")]
    Mismatch { key: String, expected: String, found: String },
    #[error("the record's tensor `{key}` belongs to no layer of the network")]
    Unused { key: String },
    #[error("the network has no layer `{name}`; its layers are {known}")]
    UnknownLayer { name: String, known: String },
    #[error("layer `{layer}` ({kind}) cannot be run by Burn in this version")]
    Unsupported { layer: String, kind: &'static str },
    #[error("the device gave no values: {reason}")]
    Device { reason: String },
}

/// A network with its parameters on a device.
///
/// It is a Burn [`Module`]: on a device with autodiff it trains (`valid()` gives the frozen copy for
/// inference), and Burn's own records name its parameters `<layer>.<parameter>`, as [`Weights`] do.
/// It is `Send` and `Sync`; many threads may call [`Net::forward`] at once.
///
/// **Cloning.** As everywhere in Burn, a clone shares the running statistics of batch normalisation with the
/// original, so a clone is no backup while training goes on. [`Net::weights`] and [`Module::valid`] copy.
///
/// **Threads.** Burn collects running statistics per thread; train one network from one thread.
#[derive(Clone, Debug)]
pub struct Net {
    pub(crate) nodes: Nodes,
    /// Where each input is kept for layers that name it, if any does.
    pub(crate) inputs: Vec<Option<usize>>,
    /// Where each output is found: a slot, or `None` for what the last layer gives.
    pub(crate) outputs: Vec<Option<usize>>,
}

/// Layers in running order. A layer's result is dropped as soon as the next one has read it, unless a later
/// layer or an output names it: then it waits in a numbered slot.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
    pub(crate) slots: usize,
}

/// A named layer.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// The slot that it reads; `None`: the result of the layer before it.
    pub(crate) read: Option<usize>,
    /// The slot that its result is kept in.
    pub(crate) keep: Option<usize>,
    pub(crate) layer: Layer,
}

impl Net {
    /// A network with fresh weights. See [`initial_weights`] for how they are drawn.
    ///
    /// # Errors
    /// None but for a fault in this crate: the weights drawn always fit.
    pub fn init(network: &Network, seed: u64, device: &Device) -> Result<Self, NetError> {
        Self::from_weights(network, &initial_weights(network, seed), device)
    }

    /// A network with given weights. On a device with autodiff its parameters require gradients.
    ///
    /// # Errors
    /// When a tensor is missing, is not FP32 of the right shape, or belongs to no layer.
    pub fn from_weights(network: &Network, weights: &Weights, device: &Device) -> Result<Self, NetError> {
        Self::from_weights_as(network, weights, device, Precision::F32)
    }

    /// A network that computes in `precision`: its parameters are rounded to it, and its inputs must be of it
    /// ([`Value::from_vec_as`]). Ask [`Lane::supports`](crate::Lane::supports) first.
    ///
    /// # Errors
    /// As [`Net::from_weights`].
    pub fn from_weights_as(
        network: &Network,
        weights: &Weights,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, NetError> {
        assemble::assemble(network, weights, device, precision)
    }

    /// Runs a batch, without dropout: `[batch, …]` as the first input wants it → `[batch, outputs]`, the
    /// first output. Batch normalisation uses the batch's statistics, and updates the running ones, only on a
    /// device with autodiff.
    ///
    /// # Panics
    /// When the input's shape is not that of the network's (one) input; check it against
    /// [`Network::signature`] first.
    #[must_use]
    pub fn forward(&self, input: impl Into<Value>) -> Tensor<2> {
        self.first(input.into(), None)
    }

    /// Runs a batch as [`Net::forward`] does, with dropout: one training step.
    ///
    /// # Panics
    /// As [`Net::forward`].
    #[must_use]
    pub fn forward_train(&self, input: impl Into<Value>, draws: &Draws) -> Tensor<2> {
        self.first(input.into(), Some(draws))
    }

    fn first(&self, input: Value, draws: Option<&Draws>) -> Tensor<2> {
        let output = self.run(vec![input.clone()], draws).into_iter().next();
        output.unwrap_or(input).flatten()
    }

    /// Runs a batch of all inputs, in the order of the signature, and returns all outputs in theirs.
    /// `draws` turns dropout on.
    ///
    /// # Panics
    /// When the inputs do not fit [`Network::signature`].
    #[must_use]
    pub fn run(&self, inputs: Vec<Value>, draws: Option<&Draws>) -> Vec<Value> {
        self.pass(inputs, Pass { draws, hook: None })
    }

    /// Runs a batch as [`Net::run`] does and asks `hook` at every layer.
    ///
    /// # Panics
    /// As [`Net::run`], and when the hook gives tensors of other shapes.
    #[must_use]
    pub fn run_hooked(&self, inputs: Vec<Value>, draws: Option<&Draws>, hook: &dyn Hook) -> Vec<Value> {
        self.pass(inputs, Pass { draws, hook: Some(hook) })
    }

    fn pass(&self, inputs: Vec<Value>, pass: Pass<'_>) -> Vec<Value> {
        let mut slots = self.nodes.slots();
        for (slot, input) in self.inputs.iter().zip(&inputs) {
            if let Some(slot) = slot {
                slots[*slot] = Some(input.clone());
            }
        }
        let Some(first) = inputs.into_iter().next() else {
            return Vec::new();
        };
        let last = self.nodes.forward(first, &mut slots, pass);
        let output =
            |slot: &Option<usize>| slot.and_then(|slot| slots[slot].clone()).unwrap_or_else(|| last.clone());
        self.outputs.iter().map(output).collect()
    }
}

impl Nodes {
    pub(crate) fn slots(&self) -> Vec<Option<Value>> {
        vec![None; self.slots]
    }

    pub(crate) fn forward(&self, input: Value, slots: &mut [Option<Value>], pass: Pass<'_>) -> Value {
        let mut value = input;
        for node in &self.nodes {
            let read = node.read.and_then(|slot| slots[slot].clone());
            value = node.layer.forward(&node.name, read.unwrap_or(value), pass);
            if let Some(hook) = pass.hook {
                value = hook.value(&node.name, value);
            }
            if let Some(slot) = node.keep {
                slots[slot] = Some(value.clone());
            }
        }
        value
    }

    fn rebuild(self, mut apply: impl FnMut(Node) -> Node) -> Self {
        Self { nodes: self.nodes.into_iter().map(&mut apply).collect(), slots: self.slots }
    }
}

/// Rebuilds a layer by applying one expression to each module inside it.
macro_rules! each_part {
    ($layer:expr, $part:ident => $result:expr) => {
        match $layer {
            Layer::Dense($part) => Layer::Dense($result),
            Layer::Conv2d($part) => Layer::Conv2d($result),
            Layer::BatchNorm($part) => Layer::BatchNorm($result),
            Layer::LayerNorm($part) => Layer::LayerNorm($result),
            Layer::Dropout($part) => Layer::Dropout($result),
            Layer::Residual { body, shortcut } => Layer::Residual {
                body: {
                    let $part = body;
                    $result
                },
                shortcut: {
                    let $part = shortcut;
                    $result
                },
            },
            Layer::Plain(plain) => Layer::Plain(plain.clone()),
        }
    };
}

/// Written by hand rather than derived, so that the path of a parameter is `<layer>.<parameter>`: the derived
/// one would add positions in lists and the names of Rust's fields and variants.
impl Module for Nodes {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for Node { name, layer, .. } in &self.nodes {
            if let Layer::Residual { body, shortcut } = layer {
                body.visit(visitor);
                shortcut.visit(visitor);
                continue;
            }
            visitor.enter_module(name, "Layer");
            match layer {
                Layer::Dense(part) => part.visit(visitor),
                Layer::Conv2d(part) => part.visit(visitor),
                Layer::BatchNorm(part) => part.visit(visitor),
                Layer::LayerNorm(part) => part.visit(visitor),
                Layer::Dropout(part) => part.visit(visitor),
                Layer::Residual { .. } | Layer::Plain(_) => {}
            }
            visitor.exit_module(name, "Layer");
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        self.rebuild(|node| {
            let named = !matches!(node.layer, Layer::Residual { .. });
            if named {
                mapper.enter_module(&node.name, "Layer");
            }
            let layer = each_part!(node.layer, part => part.map(mapper));
            if named {
                mapper.exit_module(&node.name, "Layer");
            }
            Node { layer, ..node }
        })
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        self.nodes.iter().fold(devices, |devices, node| match &node.layer {
            Layer::Dense(part) => part.collect_devices(devices),
            Layer::Conv2d(part) => part.collect_devices(devices),
            Layer::BatchNorm(part) => part.collect_devices(devices),
            Layer::LayerNorm(part) => part.collect_devices(devices),
            Layer::Residual { body, shortcut } => shortcut.collect_devices(body.collect_devices(devices)),
            Layer::Dropout(_) | Layer::Plain(_) => devices,
        })
    }

    fn to_device(self, device: &Device) -> Self {
        self.rebuild(|node| Node { layer: each_part!(node.layer, part => part.to_device(device)), ..node })
    }

    fn fork(self, device: &Device) -> Self {
        self.rebuild(|node| Node { layer: each_part!(node.layer, part => part.fork(device)), ..node })
    }

    fn train(self) -> Self {
        self.rebuild(|node| Node { layer: each_part!(node.layer, part => part.train()), ..node })
    }

    fn materialize(self) -> Self {
        self.rebuild(|node| Node { layer: each_part!(node.layer, part => part.materialize()), ..node })
    }

    fn valid(&self) -> Self {
        let node = |node: &Node| Node {
            name: node.name.clone(),
            read: node.read,
            keep: node.keep,
            layer: each_part!(&node.layer, part => part.valid()),
        };
        Self { nodes: self.nodes.iter().map(node).collect(), slots: self.slots }
    }
}

impl Module for Net {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.nodes.visit(visitor);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self { nodes: self.nodes.map(mapper), ..self }
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        self.nodes.collect_devices(devices)
    }

    fn to_device(self, device: &Device) -> Self {
        Self { nodes: self.nodes.to_device(device), ..self }
    }

    fn fork(self, device: &Device) -> Self {
        Self { nodes: self.nodes.fork(device), ..self }
    }

    fn train(self) -> Self {
        Self { nodes: self.nodes.train(), ..self }
    }

    fn materialize(self) -> Self {
        Self { nodes: self.nodes.materialize(), ..self }
    }

    fn valid(&self) -> Self {
        Self { nodes: self.nodes.valid(), inputs: self.inputs.clone(), outputs: self.outputs.clone() }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net {{ layers: {}, params: {} }}", self.nodes.nodes.len(), Module::num_params(self))
    }
}

impl ModuleDisplayDefault for Net {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(self).optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for Net {}
