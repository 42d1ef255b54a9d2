//! The transforms of Winograd's minimal filtering (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural
//! Networks"): an `r×r` convolution with stride 1 becomes, per tile of `m×m` outputs, `(m+r−1)²` products.
//!
//! Three forms share two input transforms: F(4×4, 3×3) and F(2×2, 5×5) work on tiles of 6×6 with the points
//! 0, ±1, ±2, ∞; F(2×2, 3×3) on tiles of 4×4 with the points 0, ±1, ∞. Vectors run along channels.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]

use super::math::linear;
use super::simd::Simd;
use super::{Act, tiers};
use crate::isa::Isa;

/// One tile on its way in: `size×size` pixels of `padded` channels to `size²` elements, `step` floats apart, and
/// in each of them vectors that are `block` vectors apart.
#[derive(Clone, Copy)]
pub(crate) struct TileIn {
    pub(crate) source: *const f32,
    pub(crate) strides: [usize; 2],
    pub(crate) target: *mut f32,
    pub(crate) step: usize,
    pub(crate) block: usize,
    pub(crate) padded: usize,
    /// 4 or 6.
    pub(crate) size: usize,
}

/// One tile on its way out.
#[derive(Clone, Copy)]
pub(crate) struct TileOut {
    pub(crate) isa: Isa,
    pub(crate) source: *const f32,
    pub(crate) step: usize,
    pub(crate) block: usize,
    pub(crate) target: *mut f32,
    pub(crate) strides: [usize; 2],
    /// Added to the outputs; may be null.
    pub(crate) rest: *const f32,
    pub(crate) rest_strides: [usize; 2],
    pub(crate) bias: *const f32,
    pub(crate) padded: usize,
    /// The tile's size and its outputs: (6, 4), (6, 2) or (4, 2).
    pub(crate) size: usize,
    pub(crate) outputs: usize,
    /// How many rows and columns of outputs (of maxima when `pooled`) are written; the rest is past the edge.
    pub(crate) valid: [usize; 2],
    pub(crate) act: Act,
    pub(crate) pooled: bool,
}

/// `Bᵀ d` for the points 0, ±1, ±2, ∞.
#[inline(always)]
unsafe fn in6<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: passed on.
    unsafe {
        let (two, four, five) = (S::splat(2.0), S::splat(4.0), S::splat(5.0));
        let even = S::neg_mul_add(four, d[2], d[4]);
        let odd = S::neg_mul_add(four, d[1], d[3]);
        let wide = S::sub(d[4], d[2]);
        let high = S::sub(d[3], d[1]);
        [
            S::neg_mul_add(five, d[2], S::mul_add(four, d[0], d[4])),
            S::add(even, odd),
            S::sub(even, odd),
            S::mul_add(two, high, wide),
            S::neg_mul_add(two, high, wide),
            S::neg_mul_add(five, d[3], S::mul_add(four, d[1], d[5])),
        ]
    }
}

/// `Bᵀ d` for the points 0, ±1, ∞.
#[inline(always)]
unsafe fn in4<S: Simd>(d: [S::V; 4]) -> [S::V; 4] {
    // SAFETY: passed on.
    unsafe { [S::sub(d[0], d[2]), S::add(d[1], d[2]), S::sub(d[2], d[1]), S::sub(d[3], d[1])] }
}

/// `Aᵀ m` from 6 to 4.
#[inline(always)]
unsafe fn out6to4<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: passed on.
    unsafe {
        let (sum1, difference1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum2, difference2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(m[0], S::add(sum1, sum2)),
            S::mul_add(S::splat(2.0), difference2, difference1),
            S::mul_add(S::splat(4.0), sum2, sum1),
            S::add(m[5], S::mul_add(S::splat(8.0), difference2, difference1)),
        ]
    }
}

/// `Aᵀ m` from 6 to 2.
#[inline(always)]
unsafe fn out6to2<S: Simd>(m: [S::V; 6]) -> [S::V; 2] {
    // SAFETY: passed on.
    unsafe {
        let (sum1, difference1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum2, difference2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [S::add(m[0], S::add(sum1, sum2)), S::add(m[5], S::mul_add(S::splat(2.0), difference2, difference1))]
    }
}

/// `Aᵀ m` from 4 to 2.
#[inline(always)]
unsafe fn out4to2<S: Simd>(m: [S::V; 4]) -> [S::V; 2] {
    // SAFETY: passed on.
    unsafe { [S::add(m[0], S::add(m[1], m[2])), S::add(m[3], S::sub(m[1], m[2]))] }
}

macro_rules! transform_in {
    ($name:ident, $size:literal, $transform:ident) => {
        /// # Safety
        /// As [`tile_in`].
        #[inline(always)]
        unsafe fn $name<S: Simd>(t: &TileIn) {
            // SAFETY: passed on.
            unsafe {
                let mut c = 0;
                while c < t.padded {
                    let zero = S::splat(0.0);
                    let mut half = [[zero; $size]; $size];
                    for x in 0..$size {
                        let mut column = [zero; $size];
                        for y in 0..$size {
                            column[y] = S::load(t.source.add(y * t.strides[0] + x * t.strides[1] + c));
                        }
                        let column = $transform::<S>(column);
                        for y in 0..$size {
                            half[y][x] = column[y];
                        }
                    }
                    for y in 0..$size {
                        let row = $transform::<S>(half[y]);
                        for x in 0..$size {
                            S::store(t.target.add((y * $size + x) * t.step + c * t.block), row[x]);
                        }
                    }
                    c += S::LANES;
                }
            }
        }
    };
}
transform_in!(transform_in6, 6, in6);
transform_in!(transform_in4, 4, in4);

/// # Safety
/// As [`Simd`]; the pointers are valid for a whole tile.
#[inline(always)]
unsafe fn transform_tile_in<S: Simd>(t: &TileIn) {
    // SAFETY: passed on.
    unsafe {
        if t.size == 6 {
            transform_in6::<S>(t);
        } else {
            transform_in4::<S>(t);
        }
    }
}

tiers!(tile_in = transform_tile_in(t: &TileIn));

macro_rules! transform_out {
    ($name:ident, $size:literal, $outputs:literal, $transform:ident) => {
        /// # Safety
        /// As [`tile_out`].
        #[inline(always)]
        unsafe fn $name<S: Simd>(t: &TileOut) {
            // SAFETY: passed on; what is past the edge is neither read nor written.
            unsafe {
                let mut c = 0;
                while c < t.padded {
                    let zero = S::splat(0.0);
                    let mut half = [[zero; $size]; $outputs];
                    for x in 0..$size {
                        let mut column = [zero; $size];
                        for y in 0..$size {
                            let at = (y * $size + x) * t.step + c * t.block;
                            column[y] = S::load(t.source.add(at));
                        }
                        let column = $transform::<S>(column);
                        for y in 0..$outputs {
                            half[y][x] = column[y];
                        }
                    }
                    let bias = S::load(t.bias.add(c));
                    if t.pooled {
                        let mut rows = [[zero; $outputs]; $outputs];
                        for y in 0..$outputs {
                            rows[y] = $transform::<S>(half[y]);
                        }
                        for y in 0..$outputs / 2 {
                            for x in 0..$outputs / 2 {
                                let upper = S::max(rows[2 * y][2 * x], rows[2 * y][2 * x + 1]);
                                let lower = S::max(rows[2 * y + 1][2 * x], rows[2 * y + 1][2 * x + 1]);
                                let value = S::add(S::max(upper, lower), bias);
                                if y < t.valid[0] && x < t.valid[1] {
                                    let to = t.target.add(y * t.strides[0] + x * t.strides[1] + c);
                                    S::store(to, linear::<S>(t.act, value));
                                }
                            }
                        }
                    } else {
                        for y in 0..$outputs {
                            if y >= t.valid[0] {
                                break;
                            }
                            let row = $transform::<S>(half[y]);
                            for x in 0..$outputs {
                                if x < t.valid[1] {
                                    let mut value = S::add(row[x], bias);
                                    if !t.rest.is_null() {
                                        let at = y * t.rest_strides[0] + x * t.rest_strides[1] + c;
                                        value = S::add(value, S::load(t.rest.add(at)));
                                    }
                                    let to = t.target.add(y * t.strides[0] + x * t.strides[1] + c);
                                    S::store(to, linear::<S>(t.act, value));
                                }
                            }
                        }
                    }
                    c += S::LANES;
                }
                if !t.act.is_linear() {
                    for y in 0..t.valid[0] {
                        for x in 0..t.valid[1] {
                            let to = t.target.add(y * t.strides[0] + x * t.strides[1]);
                            super::math::activate(t.isa, t.act, to, t.padded);
                        }
                    }
                }
            }
        }
    };
}
transform_out!(transform_out6to4, 6, 4, out6to4);
transform_out!(transform_out6to2, 6, 2, out6to2);
transform_out!(transform_out4to2, 4, 2, out4to2);

/// # Safety
/// As [`Simd`]; the pointers are valid for what is inside the image.
#[inline(always)]
unsafe fn transform_tile_out<S: Simd>(t: &TileOut) {
    // SAFETY: passed on.
    unsafe {
        match (t.size, t.outputs) {
            (6, 4) => transform_out6to4::<S>(t),
            (6, _) => transform_out6to2::<S>(t),
            _ => transform_out4to2::<S>(t),
        }
    }
}

tiers!(tile_out = transform_tile_out(t: &TileOut));

/// `G g Gᵀ` of an `r×r` kernel `g`, in 64 bits: for each of its `size²` values, what it takes of each weight.
pub(crate) fn kernel_transform(r: usize, size: usize) -> Vec<Vec<f64>> {
    // A row of G: the powers of a point times a factor.
    let points: &[(f64, f64)] = if size == 6 {
        &[(0.0, 1.0 / 4.0), (1.0, -1.0 / 6.0), (-1.0, -1.0 / 6.0), (2.0, 1.0 / 24.0), (-2.0, 1.0 / 24.0)]
    } else {
        &[(0.0, 1.0), (1.0, 0.5), (-1.0, 0.5)]
    };
    let mut g: Vec<Vec<f64>> = points
        .iter()
        .map(|&(point, factor)| (0..r).map(|power| factor * point.powi(power as i32)).collect())
        .collect();
    g.push((0..r).map(|power| if power == r - 1 { 1.0 } else { 0.0 }).collect());
    let value =
        |row: &[f64], column: &[f64]| row.iter().flat_map(|a| column.iter().map(move |b| a * b)).collect();
    g.iter().flat_map(|row| g.iter().map(move |column| value(row, column))).collect()
}
