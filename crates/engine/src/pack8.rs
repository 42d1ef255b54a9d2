//! Weights rounded to integers and packed for the product of bytes.

use network::Affine;

use crate::buffer::Buffer;
use crate::error::CompileError;
use crate::gather::Gather;
use crate::graph::{Conv, Kind, Node};
use crate::kernel::amx::{GROUPS, ROWS};
use crate::layout::{View, conv_output, padded, panel_vectors};
use crate::lower::Lowering;
use crate::pack::order;
use crate::step::{Gemm8Step, Work};

/// How many times as fast as vectors tiles are taken to be, where it is decided whether to wake a thread.
pub(crate) const TILES_ARE_WORTH: u64 = 4;

/// A group of four bytes that a product reads: where it begins, and which input each byte is, if any.
type Tap = (usize, [Option<usize>; 4]);

/// The groups of a `[channels][height][width]` box with these steps between its elements. `index` gives the number
/// of an element in the order of the weights.
fn taps(
    view: &View,
    size: [usize; 3],
    dilation: [usize; 2],
    index: impl Fn(usize, usize, usize) -> usize,
) -> Vec<Tap> {
    let [channels, height, width] = size;
    let mut taps = Vec::new();
    for y in 0..height {
        let row = y * dilation[0] * view.steps.row;
        if view.steps.pixel == 1 {
            for x in (0..width).step_by(4) {
                let element = |j: usize| (x + j < width).then(|| index(0, y, x + j));
                taps.push((row + x, std::array::from_fn(element)));
            }
            continue;
        }
        for x in 0..width {
            for c in (0..channels).step_by(4) {
                let element = |j: usize| (c + j < channels).then(|| index(c + j, y, x));
                let place = row + x * dilation[1] * view.steps.pixel + c;
                taps.push((place, std::array::from_fn(element)));
            }
        }
    }
    taps
}

impl Lowering<'_> {
    pub(crate) fn product8(&self, node: &Node) -> Result<(Work, u64), CompileError> {
        let (from, to) = (self.views[node.input], self.views[node.output]);
        let scales = node.scales.as_deref().unwrap_or_default();
        let affine = |value: usize| self.graph.bytes[value].unwrap_or(Affine { scale: 1.0, zero_point: 0 });
        let input = affine(node.input);
        let (outputs, bias, taps) = match &node.kind {
            Kind::Conv(conv) => {
                let [height, width] = conv.kernel;
                let index = |c: usize, y: usize, x: usize| (c * height + y) * width + x;
                let size = [conv.per_group, height, width];
                (conv.channels, &conv.bias, taps(&from, size, conv.dilation, index))
            }
            Kind::Dense(dense) => {
                let [_, height, width] = from.size;
                let index = |c: usize, y: usize, x: usize| (c * height + y) * width + x;
                (dense.units, &dense.bias, taps(&from, from.size, [1, 1], index))
            }
            _ => return Err(unsupported(node, "only dense and conv2d layers run in int8")),
        };
        let weight = |index: usize, output: usize| match &node.kind {
            Kind::Conv(conv) => conv.weight[output * (conv.weight.len() / outputs) + index],
            Kind::Dense(dense) => dense.weight[index * outputs + output],
            _ => 0.0,
        };
        let integer = |index: usize, output: usize| {
            let steps = weight(index, output) / f64::from(scales[output]);
            steps.round_ties_even().clamp(-127.0, 127.0) as i8
        };
        let vectors = panel_vectors(outputs, self.lanes);
        let width = vectors * self.lanes;
        let panels = padded(outputs, self.lanes) / width;
        let places: Vec<u32> = taps.iter().map(|(place, _)| *place as u32).collect();
        let positions = match &node.kind {
            Kind::Conv(_) => conv_output(self.graph, node).iter().product(),
            _ => ROWS,
        };
        // Sums that are left as they are, for a dynamic layer, come from vectors alone.
        let by_tiles = self.tiles && !node.dynamic;
        let gather = Some(Gather::bytes(&places))
            .filter(|gather| by_tiles && gather.is_worth(places.len(), positions, panels * vectors));
        let depth = gather.as_ref().map_or(places.len(), |gather| gather.depths() * GROUPS);
        let mut weights = vec![0i8; panels * depth * width * 4];
        let mut sums = vec![0i64; panels * width];
        for (panel, bytes) in weights.chunks_mut(depth * width * 4).enumerate() {
            let mut bytes = bytes.iter_mut();
            for (_, elements) in &taps {
                for (lane, sum) in sums[panel * width..][..width].iter_mut().enumerate() {
                    let output = panel * width + lane;
                    for (element, byte) in elements.iter().zip(bytes.by_ref()) {
                        if let Some(index) = element
                            && output < outputs
                        {
                            *byte = integer(*index, output);
                            *sum += i64::from(*byte);
                        }
                    }
                }
            }
        }
        let written = if to.bytes { f64::from(affine(node.output).scale) } else { 1.0 };
        let mut scale = vec![0.0f32; panels * width];
        let mut start = vec![0i32; panels * width];
        // The greatest sum: every activation 255, every weight 127.
        let most = (taps.len() * 4) as f64 * 255.0 * 127.0;
        for output in 0..outputs {
            let step = f64::from(input.scale) * f64::from(scales[output]);
            scale[output] = if node.dynamic { 1.0 } else { (step / written) as f32 };
            let whole = if node.dynamic { 0.0 } else { (bias[output] / step).round_ties_even() };
            let first = whole - f64::from(input.zero_point) * sums[output] as f64;
            if first.abs() + most > f64::from(i32::MAX) {
                return Err(unsupported(node, "its sums do not fit 32 bits; leave it out of the plan"));
            }
            start[output] = first as i32;
        }
        let rest = node.rest.map(|value| self.views[value]);
        let rest_affine = node.rest.map_or(Affine { scale: 0.0, zero_point: 0 }, affine);
        let mut step = Gemm8Step {
            from,
            to,
            rest,
            rest_scale: (f64::from(rest_affine.scale) / written) as f32,
            rest_zero: rest_affine.zero_point,
            dense: true,
            back: 0,
            positions: Vec::new(),
            targets: Vec::new(),
            rests: Vec::new(),
            taps: places,
            gather,
            depth,
            weights: Buffer::from_bytes(&weights),
            bias: start,
            scale,
            zero: affine(node.output).zero_point,
            panels,
            vectors,
            act: node.act,
            pooled: false,
        };
        if let Kind::Conv(conv) = &node.kind {
            self.windows(node, conv, &mut step);
        } else {
            let rows = |sample: usize| (0..self.rows).map(|row| (row * sample) as u32).collect::<Vec<u32>>();
            step.positions = rows(from.sample);
            step.targets = rows(to.sample);
            step.rests = rest.map(|rest| rows(rest.sample)).unwrap_or_default();
        }
        let positions = if step.dense { 1 } else { step.positions.len() };
        let cost = (positions * step.taps.len() * panels * vectors) as u64;
        // Tiles do a multiple of what vectors do; one sample of a dense layer has none.
        let cost = if step.gather.is_some() && !step.dense { cost / TILES_ARE_WORTH } else { cost };
        Ok((Work::Gemm8(Box::new(step)), cost))
    }

    /// The tables of a convolution's positions.
    fn windows(&self, node: &Node, conv: &Conv, step: &mut Gemm8Step) {
        let (from, to) = (step.from, step.to);
        let order = order(conv_output(self.graph, node), conv.pooled);
        let place = |[row, pixel]: [usize; 2]| -> Vec<u32> {
            if conv.pooled {
                order.iter().step_by(4).map(|&[y, x]| (y / 2 * row + x / 2 * pixel) as u32).collect()
            } else {
                order.iter().map(|&[y, x]| (y * row + x * pixel) as u32).collect()
            }
        };
        let position = |&[y, x]: &[usize; 2]| {
            (y * conv.stride[0] * from.steps.row + x * conv.stride[1] * from.steps.pixel) as u32
        };
        step.dense = false;
        step.pooled = conv.pooled;
        step.back = conv.padding[0] * from.steps.row + conv.padding[1] * from.steps.pixel;
        step.positions = order.iter().map(position).collect();
        step.targets = place(to.strides());
        step.rests = step.rest.map(|rest| place(rest.strides())).unwrap_or_default();
    }
}

fn unsupported(node: &Node, reason: &str) -> CompileError {
    let kind = if matches!(node.kind, Kind::Dense(_)) { "dense" } else { "conv2d" };
    CompileError::Unsupported { layer: node.name.clone(), kind, reason: reason.to_owned() }
}
