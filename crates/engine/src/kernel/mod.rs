//! The kernels: everything that touches memory through pointers.
//!
//! A kernel gets pointers and tables that the planner has checked against the arena; it is written once over
//! [`simd::Simd`] and compiled for each tier by `tiers!`, which makes a function that picks the tier at run
//! time. Nothing here allocates.

pub(crate) mod amx;
pub(crate) mod ceiling;
pub(crate) mod copy;
pub(crate) mod each8;
pub(crate) mod elements;
pub(crate) mod gemm;
pub(crate) mod gemm8;
pub(crate) mod map;
pub(crate) mod math;
pub(crate) mod simd;
pub(crate) mod simd8;
pub(crate) mod tiled;
pub(crate) mod window;
pub(crate) mod winograd;

/// An activation. The first three are part of a product's epilogue, the others follow each tile that a product
/// has stored, while it is in the first-level cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Identity,
    Relu,
    Leaky(f32),
    Gelu,
    Sigmoid,
    Tanh,
    Silu,
}

impl Act {
    /// Whether it is cheap enough to be computed on accumulators.
    pub(crate) fn is_linear(self) -> bool {
        matches!(self, Self::Identity | Self::Relu | Self::Leaky(_))
    }

    /// Whether a greater input never gives a lesser output, so that it may change places with a maximum.
    pub(crate) fn is_monotone(self) -> bool {
        match self {
            Self::Identity | Self::Relu | Self::Sigmoid | Self::Tanh => true,
            Self::Leaky(slope) => slope >= 0.0,
            Self::Gelu | Self::Silu => false,
        }
    }
}

/// Makes of a kernel over [`simd::Simd`] a function with the tier as its first argument.
///
/// The function that it makes is unsafe: what the kernel demands, and the processor has the tier.
macro_rules! tiers {
    ($name:ident = $kernel:ident($($argument:ident: $type:ty),* $(,)?)) => {
        /// The kernel of the tier.
        ///
        /// # Safety
        /// The processor has the tier, and what the kernel itself demands.
        #[allow(clippy::too_many_arguments, reason = "the kernel's own arguments")]
        pub(crate) unsafe fn $name(isa: $crate::isa::Isa, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments, reason = "the kernel's own arguments")]
            unsafe fn avx512($($argument: $type),*) {
                // SAFETY: passed on.
                unsafe { $kernel::<$crate::kernel::simd::Avx512>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments, reason = "the kernel's own arguments")]
            unsafe fn avx2($($argument: $type),*) {
                // SAFETY: passed on.
                unsafe { $kernel::<$crate::kernel::simd::Avx2>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            if isa >= $crate::isa::Isa::Avx512 {
                // SAFETY: passed on.
                return unsafe { avx512($($argument),*) };
            } else if isa == $crate::isa::Isa::Avx2 {
                // SAFETY: passed on.
                return unsafe { avx2($($argument),*) };
            }
            let _ = isa;
            // SAFETY: passed on.
            unsafe { $kernel::<$crate::kernel::simd::Plain>($($argument),*) }
        }
    };
}
pub(crate) use tiers;
