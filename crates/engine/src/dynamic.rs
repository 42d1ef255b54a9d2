//! Layers in int8 that find the range of their input in each sample.
//!
//! The samples of a batch know nothing of each other: each has its own scale and zero point
//! ([`network::Affine::of_sample`]), so that an answer is the same alone and in any batch. A value that such a layer
//! reads is floats and becomes bytes in one step, which leaves scale and zero point behind each sample's bytes; the
//! layer gives floats: `sum · (scale of the sample · scale of the output) + bias`, the addend, the activation, each
//! rounded by itself, so that every tier gives the same. The sums are exact. The zero point is 0 or 128, and what
//! either adds to the sums is known when the program is compiled.

use std::collections::BTreeMap;

use network::Affine;

use crate::error::CompileError;
use crate::graph::{Graph, Kind, Node, ValueId};
use crate::lower::{Lowering, narrow};
use crate::step::{DynamicStep, Work};

/// The zero point of samples with negative values.
pub(crate) const MIDDLE: u8 = 128;

/// Behind the bytes of each sample: its scale and, as an integer of 32 bits, its zero point.
pub(crate) const TRAILER: usize = 8;

/// What stands in the tables for the bytes of a value whose meaning is found later.
const UNKNOWN: Affine = Affine { scale: 1.0, zero_point: MIDDLE };

/// Gives every dynamic layer an input in bytes: an input of the network that nobody else reads becomes bytes where
/// it is taken over, any other value is copied once for all dynamic layers that read it.
pub(crate) fn apply(graph: &mut Graph) {
    let mut made: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for input in 0..graph.inputs.len() {
        let is_output = graph.outputs.iter().any(|(_, output)| *output == input);
        let reads = |node: &&Node| node.input == input || node.rest == Some(input);
        let mut readers = graph.nodes.iter().filter(reads).peekable();
        let all = readers.peek().is_some() && readers.all(|node| node.dynamic && node.rest != Some(input));
        if all && !is_output {
            graph.bytes[input] = Some(UNKNOWN);
            graph.per_sample.insert(input);
            made.insert(input, input);
        }
    }
    let nodes = std::mem::take(&mut graph.nodes);
    for mut node in nodes {
        if node.dynamic {
            let source = node.input;
            node.input = *made.entry(source).or_insert_with(|| {
                let copy = graph.shapes.len();
                graph.shapes.push(graph.shapes[source].clone());
                graph.names.push(graph.names[source].clone());
                graph.bytes.push(Some(UNKNOWN));
                graph.per_sample.insert(copy);
                let name = graph.names[source].clone();
                graph.nodes.push(Node::new(&name, Kind::Quantize, source, copy));
                copy
            });
        }
        graph.nodes.push(node);
    }
}

impl Lowering<'_> {
    /// The product of a dynamic layer: that of bytes with sums that are left as they are, and what makes values of
    /// them.
    pub(crate) fn dynamic8(&self, node: &Node) -> Result<(Work, u64), CompileError> {
        let (work, cost) = self.product8(node)?;
        let Work::Gemm8(mut gemm) = work else { return Ok((work, cost)) };
        let (biases, scales) = match &node.kind {
            Kind::Conv(conv) => (conv.bias.as_slice(), node.scales.as_deref().unwrap_or_default()),
            Kind::Dense(dense) => (dense.bias.as_slice(), node.scales.as_deref().unwrap_or_default()),
            _ => (&[][..], &[][..]),
        };
        let lanes = gemm.scale.len();
        let widen = |scales: &[f32]| scales.iter().map(|&scale| f64::from(scale)).collect::<Vec<_>>();
        // `product8` was told of a bias of zeros: what it has is the zero point's part alone.
        let step = DynamicStep {
            middle: std::mem::replace(&mut gemm.bias, vec![0; lanes]),
            scale: narrow(&widen(scales), lanes),
            bias: narrow(biases, lanes),
            rest: gemm.rest.take(),
            rests: std::mem::take(&mut gemm.rests),
            act: std::mem::replace(&mut gemm.act, crate::kernel::Act::Identity),
            gemm: *gemm,
        };
        Ok((Work::Dynamic(Box::new(step)), cost + self.vectors(node.output)))
    }
}
