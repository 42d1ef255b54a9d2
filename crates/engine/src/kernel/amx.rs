//! AMX: whether the processor has it and the system permits it, and products of tiles.
//!
//! A tile is 16 rows of 64 bytes. One instruction multiplies a tile of inputs (16 positions × 16 groups of four
//! bytes, or of two bf16) with a tile of weights (16 groups × 16 outputs) and adds to a tile of 16 × 16 sums. The
//! intrinsics are not stable in Rust, so this is assembler: tiles live inside one block of it at a time and are
//! named as what it overwrites; only their configuration, which nothing else here changes, lasts from
//! [`Configured::new`] until it is dropped.
#![allow(unsafe_code, reason = "instructions that have no stable intrinsics")]

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;
/// Groups of inputs in a row of a tile: of four bytes or two bf16.
pub(crate) const GROUPS: usize = 16;
/// Sums in a row of [`multiply`]'s result: two tiles beside one another.
pub(crate) const SUMS: usize = 32;

/// What is in a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unsigned bytes times signed bytes, summed in 32 bits without rounding.
    Bytes,
    /// bf16, summed in f32: for each depth the even inputs and the odd ones in order, then both together.
    Halves,
}

/// Where one depth of the inputs is: 16 groups of up to 32 positions.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Depth {
    /// The first row of each of the two tiles.
    pub(crate) rows: [*const u8; 2],
    /// Bytes between rows.
    pub(crate) step: usize,
}

/// The weights of up to two tiles of 16 outputs.
#[derive(Clone, Copy)]
pub(crate) struct Weights {
    pub(crate) first: [*const u8; 2],
    /// Bytes between groups.
    pub(crate) step: usize,
}

/// Whether the processor has AMX for bytes and bf16 with tiles of the size that is written for, and the system
/// permits this process to use it; found once.
#[cfg(target_arch = "x86_64")]
pub(crate) fn available() -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::sync::OnceLock;
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| linux::detected() && linux::permitted())
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// While it lives, all tiles of this thread have 16 rows of 64 bytes.
pub(crate) struct Configured(());

impl Configured {
    /// Where there is no AMX it does nothing, as [`multiply`] needs none there.
    pub(crate) fn new() -> Self {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if available() {
            linux::configure();
        }
        Self(())
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if available() {
            linux::release();
        }
    }
}

/// `sums[p][n] = Σ inputs[p][k] · weights[k][n]` for `tiles[0]` tiles of positions and `tiles[1]` of outputs, in
/// rows of [`SUMS`] sums. Where there is no AMX, plain loops do the same: no program is made for tiles there,
/// but tests may ask for it.
///
/// # Safety
/// The tiles are configured; each of `tiles` is 1 or 2, and `depths` and `weights` are valid for as many tiles;
/// `sums` is valid for 16 rows for each tile of positions.
pub(crate) unsafe fn multiply(
    _configured: &Configured,
    kind: Kind,
    tiles: [usize; 2],
    depths: &[Depth],
    weights: Weights,
    sums: *mut i32,
) {
    // SAFETY: passed on.
    unsafe {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if available() {
            return linux::multiply(kind, tiles, depths, weights, sums);
        }
        plain(kind, tiles, depths, weights, sums);
    }
}

/// What [`multiply`] does, by its definition.
///
/// # Safety
/// As [`multiply`].
unsafe fn plain(kind: Kind, tiles: [usize; 2], depths: &[Depth], weights: Weights, sums: *mut i32) {
    let half = |low: u8, high: u8| f32::from_bits(u32::from(u16::from_le_bytes([low, high])) << 16);
    for (row, tile) in (0..ROWS * tiles[0]).flat_map(|row| (0..tiles[1]).map(move |tile| (row, tile))) {
        let (mut whole, mut float) = ([0i32; ROWS], [0.0f32; ROWS]);
        for (index, depth) in depths.iter().enumerate() {
            let mut halves = [[0.0f32; 2]; ROWS];
            for group in 0..GROUPS {
                // SAFETY: the caller's tiles are as large as these loops.
                let (x, outputs) = unsafe {
                    let x = depth.rows[row / ROWS].add((row % ROWS) * depth.step + 4 * group);
                    let outputs = weights.first[tile].add((index * GROUPS + group) * weights.step);
                    let outputs = outputs.cast::<[[u8; 4]; ROWS]>().read_unaligned();
                    (x.cast::<[u8; 4]>().read_unaligned(), outputs)
                };
                for (n, w) in outputs.iter().enumerate() {
                    if kind == Kind::Bytes {
                        let product = |j: usize| i32::from(x[j]) * i32::from(w[j].cast_signed());
                        whole[n] += product(0) + product(1) + product(2) + product(3);
                    } else {
                        halves[n][0] += half(x[0], x[1]) * half(w[0], w[1]);
                        halves[n][1] += half(x[2], x[3]) * half(w[2], w[3]);
                    }
                }
            }
            float.iter_mut().zip(halves).for_each(|(sum, [even, odd])| *sum += even + odd);
        }
        let found = if kind == Kind::Bytes { whole } else { float.map(|sum| sum.to_bits().cast_signed()) };
        // SAFETY: as above.
        unsafe { sums.add(row * SUMS + ROWS * tile).cast::<[i32; ROWS]>().write_unaligned(found) };
    }
}

/// `rounds` rounds of four independent products of tiles in registers, for a measurement. Nothing where there is
/// no AMX.
pub(crate) fn spin(kind: Kind, rounds: usize) {
    let _configured = Configured::new();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if available() {
        // SAFETY: AMX is there, and the tiles are configured.
        unsafe { linux::spin(kind, rounds) };
    }
    let _ = (kind, rounds);
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid_count, __get_cpuid_max, _xgetbv};

    use super::{Depth, Kind, SUMS, Weights};

    /// The state that holds the tiles, by its number in XCR0 and for the system.
    const TILE_DATA: u32 = 18;

    pub(super) fn detected() -> bool {
        if !is_x86_feature_detected!("xsave") || __get_cpuid_max(0).0 < 0x1d {
            return false;
        }
        // bf16, tiles and bytes.
        let wanted = 1 << 22 | 1 << 24 | 1 << 25;
        if __cpuid_count(7, 0).edx & wanted != wanted {
            return false;
        }
        // The operating system saves the tiles and their configuration.
        let states = 0b11 << (TILE_DATA - 1);
        // SAFETY: the processor has `xgetbv`, and it is enabled, as the detection of `xsave` looks at both.
        if unsafe { xcr0() } & states != states {
            return false;
        }
        // The first palette: eight tiles of 1024 bytes, 64 a row, 16 rows.
        let palette = __cpuid_count(0x1d, 1);
        palette.eax >> 16 == 1024 && palette.ebx == 8 << 16 | 64 && palette.ecx & 0xffff == 16
    }

    /// # Safety
    /// The processor has `xsave`, and it is enabled.
    #[target_feature(enable = "xsave")]
    unsafe fn xcr0() -> u64 {
        // SAFETY: passed on.
        unsafe { _xgetbv(0) }
    }

    /// Asks the kernel for leave (5.16 or newer); all threads then have it.
    pub(super) fn permitted() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        let mut result = ARCH_PRCTL;
        // SAFETY: a system call without pointers; it overwrites what is named.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") u64::from(TILE_DATA),
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    /// Palette 1; the bytes in a row of each tile from byte 16 on, in 16 bits; their rows from byte 48 on.
    #[repr(C, align(64))]
    struct Configuration([u8; 64]);

    static CONFIGURATION: Configuration = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Configuration(bytes)
    };

    /// An assembler block that may overwrite any tile.
    macro_rules! tiles_asm {
        ($($argument:tt)*) => {
            asm!(
                $($argument)*
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }

    pub(super) fn configure() {
        // SAFETY: only called where there is AMX; the configuration is sound and 64 bytes long.
        unsafe { tiles_asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION,) };
    }

    pub(super) fn release() {
        // SAFETY: only called where there is AMX.
        unsafe { tiles_asm!("tilerelease",) };
    }

    /// A loop over the depths. `a0` and `a1` are tiles of positions (4, 5), `b0` and `b1` tiles of outputs (6, 7), the
    /// sums are in 0 to 3. The lines in brackets are those of the tiles that there are.
    macro_rules! depths_loop {
        (
            $depths:ident, $weights:ident, $sums:ident,
            zero [$($zero:literal)*] load [$($load:literal)*] product [$($product:expr,)*] store [$($store:literal)*]
        ) => {
            tiles_asm!(
                $($zero,)*
                "2:",
                "mov {a0}, qword ptr [{depth}]",
                "mov {a1}, qword ptr [{depth} + 8]",
                "mov {step}, qword ptr [{depth} + 16]",
                $($load,)*
                $($product,)*
                "add {depth}, 24",
                "add {b0}, {b_next}",
                "add {b1}, {b_next}",
                "dec {left}",
                "jnz 2b",
                $($store,)*
                a0 = out(reg) _,
                a1 = out(reg) _,
                step = out(reg) _,
                depth = inout(reg) $depths.as_ptr() => _,
                left = inout(reg) $depths.len() => _,
                b0 = inout(reg) $weights.first[0] => _,
                b1 = inout(reg) $weights.first[1] => _,
                b_step = in(reg) $weights.step,
                b_next = in(reg) super::GROUPS * $weights.step,
                sums = in(reg) $sums,
                sums_step = in(reg) 4 * SUMS,
            )
        };
    }

    /// The loop for as many tiles as there are, with one instruction for the products.
    macro_rules! loops {
        ($op:literal, $tiles:ident, $depths:ident, $weights:ident, $sums:ident) => {
            match $tiles {
                [1, 1] => depths_loop!(
                    $depths, $weights, $sums,
                    zero ["tilezero tmm0"]
                    load ["tileloadd tmm4, [{a0} + {step}]" "tileloadd tmm6, [{b0} + {b_step}]"]
                    product [concat!($op, " tmm0, tmm4, tmm6"),]
                    store ["tilestored [{sums} + {sums_step}], tmm0"]
                ),
                [1, _] => depths_loop!(
                    $depths, $weights, $sums,
                    zero ["tilezero tmm0" "tilezero tmm1"]
                    load [
                        "tileloadd tmm4, [{a0} + {step}]"
                        "tileloadd tmm6, [{b0} + {b_step}]"
                        "tileloadd tmm7, [{b1} + {b_step}]"
                    ]
                    product [concat!($op, " tmm0, tmm4, tmm6"), concat!($op, " tmm1, tmm4, tmm7"),]
                    store [
                        "tilestored [{sums} + {sums_step}], tmm0"
                        "tilestored [{sums} + {sums_step} + 64], tmm1"
                    ]
                ),
                [_, 1] => depths_loop!(
                    $depths, $weights, $sums,
                    zero ["tilezero tmm0" "tilezero tmm2"]
                    load [
                        "tileloadd tmm4, [{a0} + {step}]"
                        "tileloadd tmm6, [{b0} + {b_step}]"
                        "tileloadd tmm5, [{a1} + {step}]"
                    ]
                    product [concat!($op, " tmm0, tmm4, tmm6"), concat!($op, " tmm2, tmm5, tmm6"),]
                    store [
                        "tilestored [{sums} + {sums_step}], tmm0"
                        "tilestored [{sums} + {sums_step} + 2048], tmm2"
                    ]
                ),
                _ => depths_loop!(
                    $depths, $weights, $sums,
                    zero ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"]
                    load [
                        "tileloadd tmm4, [{a0} + {step}]"
                        "tileloadd tmm6, [{b0} + {b_step}]"
                        "tileloadd tmm7, [{b1} + {b_step}]"
                        "tileloadd tmm5, [{a1} + {step}]"
                    ]
                    product [
                        concat!($op, " tmm0, tmm4, tmm6"),
                        concat!($op, " tmm1, tmm4, tmm7"),
                        concat!($op, " tmm2, tmm5, tmm6"),
                        concat!($op, " tmm3, tmm5, tmm7"),
                    ]
                    store [
                        "tilestored [{sums} + {sums_step}], tmm0"
                        "tilestored [{sums} + {sums_step} + 64], tmm1"
                        "tilestored [{sums} + {sums_step} + 2048], tmm2"
                        "tilestored [{sums} + {sums_step} + 2112], tmm3"
                    ]
                ),
            }
        };
    }

    /// # Safety
    /// As [`super::multiply`], and AMX is there.
    pub(super) unsafe fn multiply(
        kind: Kind,
        tiles: [usize; 2],
        depths: &[Depth],
        weights: Weights,
        sums: *mut i32,
    ) {
        if depths.is_empty() {
            return;
        }
        // SAFETY: the loops read the depths, the tiles that they and the weights point to, and write the sums.
        unsafe {
            match kind {
                Kind::Bytes => loops!("tdpbusd", tiles, depths, weights, sums),
                Kind::Halves => loops!("tdpbf16ps", tiles, depths, weights, sums),
            }
        }
    }

    macro_rules! spin_loop {
        ($op:literal, $rounds:ident) => {
            tiles_asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                concat!($op, " tmm0, tmm4, tmm6"),
                concat!($op, " tmm1, tmm4, tmm7"),
                concat!($op, " tmm2, tmm5, tmm6"),
                concat!($op, " tmm3, tmm5, tmm7"),
                "dec {left}",
                "jnz 2b",
                left = inout(reg) $rounds.max(1) => _,
            )
        };
    }

    /// # Safety
    /// AMX is there, and the tiles are configured.
    pub(super) unsafe fn spin(kind: Kind, rounds: usize) {
        // SAFETY: registers alone.
        unsafe {
            match kind {
                Kind::Bytes => spin_loop!("tdpbusd", rounds),
                Kind::Halves => spin_loop!("tdpbf16ps", rounds),
            }
        }
    }
}
