//! The products of Winograd's domain: for each of the elements of a tile, `[positions][inputs] · [inputs][outputs]`.
//!
//! Why not [`super::gemm`]: here the layout is ours. Inputs and products lie as `[vector][position][lanes]`, so
//! that every position is a constant distance from the one before: a tile needs one pointer instead of one per
//! position, its loads no index, and registers remain for more sums. All elements are one call.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops over registers are written alike, whichever array they index"
)]

use super::simd::Simd;
use super::tiers;

/// Positions are computed by so many; the workspace has room for whole groups.
pub(crate) const GROUP: usize = 4;

/// The products of all elements. Distances are in floats.
#[derive(Clone, Copy)]
pub(crate) struct Elements {
    pub(crate) count: usize,
    /// `[element][vector of inputs][position][lanes]`.
    pub(crate) source: *const f32,
    /// `[element][vector of outputs][position][lanes]`.
    pub(crate) target: *mut f32,
    /// `[element][panel][input][vectors · lanes]`.
    pub(crate) weights: *const f32,
    /// From one element to the next in each of the three.
    pub(crate) steps: [usize; 3],
    /// How many positions there are; whole groups of them are read and written.
    pub(crate) positions: usize,
    /// How many positions there is room for, in the distance from one vector to the next.
    pub(crate) block: usize,
    pub(crate) inputs: usize,
    /// The first panel and the one after the last.
    pub(crate) panels: (usize, usize),
    /// Vectors in a panel: 1 or 2.
    pub(crate) vectors: usize,
}

/// # Safety
/// As [`Simd`]; `P` positions are left at `source` and `target`, and the steps are those of the layouts.
#[inline(always)]
unsafe fn tile<S: Simd, const P: usize, const NV: usize>(
    e: &Elements,
    mut source: *const f32,
    mut weights: *const f32,
    target: *mut f32,
) {
    // SAFETY: passed on.
    unsafe {
        let vector = e.block * S::LANES;
        let mut sums = [[S::splat(0.0); NV]; P];
        let mut left = e.inputs;
        while left > 0 {
            let inputs = left.min(S::LANES);
            for k in 0..inputs {
                let mut w = [S::splat(0.0); NV];
                for v in 0..NV {
                    w[v] = S::load(weights.add((k * NV + v) * S::LANES));
                }
                for p in 0..P {
                    let x = S::splat(*source.add(p * S::LANES + k));
                    for v in 0..NV {
                        sums[p][v] = S::mul_add(x, w[v], sums[p][v]);
                    }
                }
            }
            source = source.add(vector);
            weights = weights.add(inputs * NV * S::LANES);
            left -= inputs;
        }
        for v in 0..NV {
            for p in 0..P {
                S::store(target.add(v * vector + p * S::LANES), sums[p][v]);
            }
        }
    }
}

/// # Safety
/// As [`tile`], for all positions.
#[inline(always)]
unsafe fn panel<S: Simd, const NV: usize>(
    e: &Elements,
    source: *const f32,
    weights: *const f32,
    target: *mut f32,
) {
    // SAFETY: passed on; what is left is counted before every tile, and whole groups are there.
    unsafe {
        let mut at = 0;
        while at < e.positions {
            let left = e.positions - at;
            let (from, to) = (source.add(at * S::LANES), target.add(at * S::LANES));
            // 12 positions of two vectors, or 16 of one, are what 32 registers hold; 4 is what 16 do.
            at += if S::WIDE && NV == 2 && left > 8 && left != 16 {
                tile::<S, 12, NV>(e, from, weights, to);
                12
            } else if S::WIDE && NV == 1 && left > 12 {
                tile::<S, 16, NV>(e, from, weights, to);
                16
            } else if S::WIDE && left > 4 {
                tile::<S, 8, NV>(e, from, weights, to);
                8
            } else {
                tile::<S, 4, NV>(e, from, weights, to);
                4
            };
        }
    }
}

/// # Safety
/// As [`Simd`]; the three blocks of memory are as large as their layouts say, in whole groups of positions, and
/// nobody else uses those of the panels in the target.
#[inline(always)]
unsafe fn products<S: Simd>(e: &Elements) {
    // SAFETY: passed on.
    unsafe {
        let width = e.vectors * S::LANES;
        for element in 0..e.count {
            let source = e.source.add(element * e.steps[0]);
            for index in e.panels.0..e.panels.1 {
                let target = e.target.add(element * e.steps[1] + index * width * e.block);
                let weights = e.weights.add(element * e.steps[2] + index * width * e.inputs);
                if e.vectors == 2 {
                    panel::<S, 2>(e, source, weights, target);
                } else {
                    panel::<S, 1>(e, source, weights, target);
                }
            }
        }
    }
}

tiers!(elements = products(e: &Elements));
