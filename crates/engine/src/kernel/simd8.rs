//! Vectors of bytes and their sums: the integer counterpart of [`super::simd`].
//!
//! The one operation that matters is `sum + Σ x_j · w_j` over four neighbouring bytes, unsigned times signed,
//! exact in 32 bits. AVX2 and plain AVX-512 have an instruction that looks like it, `vpmaddubsw`, but it
//! saturates at 16 bits; so they split even and odd bytes into 16-bit halves and use `vpmaddwd`, which does not.
#![allow(unsafe_code, reason = "vector instructions and raw loads")]

use super::simd::{Plain, Simd};

/// A tier's integer vectors, as many lanes as its floats.
///
/// # Safety
/// All methods: as [`Simd`]; pointers are valid for what the method reads or writes.
pub(crate) trait Simd8: Copy {
    /// The tier's floats.
    type F: Simd;
    /// 32-bit sums.
    type I: Copy;
    /// Four activations, the same in every lane.
    type X: Copy;
    /// Four weights for each lane.
    type W: Copy;

    unsafe fn load_sums(from: *const i32) -> Self::I;
    unsafe fn store_sums(to: *mut i32, sums: Self::I);
    /// Four bytes.
    unsafe fn load_inputs(from: *const u8) -> Self::X;
    /// Four bytes per lane.
    unsafe fn load_weights(from: *const i8) -> Self::W;
    unsafe fn dot(sum: Self::I, x: Self::X, w: Self::W) -> Self::I;
    unsafe fn add(a: Self::I, b: Self::I) -> Self::I;
    /// The greater one.
    unsafe fn max(a: Self::I, b: Self::I) -> Self::I;
    /// The same in every lane.
    unsafe fn splat_sum(value: i32) -> Self::I;
    unsafe fn to_float(sum: Self::I) -> <Self::F as Simd>::V;
    /// To the nearest integers, ties to even; what is below all integers becomes the least.
    unsafe fn to_whole(values: <Self::F as Simd>::V) -> Self::I;
    /// One byte per lane, as floats.
    unsafe fn load_bytes(from: *const u8) -> <Self::F as Simd>::V;
    /// One byte per lane, from integers that are not negative: those above 255 become 255.
    unsafe fn store_whole(to: *mut u8, values: Self::I);
    /// One byte per lane, from whole floats in 0..=255.
    unsafe fn store_bytes(to: *mut u8, values: <Self::F as Simd>::V);
}

impl Simd8 for Plain {
    type F = Self;
    type I = [i32; 8];
    type X = [u8; 4];
    type W = [[i8; 4]; 8];

    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> Self::I {
        // SAFETY: passed on.
        unsafe { from.cast::<[i32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_sums(to: *mut i32, sums: Self::I) {
        // SAFETY: passed on.
        unsafe { to.cast::<[i32; 8]>().write_unaligned(sums) }
    }
    #[inline(always)]
    unsafe fn load_inputs(from: *const u8) -> Self::X {
        // SAFETY: passed on.
        unsafe { from.cast::<[u8; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_weights(from: *const i8) -> Self::W {
        // SAFETY: passed on.
        unsafe { from.cast::<[[i8; 4]; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot(mut sum: Self::I, x: Self::X, w: Self::W) -> Self::I {
        for lane in 0..8 {
            for j in 0..4 {
                sum[lane] += i32::from(x[j]) * i32::from(w[lane][j]);
            }
        }
        sum
    }
    #[inline(always)]
    unsafe fn add(a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }
    #[inline(always)]
    unsafe fn max(a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|lane| a[lane].max(b[lane]))
    }
    #[inline(always)]
    unsafe fn splat_sum(value: i32) -> Self::I {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn to_float(sum: Self::I) -> [f32; 8] {
        sum.map(|sum| sum as f32)
    }
    #[inline(always)]
    unsafe fn to_whole(values: [f32; 8]) -> Self::I {
        values.map(|value| value.round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> [f32; 8] {
        // SAFETY: passed on.
        unsafe { from.cast::<[u8; 8]>().read_unaligned().map(f32::from) }
    }
    #[inline(always)]
    unsafe fn store_whole(to: *mut u8, values: Self::I) {
        // SAFETY: passed on.
        unsafe { to.cast::<[u8; 8]>().write_unaligned(values.map(|value| value.min(255) as u8)) }
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, values: [f32; 8]) {
        // SAFETY: passed on.
        unsafe { to.cast::<[u8; 8]>().write_unaligned(values.map(|value| value as u8)) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Vnni;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd8;
    use crate::kernel::simd::{Avx2, Avx512};

    /// AVX-512 with VNNI.
    #[derive(Clone, Copy)]
    pub(crate) struct Vnni;

    impl Simd8 for Avx2 {
        type F = Self;
        type I = __m256i;
        /// Even bytes and odd bytes, each in 16 bits.
        type X = [__m256i; 2];
        type W = [__m256i; 2];

        #[inline(always)]
        unsafe fn load_sums(from: *const i32) -> Self::I {
            // SAFETY: passed on.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }
        #[inline(always)]
        unsafe fn store_sums(to: *mut i32, sums: Self::I) {
            // SAFETY: passed on.
            unsafe { _mm256_storeu_si256(to.cast(), sums) }
        }
        #[inline(always)]
        unsafe fn load_inputs(from: *const u8) -> Self::X {
            // SAFETY: passed on.
            unsafe {
                let x = _mm256_set1_epi32(from.cast::<i32>().read_unaligned());
                [_mm256_and_si256(x, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(x)]
            }
        }
        #[inline(always)]
        unsafe fn load_weights(from: *const i8) -> Self::W {
            // SAFETY: passed on.
            unsafe {
                let w = _mm256_loadu_si256(from.cast());
                [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w)), _mm256_srai_epi16::<8>(w)]
            }
        }
        #[inline(always)]
        unsafe fn dot(sum: Self::I, x: Self::X, w: Self::W) -> Self::I {
            // SAFETY: passed on.
            unsafe {
                let (even, odd) = (_mm256_madd_epi16(x[0], w[0]), _mm256_madd_epi16(x[1], w[1]));
                _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
            }
        }
        #[inline(always)]
        unsafe fn add(a: Self::I, b: Self::I) -> Self::I {
            // SAFETY: passed on.
            unsafe { _mm256_add_epi32(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::I, b: Self::I) -> Self::I {
            // SAFETY: passed on.
            unsafe { _mm256_max_epi32(a, b) }
        }
        #[inline(always)]
        unsafe fn splat_sum(value: i32) -> Self::I {
            // SAFETY: passed on.
            unsafe { _mm256_set1_epi32(value) }
        }
        #[inline(always)]
        unsafe fn to_float(sum: Self::I) -> __m256 {
            // SAFETY: passed on.
            unsafe { _mm256_cvtepi32_ps(sum) }
        }
        #[inline(always)]
        unsafe fn to_whole(values: __m256) -> Self::I {
            // SAFETY: passed on.
            unsafe { _mm256_cvtps_epi32(values) }
        }
        #[inline(always)]
        unsafe fn load_bytes(from: *const u8) -> __m256 {
            // SAFETY: passed on.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn store_bytes(to: *mut u8, values: __m256) {
            // SAFETY: passed on.
            unsafe { Self::store_whole(to, _mm256_cvtps_epi32(values)) }
        }
        #[inline(always)]
        unsafe fn store_whole(to: *mut u8, words: Self::I) {
            // SAFETY: passed on.
            unsafe {
                let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                let halves = _mm_packus_epi32(low, high);
                _mm_storel_epi64(to.cast(), _mm_packus_epi16(halves, halves));
            }
        }
    }

    /// What AVX-512 does in the same way with and without VNNI.
    macro_rules! avx512 {
        () => {
            type F = Avx512;
            type I = __m512i;

            #[inline(always)]
            unsafe fn load_sums(from: *const i32) -> Self::I {
                // SAFETY: passed on.
                unsafe { _mm512_loadu_si512(from.cast()) }
            }
            #[inline(always)]
            unsafe fn store_sums(to: *mut i32, sums: Self::I) {
                // SAFETY: passed on.
                unsafe { _mm512_storeu_si512(to.cast(), sums) }
            }
            #[inline(always)]
            unsafe fn add(a: Self::I, b: Self::I) -> Self::I {
                // SAFETY: passed on.
                unsafe { _mm512_add_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: Self::I, b: Self::I) -> Self::I {
                // SAFETY: passed on.
                unsafe { _mm512_max_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn splat_sum(value: i32) -> Self::I {
                // SAFETY: passed on.
                unsafe { _mm512_set1_epi32(value) }
            }
            #[inline(always)]
            unsafe fn to_float(sum: Self::I) -> __m512 {
                // SAFETY: passed on.
                unsafe { _mm512_cvtepi32_ps(sum) }
            }
            #[inline(always)]
            unsafe fn to_whole(values: __m512) -> Self::I {
                // SAFETY: passed on.
                unsafe { _mm512_cvtps_epi32(values) }
            }
            #[inline(always)]
            unsafe fn load_bytes(from: *const u8) -> __m512 {
                // SAFETY: passed on.
                unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
            }
            #[inline(always)]
            unsafe fn store_whole(to: *mut u8, values: Self::I) {
                // SAFETY: passed on.
                unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(values)) }
            }
            #[inline(always)]
            unsafe fn store_bytes(to: *mut u8, values: __m512) {
                // SAFETY: passed on.
                unsafe { Self::store_whole(to, _mm512_cvtps_epi32(values)) }
            }
        };
    }

    impl Simd8 for Avx512 {
        type X = [__m512i; 2];
        type W = [__m512i; 2];
        avx512!();

        #[inline(always)]
        unsafe fn load_inputs(from: *const u8) -> Self::X {
            // SAFETY: passed on.
            unsafe {
                let x = _mm512_set1_epi32(from.cast::<i32>().read_unaligned());
                [_mm512_and_si512(x, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(x)]
            }
        }
        #[inline(always)]
        unsafe fn load_weights(from: *const i8) -> Self::W {
            // SAFETY: passed on.
            unsafe {
                let w = _mm512_loadu_si512(from.cast());
                [_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(w)), _mm512_srai_epi16::<8>(w)]
            }
        }
        #[inline(always)]
        unsafe fn dot(sum: Self::I, x: Self::X, w: Self::W) -> Self::I {
            // SAFETY: passed on.
            unsafe {
                let (even, odd) = (_mm512_madd_epi16(x[0], w[0]), _mm512_madd_epi16(x[1], w[1]));
                _mm512_add_epi32(sum, _mm512_add_epi32(even, odd))
            }
        }
    }

    impl Simd8 for Vnni {
        type X = __m512i;
        type W = __m512i;
        avx512!();

        #[inline(always)]
        unsafe fn load_inputs(from: *const u8) -> Self::X {
            // SAFETY: passed on.
            unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn load_weights(from: *const i8) -> Self::W {
            // SAFETY: passed on.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
        #[inline(always)]
        unsafe fn dot(sum: Self::I, x: Self::X, w: Self::W) -> Self::I {
            // SAFETY: passed on.
            unsafe { _mm512_dpbusd_epi32(sum, x, w) }
        }
    }
}

/// Makes of a kernel over [`Simd8`] a function with the tier as its first argument, as `tiers!` does.
macro_rules! tiers8 {
    ($name:ident = $kernel:ident($($argument:ident: $type:ty),* $(,)?)) => {
        /// The kernel of the tier.
        ///
        /// # Safety
        /// The processor has the tier, and what the kernel itself demands.
        #[allow(clippy::too_many_arguments, reason = "the kernel's own arguments")]
        pub(crate) unsafe fn $name(isa: $crate::isa::Isa, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
            unsafe fn vnni($($argument: $type),*) {
                // SAFETY: passed on.
                unsafe { $kernel::<$crate::kernel::simd8::Vnni>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512($($argument: $type),*) {
                // SAFETY: passed on.
                unsafe { $kernel::<$crate::kernel::simd::Avx512>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($argument: $type),*) {
                // SAFETY: passed on.
                unsafe { $kernel::<$crate::kernel::simd::Avx2>($($argument),*) }
            }
            // SAFETY: passed on.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::isa::Isa::Avx512Vnni | $crate::isa::Isa::Amx => vnni($($argument),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::isa::Isa::Avx512 => avx512($($argument),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::isa::Isa::Avx2 => avx2($($argument),*),
                    _ => $kernel::<$crate::kernel::simd::Plain>($($argument),*),
                }
            }
        }
    };
}
pub(crate) use tiers8;
