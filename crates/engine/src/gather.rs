//! How the inputs of a product come into tiles, and whether tiles are worth it.
//!
//! A row of a tile is 64 bytes: 16 groups of four neighbouring bytes, or 32 bf16. Inputs that lie together in
//! memory are one run of a row; where a whole row is one run, tiles may be read where the inputs are.

use crate::kernel::amx::{GROUPS, ROWS};

/// Inputs that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where they begin, as an offset from the position.
    pub(crate) from: u32,
    /// The first one's place in the row.
    pub(crate) to: u8,
    /// How many.
    pub(crate) count: u8,
}

/// The runs of all inputs of a position, row by row of tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gather {
    runs: Vec<Run>,
    /// One after the last run of each depth.
    ends: Vec<usize>,
}

impl Gather {
    /// Of taps that are `unit` apart where they are neighbours, `row` of them in a row of a tile.
    fn new(taps: &[u32], unit: u32, row: usize) -> Self {
        let (mut runs, mut ends) = (Vec::<Run>::new(), Vec::new());
        for depth in taps.chunks(row) {
            let first = runs.len();
            for (to, &from) in depth.iter().enumerate() {
                match runs[first..].last_mut() {
                    Some(run) if run.from + u32::from(run.count) * unit == from => run.count += 1,
                    _ => runs.push(Run { from, to: to as u8, count: 1 }),
                }
            }
            ends.push(runs.len());
        }
        Self { runs, ends }
    }

    /// Of groups of four bytes.
    pub(crate) fn bytes(taps: &[u32]) -> Self {
        Self::new(taps, 4, GROUPS)
    }

    /// Of floats, to become bf16.
    pub(crate) fn halves(taps: &[u32]) -> Self {
        Self::new(taps, 1, 2 * GROUPS)
    }

    /// How many tiles deep the product is.
    pub(crate) fn depths(&self) -> usize {
        self.ends.len()
    }

    /// The runs of each depth.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[Run]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.runs[start..end])
    }

    /// Whether a product of so many positions and vectors of 16 outputs should take fewer cycles in tiles than in
    /// vectors. The counts are those of Intel's documents (2 vector products or one row of a product of tiles per
    /// cycle, two loads and a store) and are not measured; a mistake costs time alone, and in bf16 the last bits.
    pub(crate) fn is_worth(&self, taps: usize, positions: usize, vectors: usize) -> bool {
        let products = ROWS * self.depths() * vectors;
        let gathering = ROWS * self.runs.len();
        let storing = 2 * ROWS * vectors;
        positions.div_ceil(ROWS) * (products + gathering + storing) < positions * taps * vectors / 2
    }

    /// The floats of workspace that a product needs.
    pub(crate) fn workspace(&self) -> usize {
        crate::kernel::tiled::workspace(self.depths())
    }
}

/// Panels of `[inputs][width]` as panels of `[groups][width][2]`: two inputs of each output together, the groups
/// padded with zeros to whole tiles.
pub(crate) fn pairs(panels: &[f32], inputs: usize, width: usize) -> Vec<f32> {
    let groups = inputs.div_ceil(2 * GROUPS) * GROUPS;
    let mut pairs = Vec::with_capacity(panels.len() / inputs.max(1) * 2 * groups);
    for panel in panels.chunks(inputs * width) {
        for (group, column) in (0..groups).flat_map(|group| (0..width).map(move |column| (group, column))) {
            let value = |input: usize| panel.get(input * width + column).copied().unwrap_or(0.0);
            pairs.extend([value(2 * group), value(2 * group + 1)]);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run_and_rows_end_where_tiles_do() {
        let run = |from, to, count| Run { from, to, count };
        // Three rows of a window over 16 channels and three columns.
        let taps: Vec<u32> = (0..3).flat_map(|y| (0..12).map(move |group| 1000 * y + 4 * group)).collect();
        let gather = Gather::bytes(&taps);
        let rows: Vec<&[Run]> = gather.rows().collect();
        let expected: [&[Run]; 3] =
            [&[run(0, 0, 12), run(1000, 12, 4)], &[run(1016, 0, 8), run(2000, 8, 8)], &[run(2032, 0, 4)]];
        assert_eq!(rows, expected);
        let whole: Vec<u32> = (7..7 + 64).collect();
        assert_eq!(Gather::halves(&whole).rows().collect::<Vec<_>>(), [[run(7, 0, 32)], [run(39, 0, 32)]]);
    }

    #[test]
    fn tiles_are_for_deep_products_of_many_positions() {
        let dense: Vec<u32> = (0..196).map(|group| 4 * group).collect();
        let gather = Gather::bytes(&dense);
        assert!(gather.is_worth(dense.len(), 32, 19));
        assert!(!gather.is_worth(dense.len(), 1, 19));
        // A window over a single channel: five runs of two groups each.
        let narrow: Vec<u32> = (0..5).flat_map(|y| [28 * y, 28 * y + 4]).collect();
        assert!(!Gather::bytes(&narrow).is_worth(narrow.len(), 576, 2));
    }

    #[test]
    fn pairs_put_two_inputs_of_an_output_together() {
        // Two panels of three inputs and two outputs.
        let panels: Vec<f32> = (1..=12u8).map(f32::from).collect();
        let pairs = pairs(&panels, 3, 2);
        assert_eq!(pairs.len(), 2 * GROUPS * 2 * 2);
        let second = &pairs[GROUPS * 2 * 2..];
        assert_eq!(pairs[..8], [1.0, 3.0, 2.0, 4.0, 5.0, 0.0, 6.0, 0.0]);
        assert_eq!(second[..8], [7.0, 9.0, 8.0, 10.0, 11.0, 0.0, 12.0, 0.0]);
        assert!(second[8..].iter().all(|&value| value == 0.0));
    }
}
