//! What the processor can do at most: multiply–accumulates on registers alone, and reading memory.
#![allow(unsafe_code, reason = "vector instructions")]

use std::time::Instant;

use super::amx::{self, GROUPS, Kind, ROWS};
use super::simd::Simd;
use super::simd8::{Simd8, tiers8};
use super::tiers;
use crate::buffer::Arena;
use crate::isa::Isa;

/// Independent sums: enough to keep both units of any current processor busy.
const SUMS: usize = 12;

/// # Safety
/// As [`Simd`]; `result` is valid for a vector.
#[inline(always)]
unsafe fn spin<S: Simd>(rounds: usize, result: *mut f32) {
    // SAFETY: passed on.
    unsafe {
        let (a, b) = (S::load(result), S::splat(0.999));
        let mut sums = [a; SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = S::mul_add(*sum, b, a);
            }
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = S::add(total, *sum);
        }
        S::store(result, total);
    }
}

tiers!(fma_loop = spin(rounds: usize, result: *mut f32));

/// The most f32 multiply–accumulates per second that one thread reaches with a tier's instructions, in
/// thousands of millions: the best of many short measurements.
///
/// # Panics
/// When the processor lacks the tier.
#[must_use]
pub fn f32_ceiling(isa: Isa) -> f64 {
    assert!(isa.is_available(), "the processor lacks the tier {isa}");
    const ROUNDS: usize = 50_000;
    let lanes = isa.lanes();
    let mut best = f64::INFINITY;
    for _ in 0..200 {
        let mut result = [1.0f32; 16];
        let start = Instant::now();
        // SAFETY: the tier is there, and the array holds its vector.
        unsafe { fma_loop(isa, ROUNDS, std::hint::black_box(result.as_mut_ptr())) };
        best = best.min(start.elapsed().as_secs_f64());
        std::hint::black_box(result);
    }
    (ROUNDS * SUMS * lanes) as f64 / best / 1e9
}

/// # Safety
/// As [`Simd8`]; `result` is valid for a vector of sums.
#[inline(always)]
unsafe fn spin8<S: Simd8>(rounds: usize, result: *mut i32) {
    // SAFETY: passed on.
    unsafe {
        let (x, w) = (S::load_inputs(result.cast()), S::load_weights(result.cast()));
        let mut sums = [S::load_sums(result); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = S::dot(*sum, x, w);
            }
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = S::add(total, *sum);
        }
        S::store_sums(result, total);
    }
}

tiers8!(dot_loop = spin8(rounds: usize, result: *mut i32));

/// The same for products of bytes, summed in 32 bits.
///
/// # Panics
/// When the processor lacks the tier.
#[must_use]
pub fn int8_ceiling(isa: Isa) -> f64 {
    assert!(isa.is_available(), "the processor lacks the tier {isa}");
    if isa >= Isa::Amx {
        return tiles_ceiling(Kind::Bytes, 4);
    }
    const ROUNDS: usize = 50_000;
    let lanes = isa.lanes();
    let mut best = f64::INFINITY;
    for _ in 0..200 {
        let mut result = [1i32; 16];
        let start = Instant::now();
        // SAFETY: the tier is there, and the array holds its vector.
        unsafe { dot_loop(isa, ROUNDS, std::hint::black_box(result.as_mut_ptr())) };
        best = best.min(start.elapsed().as_secs_f64());
        std::hint::black_box(result);
    }
    (ROUNDS * SUMS * lanes * 4) as f64 / best / 1e9
}

/// The same for products of bf16, where the tier has instructions for them; otherwise they are made as in f32, and
/// this is [`f32_ceiling`].
///
/// # Panics
/// When the processor lacks the tier.
#[must_use]
pub fn bf16_ceiling(isa: Isa) -> f64 {
    assert!(isa.is_available(), "the processor lacks the tier {isa}");
    if isa >= Isa::Amx { tiles_ceiling(Kind::Halves, 2) } else { f32_ceiling(isa) }
}

/// The most multiply–accumulates per second of one thread with tiles in registers, `group` inputs in a group.
fn tiles_ceiling(kind: Kind, group: usize) -> f64 {
    // Four products of tiles each: about 0.1 ms.
    const ROUNDS: usize = 4_000;
    let mut best = f64::INFINITY;
    for _ in 0..200 {
        let start = Instant::now();
        amx::spin(kind, std::hint::black_box(ROUNDS));
        best = best.min(start.elapsed().as_secs_f64());
    }
    (ROUNDS * 4 * ROWS * ROWS * GROUPS * group) as f64 / best / 1e9
}

/// # Safety
/// As [`Simd`]; `source` is valid for `count` floats, a multiple of eight vectors, and `result` for a vector.
#[inline(always)]
unsafe fn read<S: Simd>(source: *const f32, count: usize, result: *mut f32) {
    // SAFETY: passed on.
    unsafe {
        let mut sums = [S::splat(0.0); 8];
        let mut at = 0;
        while at < count {
            for (index, sum) in sums.iter_mut().enumerate() {
                *sum = S::max(S::load(source.add(at + index * S::LANES)), *sum);
            }
            at += 8 * S::LANES;
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = S::max(total, *sum);
        }
        S::store(result, total);
    }
}

tiers!(read_loop = read(source: *const f32, count: usize, result: *mut f32));

/// The most bytes per second that one thread reads from a buffer of `bytes` bytes (at least 64 KiB), again and
/// again, in thousands of millions: the best of several measurements. What that is the bandwidth of depends on
/// which cache the buffer fits into; beyond all of them it is the memory's.
///
/// # Panics
/// When the processor lacks the tier.
#[must_use]
pub fn bandwidth_ceiling(isa: Isa, bytes: usize) -> f64 {
    assert!(isa.is_available(), "the processor lacks the tier {isa}");
    // As much as the last rounds of a loop over eight vectors of the widest tier.
    const ROUND: usize = 8 * 16;
    let floats = (bytes.max(64 * 1024) / 4).next_multiple_of(ROUND);
    let buffer = Arena::zeros(floats);
    let rounds = (8 * 1024 * 1024 / floats).max(1);
    let mut best = f64::INFINITY;
    for _ in 0..12 {
        let mut result = [0.0f32; 16];
        let start = Instant::now();
        for _ in 0..rounds {
            // SAFETY: the tier is there, the buffer has so many floats, and the array holds a vector.
            unsafe { read_loop(isa, std::hint::black_box(buffer.as_ptr()), floats, result.as_mut_ptr()) };
            std::hint::black_box(result);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    (4 * floats * rounds) as f64 / best / 1e9
}
