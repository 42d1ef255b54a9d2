//! Walks the layers as shape inference does and notes who makes, carries and reads which channels.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::axis::{Axis, Dimensions, Resolved};
use super::{Fixed, FixedReason, Group, Groups, Part, Slice};
use crate::shape::{LayerInfo, Network, Role};
use crate::spec::{Layer, Op};

pub(super) fn trace(network: &Network) -> Groups {
    let mut walk = Walk {
        infos: network.layers().iter().map(|info| (info.name.as_str(), info)).collect(),
        dimensions: Dimensions::default(),
        members: Vec::new(),
        slices: Vec::new(),
    };
    let spec = network.spec();
    let mut scope = BTreeMap::new();
    for input in &spec.inputs {
        // Whatever its shape, an input's first dimension is as good as any: none of it can go.
        let count = input.shape.first().copied().unwrap_or(1);
        let axis = walk.dimensions.fresh(count);
        walk.dimensions.fix(axis, FixedReason::Input { input: input.name.clone() });
        scope.insert(input.name.clone(), axis);
    }
    if let Some(first) = spec.inputs.first().and_then(|input| scope.get(&input.name).copied()) {
        walk.list(&spec.layers, first, &mut scope);
    }
    for output in &spec.outputs {
        if let Some(&axis) = scope.get(&output.from) {
            walk.dimensions.fix(axis, FixedReason::Output { output: output.name.clone() });
        }
    }
    walk.finish(network)
}

/// A layer's part in the channels of an axis.
struct Member {
    layer: String,
    part: Part,
    axis: Axis,
    has_weights: bool,
}

struct Walk<'a> {
    infos: HashMap<&'a str, &'a LayerInfo>,
    dimensions: Dimensions,
    members: Vec<Member>,
    /// Slices without their block, which is known at the end.
    slices: Vec<(Axis, Slice)>,
}

impl Walk<'_> {
    /// Walks a list that begins with a value and returns the axis of the last one.
    fn list(&mut self, layers: &[Layer], first: Axis, scope: &mut BTreeMap<String, Axis>) -> Axis {
        let mut last = first;
        for layer in layers {
            let source = layer.from.first().and_then(|from| scope.get(from)).copied();
            last = self.layer(layer, source.unwrap_or(last));
            scope.insert(layer.name.clone(), last);
        }
        last
    }

    /// The axis of what a layer gives.
    fn layer(&mut self, layer: &Layer, input: Axis) -> Axis {
        let Some(&info) = self.infos.get(layer.name.as_str()) else { return input };
        match &layer.op {
            Op::Dense(dense) => {
                let output = self.dimensions.fresh(dense.units);
                self.mixes(info, input, 0, output, 1)
            }
            Op::Conv2d(conv) if conv.groups == 1 => {
                let output = self.dimensions.fresh(conv.channels);
                self.mixes(info, input, 1, output, 0)
            }
            // A group of inputs and its group of outputs live and die together.
            Op::Conv2d(conv) => {
                let group = info.input.first().copied().unwrap_or(1) / conv.groups.max(1);
                self.dimensions.coarsen(input, group);
                let Resolved { count, .. } = self.dimensions.resolve(input);
                let output = self.dimensions.with_block(input, conv.channels / count.max(1));
                self.carries(info, output, &[Role::Weight, Role::Bias])
            }
            Op::BatchNorm(_) => {
                let roles = [Role::Gamma, Role::Beta, Role::RunningMean, Role::RunningVar];
                self.carries(info, input, &roles)
            }
            // Along the last dimension, which is that of the channels only where there is no other.
            Op::LayerNorm(_) if info.input.len() == 1 => {
                self.carries(info, input, &[Role::Gamma, Role::Beta])
            }
            Op::Flatten(_) => {
                let pixels = info.input.iter().skip(1).product();
                let output = self.dimensions.repeat(input, pixels);
                self.carries(info, output, &[])
            }
            Op::Residual(block) => {
                // A branch sees the block's input and its own layers.
                let body = self.list(&block.body, input, &mut BTreeMap::new());
                let shortcut = self.list(&block.shortcut, input, &mut BTreeMap::new());
                self.dimensions.join(body, shortcut);
                self.carries(info, body, &[])
            }
            Op::LayerNorm(_)
            | Op::Relu(_)
            | Op::LeakyRelu(_)
            | Op::Gelu(_)
            | Op::Sigmoid(_)
            | Op::Tanh(_)
            | Op::Silu(_)
            | Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::GlobalAvgPool(_)
            | Op::GlobalMaxPool(_)
            | Op::Dropout(_) => self.carries(info, input, &[]),
        }
    }

    /// A layer that reads all of one axis for each of another: the dimensions of its weight are given.
    fn mixes(&mut self, info: &LayerInfo, input: Axis, reads: usize, output: Axis, makes: usize) -> Axis {
        self.member(info, Part::Consumer, input);
        self.slice(info, Part::Consumer, input, Role::Weight, reads);
        self.member(info, Part::Producer, output);
        self.slice(info, Part::Producer, output, Role::Weight, makes);
        self.slice(info, Part::Producer, output, Role::Bias, 0);
        output
    }

    /// A layer that passes channels on, with parameters of one entry per channel along their first dimension.
    fn carries(&mut self, info: &LayerInfo, axis: Axis, roles: &[Role]) -> Axis {
        self.member(info, Part::Carrier, axis);
        roles.iter().for_each(|&role| self.slice(info, Part::Carrier, axis, role, 0));
        axis
    }

    fn member(&mut self, info: &LayerInfo, part: Part, axis: Axis) {
        let has_weights = info.parameters.iter().any(|parameter| parameter.role == Role::Weight);
        self.members.push(Member { layer: info.name.clone(), part, axis, has_weights });
    }

    fn slice(&mut self, info: &LayerInfo, part: Part, axis: Axis, role: Role, dimension: usize) {
        if let Some(parameter) = info.parameters.iter().find(|parameter| parameter.role == role) {
            let (key, shape) = (parameter.key.clone(), parameter.shape.clone());
            self.slices.push((axis, Slice { key, role, part, shape, dimension, block: 1 }));
        }
    }

    /// Sorts everything by what it was joined to.
    fn finish(self, network: &Network) -> Groups {
        let Self { dimensions, members, slices, infos } = self;
        let mut roots = BTreeSet::new();
        let mut of_root: HashMap<usize, (Vec<&Member>, Vec<Slice>)> = HashMap::new();
        for member in &members {
            let root = dimensions.resolve(member.axis).root;
            // An input that is only read, and what nobody weighs, are no business of anybody.
            if member.part != Part::Consumer && member.has_weights {
                roots.insert(root);
            }
            of_root.entry(root).or_default().0.push(member);
        }
        for (axis, slice) in slices {
            let Resolved { root, block, .. } = dimensions.resolve(axis);
            of_root.entry(root).or_default().1.push(Slice { block, ..slice });
        }
        let places: HashMap<&str, usize> =
            network.layers().iter().enumerate().map(|(place, info)| (info.name.as_str(), place)).collect();
        let order = |layer: &str| places.get(layer).copied();
        let (mut groups, mut fixed) = (Vec::new(), Vec::new());
        for root in roots {
            let Some((members, slices)) = of_root.remove(&root) else { continue };
            let named = |part: Part| -> Vec<String> {
                let of_part = members.iter().filter(|member| member.part == part);
                let mut names: Vec<String> = of_part.map(|member| member.layer.clone()).collect();
                names.sort_by_key(|name| order(name));
                names.dedup();
                names
            };
            let (producers, carriers, consumers) =
                (named(Part::Producer), named(Part::Carrier), named(Part::Consumer));
            let weighted = members.iter().filter(|m| m.part != Part::Consumer && m.has_weights);
            let first = weighted.min_by_key(|member| order(&member.layer));
            let Some(Resolved { count, block, .. }) = first.map(|first| dimensions.resolve(first.axis))
            else {
                continue;
            };
            let name = first.map(|first| first.layer.clone()).unwrap_or_default();
            let reason = dimensions.fixed(root).cloned().or((count == 1).then_some(FixedReason::Single));
            if let Some(reason) = reason {
                fixed.push(Fixed { name, channels: count * block, reason });
                continue;
            }
            let (macs_per_channel, parameters_per_channel) = costs(&slices, count, &infos);
            groups.push(Group {
                name,
                channels: count,
                width: block,
                producers,
                carriers,
                consumers,
                slices,
                macs_per_channel,
                parameters_per_channel,
            });
        }
        groups.sort_by_key(|group| order(&group.name));
        fixed.sort_by_key(|fixed| order(&fixed.name));
        Groups { groups, fixed }
    }
}

/// Multiply–accumulates and trained values that go with one channel of `count`.
fn costs(slices: &[Slice], count: usize, infos: &HashMap<&str, &LayerInfo>) -> (u64, u64) {
    // A layer between two values of the same group loses an input and an output at once.
    let mut dimensions: BTreeMap<&str, (u32, &Slice)> = BTreeMap::new();
    for slice in slices {
        dimensions.entry(&slice.key).or_insert((0, slice)).0 += 1;
    }
    let count = count as u64;
    let lost = |whole: u64, times: u32| {
        let part = whole / count.pow(times);
        whole - part * (count - 1).pow(times)
    };
    let (mut macs, mut parameters) = (0u64, 0u64);
    for (key, (times, slice)) in dimensions {
        if slice.role.is_trained() {
            parameters += lost(slice.shape.iter().product::<usize>() as u64, times);
        }
        if slice.role == Role::Weight {
            let layer = key.strip_suffix(".weight").unwrap_or(key);
            macs += infos.get(layer).map_or(0, |info| lost(info.macs, times));
        }
    }
    (macs, parameters)
}
