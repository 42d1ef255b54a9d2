//! Windows over images whose channels lie together: pooling, and the depthwise convolution.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]

use super::math::linear;
use super::simd::Simd;
use super::{Act, tiers};
use crate::isa::Isa;

/// What is made of the values under a window.
#[derive(Clone, Copy)]
pub(crate) enum Reduce {
    Max,
    /// The sum times this.
    Sum(f32),
    /// The sum of products with `[taps][padded]` weights, plus `[padded]` biases.
    Weighted(*const f32, *const f32),
}

/// One image of `[height][width][padded]` in, one out. Strides are in floats.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) isa: Isa,
    pub(crate) source: *const f32,
    pub(crate) target: *mut f32,
    pub(crate) source_strides: [usize; 2],
    pub(crate) target_strides: [usize; 2],
    /// Height and width of what is read.
    pub(crate) size: [usize; 2],
    /// Width of what is written.
    pub(crate) columns: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Channels, padded to whole vectors.
    pub(crate) padded: usize,
    pub(crate) reduce: Reduce,
    pub(crate) act: Act,
    /// The first row that is written and the one after the last.
    pub(crate) rows: (usize, usize),
}

/// The taps along one axis that fall inside the image.
#[inline(always)]
fn inside(start: isize, taps: usize, dilation: usize, size: usize) -> (usize, usize) {
    let dilation = dilation as isize;
    let first = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
    let last = (size as isize - start + dilation - 1) / dilation;
    let last = last.clamp(0, taps as isize) as usize;
    ((first as usize).min(last), last)
}

/// # Safety
/// As [`Simd`]; the pointers are valid for the images that the strides describe.
#[inline(always)]
unsafe fn slide<S: Simd>(w: &Window) {
    // SAFETY: `inside` keeps every tap within the image.
    unsafe {
        for y in w.rows.0..w.rows.1 {
            let top = (y * w.stride[0]) as isize - w.padding[0] as isize;
            let (ky0, ky1) = inside(top, w.kernel[0], w.dilation[0], w.size[0]);
            for x in 0..w.columns {
                let left = (x * w.stride[1]) as isize - w.padding[1] as isize;
                let (kx0, kx1) = inside(left, w.kernel[1], w.dilation[1], w.size[1]);
                let to = w.target.add(y * w.target_strides[0] + x * w.target_strides[1]);
                let mut c = 0;
                while c < w.padded {
                    let mut sum = match w.reduce {
                        Reduce::Max => S::splat(f32::NEG_INFINITY),
                        Reduce::Sum(_) => S::splat(0.0),
                        Reduce::Weighted(_, bias) => S::load(bias.add(c)),
                    };
                    for ky in ky0..ky1 {
                        let row = (top + (ky * w.dilation[0]) as isize) as usize * w.source_strides[0];
                        for kx in kx0..kx1 {
                            let column = (left + (kx * w.dilation[1]) as isize) as usize;
                            let at = row + column * w.source_strides[1] + c;
                            let value = S::load(w.source.add(at));
                            sum = match w.reduce {
                                Reduce::Max => S::max(sum, value),
                                Reduce::Sum(_) => S::add(sum, value),
                                Reduce::Weighted(weights, _) => {
                                    let tap = (ky * w.kernel[1] + kx) * w.padded + c;
                                    S::mul_add(value, S::load(weights.add(tap)), sum)
                                }
                            };
                        }
                    }
                    if let Reduce::Sum(scale) = w.reduce {
                        sum = S::mul(sum, S::splat(scale));
                    }
                    S::store(to.add(c), linear::<S>(w.act, sum));
                    c += S::LANES;
                }
                if !w.act.is_linear() {
                    super::math::activate(w.isa, w.act, to, w.padded);
                }
            }
        }
    }
}

tiers!(window = slide(w: &Window));

/// # Safety
/// As [`Simd`]; `source` is an image of `size` with these strides, `target` has room for `padded` floats.
#[inline(always)]
unsafe fn reduce_image<S: Simd>(
    source: *const f32,
    target: *mut f32,
    strides: [usize; 2],
    size: [usize; 2],
    padded: usize,
    maximum: bool,
) {
    // SAFETY: passed on.
    unsafe {
        let scale = S::splat(1.0 / (size[0] * size[1]) as f32);
        let mut c = 0;
        while c < padded {
            // Sums by rows, then of the rows: the rounding error grows with the sides, not with the area.
            let mut total = S::splat(if maximum { f32::NEG_INFINITY } else { 0.0 });
            for y in 0..size[0] {
                let row = source.add(y * strides[0] + c);
                let mut sum = S::load(row);
                for x in 1..size[1] {
                    let value = S::load(row.add(x * strides[1]));
                    sum = if maximum { S::max(sum, value) } else { S::add(sum, value) };
                }
                total = if maximum { S::max(total, sum) } else { S::add(total, sum) };
            }
            S::store(target.add(c), if maximum { total } else { S::mul(total, scale) });
            c += S::LANES;
        }
    }
}

tiers!(global_pool = reduce_image(
    source: *const f32,
    target: *mut f32,
    strides: [usize; 2],
    size: [usize; 2],
    padded: usize,
    maximum: bool,
));
