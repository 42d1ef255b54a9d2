//! The product that dense layers, convolutions and Winograd's domain share.
//!
//! For every position `p` and output `n`: `out[p][n] = act(Σ_k in[p + tap_k] · w[k][n] + bias[n] + rest[p][n])`.
//! A *position* is where an output reads from: a row of a batch for a dense layer, the top left corner of a
//! window for a convolution (the indirect convolution of Dukhan 2019, with the padding inside the buffer). A
//! *tap* is a step from there: an input feature, or one channel under one element of the kernel. So one kernel
//! serves every stride, dilation, group and layout. The vectors run along the outputs, whose weights are packed
//! into panels of one or two vectors; a tile is up to 12 positions × 2 vectors in registers.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops over registers are written alike, whichever array they index"
)]

use super::math::linear;
use super::simd::Simd;
use super::{Act, tiers};
use crate::isa::Isa;

/// One product. Offsets are in floats.
#[derive(Clone, Copy)]
pub(crate) struct Gemm<'a> {
    pub(crate) isa: Isa,
    pub(crate) source: *const f32,
    pub(crate) target: *mut f32,
    /// Added to every output at the same place as `rests` says; may be null.
    pub(crate) rest: *const f32,
    /// Where each position reads.
    pub(crate) positions: &'a [u32],
    /// Where each position (with `pooled`: every four) is written.
    pub(crate) targets: &'a [u32],
    /// Where each position's addend stands.
    pub(crate) rests: &'a [u32],
    /// The step to each input, in the order of the packed weights.
    pub(crate) taps: &'a [u32],
    /// Panels of `[taps][vectors · lanes]`.
    pub(crate) weights: *const f32,
    /// Whether the weights are bf16.
    pub(crate) half: bool,
    /// Whether the results are rounded to bf16; then the activation is one of accumulators.
    pub(crate) rounds: bool,
    /// One float per output, padded as the panels are; may be null.
    pub(crate) bias: *const f32,
    /// The first panel and the one after the last.
    pub(crate) panels: (usize, usize),
    /// Vectors in a panel: 1 or 2.
    pub(crate) vectors: usize,
    pub(crate) act: Act,
    /// Keeps the greatest of every four positions: a 2×2 maximum pooling.
    pub(crate) pooled: bool,
}

/// A vector of weights.
///
/// # Safety
/// As [`Simd`]; the weights are bf16 if `HALF`, and there is a vector of them at `at`.
#[inline(always)]
unsafe fn load<S: Simd, const HALF: bool>(g: &Gemm<'_>, at: usize) -> S::V {
    // SAFETY: passed on.
    unsafe { if HALF { S::load_halves(g.weights.cast::<u16>().add(at)) } else { S::load(g.weights.add(at)) } }
}

/// A sum is made in the order of the taps whatever the shape of the tile, so that a row has the same answer to the
/// last bit alone and in any batch.
///
/// # Safety
/// As [`Simd`]; every offset lies inside what its pointer points to, `P` positions are left from `at` on, and
/// `G` panels from `panel` on.
#[inline(always)]
unsafe fn tile<S: Simd, const P: usize, const G: usize, const NV: usize, const HALF: bool>(
    g: &Gemm<'_>,
    at: usize,
    panel: usize,
) {
    // SAFETY: passed on.
    unsafe {
        let width = NV * S::LANES;
        let panel_size = g.taps.len() * width;
        let mut from = [g.source; P];
        for p in 0..P {
            from[p] = g.source.add(*g.positions.get_unchecked(at + p) as usize);
        }
        let mut sums = [[[S::splat(0.0); NV]; G]; P];
        if !g.bias.is_null() {
            for n in 0..G {
                for v in 0..NV {
                    let bias = S::load(g.bias.add((panel + n) * width + v * S::LANES));
                    for p in 0..P {
                        sums[p][n][v] = bias;
                    }
                }
            }
        }
        // Counted in weights, whichever they are.
        let mut weights = panel * panel_size;
        for &tap in g.taps {
            let mut w = [[S::splat(0.0); NV]; G];
            for n in 0..G {
                for v in 0..NV {
                    w[n][v] = load::<S, HALF>(g, weights + n * panel_size + v * S::LANES);
                }
            }
            for p in 0..P {
                let x = S::splat(*from[p].add(tap as usize));
                for n in 0..G {
                    for v in 0..NV {
                        sums[p][n][v] = S::mul_add(x, w[n][v], sums[p][n][v]);
                    }
                }
            }
            weights += width;
        }
        finish::<S, P, G, NV>(g, at, panel, sums);
    }
}

/// Changes every sum. The loops are short and have constant bounds, so that the sums never leave the registers:
/// an index that is known only at run time would send all of them through memory.
macro_rules! every {
    ($sums:ident[$p:ident][$n:ident][$v:ident] => $value:expr) => {
        for $p in 0..P {
            for $n in 0..G {
                for $v in 0..NV {
                    $sums[$p][$n][$v] = $value;
                }
            }
        }
    };
}

/// The epilogue: addend, pooling, activation, store.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(super) unsafe fn finish<S: Simd, const P: usize, const G: usize, const NV: usize>(
    g: &Gemm<'_>,
    at: usize,
    panel: usize,
    mut sums: [[[S::V; NV]; G]; P],
) {
    // SAFETY: passed on.
    unsafe {
        let width = NV * S::LANES;
        let target = g.target.add(panel * width);
        if !g.rest.is_null() {
            let rest = g.rest.add(panel * width);
            for p in 0..P {
                let from = rest.add(*g.rests.get_unchecked(at + p) as usize);
                for n in 0..G {
                    for v in 0..NV {
                        let value = S::load(from.add(n * width + v * S::LANES));
                        sums[p][n][v] = S::add(sums[p][n][v], value);
                    }
                }
            }
        }
        match g.act {
            Act::Relu => every!(sums[p][n][v] => linear::<S>(Act::Relu, sums[p][n][v])),
            Act::Leaky(slope) => every!(sums[p][n][v] => linear::<S>(Act::Leaky(slope), sums[p][n][v])),
            _ => {}
        }
        if g.rounds {
            every!(sums[p][n][v] => S::round_half(sums[p][n][v]));
        }
        let (targets, written) = if g.pooled { (at / 4, P / 4) } else { (at, P) };
        if g.pooled {
            // Only activations that never fall change places with the maximum; the planner sees to it.
            for q in 0..P / 4 {
                let to = target.add(*g.targets.get_unchecked(targets + q) as usize);
                for n in 0..G {
                    for v in 0..NV {
                        let upper = S::max(sums[4 * q][n][v], sums[4 * q + 1][n][v]);
                        let lower = S::max(sums[4 * q + 2][n][v], sums[4 * q + 3][n][v]);
                        S::store(to.add(n * width + v * S::LANES), S::max(upper, lower));
                    }
                }
            }
        } else {
            for p in 0..P {
                let to = target.add(*g.targets.get_unchecked(targets + p) as usize);
                for n in 0..G {
                    for v in 0..NV {
                        S::store(to.add(n * width + v * S::LANES), sums[p][n][v]);
                    }
                }
            }
        }
        if !g.act.is_linear() {
            for index in targets..targets + written {
                let to = target.add(*g.targets.get_unchecked(index) as usize);
                super::math::activate(g.isa, g.act, to, G * width);
            }
        }
    }
}

/// How many panels the next tile of one position takes: as many as make the tiles alike, for a tile is as slow as
/// a sum of four panels or more, however few it has.
const fn abreast(left: usize) -> usize {
    match left {
        0..=6 => left,
        7 | 8 => 4,
        9 | 10 => 5,
        11 | 12 => 6,
        _ => 4,
    }
}

/// # Safety
/// As [`tile`], for all positions and panels.
#[inline(always)]
unsafe fn panels_of<S: Simd, const NV: usize, const HALF: bool>(g: &Gemm<'_>) {
    // SAFETY: passed on; what is left is counted before every tile.
    unsafe {
        let count = g.positions.len();
        let (first, end) = g.panels;
        let fours = count - count % 4;
        for panel in first..end {
            let mut at = 0;
            while at < fours {
                let left = fours - at;
                // Twelve positions of two vectors would leave the compiler no register to spare, and it spills.
                // 16 are two tiles of 8 rather than one and a sliver.
                let twelve = NV == 1 && (left >= 17 || left == 12);
                at += if S::WIDE && twelve {
                    tile::<S, 12, 1, NV, HALF>(g, at, panel);
                    12
                } else if S::WIDE && left >= 8 {
                    tile::<S, 8, 1, NV, HALF>(g, at, panel);
                    8
                } else {
                    tile::<S, 4, 1, NV, HALF>(g, at, panel);
                    4
                };
            }
        }
        // The last one to three positions: several panels at once, so that enough sums are under way.
        let mut at = fours;
        if count - at >= 2 {
            let mut panel = first;
            while end - panel >= 2 {
                tile::<S, 2, 2, NV, HALF>(g, at, panel);
                panel += 2;
            }
            if panel < end {
                tile::<S, 2, 1, NV, HALF>(g, at, panel);
            }
            at += 2;
        }
        if at < count {
            let mut panel = first;
            while panel < end {
                let abreast = abreast(end - panel);
                match abreast {
                    1 => tile::<S, 1, 1, NV, HALF>(g, at, panel),
                    2 => tile::<S, 1, 2, NV, HALF>(g, at, panel),
                    3 => tile::<S, 1, 3, NV, HALF>(g, at, panel),
                    4 => tile::<S, 1, 4, NV, HALF>(g, at, panel),
                    5 => tile::<S, 1, 5, NV, HALF>(g, at, panel),
                    _ => tile::<S, 1, 6, NV, HALF>(g, at, panel),
                }
                panel += abreast;
            }
        }
    }
}

/// # Safety
/// As [`tile`], for all positions and panels.
#[inline(always)]
unsafe fn product<S: Simd>(g: &Gemm<'_>) {
    // SAFETY: passed on.
    unsafe {
        match (g.vectors, g.half) {
            (2, false) => panels_of::<S, 2, false>(g),
            (2, true) => panels_of::<S, 2, true>(g),
            (_, false) => panels_of::<S, 1, false>(g),
            (_, true) => panels_of::<S, 1, true>(g),
        }
    }
}

tiers!(gemm = product(g: &Gemm<'_>));

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of positions that make every tile, and every shape of panel, on every tier.
    #[test]
    fn every_tile_equals_plain_loops() {
        for &isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
            for count in (1..=20).chain([24, 28, 37, 40]) {
                for (vectors, panels) in [(1, 1), (1, 3), (2, 1), (2, 7)] {
                    for taps in [1, 5, 32] {
                        check(isa, count, vectors, panels, taps, count % 4 == 0 && count % 8 != 0);
                    }
                }
            }
        }
    }

    fn check(isa: Isa, count: usize, vectors: usize, panels: usize, inputs: usize, pooled: bool) {
        let width = vectors * isa.lanes();
        let outputs = panels * width;
        let mut state = 1u32;
        let mut draw = |count: usize| -> Vec<f32> {
            let mut one = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..count).map(|_| one()).collect()
        };
        let (source, weights) = (draw(count * inputs + 3), draw(inputs * outputs));
        let (bias, rest) = (draw(outputs), draw(count * outputs));
        // Taps from the last to the first: their order is free.
        let taps: Vec<u32> = (0..inputs as u32).rev().collect();
        let positions: Vec<u32> = (0..count).map(|p| (p * inputs) as u32).collect();
        let targets: Vec<u32> = (0..count).map(|p| (p * outputs) as u32).collect();
        let mut found = vec![0.0f32; count * outputs];
        let act = Act::Leaky(0.1);
        let g = Gemm {
            isa,
            source: source.as_ptr(),
            target: found.as_mut_ptr(),
            rest: if pooled { std::ptr::null() } else { rest.as_ptr() },
            positions: &positions,
            targets: &targets,
            rests: &targets,
            taps: &taps,
            weights: weights.as_ptr(),
            half: false,
            rounds: false,
            bias: bias.as_ptr(),
            panels: (0, panels),
            vectors,
            act,
            pooled,
        };
        // SAFETY: the tables above stay inside the vectors above.
        unsafe { gemm(isa, &g) };
        let sum = |p: usize, n: usize| {
            let (panel, lane) = (n / width, n % width);
            let weight = |k: usize| f64::from(weights[(panel * inputs + k) * width + lane]);
            let products = (0..inputs).map(|k| f64::from(source[p * inputs + taps[k] as usize]) * weight(k));
            products.sum::<f64>() + f64::from(bias[n])
        };
        let step = if pooled { 4 } else { 1 };
        for p in 0..count / step {
            for n in 0..outputs {
                let mut value = (0..step).map(|q| sum(p * step + q, n)).fold(f64::NEG_INFINITY, f64::max);
                if !pooled {
                    value += f64::from(rest[p * outputs + n]);
                }
                let expected = if value > 0.0 { value } else { 0.1 * value };
                let found = f64::from(found[p * outputs + n]);
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{isa} {count} {vectors} {panels} {inputs}: {found} {expected}"
                );
            }
        }
    }
}
