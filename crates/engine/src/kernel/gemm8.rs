//! The product in bytes: [`super::gemm`] with u8 activations, i8 weights and i32 sums.
//!
//! `sum[p][n] = bias[n] + Σ x[p + tap_k + j] · w[k][n][j]` over groups of four bytes; the activations' zero point
//! is in the bias. Then the greatest of four when pooled, and in f32 and in this order:
//! `value = sum · scale[n]`, the addend `+ (rest − rest_zero) · rest_scale`, the activation; and into bytes:
//! `clamp(round(value) + zero, 0, 255)`, ties to even. No step is fused with another, so that every tier gives
//! the same bytes.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops over registers are written alike, whichever array they index"
)]

use super::Act;
use super::math::linear;
use super::simd::Simd;
use super::simd8::{Simd8, tiers8};
use crate::isa::Isa;

/// Where the results go.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    Bytes(*mut u8),
    Floats(*mut f32),
}

/// One product. Offsets are in bytes, those of the target in its elements.
#[derive(Clone, Copy)]
pub(crate) struct Gemm8<'a> {
    pub(crate) isa: Isa,
    pub(crate) source: *const u8,
    pub(crate) target: Target,
    /// May be null.
    pub(crate) rest: *const u8,
    pub(crate) rest_scale: f32,
    pub(crate) rest_zero: f32,
    pub(crate) positions: &'a [u32],
    pub(crate) targets: &'a [u32],
    pub(crate) rests: &'a [u32],
    /// The step to each group of four inputs.
    pub(crate) taps: &'a [u32],
    /// Groups of weights in a panel: as many as taps, or more, which are zeros.
    pub(crate) depth: usize,
    /// Panels of `[depth][vectors · lanes][4]`.
    pub(crate) weights: *const i8,
    pub(crate) bias: *const i32,
    pub(crate) scale: *const f32,
    pub(crate) zero: i32,
    pub(crate) panels: (usize, usize),
    pub(crate) vectors: usize,
    pub(crate) act: Act,
    pub(crate) pooled: bool,
}

/// # Safety
/// As [`Simd8`]; every offset lies inside what its pointer points to, `P` positions are left from `at` on, and
/// `G` panels from `panel` on.
#[inline(always)]
unsafe fn tile<S: Simd8, const P: usize, const G: usize, const NV: usize, const U: usize>(
    g: &Gemm8<'_>,
    at: usize,
    panel: usize,
) {
    // SAFETY: passed on.
    unsafe {
        let lanes = S::F::LANES;
        let width = NV * lanes;
        let panel_size = g.depth * width * 4;
        let mut from = [g.source; P];
        for p in 0..P {
            from[p] = g.source.add(*g.positions.get_unchecked(at + p) as usize);
        }
        let none = [0i32; 16];
        let mut sums = [[[[S::load_sums(none.as_ptr()); NV]; G]; P]; U];
        for n in 0..G {
            for v in 0..NV {
                let bias = S::load_sums(g.bias.add((panel + n) * width + v * lanes));
                for p in 0..P {
                    sums[0][p][n][v] = bias;
                }
            }
        }
        let mut weights = g.weights.add(panel * panel_size);
        let mut tap = g.taps.as_ptr();
        let rounds = g.taps.len() / U;
        for _ in 0..rounds {
            for u in 0..U {
                let step = *tap.add(u) as usize;
                let first = S::load_weights(weights.add(u * width * 4));
                let mut w = [[first; NV]; G];
                for n in 0..G {
                    for v in 0..NV {
                        let place = n * panel_size + (u * width + v * lanes) * 4;
                        w[n][v] = S::load_weights(weights.add(place));
                    }
                }
                for p in 0..P {
                    let x = S::load_inputs(from[p].add(step));
                    for n in 0..G {
                        for v in 0..NV {
                            sums[u][p][n][v] = S::dot(sums[u][p][n][v], x, w[n][v]);
                        }
                    }
                }
            }
            weights = weights.add(U * width * 4);
            tap = tap.add(U);
        }
        if U > 1 {
            for _ in rounds * U..g.taps.len() {
                let step = *tap as usize;
                for p in 0..P {
                    let x = S::load_inputs(from[p].add(step));
                    for n in 0..G {
                        for v in 0..NV {
                            let w = S::load_weights(weights.add(n * panel_size + v * lanes * 4));
                            sums[0][p][n][v] = S::dot(sums[0][p][n][v], x, w);
                        }
                    }
                }
                weights = weights.add(width * 4);
                tap = tap.add(1);
            }
            for u in 1..U {
                for p in 0..P {
                    for n in 0..G {
                        for v in 0..NV {
                            sums[0][p][n][v] = S::add(sums[0][p][n][v], sums[u][p][n][v]);
                        }
                    }
                }
            }
        }
        finish::<S, P, G, NV>(g, at, panel, sums[0]);
    }
}

/// What follows the sums: pooling, scales, addend, activation, store.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(super) unsafe fn finish<S: Simd8, const P: usize, const G: usize, const NV: usize>(
    g: &Gemm8<'_>,
    at: usize,
    panel: usize,
    mut sums: [[[S::I; NV]; G]; P],
) {
    // SAFETY: passed on. As in the product of floats, the loops are short and have constant bounds.
    unsafe {
        if !g.pooled {
            return store::<S, P, G, NV, P>(g, at, panel, &sums);
        }
        // Scales are above 0, so the greatest sum is the greatest value: one is scaled instead of four.
        for q in 0..P / 4 {
            for n in 0..G {
                for v in 0..NV {
                    let upper = S::max(sums[4 * q][n][v], sums[4 * q + 1][n][v]);
                    let lower = S::max(sums[4 * q + 2][n][v], sums[4 * q + 3][n][v]);
                    sums[q][n][v] = S::max(upper, lower);
                }
            }
        }
        // `P / 4` cannot be a constant argument, so each case stands for itself.
        match P {
            12 => store::<S, P, G, NV, 3>(g, at / 4, panel, &sums),
            8 => store::<S, P, G, NV, 2>(g, at / 4, panel, &sums),
            _ => store::<S, P, G, NV, 1>(g, at / 4, panel, &sums),
        }
    }
}

/// Scales, activates and writes the first `Q` sums, the targets of which begin at `at`.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn store<S: Simd8, const P: usize, const G: usize, const NV: usize, const Q: usize>(
    g: &Gemm8<'_>,
    at: usize,
    panel: usize,
    sums: &[[[S::I; NV]; G]; P],
) {
    // SAFETY: passed on.
    unsafe {
        let lanes = S::F::LANES;
        let width = NV * lanes;
        let targets = g.targets.as_ptr().add(at);
        let mut values = [[[S::F::splat(0.0); NV]; G]; Q];
        for n in 0..G {
            for v in 0..NV {
                let scale = S::F::load(g.scale.add((panel + n) * width + v * lanes));
                for q in 0..Q {
                    values[q][n][v] = S::F::mul(S::to_float(sums[q][n][v]), scale);
                }
            }
        }
        if !g.rest.is_null() {
            let (scale, zero) = (S::F::splat(g.rest_scale), S::F::splat(g.rest_zero));
            let rest = g.rest.add(panel * width);
            for q in 0..Q {
                let from = rest.add(*g.rests.get_unchecked(at + q) as usize);
                for n in 0..G {
                    for v in 0..NV {
                        let rest = S::F::sub(S::load_bytes(from.add(n * width + v * lanes)), zero);
                        values[q][n][v] = S::F::add(values[q][n][v], S::F::mul(rest, scale));
                    }
                }
            }
        }
        if let Act::Leaky(_) = g.act {
            for q in 0..Q {
                for n in 0..G {
                    for v in 0..NV {
                        values[q][n][v] = linear::<S::F>(g.act, values[q][n][v]);
                    }
                }
            }
        }
        match g.target {
            Target::Bytes(target) => {
                // Whatever is above the greatest byte may become any such number, so that it fits an integer;
                // the rectifier's bound is that of the bytes, moved to their zero.
                let most = S::F::splat(512.0);
                let zero = S::splat_sum(g.zero);
                let least = S::splat_sum(if g.act == Act::Relu { g.zero } else { 0 });
                for q in 0..Q {
                    let to = target.add(*targets.add(q) as usize + panel * width);
                    for n in 0..G {
                        for v in 0..NV {
                            let whole = S::to_whole(S::F::min(values[q][n][v], most));
                            let byte = S::max(S::add(whole, zero), least);
                            S::store_whole(to.add(n * width + v * lanes), byte);
                        }
                    }
                }
            }
            Target::Floats(target) => {
                for q in 0..Q {
                    let to = target.add(*targets.add(q) as usize + panel * width);
                    for n in 0..G {
                        for v in 0..NV {
                            let mut value = values[q][n][v];
                            if g.act == Act::Relu {
                                value = S::F::max(S::F::splat(0.0), value);
                            }
                            S::F::store(to.add(n * width + v * lanes), value);
                        }
                    }
                }
                if !g.act.is_linear() {
                    for q in 0..Q {
                        let to = target.add(*targets.add(q) as usize + panel * width);
                        super::math::activate(g.isa, g.act, to, G * width);
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`tile`], for all positions and panels.
#[inline(always)]
unsafe fn panels_of<S: Simd8, const NV: usize>(g: &Gemm8<'_>) {
    // SAFETY: passed on; what is left is counted before every tile.
    unsafe {
        let wide = S::F::WIDE;
        let count = g.positions.len();
        let (mut panel, end) = g.panels;
        if count == 1 {
            while wide && end - panel >= 4 {
                tile::<S, 1, 4, NV, 1>(g, 0, panel);
                panel += 4;
            }
            while end - panel >= 2 {
                tile::<S, 1, 2, NV, 2>(g, 0, panel);
                panel += 2;
            }
        }
        for panel in panel..end {
            let mut at = 0;
            while at < count {
                let left = count - at;
                let twelve = NV == 1 && (left >= 17 || left == 12);
                at += if wide && twelve {
                    tile::<S, 12, 1, NV, 1>(g, at, panel);
                    12
                } else if wide && left >= 8 {
                    tile::<S, 8, 1, NV, 1>(g, at, panel);
                    8
                } else if left >= 4 {
                    tile::<S, 4, 1, NV, 1>(g, at, panel);
                    4
                } else if left >= 2 {
                    tile::<S, 2, 1, NV, 2>(g, at, panel);
                    2
                } else {
                    tile::<S, 1, 1, NV, 4>(g, at, panel);
                    1
                };
            }
        }
    }
}

/// # Safety
/// As [`tile`], for all positions and panels.
#[inline(always)]
unsafe fn product<S: Simd8>(g: &Gemm8<'_>) {
    // SAFETY: passed on.
    unsafe {
        if g.vectors == 2 {
            panels_of::<S, 2>(g);
        } else {
            panels_of::<S, 1>(g);
        }
    }
}

tiers8!(gemm8 = product(g: &Gemm8<'_>));

/// `clamp(round(x · inverse) + zero, 0, 255)`, ties to even; what is not a number becomes 0.
macro_rules! byte_of {
    ($x:expr, $inverse:ident, $zero:ident) => {{
        let value = S::F::add(S::F::round(S::F::mul($x, $inverse)), $zero);
        S::F::min(S::F::max(value, S::F::splat(0.0)), S::F::splat(255.0))
    }};
}

/// Quantizes values that lie together.
///
/// # Safety
/// As [`Simd8`]; both pointers are valid for `count` elements.
#[inline(always)]
unsafe fn quantize_values<S: Simd8>(
    source: *const f32,
    target: *mut u8,
    count: usize,
    inverse: f32,
    zero: f32,
) {
    // SAFETY: the indices stay below `count`.
    unsafe {
        let (inverse, zero) = (S::F::splat(inverse), S::F::splat(zero));
        let lanes = S::F::LANES;
        if count < lanes {
            let (mut values, mut bytes) = ([0.0f32; 16], [0u8; 16]);
            source.copy_to_nonoverlapping(values.as_mut_ptr(), count);
            S::store_bytes(bytes.as_mut_ptr(), byte_of!(S::F::load(values.as_ptr()), inverse, zero));
            target.copy_from_nonoverlapping(bytes.as_ptr(), count);
            return;
        }
        for i in (0..count - lanes).step_by(lanes) {
            S::store_bytes(target.add(i), byte_of!(S::F::load(source.add(i)), inverse, zero));
        }
        // The last vector may cover some values a second time.
        let last = count - lanes;
        S::store_bytes(target.add(last), byte_of!(S::F::load(source.add(last)), inverse, zero));
    }
}

tiers8!(quantize = quantize_values(
    source: *const f32,
    target: *mut u8,
    count: usize,
    inverse: f32,
    zero: f32,
));

/// Quantizes `count` pixels of two or three planes, `plane` floats apart, into pixels of four bytes.
///
/// # Safety
/// As [`Simd8`]; `source` is valid for the planes, `target` for the pixels, and there are at least as many as
/// lanes.
#[inline(always)]
unsafe fn quantize_planes<S: Simd8>(
    source: *const f32,
    plane: usize,
    planes: usize,
    target: *mut u8,
    count: usize,
    inverse: f32,
    zero: f32,
) {
    // SAFETY: the indices stay below `count`.
    unsafe {
        let (inverse, zero) = (S::F::splat(inverse), S::F::splat(zero));
        let lanes = S::F::LANES;
        let mut start = 0;
        loop {
            // The last vector may cover some pixels a second time.
            let i = start.min(count - lanes);
            let mut pixel = byte_of!(S::F::load(source.add(i)), inverse, zero);
            let mut place = 256.0;
            for c in 1..planes {
                // Three bytes make a whole number below 2^24, which a float holds exactly.
                let byte = byte_of!(S::F::load(source.add(c * plane + i)), inverse, zero);
                pixel = S::F::add(pixel, S::F::mul(byte, S::F::splat(place)));
                place *= 256.0;
            }
            S::store_sums(target.add(4 * i).cast(), S::to_whole(pixel));
            start += lanes;
            if start >= count {
                return;
            }
        }
    }
}

tiers8!(quantize_pixels = quantize_planes(
    source: *const f32,
    plane: usize,
    planes: usize,
    target: *mut u8,
    count: usize,
    inverse: f32,
    zero: f32,
));
