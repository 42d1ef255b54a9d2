//! Running a convolution by Winograd's algorithm: tiles in, products, tiles out.
#![allow(unsafe_code, reason = "pointers into the arena, which the planner has laid out")]

use super::{Env, Share};
use crate::kernel::elements::{self, Elements};
use crate::kernel::winograd::{self, TileIn, TileOut};
use crate::step::WinogradStep;

/// The tiles of a share: a product of fewer would read each weight for too little work.
const TILES: usize = 8;

/// Few tiles and many channels: the threads then share the channels that are written, so that each weight is
/// read by one thread alone. Each transforms the inputs for itself.
fn by_panels(step: &WinogradStep, rows: usize) -> bool {
    step.panels > 1 && rows * step.tiles[0] * step.tiles[1] < 2 * TILES
}

/// Into how many shares the step can be cut.
pub(super) fn units(step: &WinogradStep, rows: usize) -> usize {
    let tiles = rows * step.tiles[0] * step.tiles[1];
    if by_panels(step, rows) { step.panels } else { tiles.div_ceil(TILES) }
}

/// # Safety
/// As [`super::run`].
pub(super) unsafe fn filter(step: &WinogradStep, env: &Env<'_>, share: Share) {
    // SAFETY: passed on; the workspace holds `size²` elements of a block's tiles, twice.
    unsafe {
        let (source, target) = (env.source(&step.from).sub(step.back), env.target(&step.to));
        let rest = step.rest.as_ref().map(|rest| (env.source(rest), rest));
        let count = step.size * step.size;
        let inputs = env.workspace;
        let products = env.workspace.add(count * step.steps[0]);
        let per_image = step.tiles[0] * step.tiles[1];
        let place = |tile: usize| {
            let (row, tile) = (tile / per_image, tile % per_image);
            (row, tile / step.tiles[1], tile % step.tiles[1])
        };
        let (from, to) = (step.from.strides(), step.to.strides());
        let pooled = if step.pooled { 2 } else { 1 };
        let stride = step.outputs / pooled;
        let lanes = env.isa.lanes();
        let tiles = env.rows * per_image;
        let (panels, (mut start, last)) = if by_panels(step, env.rows) {
            (share.of(step.panels), (0, tiles))
        } else {
            let (first, last) = share.of(tiles.div_ceil(TILES));
            ((0, step.panels), (TILES * first, (TILES * last).min(tiles)))
        };
        // The channels of the share.
        let channel = panels.0 * step.vectors * lanes;
        let channels = (panels.1 - panels.0) * step.vectors * lanes;
        while start < last {
            let positions = step.block.min(last - start);
            for index in 0..positions {
                let (row, y, x) = place(start + index);
                let corner = y * step.outputs * from[0] + x * step.outputs * from[1];
                let tile = TileIn {
                    source: source.add(row * step.from.sample + corner),
                    strides: from,
                    target: inputs.add(index * lanes),
                    step: step.steps[0],
                    block: step.block,
                    padded: step.padded[0],
                    size: step.size,
                };
                winograd::tile_in(env.isa, &tile);
            }
            let elements = Elements {
                count,
                source: inputs,
                target: products,
                weights: step.weights.as_ptr(),
                steps: step.steps,
                positions,
                block: step.block,
                inputs: step.read,
                panels,
                vectors: step.vectors,
            };
            elements::elements(env.isa, &elements);
            for index in 0..positions {
                let (row, y, x) = place(start + index);
                let corner =
                    |strides: [usize; 2]| y * stride * strides[0] + x * stride * strides[1] + channel;
                let valid = [y, x].map(|tile| tile * stride);
                let tile = TileOut {
                    isa: env.isa,
                    source: products.add(index * lanes + channel * step.block),
                    step: step.steps[1],
                    block: step.block,
                    target: target.add(row * step.to.sample + corner(to)),
                    strides: to,
                    rest: rest.map_or(std::ptr::null(), |(rest, view)| {
                        rest.add(row * view.sample + corner(view.strides()))
                    }),
                    rest_strides: rest.map_or([0; 2], |(_, view)| view.strides()),
                    bias: step.bias.as_ptr().add(channel),
                    padded: channels,
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
            start += positions;
        }
    }
}
