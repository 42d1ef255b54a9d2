//! Running a convolution by Winograd's algorithm: tiles in, products, tiles out.
#![allow(unsafe_code, reason = "pointers into the arena, which the planner has laid out")]

use super::{Env, Share};
use crate::kernel::Act;
use crate::kernel::gemm::{self, Gemm};
use crate::kernel::winograd::{self, TileIn, TileOut};
use crate::step::WinogradStep;

/// # Safety
/// As [`super::run`].
pub(super) unsafe fn filter(step: &WinogradStep, env: &Env<'_>, share: Share) {
    // SAFETY: passed on; the workspace holds `size²` rows of a block's tiles, twice.
    unsafe {
        let (source, target) = (env.source(&step.from).sub(step.back), env.target(&step.to));
        let rest = step.rest.as_ref().map(|rest| (env.source(rest), rest));
        let elements = step.size * step.size;
        let inputs = env.workspace;
        let products = env.workspace.add(elements * step.steps[0]);
        let per_image = step.tiles[0] * step.tiles[1];
        let place = |tile: usize| {
            let (row, tile) = (tile / per_image, tile % per_image);
            (row, tile / step.tiles[1], tile % step.tiles[1])
        };
        let (from, to) = (step.from.strides(), step.to.strides());
        let pooled = if step.pooled { 2 } else { 1 };
        let stride = step.outputs / pooled;
        let panel = step.weights.len() / elements;
        let (first, last) = share.of(env.rows * per_image);
        let mut start = first;
        while start < last {
            let count = step.block.min(last - start);
            for index in 0..count {
                let (row, y, x) = place(start + index);
                let corner = y * step.outputs * from[0] + x * step.outputs * from[1];
                let tile = TileIn {
                    source: source.add(row * step.from.sample + corner),
                    strides: from,
                    target: inputs.add(index * step.padded[0]),
                    step: step.steps[0],
                    padded: step.padded[0],
                    size: step.size,
                };
                winograd::tile_in(env.isa, &tile);
            }
            for element in 0..elements {
                let gemm = Gemm {
                    isa: env.isa,
                    source: inputs.add(element * step.steps[0]),
                    target: products.add(element * step.steps[1]),
                    rest: std::ptr::null(),
                    positions: &step.positions[..count],
                    targets: &step.targets[..count],
                    rests: &[],
                    taps: &step.taps,
                    weights: step.weights.as_ptr().add(element * panel),
                    bias: std::ptr::null(),
                    panels: (0, step.panels),
                    vectors: step.vectors,
                    act: Act::Identity,
                    pooled: false,
                };
                gemm::gemm(env.isa, &gemm);
            }
            for index in 0..count {
                let (row, y, x) = place(start + index);
                let corner = |strides: [usize; 2]| y * stride * strides[0] + x * stride * strides[1];
                let valid = [y, x].map(|tile| tile * stride);
                let tile = TileOut {
                    isa: env.isa,
                    source: products.add(index * step.padded[1]),
                    step: step.steps[1],
                    target: target.add(row * step.to.sample + corner(to)),
                    strides: to,
                    rest: rest.map_or(std::ptr::null(), |(rest, view)| {
                        rest.add(row * view.sample + corner(view.strides()))
                    }),
                    rest_strides: rest.map_or([0; 2], |(_, view)| view.strides()),
                    bias: step.bias.as_ptr(),
                    padded: step.padded[1],
                    size: step.size,
                    outputs: step.outputs,
                    valid: std::array::from_fn(|axis| {
                        step.written[axis].saturating_sub(valid[axis]).min(stride)
                    }),
                    act: step.act,
                    pooled: step.pooled,
                };
                winograd::tile_out(env.isa, &tile);
            }
            start += count;
        }
    }
}
