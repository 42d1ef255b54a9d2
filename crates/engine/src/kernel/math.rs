//! Activations on vectors.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]

use super::simd::Simd;
use super::{Act, tiers};

/// `e^x`, within 2 units in the last place: 2^n · e^r with a polynomial of degree 6 for |r| ≤ ln 2 / 2
/// (coefficients of Cephes' `expf`). Clamped to the range of normal floats.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on.
    unsafe {
        // The bound comes first, so that what is not a number stays so.
        let x = S::min(S::splat(88.0), S::max(S::splat(-87.0), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts: the first has few digits, so that its product with n is exact.
        let r = S::neg_mul_add(n, S::splat(0.693_359_4), x);
        let r = S::neg_mul_add(n, S::splat(-2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_1e-4);
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = S::mul_add(p, r, S::splat(coefficient));
        }
        let p = S::add(S::mul_add(p, S::mul(r, r), r), S::splat(1.0));
        S::mul(p, S::pow2(n))
    }
}

/// `1 / (1 + e^−x)`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}

/// The error function within 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on.
    unsafe {
        let one = S::splat(1.0);
        let magnitude = S::where_positive(x, x, S::sub(S::splat(0.0), x));
        let t = S::div(one, S::mul_add(magnitude, S::splat(0.327_591_1), one));
        let mut p = S::splat(1.061_405_4);
        for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
            p = S::mul_add(p, t, S::splat(coefficient));
        }
        let tail = exp::<S>(S::sub(S::splat(0.0), S::mul(magnitude, magnitude)));
        let value = S::neg_mul_add(S::mul(p, t), tail, one);
        S::where_positive(x, value, S::sub(S::splat(0.0), value))
    }
}

/// An activation that is cheap on accumulators; the others leave the vector as it is.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn linear<S: Simd>(act: Act, x: S::V) -> S::V {
    // SAFETY: passed on.
    unsafe {
        match act {
            // The zero comes first: what is not a number stays so.
            Act::Relu => S::max(S::splat(0.0), x),
            Act::Leaky(slope) => S::where_positive(x, x, S::mul(x, S::splat(slope))),
            _ => x,
        }
    }
}

/// # Safety
/// As [`Simd`]; `values` is valid for `count` floats, a multiple of the lanes.
#[inline(always)]
unsafe fn activate_values<S: Simd>(act: Act, values: *mut f32, count: usize) {
    // SAFETY: passed on; the indices stay below `count`.
    unsafe {
        let each = |index: usize| values.add(index * S::LANES);
        let vectors = count / S::LANES;
        match act {
            Act::Identity | Act::Relu | Act::Leaky(_) => {
                for i in 0..vectors {
                    S::store(each(i), linear::<S>(act, S::load(each(i))));
                }
            }
            Act::Gelu => {
                for i in 0..vectors {
                    let x = S::load(each(i));
                    let half = S::mul(x, S::splat(0.5));
                    let phi = erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2)));
                    S::store(each(i), S::mul_add(half, phi, half));
                }
            }
            Act::Sigmoid => {
                for i in 0..vectors {
                    S::store(each(i), sigmoid::<S>(S::load(each(i))));
                }
            }
            Act::Tanh => {
                for i in 0..vectors {
                    let x = S::load(each(i));
                    let twice = sigmoid::<S>(S::add(x, x));
                    S::store(each(i), S::sub(S::add(twice, twice), S::splat(1.0)));
                }
            }
            Act::Silu => {
                for i in 0..vectors {
                    let x = S::load(each(i));
                    S::store(each(i), S::mul(x, sigmoid::<S>(x)));
                }
            }
        }
    }
}

tiers!(activate = activate_values(act: Act, values: *mut f32, count: usize));
