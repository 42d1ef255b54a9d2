//! The pieces of an ONNX graph while it is made, and names for them.

use std::collections::BTreeSet;

use super::proto::{AttributeProto, NodeProto, TensorProto};

/// Nodes in running order and the constants that they read.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) initializers: Vec<TensorProto>,
    names: BTreeSet<String>,
    node_names: BTreeSet<String>,
}

impl Builder {
    /// A name for a value or a constant that none has yet: the wanted one, or one with a number behind it. A layer
    /// may be called `conv1.weight`, which is also a key of the record.
    pub(super) fn name(&mut self, wanted: &str) -> String {
        fresh(&mut self.names, wanted)
    }

    /// Adds an operation with one output and returns the output's name.
    pub(super) fn node(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&str],
        output: String,
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.clone()],
            name: fresh(&mut self.node_names, name),
            op_type: op_type.to_owned(),
            attribute: attributes,
        });
        output
    }

    /// Adds an operation inside a layer, `<layer>.<part>`, whose output has the same name.
    pub(super) fn part(&mut self, op_type: &str, layer: &str, part: &str, inputs: &[&str]) -> String {
        let name = format!("{layer}.{part}");
        let output = self.name(&name);
        self.node(op_type, &name, inputs, output, Vec::new())
    }

    /// Adds a constant; its name is one that [`Builder::name`] gave.
    pub(super) fn constant(&mut self, tensor: TensorProto) -> String {
        let name = tensor.name.clone();
        self.initializers.push(tensor);
        name
    }

    /// Adds a number and returns its name.
    pub(super) fn number(&mut self, wanted: &str, value: f32) -> String {
        let name = self.name(wanted);
        self.constant(TensorProto::f32(&name, &[], &[value]))
    }
}

fn fresh(taken: &mut BTreeSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut number = 1u64;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{wanted}:{number}");
    }
    name
}
