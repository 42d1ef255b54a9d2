//! What a range for each sample adds to the product of bytes: the range itself, and what makes values of the sums.
//!
//! Nothing here is fused, so that every tier gives the same numbers.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]

use super::math::linear;
use super::simd::Simd;
use super::{Act, tiers};
use crate::isa::Isa;

/// The range of values, widened to hold 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    pub(crate) least: f32,
    pub(crate) most: f32,
    /// 0 as long as every value was a finite number.
    poison: f32,
}

impl Range {
    pub(crate) fn is_finite(&self) -> bool {
        self.poison == 0.0
    }
}

/// Widens a range so that it holds some more values.
///
/// # Safety
/// As [`Simd`]; `source` is valid for `count` floats.
#[inline(always)]
unsafe fn widen<S: Simd>(source: *const f32, count: usize, range: &mut Range) {
    // SAFETY: the indices stay below `count`.
    unsafe {
        let lanes = S::LANES;
        let zero = S::splat(0.0);
        let (mut least, mut most, mut poison) = (zero, zero, zero);
        let mut few = [0.0f32; 16];
        let (mut from, mut left) = (source, count);
        if count < lanes {
            source.copy_to_nonoverlapping(few.as_mut_ptr(), count);
            (from, left) = (few.as_ptr(), lanes);
        }
        while left > 0 {
            // The last vector may cover some values a second time.
            let back = lanes.saturating_sub(left);
            let x = S::load(from.sub(back));
            // What is not a number is not the first argument's to keep; it stays in the poison instead, as an
            // infinity does.
            least = S::min(x, least);
            most = S::max(x, most);
            poison = S::add(poison, S::mul(x, zero));
            from = from.sub(back).add(lanes);
            left -= lanes - back;
        }
        let mut lane = [0.0f32; 16];
        S::store(lane.as_mut_ptr(), least);
        range.least = lane[..lanes].iter().fold(range.least, |least, &x| least.min(x));
        S::store(lane.as_mut_ptr(), most);
        range.most = lane[..lanes].iter().fold(range.most, |most, &x| most.max(x));
        S::store(lane.as_mut_ptr(), poison);
        range.poison = lane[..lanes].iter().fold(range.poison, |poison, &x| poison + x);
    }
}

tiers!(range = widen(source: *const f32, count: usize, range: &mut Range));

/// `act(sum · (sample_scale · scale) + bias + rest)` where the sums are, for `count` outputs at each target.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    pub(crate) isa: Isa,
    pub(crate) values: *mut f32,
    pub(crate) targets: &'a [u32],
    /// May be null.
    pub(crate) rest: *const f32,
    pub(crate) rests: &'a [u32],
    pub(crate) sample_scale: f32,
    pub(crate) scale: *const f32,
    pub(crate) bias: *const f32,
    /// Whole vectors.
    pub(crate) count: usize,
    pub(crate) act: Act,
}

/// # Safety
/// As [`Simd`]; every offset lies inside what its pointer points to.
#[inline(always)]
unsafe fn finish_values<S: Simd>(f: &Finish<'_>) {
    // SAFETY: passed on.
    unsafe {
        let sample = S::splat(f.sample_scale);
        for (index, &target) in f.targets.iter().enumerate() {
            let to = f.values.add(target as usize);
            for c in (0..f.count).step_by(S::LANES) {
                let step = S::mul(sample, S::load(f.scale.add(c)));
                let mut value = S::add(S::mul(S::load(to.add(c)), step), S::load(f.bias.add(c)));
                if !f.rest.is_null() {
                    let rest = f.rest.add(*f.rests.get_unchecked(index) as usize + c);
                    value = S::add(value, S::load(rest));
                }
                S::store(to.add(c), linear::<S>(f.act, value));
            }
            if !f.act.is_linear() {
                super::math::activate(f.isa, f.act, to, f.count);
            }
        }
    }
}

tiers!(finish = finish_values(f: &Finish<'_>));
