//! Weights packed for the product kernel, and its tables of positions and taps.

use network::background;

use crate::buffer::Buffer;
use crate::gather::{Gather, pairs};
use crate::graph::{Conv, Dense, Node};
use crate::kernel::amx::ROWS;
use crate::kernel::elements::GROUP;
use crate::kernel::winograd::kernel_transform;
use crate::layout::{padded, panel_vectors};
use crate::lower::{Lowering, narrow};
use crate::pack8::TILES_ARE_WORTH;
use crate::step::{GemmStep, Group, WinogradStep, Work};

/// Rows of a panel, and kernels, that are packed in one go.
const PORTION: usize = 256;

/// Panels of `[inputs][width]` from weights given by input and output; absent outputs are zeros.
fn panels(
    inputs: usize,
    outputs: usize,
    width: usize,
    count: usize,
    weight: impl Fn(usize, usize) -> f64,
) -> Vec<f32> {
    let mut packed = vec![0.0f32; count * inputs * width];
    for (panel, values) in packed.chunks_mut(inputs * width).enumerate() {
        let first = panel * width;
        for (input, row) in values.chunks_mut(width).enumerate() {
            if input % PORTION == 0 {
                background::breathe();
            }
            for (lane, value) in row.iter_mut().enumerate().take(outputs.saturating_sub(first)) {
                *value = weight(input, first + lane) as f32;
            }
        }
    }
    packed
}

/// The order of positions: row by row, or the four of each 2×2 window together.
pub(crate) fn order(size: [usize; 2], pooled: bool) -> Vec<[usize; 2]> {
    let [height, width] = size;
    let mut order = Vec::with_capacity(height * width);
    if !pooled {
        (0..height).for_each(|y| order.extend((0..width).map(|x| [y, x])));
        return order;
    }
    for y in 0..height / 2 {
        for x in 0..width / 2 {
            order.extend([[0, 0], [0, 1], [1, 0], [1, 1]].map(|[down, right]| [2 * y + down, 2 * x + right]));
        }
    }
    order
}

/// The weights in memory: floats, bf16, or for tiles pairs of bf16.
fn packed(node: &Node, gather: Option<&Gather>, panels: &[f32], inputs: usize, width: usize) -> Buffer {
    match gather {
        Some(_) => Buffer::from_halves(&pairs(panels, inputs, width)),
        None if node.half => Buffer::from_halves(panels),
        None => Buffer::from_values(panels),
    }
}

impl Lowering<'_> {
    /// Whether a layer in bf16 runs by tiles: decided from its shape alone, so that a sample has the same answer
    /// alone and in any batch.
    fn halves_by_tiles(&self, node: &Node, taps: &[u32], positions: usize, vectors: usize) -> Option<Gather> {
        let gather = (self.tiles && node.half).then(|| Gather::halves(taps))?;
        gather.is_worth(taps.len(), positions, vectors).then_some(gather)
    }

    pub(crate) fn dense(&self, node: &Node, dense: &Dense) -> (Work, u64) {
        let (from, to) = (self.views[node.input], self.views[node.output]);
        let rest = node.rest.map(|value| self.views[value]);
        let [channels, height, width] = from.size;
        // The inputs in the order in which they lie in memory, with the weights' order beside.
        let mut inputs: Vec<(usize, usize)> = Vec::with_capacity(channels * height * width);
        for c in 0..channels {
            for y in 0..height {
                for x in 0..width {
                    let place = c * from.steps.channel + y * from.steps.row + x * from.steps.pixel;
                    inputs.push((place, (c * height + y) * width + x));
                }
            }
        }
        inputs.sort_unstable();
        let vectors = panel_vectors(dense.units, self.lanes);
        let panel_width = vectors * self.lanes;
        let count = padded(dense.units, self.lanes) / panel_width;
        let weight = |input: usize, unit: usize| dense.weight[inputs[input].1 * dense.units + unit];
        let weights = panels(inputs.len(), dense.units, panel_width, count, weight);
        let taps: Vec<u32> = inputs.iter().map(|&(place, _)| place as u32).collect();
        let gather = self.halves_by_tiles(node, &taps, ROWS, count * vectors);
        let rows = |sample: usize| (0..self.rows).map(|row| (row * sample) as u32).collect::<Vec<u32>>();
        let cost = (inputs.len() * count * vectors) as u64;
        let step = GemmStep {
            from,
            to,
            rest,
            dense: true,
            back: 0,
            positions: rows(from.sample),
            targets: rows(to.sample),
            rests: rest.map(|rest| rows(rest.sample)).unwrap_or_default(),
            weights: packed(node, gather.as_ref(), &weights, taps.len(), panel_width),
            taps,
            gather,
            half: node.half,
            rounds: node.rounds,
            bias: Buffer::from_values(&narrow(&dense.bias, count * panel_width)),
            groups: vec![Group { source: 0, target: 0, weights: 0, bias: 0 }],
            panels: count,
            vectors,
            act: node.act,
            pooled: false,
        };
        (Work::Gemm(Box::new(step)), cost)
    }

    pub(crate) fn direct(&self, node: &Node, conv: &Conv, size: [usize; 2]) -> (Work, u64) {
        let (from, to) = (self.views[node.input], self.views[node.output]);
        let rest = node.rest.map(|value| self.views[value]);
        let [kernel_height, kernel_width] = conv.kernel;
        let mut taps: Vec<(usize, usize)> = Vec::new();
        for c in 0..conv.per_group {
            for ky in 0..kernel_height {
                for kx in 0..kernel_width {
                    let place = c * from.steps.channel
                        + ky * conv.dilation[0] * from.steps.row
                        + kx * conv.dilation[1] * from.steps.pixel;
                    taps.push((place, (c * kernel_height + ky) * kernel_width + kx));
                }
            }
        }
        taps.sort_unstable();
        let outputs = conv.channels / conv.groups;
        let vectors = panel_vectors(outputs, self.lanes);
        let panel_width = vectors * self.lanes;
        let count = padded(outputs, self.lanes) / panel_width;
        let (mut weights, mut bias, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..conv.groups {
            groups.push(Group {
                source: group * conv.per_group * from.steps.channel,
                target: group * outputs,
                weights: weights.len(),
                bias: bias.len(),
            });
            let weight = |tap: usize, output: usize| {
                conv.weight[(group * outputs + output) * taps.len() + taps[tap].1]
            };
            weights.extend(panels(taps.len(), outputs, panel_width, count, weight));
            bias.extend(narrow(&conv.bias[group * outputs..][..outputs], count * panel_width));
        }
        let order = order(size, conv.pooled);
        let position = |&[y, x]: &[usize; 2]| {
            (y * conv.stride[0] * from.steps.row + x * conv.stride[1] * from.steps.pixel) as u32
        };
        let place = |[row, pixel]: [usize; 2]| -> Vec<u32> {
            if conv.pooled {
                order.iter().step_by(4).map(|&[y, x]| (y / 2 * row + x / 2 * pixel) as u32).collect()
            } else {
                order.iter().map(|&[y, x]| (y * row + x * pixel) as u32).collect()
            }
        };
        let cost = (order.len() * taps.len() * count * vectors * conv.groups) as u64;
        let taps: Vec<u32> = taps.iter().map(|&(place, _)| place as u32).collect();
        let gather = self.halves_by_tiles(node, &taps, order.len(), count * vectors);
        let cost = if gather.is_some() { cost / TILES_ARE_WORTH } else { cost };
        let step = GemmStep {
            from,
            to,
            rest,
            dense: false,
            back: conv.padding[0] * from.steps.row + conv.padding[1] * from.steps.pixel,
            positions: order.iter().map(position).collect(),
            targets: place(to.strides()),
            rests: rest.map(|rest| place(rest.strides())).unwrap_or_default(),
            weights: packed(node, gather.as_ref(), &weights, taps.len(), panel_width),
            taps,
            gather,
            half: node.half,
            rounds: node.rounds,
            bias: Buffer::from_values(&bias),
            groups,
            panels: count,
            vectors,
            act: node.act,
            pooled: conv.pooled,
        };
        (Work::Gemm(Box::new(step)), cost)
    }

    pub(crate) fn winograd_step(
        &self,
        node: &Node,
        conv: &Conv,
        size: [usize; 2],
        tile: usize,
        outputs: usize,
    ) -> (Work, u64) {
        let (from, to) = (self.views[node.input], self.views[node.output]);
        let (read, channels) = (from.size[0], conv.channels);
        let vectors = panel_vectors(channels, self.lanes);
        let width = vectors * self.lanes;
        let count = padded(channels, self.lanes) / width;
        let kernels = || conv.weight.chunks_exact(conv.kernel[0] * conv.kernel[1]);
        let (mut weights, mut values) = (Vec::new(), Vec::with_capacity(kernels().len()));
        for takes in kernel_transform(conv.kernel[0], tile) {
            values.clear();
            for (index, kernel) in kernels().enumerate() {
                if index % PORTION == 0 {
                    background::breathe();
                }
                values.push(kernel.iter().zip(&takes).fold(0.0, |sum, (weight, part)| sum + part * weight));
            }
            let value = |input: usize, output: usize| values[output * read + input];
            weights.extend(panels(read, channels, width, count, value));
        }
        let padded = [padded(read, self.lanes), count * width];
        let tiles = size.map(|size| size.div_ceil(outputs));
        let block = block(padded, tile, tiles[0] * tiles[1] * self.rows);
        // An odd number of cache lines, lest all elements of a tile fall into the same set.
        let steps = padded.map(|padded| (block * padded).next_multiple_of(32) + 16);
        let products = (tile * tile * read * count * vectors) as u64;
        let transforms = (8 * tile * tile * (padded[0] + padded[1]) / self.lanes) as u64;
        let step = WinogradStep {
            from,
            to,
            rest: node.rest.map(|value| self.views[value]),
            back: conv.padding[0] * from.steps.row + conv.padding[1] * from.steps.pixel,
            size: tile,
            outputs,
            tiles,
            written: if conv.pooled { size.map(|size| size / 2) } else { size },
            block,
            read,
            steps: [steps[0], steps[1], read * count * width],
            padded,
            weights: Buffer::from_values(&weights),
            bias: Buffer::from_values(&narrow(&conv.bias, count * width)),
            panels: count,
            vectors,
            act: node.act,
            pooled: conv.pooled,
        };
        (Work::Winograd(Box::new(step)), (products + transforms) * (tiles[0] * tiles[1]) as u64)
    }
}

/// How many tiles to transform at once: enough to use each weight often, few enough that inputs and products
/// stay in the second-level cache.
fn block(padded: [usize; 2], tile: usize, tiles: usize) -> usize {
    const WORKSPACE_FLOATS: usize = 192 * 1024;
    let fits = WORKSPACE_FLOATS / (tile * tile * (padded[0] + padded[1]));
    (fits / 12 * 12).clamp(12, 96).min(tiles.next_multiple_of(GROUP))
}
