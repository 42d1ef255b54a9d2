//! The network as operations on numbered values: residual blocks become their layers and an addition, dropout and
//! a flattening of what is flat disappear, and what no output depends on is left out.
//!
//! Values are named and numbered as the CPU engine does it, because the names in a plan of an int8 network are
//! those that the engine gives to its values.

use std::collections::BTreeMap;

use network::Network;
use network::spec::{Layer, Op};

/// The number of a value.
pub(super) type ValueId = usize;

/// A value: the layer or input that it is named after, and its shape without the batch.
#[derive(Clone, Debug)]
pub(super) struct Value<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
}

/// What an operation does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    /// What the layer says.
    Layer(&'a Op),
    /// The sum of both branches of a residual block.
    Add,
}

/// An operation. Its name is its layer's, and so is the name of its output.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind<'a>,
    pub(super) input: ValueId,
    /// The other addend.
    pub(super) rest: Option<ValueId>,
    pub(super) output: ValueId,
}

impl Node<'_> {
    pub(super) fn reads(&self, value: ValueId) -> bool {
        self.input == value || self.rest == Some(value)
    }
}

/// The operations in running order. The first values are the inputs.
#[derive(Clone, Debug)]
pub(super) struct Flow<'a> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) inputs: usize,
    pub(super) outputs: Vec<(&'a str, ValueId)>,
}

impl<'a> Flow<'a> {
    pub(super) fn new(network: &'a Network) -> Self {
        let spec = network.spec();
        let shapes = network.layers().iter().map(|info| (info.name.as_str(), info.output.as_slice()));
        let mut builder = Builder { shapes: shapes.collect(), values: Vec::new(), nodes: Vec::new() };
        let mut scope = Scope::new();
        for (id, input) in spec.inputs.iter().enumerate() {
            builder.values.push(Value { name: &input.name, shape: &input.shape });
            scope.insert(&input.name, id);
        }
        builder.list(&spec.layers, 0, &mut scope);
        // Shape inference has checked that every output is in scope.
        let value = |from: &str| scope.get(from).copied().unwrap_or_default();
        let outputs = spec.outputs.iter().map(|output| (output.name.as_str(), value(&output.from)));
        let mut flow = Self {
            inputs: spec.inputs.len(),
            outputs: outputs.collect(),
            values: builder.values,
            nodes: builder.nodes,
        };
        flow.drop_unread();
        flow
    }

    /// How often each value is read, by operations and as an output.
    pub(super) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
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

    pub(super) fn is_output(&self, value: ValueId) -> bool {
        self.outputs.iter().any(|(_, output)| *output == value)
    }

    /// From the last operation to the first, each is kept if something kept reads it: one pass, however many.
    fn drop_unread(&mut self) {
        let mut read = vec![false; self.values.len()];
        for (_, value) in &self.outputs {
            read[*value] = true;
        }
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.drain(..).rev() {
            if read[node.output] {
                read[node.input] = true;
                node.rest.inspect(|&rest| read[rest] = true);
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
    }
}

type Scope<'a> = BTreeMap<&'a str, ValueId>;

struct Builder<'a> {
    shapes: BTreeMap<&'a str, &'a [usize]>,
    values: Vec<Value<'a>>,
    nodes: Vec<Node<'a>>,
}

impl<'a> Builder<'a> {
    /// Adds the layers of a list and returns the value of the last one.
    fn list(&mut self, layers: &'a [Layer], first: ValueId, scope: &mut Scope<'a>) -> ValueId {
        let mut value = first;
        for layer in layers {
            // A name that is not in scope can only be the residual block's own: its input.
            let input = match layer.from.first() {
                Some(name) => scope.get(name.as_str()).copied().unwrap_or(first),
                None => value,
            };
            value = self.layer(layer, input);
            scope.insert(&layer.name, value);
        }
        value
    }

    fn layer(&mut self, layer: &'a Layer, input: ValueId) -> ValueId {
        match &layer.op {
            Op::Dropout(_) => input,
            Op::Flatten(_) if self.values[input].shape.len() == 1 => input,
            Op::Residual(block) => {
                let body = self.list(&block.body, input, &mut Scope::new());
                let shortcut = self.list(&block.shortcut, input, &mut Scope::new());
                self.push(&layer.name, Kind::Add, body, Some(shortcut))
            }
            op => self.push(&layer.name, Kind::Layer(op), input, None),
        }
    }

    fn push(&mut self, name: &'a str, kind: Kind<'a>, input: ValueId, rest: Option<ValueId>) -> ValueId {
        let output = self.values.len();
        let shape = self.shapes.get(name).copied().unwrap_or(self.values[input].shape);
        self.values.push(Value { name, shape });
        self.nodes.push(Node { name, kind, input, rest, output });
        output
    }
}
