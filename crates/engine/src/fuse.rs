//! Fusion: fewer operations that do more. Each operation is laid onto the one that made its input, where that
//! is the only reader.

use crate::graph::{Graph, Kind, Node, ValueId};
use crate::kernel::Act;

/// Folds batch normalisation into weights, and activations, residual additions and 2×2 maximum pooling into
/// the epilogue of the operation before them; drops what nobody reads. Layers whose weights are `fixed`, being
/// whole multiples of scales that are given, keep them: what would be folded in stays an operation.
pub(crate) fn fuse(graph: &mut Graph, fixed: &dyn Fn(&str) -> bool) {
    drop_unread(graph);
    let uses = graph.uses();
    let mut made: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        let Some(node) = lay_onto(&mut made, node, &uses, fixed) else { continue };
        made.push(node);
    }
    graph.nodes = made;
    free_flatten(graph);
}

fn drop_unread(graph: &mut Graph) {
    loop {
        let uses = graph.uses();
        let before = graph.nodes.len();
        graph.nodes.retain(|node| uses[node.output] > 0);
        if graph.nodes.len() == before {
            return;
        }
    }
}

/// The operation that makes `value`, if nothing but one reader looks at it.
fn maker(made: &[Node], value: ValueId, uses: &[usize]) -> Option<usize> {
    if uses[value] != 1 {
        return None;
    }
    made.iter().rposition(|node| node.output == value)
}

/// Changes an earlier operation so that it does `node` too, or gives `node` back.
fn lay_onto(made: &mut [Node], node: Node, uses: &[usize], fixed: &dyn Fn(&str) -> bool) -> Option<Node> {
    if let Some(rest) = node.rest {
        // An addition goes to the later of its two operands: the other is known by then.
        let makers = [node.input, rest].map(|value| maker(made, value, uses));
        let (at, other) = match makers {
            [Some(a), Some(b)] if b > a => (b, node.input),
            [Some(a), _] if is_after(made, a, rest) => (a, rest),
            [_, Some(b)] if is_after(made, b, node.input) => (b, node.input),
            _ => return Some(node),
        };
        let host = &mut made[at];
        let takes = match &host.kind {
            Kind::Dense(_) | Kind::Map { .. } => true,
            Kind::Conv(conv) => !conv.pooled && conv.groups == 1,
            _ => false,
        };
        if !takes || host.rest.is_some() || host.act != Act::Identity {
            return Some(node);
        }
        host.rest = Some(other);
        host.act = node.act;
        return settle(host, node);
    }
    let Some(at) = maker(made, node.input, uses) else { return Some(node) };
    let host = &mut made[at];
    let open = host.act == Act::Identity;
    match &node.kind {
        Kind::Map { scale, shift } => {
            if !open {
                return Some(node);
            }
            let folds = |host: &mut Node| {
                host.rest.is_none() && !fixed(&host.name) && fold(&mut host.kind, scale, shift)
            };
            if !scale.is_empty() && !folds(host) {
                return Some(node);
            }
            if !matches!(host.kind, Kind::Dense(_) | Kind::Conv(_) | Kind::Map { .. } | Kind::Pool { .. }) {
                return Some(node);
            }
            // A falling activation must not change places with the maximum.
            let pooled = matches!(&host.kind, Kind::Conv(conv) if conv.pooled);
            if pooled && node.act.is_linear() && !node.act.is_monotone() {
                return Some(node);
            }
            host.act = node.act;
            settle(host, node)
        }
        Kind::Pool { maximum: true, kernel: [2, 2], stride: [2, 2], padding: [0, 0] } => {
            let plain = host.rest.is_none() && host.act.is_monotone() && !is_depthwise(&host.kind);
            match &mut host.kind {
                Kind::Conv(conv) if plain && !conv.pooled => {
                    conv.pooled = true;
                    settle(host, node)
                }
                _ => Some(node),
            }
        }
        _ => Some(node),
    }
}

/// Whether `value` is known when the operation at `at` runs.
fn is_after(made: &[Node], at: usize, value: ValueId) -> bool {
    made.iter().position(|node| node.output == value).is_none_or(|position| position < at)
}

fn settle(host: &mut Node, node: Node) -> Option<Node> {
    host.output = node.output;
    host.fused.push(node.name);
    None
}

/// A convolution whose groups have one channel each, in and out.
pub(crate) fn is_depthwise(kind: &Kind) -> bool {
    matches!(kind, Kind::Conv(conv) if conv.groups > 1 && conv.per_group == 1 && conv.channels == conv.groups)
}

/// Folds `x · scale + shift` per channel into weights and bias.
fn fold(kind: &mut Kind, scale: &[f64], shift: &[f64]) -> bool {
    let apply = |bias: &mut [f64]| {
        bias.iter_mut()
            .zip(scale)
            .zip(shift)
            .for_each(|((bias, scale), shift)| *bias = *bias * scale + shift);
    };
    match kind {
        Kind::Dense(dense) => {
            for row in dense.weight.chunks_mut(dense.units) {
                row.iter_mut().zip(scale).for_each(|(weight, scale)| *weight *= scale);
            }
            apply(&mut dense.bias);
            true
        }
        Kind::Conv(conv) if !conv.pooled => {
            let per_channel = conv.weight.len() / conv.channels;
            for (kernel, scale) in conv.weight.chunks_mut(per_channel).zip(scale) {
                kernel.iter_mut().for_each(|weight| *weight *= scale);
            }
            apply(&mut conv.bias);
            true
        }
        Kind::Map { scale: first, shift: bias } if !first.is_empty() => {
            first.iter_mut().zip(scale).for_each(|(first, scale)| *first *= scale);
            apply(bias);
            true
        }
        _ => false,
    }
}

/// A flattened image that only dense layers read needs no copy: they read the image in its own order.
fn free_flatten(graph: &mut Graph) {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
    let mut instead: Vec<Option<ValueId>> = vec![None; graph.shapes.len()];
    for node in &nodes {
        let (flat, image) = (node.output, node.input);
        let is_output = graph.outputs.iter().any(|(_, value)| *value == flat);
        let reads = |reader: &Node| {
            let dense = matches!(reader.kind, Kind::Dense(_)) && reader.rest != Some(flat);
            dense || (reader.input != flat && reader.rest != Some(flat))
        };
        if matches!(node.kind, Kind::Flatten) && !is_output && nodes.iter().all(reads) {
            instead[flat] = Some(image);
        }
    }
    for mut node in nodes {
        if instead[node.output].is_some() && matches!(node.kind, Kind::Flatten) {
            continue;
        }
        if let Some(image) = instead[node.input] {
            node.input = image;
        }
        kept.push(node);
    }
    graph.nodes = kept;
}
