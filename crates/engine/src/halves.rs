//! Layers that compute in bf16: an f32 of which 16 bits are kept (8 of precision, the whole range).
//!
//! Weights and inputs are rounded to nearest, ties to even; products and sums are f32. Values stay f32 in memory:
//! one that such a layer reads is rounded where it is made, or in a copy where an output or an operation that
//! does not round makes it. Weights take 16 bits. Where there are tiles (AMX), inputs are narrowed into them and
//! products are made there ([`crate::kernel::tiled`]); elsewhere weights are widened as they are read, which beats
//! `vdpbf16ps`: on Sapphire Rapids that instruction does half the multiply–accumulates per cycle of f32's own.
//! What is then gained is memory, and with it time where weights are read once.

use std::collections::BTreeMap;

use crate::graph::{Graph, Kind, Node, ValueId};

/// The nearest bf16, as an f32.
pub(crate) fn round(value: f32) -> f32 {
    f32::from_bits(u32::from(bits(value)) << 16)
}

/// The bits of the nearest bf16. What is not a number stays so.
pub(crate) fn bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Marks the layers that compute in bf16 and rounds what they read.
pub(crate) fn apply(graph: &mut Graph) {
    for node in &mut graph.nodes {
        node.half = match &node.kind {
            Kind::Dense(_) => node.scales.is_none(),
            Kind::Conv(conv) => node.scales.is_none() && conv.groups == 1,
            _ => false,
        };
    }
    let outputs: Vec<ValueId> = graph.outputs.iter().map(|(_, value)| *value).collect();
    let mut rounded: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let nodes = std::mem::take(&mut graph.nodes);
    for mut node in nodes {
        if node.half {
            node.input = match rounded.get(&node.input) {
                Some(&copy) => copy,
                None => {
                    let copy = made(graph, node.input, outputs.contains(&node.input));
                    *rounded.entry(node.input).or_insert(copy)
                }
            };
        }
        graph.nodes.push(node);
    }
}

/// The value rounded: itself where what makes it can round it, otherwise a copy.
fn made(graph: &mut Graph, source: ValueId, is_output: bool) -> ValueId {
    let maker = graph.nodes.iter_mut().find(|maker| maker.output == source);
    if let Some(maker) = maker
        && maker.half
        && maker.act.is_linear()
        && !is_output
    {
        maker.rounds = true;
        return source;
    }
    let copy = graph.shapes.len();
    let name = graph.names[source].clone();
    graph.shapes.push(graph.shapes[source].clone());
    graph.bytes.push(None);
    let is_input = source < graph.inputs.len();
    let map = Kind::Map { scale: Vec::new(), shift: Vec::new() };
    let kind = if is_input { Kind::Round } else { map };
    graph.nodes.push(Node { rounds: true, ..Node::new(&name, kind, source, copy) });
    graph.names.push(name);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_and_ties_go_to_even() {
        let one = 1.0f32.to_bits();
        for (bits, expected) in [
            (one, one),
            (one + 0x7fff, one),
            (one + 0x8000, one),
            (one + 0x8001, one + 0x1_0000),
            (one + 0x1_8000, one + 0x2_0000),
            (f32::MAX.to_bits(), f32::INFINITY.to_bits()),
            (0x8000_0000, 0x8000_0000),
        ] {
            assert_eq!(round(f32::from_bits(bits)).to_bits(), expected, "{bits:x}");
        }
        assert!(round(f32::from_bits(0x7fff_ffff)).is_nan());
        assert!(round(f32::from_bits(0xff80_0001)).is_nan());
    }
}
