//! A vector of floats as the kernels see it: one trait, three processors.
//!
//! A kernel is written once over [`Simd`], always inlined, and compiled for each tier inside a function with
//! that tier's target features (see `tiers!` in the parent module). Only there do these methods become
//! single instructions.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]
#![allow(clippy::missing_safety_doc, reason = "said once, at the trait")]

/// A tier's vectors.
///
/// # Safety
/// All methods: the processor has the tier's instructions, and pointers are valid for [`Simd::LANES`]
/// floats; alignment does not matter.
pub(crate) trait Simd: Copy {
    /// Floats in a vector.
    const LANES: usize;
    /// Whether there are 32 vector registers rather than 16.
    const WIDE: bool;
    /// The vector.
    type V: Copy;

    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, vector: Self::V);
    /// As many bf16, widened.
    unsafe fn load_halves(from: *const u16) -> Self::V;
    /// To the nearest bf16, ties to even.
    unsafe fn round_half(vector: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the tier can.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c − a · b`.
    unsafe fn neg_mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater one; `b` when either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The lesser one; `b` when either is not a number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// To the nearest whole number, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `2^n` for whole numbers within −126..=127.
    unsafe fn pow2(n: Self::V) -> Self::V;
    /// `yes` where `x > 0`, `no` elsewhere.
    unsafe fn where_positive(x: Self::V, yes: Self::V, no: Self::V) -> Self::V;
}

/// Plain loops over 8 floats; the compiler makes of them what the target has.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

macro_rules! lanewise {
    ($($index:ident)? => $value:expr) => {{
        let mut result = [0.0f32; 8];
        let mut lane = 0;
        while lane < 8 {
            $(let $index = lane;)?
            result[lane] = $value;
            lane += 1;
        }
        result
    }};
}

impl Simd for Plain {
    const LANES: usize = 8;
    const WIDE: bool = false;
    type V = [f32; 8];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller vouches for 8 floats.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: Self::V) {
        // SAFETY: the caller vouches for 8 floats.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(vector) }
    }
    #[inline(always)]
    unsafe fn load_halves(from: *const u16) -> Self::V {
        // SAFETY: the caller vouches for 8 of them.
        let halves = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        halves.map(|half| f32::from_bits(u32::from(half) << 16))
    }
    #[inline(always)]
    unsafe fn round_half(vector: Self::V) -> Self::V {
        vector.map(crate::halves::round)
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(i => a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(i => a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(i => a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(i => a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanewise!(i => a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn neg_mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanewise!(i => c[i] - a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        lanewise!(i => a[i].sqrt())
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        lanewise!(i => a[i].round_ties_even())
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        lanewise!(i => f32::from_bits(((n[i] as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn where_positive(x: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        lanewise!(i => if x[i] > 0.0 { yes[i] } else { no[i] })
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    /// AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

    /// Methods that are one instruction each.
    macro_rules! instructions {
        ($($name:ident($($argument:ident),*) = $instruction:expr;)*) => {$(
            #[inline(always)]
            unsafe fn $name($($argument: Self::V),*) -> Self::V {
                // SAFETY: the caller vouches for the instructions.
                unsafe { $instruction }
            }
        )*};
    }

    impl Simd for Avx2 {
        const LANES: usize = 8;
        const WIDE: bool = false;
        type V = __m256;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self::V {
            // SAFETY: the caller vouches for the instructions.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            // SAFETY: the caller vouches for 8 floats.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: Self::V) {
            // SAFETY: the caller vouches for 8 floats.
            unsafe { _mm256_storeu_ps(to, vector) }
        }
        #[inline(always)]
        unsafe fn load_halves(from: *const u16) -> Self::V {
            // SAFETY: the caller vouches for 8 of them.
            unsafe {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
        }
        #[inline(always)]
        unsafe fn round_half(vector: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instructions.
            unsafe {
                let bits = _mm256_castps_si256(vector);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(vector, vector));
                let bits = _mm256_blendv_epi8(sum, quiet, nan);
                _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(!0xffff)))
            }
        }
        instructions! {
            add(a, b) = _mm256_add_ps(a, b);
            sub(a, b) = _mm256_sub_ps(a, b);
            mul(a, b) = _mm256_mul_ps(a, b);
            div(a, b) = _mm256_div_ps(a, b);
            mul_add(a, b, c) = _mm256_fmadd_ps(a, b, c);
            neg_mul_add(a, b, c) = _mm256_fnmadd_ps(a, b, c);
            max(a, b) = _mm256_max_ps(a, b);
            min(a, b) = _mm256_min_ps(a, b);
            sqrt(a) = _mm256_sqrt_ps(a);
            round(a) = _mm256_round_ps::<NEAREST>(a);
            pow2(n) = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                _mm256_cvtps_epi32(n), _mm256_set1_epi32(127))));
            where_positive(x, yes, no) = _mm256_blendv_ps(
                no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(x, _mm256_setzero_ps()));
        }
    }

    impl Simd for Avx512 {
        const LANES: usize = 16;
        const WIDE: bool = true;
        type V = __m512;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self::V {
            // SAFETY: the caller vouches for the instructions.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            // SAFETY: the caller vouches for 16 floats.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: Self::V) {
            // SAFETY: the caller vouches for 16 floats.
            unsafe { _mm512_storeu_ps(to, vector) }
        }
        #[inline(always)]
        unsafe fn load_halves(from: *const u16) -> Self::V {
            // SAFETY: the caller vouches for 16 of them.
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            }
        }
        #[inline(always)]
        unsafe fn round_half(vector: Self::V) -> Self::V {
            // SAFETY: the caller vouches for the instructions.
            unsafe {
                let bits = _mm512_castps_si512(vector);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(vector, vector);
                let bits = _mm512_mask_blend_epi32(nan, sum, quiet);
                _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(!0xffff)))
            }
        }
        instructions! {
            add(a, b) = _mm512_add_ps(a, b);
            sub(a, b) = _mm512_sub_ps(a, b);
            mul(a, b) = _mm512_mul_ps(a, b);
            div(a, b) = _mm512_div_ps(a, b);
            mul_add(a, b, c) = _mm512_fmadd_ps(a, b, c);
            neg_mul_add(a, b, c) = _mm512_fnmadd_ps(a, b, c);
            max(a, b) = _mm512_max_ps(a, b);
            min(a, b) = _mm512_min_ps(a, b);
            sqrt(a) = _mm512_sqrt_ps(a);
            round(a) = _mm512_roundscale_ps::<NEAREST>(a);
            pow2(n) = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
                _mm512_cvtps_epi32(n), _mm512_set1_epi32(127))));
            where_positive(x, yes, no) = _mm512_mask_blend_ps(
                _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_setzero_ps()), no, yes);
        }
    }
}
