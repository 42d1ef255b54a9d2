//! Which additions a layer takes up: the engine adds the other branch of a residual block to the sums of the
//! product before it, before anything is rounded, so in an int8 layer the addend is read as bytes and the sum is
//! not. The rules are those of the engine's fusion; a test compares both on random networks.

use std::collections::BTreeMap;

use network::spec::{Op, Pair};

use super::flow::{Flow, Kind, Node, ValueId};

/// For each addition that a layer takes up, by the addition's output: the layer's name, and the value that is
/// added to its own.
pub(super) type Additions<'a> = BTreeMap<ValueId, (&'a str, ValueId)>;

/// An operation with what was laid onto it.
struct Host<'a> {
    name: &'a str,
    work: Work,
    act: Act,
    added: bool,
    output: ValueId,
}

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Dense,
    Conv {
        pooled: bool,
        groups: usize,
        depthwise: bool,
    },
    /// Value by value: a normalisation when `scaled`, else nothing but an addition or an activation.
    Map {
        scaled: bool,
    },
    Pool,
    Other,
}

/// What matters of an activation.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    None,
    /// Piecewise linear; whether it is monotone.
    Linear(bool),
    /// Smooth; whether it is monotone.
    Curved(bool),
}

impl Act {
    fn is_monotone(self) -> bool {
        matches!(self, Self::None | Self::Linear(true) | Self::Curved(true))
    }
}

pub(super) fn additions<'a>(flow: &Flow<'a>) -> Additions<'a> {
    let uses = flow.uses();
    let mut made: Vec<Host<'a>> = Vec::with_capacity(flow.nodes.len());
    let mut additions = Additions::new();
    for node in &flow.nodes {
        let laid = match node.rest {
            Some(rest) => lay_addition(&mut made, node, rest, &uses, &mut additions),
            None => lay(&mut made, node, flow, &uses),
        };
        if !laid {
            let (work, act) = describe(node, flow);
            made.push(Host { name: node.name, work, act, added: node.rest.is_some(), output: node.output });
        }
    }
    additions
}

/// The operation that makes `value`, if nothing but one reader looks at it.
fn maker(made: &[Host<'_>], value: ValueId, uses: &[usize]) -> Option<usize> {
    if uses[value] == 1 { made.iter().rposition(|host| host.output == value) } else { None }
}

/// Whether `value` is known when the operation at `at` runs.
fn is_after(made: &[Host<'_>], at: usize, value: ValueId) -> bool {
    made.iter().position(|host| host.output == value).is_none_or(|position| position < at)
}

fn lay_addition<'a>(
    made: &mut [Host<'a>],
    node: &Node<'a>,
    rest: ValueId,
    uses: &[usize],
    additions: &mut Additions<'a>,
) -> bool {
    // It goes to the later of its two operands: the other is known by then.
    let (at, other) = match [node.input, rest].map(|value| maker(made, value, uses)) {
        [Some(a), Some(b)] if b > a => (b, node.input),
        [Some(a), _] if is_after(made, a, rest) => (a, rest),
        [_, Some(b)] if is_after(made, b, node.input) => (b, node.input),
        _ => return false,
    };
    let host = &mut made[at];
    let takes = match host.work {
        Work::Dense | Work::Map { .. } => true,
        Work::Conv { pooled, groups, .. } => !pooled && groups == 1,
        Work::Pool | Work::Other => false,
    };
    if !takes || host.added || host.act != Act::None {
        return false;
    }
    host.added = true;
    host.output = node.output;
    if matches!(host.work, Work::Dense | Work::Conv { .. }) {
        additions.insert(node.output, (host.name, other));
    }
    true
}

fn lay(made: &mut [Host<'_>], node: &Node<'_>, flow: &Flow<'_>, uses: &[usize]) -> bool {
    let Some(at) = maker(made, node.input, uses) else { return false };
    let host = &mut made[at];
    let (work, act) = describe(node, flow);
    let laid = match work {
        Work::Map { scaled } => {
            let normalises = match host.work {
                Work::Dense | Work::Map { scaled: true } => true,
                Work::Conv { pooled, .. } => !pooled,
                _ => false,
            };
            let open = host.act == Act::None && (!scaled || (!host.added && normalises));
            let falls = act == Act::Linear(false) && matches!(host.work, Work::Conv { pooled: true, .. });
            let takes = open && host.work != Work::Other && !falls;
            if takes {
                host.act = act;
            }
            takes
        }
        Work::Pool if is_halving(node) => match &mut host.work {
            Work::Conv { pooled, depthwise: false, .. }
                if !*pooled && !host.added && host.act.is_monotone() =>
            {
                *pooled = true;
                true
            }
            _ => false,
        },
        _ => false,
    };
    if laid {
        host.output = node.output;
    }
    laid
}

fn describe(node: &Node<'_>, flow: &Flow<'_>) -> (Work, Act) {
    let Kind::Layer(op) = node.kind else { return (Work::Map { scaled: false }, Act::None) };
    let map = |act: Act| (Work::Map { scaled: false }, act);
    let plain = |work: Work| (work, Act::None);
    match op {
        Op::Dense(_) => plain(Work::Dense),
        Op::Conv2d(conv) => {
            let channels = flow.values[node.input].shape.first().copied().unwrap_or(1);
            let depthwise = conv.groups > 1 && channels == conv.groups && conv.channels == conv.groups;
            plain(Work::Conv { pooled: false, groups: conv.groups, depthwise })
        }
        Op::BatchNorm(_) => plain(Work::Map { scaled: true }),
        Op::MaxPool2d(_) | Op::AvgPool2d(_) => plain(Work::Pool),
        Op::Relu(_) => map(Act::Linear(true)),
        Op::LeakyRelu(relu) => map(Act::Linear(relu.slope >= 0.0)),
        Op::Sigmoid(_) | Op::Tanh(_) => map(Act::Curved(true)),
        Op::Gelu(_) | Op::Silu(_) => map(Act::Curved(false)),
        _ => plain(Work::Other),
    }
}

/// A maximum over 2×2 windows that lie side by side.
fn is_halving(node: &Node<'_>) -> bool {
    let Kind::Layer(Op::MaxPool2d(pool)) = node.kind else { return false };
    pool.kernel == Pair::both(2) && pool.step() == Pair::both(2) && pool.padding == Pair::both(0)
}

/// The values of flattenings that no one but dense layers reads: the engine has no such value, and the layers
/// read the image. For each, the image.
pub(super) fn free_flattenings(flow: &Flow<'_>) -> BTreeMap<ValueId, ValueId> {
    let is_free = |node: &&Node<'_>| {
        let flat = node.output;
        let dense = |reader: &&Node<'_>| matches!(reader.kind, Kind::Layer(Op::Dense(_)));
        matches!(node.kind, Kind::Layer(Op::Flatten(_)))
            && !flow.is_output(flat)
            && flow.nodes.iter().filter(|reader| reader.reads(flat)).all(|reader| dense(&reader))
    };
    flow.nodes.iter().filter(is_free).map(|node| (node.output, node.input)).collect()
}
