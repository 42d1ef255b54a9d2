//! The products of [`super::gemm8`] and, in bf16, [`super::gemm`] by tiles: inputs gathered into them, products
//! made by [`super::amx`], and the sums brought through memory to the same epilogues.
//!
//! Up to 32 positions at a time are two tiles high; the outputs follow in pairs of tiles. The order in which a
//! sum is made does not depend on how many positions there are, so that a row has the same answer to the last bit
//! alone and in any batch. Rows of a tile beyond the last position hold whatever was there, and their sums go
//! nowhere.
#![allow(unsafe_code, reason = "raw loads, and pointers into the workspace")]

use super::amx::{self, Configured, Depth, GROUPS, Kind, ROWS, SUMS, Weights};
use super::gemm::{self, Gemm};
use super::gemm8::{self, Gemm8};
use super::simd::Simd;
use super::simd8::{Simd8, tiers8};
use super::tiers;
use crate::gather::{Gather, Run};

/// Positions at a time.
const POSITIONS: usize = 2 * ROWS;
/// The bytes of a tile, and of a row of it.
const TILE: usize = ROWS * ROW;
const ROW: usize = 4 * GROUPS;

/// The floats of workspace for a product so many tiles deep: sums, where the inputs are, and the inputs.
pub(crate) fn workspace(depths: usize) -> usize {
    let table = (depths * size_of::<Depth>()).next_multiple_of(ROW);
    POSITIONS * SUMS + (table + 2 * depths * TILE) / 4
}

/// The parts of a workspace.
#[derive(Clone, Copy)]
struct Room {
    sums: *mut i32,
    table: *mut Depth,
    tiles: *mut u8,
}

impl Room {
    /// # Safety
    /// There are [`workspace`] floats at `start`, on a cache line.
    unsafe fn new(start: *mut f32, depths: usize) -> Self {
        // SAFETY: the parts are what `workspace` adds up.
        unsafe {
            let table = start.add(POSITIONS * SUMS).cast::<u8>();
            let tiles = table.add((depths * size_of::<Depth>()).next_multiple_of(ROW));
            Self { sums: start.cast(), table: table.cast(), tiles }
        }
    }
}

/// The step between positions, if it is the same from row to row of each whole tile.
fn even(positions: &[u32]) -> Option<usize> {
    let step = positions.get(1)?.checked_sub(positions[0])?;
    let tile = |tile: &[u32]| tile.windows(2).all(|pair| pair[1].checked_sub(pair[0]) == Some(step));
    let whole = positions.len().is_multiple_of(ROWS);
    (whole && positions.chunks(ROWS).all(tile)).then_some(step as usize)
}

/// Copies a run of groups of four bytes. Channels are padded, so that most runs are whole vectors of 16.
///
/// # Safety
/// `from` is valid for the run, `row` for a row of a tile.
#[inline(always)]
unsafe fn copy_bytes(from: *const u8, row: *mut u8, run: &Run) {
    // SAFETY: passed on.
    unsafe {
        let (from, to) = (from.add(run.from as usize), row.add(4 * usize::from(run.to)));
        let count = usize::from(run.count);
        if count == GROUPS {
            return to.cast::<[u8; ROW]>().write_unaligned(from.cast::<[u8; ROW]>().read_unaligned());
        }
        for at in (0..count / 4).map(|vector| 16 * vector) {
            to.add(at).cast::<[u8; 16]>().write_unaligned(from.add(at).cast::<[u8; 16]>().read_unaligned());
        }
        for at in (count / 4 * 4..count).map(|group| 4 * group) {
            to.add(at).cast::<[u8; 4]>().write_unaligned(from.add(at).cast::<[u8; 4]>().read_unaligned());
        }
    }
}

/// The upper halves of a run of floats that have been rounded to bf16.
///
/// # Safety
/// `from` is valid for the run, `row` for a row of a tile.
#[inline(always)]
unsafe fn copy_halves(from: *const f32, row: *mut u8, run: &Run) {
    const VECTOR: usize = 16;
    // SAFETY: passed on.
    unsafe {
        let from = from.add(run.from as usize).cast::<u32>();
        let to = row.cast::<u16>().add(usize::from(run.to));
        let count = usize::from(run.count);
        for at in (0..count / VECTOR).map(|vector| VECTOR * vector) {
            let values = from.add(at).cast::<[u32; VECTOR]>().read_unaligned();
            to.add(at).cast::<[u16; VECTOR]>().write_unaligned(values.map(|value| (value >> 16) as u16));
        }
        for at in count / VECTOR * VECTOR..count {
            to.add(at).write_unaligned((from.add(at).read_unaligned() >> 16) as u16);
        }
    }
}

/// Makes the tiles of up to 32 positions, or finds them where they are, and says where.
///
/// # Safety
/// `room` is for the gather; every input of every position is valid.
#[inline(always)]
unsafe fn gather_bytes(room: &Room, gather: &Gather, source: *const u8, positions: &[u32]) {
    let step = even(positions);
    for (index, runs) in gather.rows().enumerate() {
        // SAFETY: passed on; a tile has as many rows as positions are looked at.
        unsafe {
            let tiles = room.tiles.add(2 * index * TILE);
            let mut depth = Depth { rows: [tiles, tiles.add(TILE)], step: ROW };
            match (step, runs) {
                (Some(step), [run]) if usize::from(run.count) == GROUPS => {
                    let row = |at: usize| source.add(positions[at] as usize + run.from as usize);
                    depth = Depth { rows: [row(0), row(positions.len() - ROWS)], step };
                }
                _ => {
                    for (at, &position) in positions.iter().enumerate() {
                        for run in runs {
                            copy_bytes(source.add(position as usize), tiles.add(at * ROW), run);
                        }
                    }
                }
            }
            room.table.add(index).write(depth);
        }
    }
}

/// As [`gather_bytes`], from floats to bf16. What a row of a tile lacks becomes zeros, for zero times what is no
/// number would be none either.
///
/// # Safety
/// As [`gather_bytes`].
#[inline(always)]
unsafe fn gather_halves(room: &Room, gather: &Gather, source: *const f32, positions: &[u32]) {
    for (index, runs) in gather.rows().enumerate() {
        let whole = runs.iter().map(|run| usize::from(run.count)).sum::<usize>() == 2 * GROUPS;
        // SAFETY: passed on; a tile has as many rows as positions are looked at.
        unsafe {
            let tiles = room.tiles.add(2 * index * TILE);
            for (at, &position) in positions.iter().enumerate() {
                let row = tiles.add(at * ROW);
                if !whole {
                    row.cast::<[u8; ROW]>().write_unaligned([0; ROW]);
                }
                for run in runs {
                    copy_halves(source.add(position as usize), row, run);
                }
            }
            room.table.add(index).write(Depth { rows: [tiles, tiles.add(TILE)], step: ROW });
        }
    }
}

/// What a product by tiles reads and where it goes, but for its epilogue.
struct Blocks<'a> {
    configured: &'a Configured,
    kind: Kind,
    room: Room,
    depths: usize,
    /// Panels of `depths · 16` groups of 16 outputs, or of 32 with two vectors.
    weights: *const u8,
    vectors: usize,
}

impl Blocks<'_> {
    /// The sums of one panel of two vectors or of up to two panels of one, beside one another; returns how many.
    ///
    /// # Safety
    /// The table is filled for `rows` positions, and `left` panels are left from `panel` on, at least one.
    #[inline(always)]
    unsafe fn sums(&self, rows: usize, panel: usize, left: usize) -> usize {
        let Self { configured, kind, room, depths, vectors, .. } = *self;
        let abreast = if vectors == 2 { 1 } else { left.min(2) };
        let size = depths * GROUPS * vectors * ROW;
        // SAFETY: passed on; the second tile is in the same panel or in the next one, where there is one.
        unsafe {
            let first = self.weights.add(panel * size);
            let second = if vectors == 2 { first.add(ROW) } else { first.add((abreast - 1) * size) };
            let tiles = [rows.div_ceil(ROWS), abreast * vectors];
            let table = std::slice::from_raw_parts(room.table, depths);
            let weights = Weights { first: [first, second], step: vectors * ROW };
            amx::multiply(configured, kind, tiles, table, weights, room.sums);
        }
        abreast
    }
}

/// Calls the epilogue for all rows, as many at a time as it can hold in registers; whole fours first, which a
/// pooling needs.
macro_rules! in_groups {
    ($finish:ident::<$simd:ty, $nv:literal>($g:expr, $at:expr, $rows:expr, $panel:expr, $sums:expr)) => {{
        let mut done = 0;
        while done < $rows {
            let (at, sums) = ($at + done, $sums.add(done * SUMS));
            done += match $rows - done {
                8.. => {
                    $finish::<$simd, 8, $nv>($g, at, $panel, sums);
                    8
                }
                4..8 => {
                    $finish::<$simd, 4, $nv>($g, at, $panel, sums);
                    4
                }
                2 | 3 => {
                    $finish::<$simd, 2, $nv>($g, at, $panel, sums);
                    2
                }
                _ => {
                    $finish::<$simd, 1, $nv>($g, at, $panel, sums);
                    1
                }
            };
        }
    }};
}

/// # Safety
/// As [`gemm8::finish`]; there are sums for `P` rows.
#[inline(always)]
unsafe fn finish_bytes<S: Simd8, const P: usize, const NV: usize>(
    g: &Gemm8<'_>,
    at: usize,
    panel: usize,
    from: *const i32,
) {
    // SAFETY: passed on.
    unsafe {
        let lanes = S::F::LANES;
        let mut sums = [[[S::load_sums(from); NV]; 1]; P];
        for v in 0..NV {
            let bias = S::load_sums(g.bias.add((panel * NV + v) * lanes));
            for (p, sums) in sums.iter_mut().enumerate() {
                sums[0][v] = S::add(S::load_sums(from.add(p * SUMS + v * lanes)), bias);
            }
        }
        gemm8::finish::<S, P, 1, NV>(g, at, panel, sums);
    }
}

/// # Safety
/// As [`gemm::finish`]; there are sums for `P` rows.
#[inline(always)]
unsafe fn finish_halves<S: Simd, const P: usize, const NV: usize>(
    g: &Gemm<'_>,
    at: usize,
    panel: usize,
    from: *const i32,
) {
    // SAFETY: passed on.
    unsafe {
        let from = from.cast::<f32>();
        let mut sums = [[[S::splat(0.0); NV]; 1]; P];
        for v in 0..NV {
            let bias = S::load(g.bias.add((panel * NV + v) * S::LANES));
            for (p, sums) in sums.iter_mut().enumerate() {
                sums[0][v] = S::add(S::load(from.add(p * SUMS + v * S::LANES)), bias);
            }
        }
        gemm::finish::<S, P, 1, NV>(g, at, panel, sums);
    }
}

/// # Safety
/// As [`gemm8::gemm8`] on a tier of 16 lanes; the gather is that of its taps, and the workspace as large as it
/// says.
#[inline(always)]
unsafe fn bytes<S: Simd8>(g: &Gemm8<'_>, gather: &Gather, workspace: *mut f32, configured: &Configured) {
    // SAFETY: passed on.
    unsafe {
        let depths = gather.depths();
        let (room, weights) = (Room::new(workspace, depths), g.weights.cast());
        let blocks = Blocks { configured, kind: Kind::Bytes, room, depths, weights, vectors: g.vectors };
        for (index, positions) in g.positions.chunks(POSITIONS).enumerate() {
            let (at, rows) = (POSITIONS * index, positions.len());
            gather_bytes(&room, gather, g.source, positions);
            let (mut panel, end) = g.panels;
            while panel < end {
                let abreast = blocks.sums(rows, panel, end - panel);
                for index in 0..abreast {
                    let sums = room.sums.add(index * ROWS).cast_const();
                    if g.vectors == 2 {
                        in_groups!(finish_bytes::<S, 2>(g, at, rows, panel + index, sums));
                    } else {
                        in_groups!(finish_bytes::<S, 1>(g, at, rows, panel + index, sums));
                    }
                }
                panel += abreast;
            }
        }
    }
}

tiers8!(tiled8 = bytes(g: &Gemm8<'_>, gather: &Gather, workspace: *mut f32, configured: &Configured));

/// # Safety
/// As [`gemm::gemm`] on a tier of 16 lanes, with weights in pairs; the gather is that of its taps, and the
/// workspace as large as it says.
#[inline(always)]
unsafe fn halves<S: Simd>(g: &Gemm<'_>, gather: &Gather, workspace: *mut f32, configured: &Configured) {
    // SAFETY: passed on.
    unsafe {
        let depths = gather.depths();
        let (room, weights) = (Room::new(workspace, depths), g.weights.cast());
        let blocks = Blocks { configured, kind: Kind::Halves, room, depths, weights, vectors: g.vectors };
        for (index, positions) in g.positions.chunks(POSITIONS).enumerate() {
            let (at, rows) = (POSITIONS * index, positions.len());
            gather_halves(&room, gather, g.source, positions);
            let (mut panel, end) = g.panels;
            while panel < end {
                let abreast = blocks.sums(rows, panel, end - panel);
                for index in 0..abreast {
                    let sums = room.sums.add(index * ROWS).cast_const();
                    if g.vectors == 2 {
                        in_groups!(finish_halves::<S, 2>(g, at, rows, panel + index, sums));
                    } else {
                        in_groups!(finish_halves::<S, 1>(g, at, rows, panel + index, sums));
                    }
                }
                panel += abreast;
            }
        }
    }
}

tiers!(tiled = halves(g: &Gemm<'_>, gather: &Gather, workspace: *mut f32, configured: &Configured));
