//! What is done to each value by itself, and layer normalisation.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]

use super::math::linear;
use super::simd::Simd;
use super::{Act, tiers};
use crate::isa::Isa;

/// `out = act(in · scale + shift + other)` on `[width][padded]` values.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub(crate) isa: Isa,
    pub(crate) source: *const f32,
    pub(crate) target: *mut f32,
    /// May be null.
    pub(crate) other: *const f32,
    /// `[padded]` factors and `[padded]` addends; may be null, both together.
    pub(crate) scale: *const f32,
    pub(crate) shift: *const f32,
    /// The step between pixels, in floats: of the source, the target and the other.
    pub(crate) steps: [usize; 3],
    pub(crate) width: usize,
    pub(crate) padded: usize,
    pub(crate) act: Act,
    /// Whether the results are rounded to bf16; then the activation is one of accumulators.
    pub(crate) rounds: bool,
}

/// # Safety
/// As [`Simd`]; the pointers are valid for `width` pixels with their steps.
#[inline(always)]
unsafe fn map_row<S: Simd>(m: &Map) {
    // SAFETY: passed on.
    unsafe {
        for x in 0..m.width {
            let from = m.source.add(x * m.steps[0]);
            let to = m.target.add(x * m.steps[1]);
            let mut c = 0;
            while c < m.padded {
                let mut value = S::load(from.add(c));
                if !m.scale.is_null() {
                    value = S::mul_add(value, S::load(m.scale.add(c)), S::load(m.shift.add(c)));
                }
                if !m.other.is_null() {
                    value = S::add(value, S::load(m.other.add(x * m.steps[2] + c)));
                }
                let value = linear::<S>(m.act, value);
                S::store(to.add(c), if m.rounds { S::round_half(value) } else { value });
                c += S::LANES;
            }
            if !m.act.is_linear() {
                super::math::activate(m.isa, m.act, to, m.padded);
            }
        }
    }
}

tiers!(map = map_row(m: &Map));

/// Normalises `count` vectors of channels, `step` floats apart, lane by lane: layer normalisation over the
/// width of an image whose channels lie together.
///
/// # Safety
/// As [`Simd`]; both pointers are valid for all of them, `gamma` and `beta` for `count` floats.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "two buffers, their steps, and the parameters")]
unsafe fn norm_lanes<S: Simd>(
    source: *const f32,
    target: *mut f32,
    steps: [usize; 2],
    count: usize,
    padded: usize,
    gamma: *const f32,
    beta: *const f32,
    epsilon: f32,
) {
    // SAFETY: passed on.
    unsafe {
        let mut c = 0;
        while c < padded {
            let mut sum = S::splat(0.0);
            for x in 0..count {
                sum = S::add(sum, S::load(source.add(x * steps[0] + c)));
            }
            let mean = S::mul(sum, S::splat(1.0 / count as f32));
            let mut squares = S::splat(0.0);
            for x in 0..count {
                let centred = S::sub(S::load(source.add(x * steps[0] + c)), mean);
                squares = S::mul_add(centred, centred, squares);
            }
            let variance = S::mul_add(squares, S::splat(1.0 / count as f32), S::splat(epsilon));
            let deviation = S::sqrt(variance);
            for x in 0..count {
                let centred = S::sub(S::load(source.add(x * steps[0] + c)), mean);
                let value = S::mul(S::div(centred, deviation), S::splat(*gamma.add(x)));
                S::store(target.add(x * steps[1] + c), S::add(value, S::splat(*beta.add(x))));
            }
            c += S::LANES;
        }
    }
}

tiers!(layer_norm_lanes = norm_lanes(
    source: *const f32,
    target: *mut f32,
    steps: [usize; 2],
    count: usize,
    padded: usize,
    gamma: *const f32,
    beta: *const f32,
    epsilon: f32,
));

/// Layer normalisation of one row of values that lie together, in 64 bits.
pub(crate) fn layer_norm(row: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, target: &mut [f32]) {
    let count = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
    for (index, (value, &x)) in target.iter_mut().zip(row).enumerate() {
        let normal = (f64::from(x) - mean) * scale;
        *value = (normal * f64::from(gamma[index]) + f64::from(beta[index])) as f32;
    }
}
