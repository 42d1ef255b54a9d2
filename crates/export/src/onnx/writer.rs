//! From operations to nodes: which name is read where, and which weights.

use std::collections::{BTreeMap, BTreeSet};

use network::spec::Op;
use network::{DType, Quantization, Tensor, Weights, WeightsError};

use super::builder::Builder;
use super::flow::{Flow, Kind, Node, ValueId};
use super::fusion::{Additions, additions, free_flattenings};
use super::proto::TensorProto;
use crate::error::ExportError;
use crate::model::Model;

/// A graph in the making.
pub(super) struct Writer<'a> {
    pub(super) builder: Builder,
    pub(super) flow: &'a Flow<'a>,
    pub(super) weights: &'a Weights,
    pub(super) quantization: Option<&'a Quantization>,
    additions: Additions<'a>,
    /// Flattenings that int8 layers see through, to the image.
    pub(super) flattenings: BTreeMap<ValueId, ValueId>,
    /// The name of each value once it is there.
    names: Vec<String>,
    /// The names of the values that were through bytes.
    pub(super) rounded: BTreeMap<ValueId, String>,
    /// The names of the constants that are parameters, by their keys.
    keys: BTreeMap<&'a str, String>,
    int8: BTreeSet<&'a str>,
    used: BTreeSet<String>,
}

impl<'a> Writer<'a> {
    pub(super) fn write(model: &Model) -> Result<Builder, ExportError> {
        if let Some(quantization) = model.quantization() {
            quantization.check(model.network())?;
            quantization.check_weights(model.network(), model.weights())?;
        }
        let flow = Flow::new(model.network());
        let mut writer = Writer {
            builder: Builder::default(),
            flow: &flow,
            weights: model.weights(),
            quantization: model.quantization(),
            additions: additions(&flow),
            flattenings: free_flattenings(&flow),
            names: vec![String::new(); flow.values.len()],
            rounded: BTreeMap::new(),
            keys: BTreeMap::new(),
            int8: model.quantization().iter().flat_map(|plan| &plan.layers).map(String::as_str).collect(),
            used: BTreeSet::new(),
        };
        writer.ports();
        for node in &flow.nodes {
            writer.node(node)?;
        }
        writer.copies();
        writer.unused(model)?;
        Ok(writer.builder)
    }

    /// Gives every name that is known beforehand, the most important first: those that the signature promises, the
    /// keys of the record, the layers. The value behind an output is called after it.
    fn ports(&mut self) {
        for (input, name) in self.names.iter_mut().enumerate().take(self.flow.inputs) {
            *name = self.builder.name(self.flow.values[input].name);
        }
        for &(output, value) in &self.flow.outputs {
            let name = self.builder.name(output);
            if self.names[value].is_empty() {
                self.names[value] = name;
            }
        }
        for key in self.weights.keys() {
            let name = self.builder.name(key);
            self.keys.insert(key, name);
        }
        for node in &self.flow.nodes {
            if self.names[node.output].is_empty() {
                self.names[node.output] = self.builder.name(node.name);
            }
        }
    }

    /// The name of the constant that is the parameter `key`.
    pub(super) fn key(&self, key: &str) -> String {
        self.keys.get(key).cloned().unwrap_or_default()
    }

    /// An output that is an input, or the same value as another output, is a copy.
    fn copies(&mut self) {
        for &(output, value) in &self.flow.outputs {
            if self.names[value] != output {
                let name = self.names[value].clone();
                self.builder.node("Identity", output, &[&name], output.to_owned(), Vec::new());
            }
        }
    }

    /// A record that holds more than the network needs is not its record.
    fn unused(&self, model: &Model) -> Result<(), ExportError> {
        // Layers that no output depends on are not written, but their parameters belong to the network.
        let known: BTreeSet<&str> = model.network().parameters().map(|p| p.key.as_str()).collect();
        let stranger = |key: &&String| !self.used.contains(*key) && !known.contains(key.as_str());
        match self.weights.keys().find(stranger) {
            Some(key) => Err(ExportError::Unused { key: key.clone() }),
            None => Ok(()),
        }
    }

    /// The name of a value as it is.
    pub(super) fn plain(&self, value: ValueId) -> String {
        self.names[value].clone()
    }

    fn is_int8(&self, layer: &str) -> bool {
        self.int8.contains(layer)
    }

    fn node(&mut self, node: &Node<'a>) -> Result<(), ExportError> {
        match node.kind {
            Kind::Layer(op @ (Op::Dense(_) | Op::Conv2d(_))) if self.is_int8(node.name) => {
                let input = self.through_bytes(node.name, node.input)?;
                let parameters = self.integers(node)?;
                self.product(node, op, &input, &parameters);
            }
            Kind::Layer(op @ (Op::Dense(_) | Op::Conv2d(_))) => {
                let parameters = self.floats(node, op)?;
                let input = self.plain(node.input);
                self.product(node, op, &input, &parameters);
            }
            Kind::Layer(Op::Flatten(_)) if !self.is_read_plain(node) => {}
            Kind::Layer(op) => {
                let input = self.plain(node.input);
                self.operator(node, op, &input)?;
            }
            Kind::Add => {
                let addend = self.additions.get(&node.output).copied();
                let mut read = |value: ValueId| match addend {
                    Some((layer, added)) if added == value && self.is_int8(layer) => {
                        self.through_bytes(layer, value)
                    }
                    _ => Ok(self.plain(value)),
                };
                let inputs = [read(node.input)?, read(node.rest.unwrap_or(node.input))?];
                let output = self.plain(node.output);
                self.builder.node("Add", node.name, &[&inputs[0], &inputs[1]], output, Vec::new());
            }
        }
        Ok(())
    }

    /// Whether anything but int8 layers, which have a flattening of their own, reads what a flattening gives.
    fn is_read_plain(&self, node: &Node<'_>) -> bool {
        let flat = node.output;
        !self.flattenings.contains_key(&flat)
            || self.flow.nodes.iter().any(|reader| reader.reads(flat) && !self.is_int8(reader.name))
    }

    /// Weight and bias of a layer that computes in floats.
    fn floats(&mut self, node: &Node<'a>, op: &Op) -> Result<Vec<String>, ExportError> {
        let inputs = self.flow.values[node.input].shape.first().copied().unwrap_or(1);
        let (shape, outputs, bias) = match op {
            Op::Dense(dense) => (vec![inputs, dense.units], dense.units, dense.bias),
            Op::Conv2d(conv) => {
                let kernel = [conv.channels, inputs / conv.groups, conv.kernel.height, conv.kernel.width];
                (kernel.to_vec(), conv.channels, conv.bias)
            }
            _ => (Vec::new(), 0, false),
        };
        let mut parameters = vec![self.parameter(node.name, "weight", &shape)?];
        if bias {
            parameters.push(self.parameter(node.name, "bias", &[outputs])?);
        }
        Ok(parameters)
    }

    /// Adds a parameter of 32-bit floats under its key.
    pub(super) fn parameter(
        &mut self,
        layer: &str,
        role: &str,
        shape: &[usize],
    ) -> Result<String, ExportError> {
        let key = format!("{layer}.{role}");
        let values = self.tensor(&key, DType::F32, shape)?.as_f32().unwrap_or_default();
        let tensor = TensorProto::f32(&self.key(&key), shape, values);
        Ok(self.builder.constant(tensor))
    }

    /// The tensor `key` of the record, when it has that type and shape.
    pub(super) fn tensor(
        &mut self,
        key: &str,
        expected: DType,
        shape: &[usize],
    ) -> Result<&'a Tensor, WeightsError> {
        let (shape, name) = (shape.to_vec(), key.to_owned());
        let Some(tensor) = self.weights.get(key) else {
            return Err(WeightsError::Missing { key: name, expected, shape });
        };
        if tensor.dtype() != expected || tensor.shape() != shape {
            let (found, found_shape) = (tensor.dtype(), tensor.shape().to_vec());
            return Err(WeightsError::Mismatch { key: name, expected, shape, found, found_shape });
        }
        self.used.insert(name);
        Ok(tensor)
    }
}
