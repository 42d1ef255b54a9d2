//! How a batch is cut into passes through the network, and filled up to sizes that are known beforehand.

use network::Network;

/// The most rows that go through the network at once. Networks with large layers take fewer.
pub const MAX_PASS_ROWS: usize = 256;

/// How many values the largest layer may give for one pass (64 MiB of 32-bit floats).
const PASS_VALUES: usize = 1 << 24;

/// Cuts batches. Either a pass has as many rows as there are, up to a bound, or it has one of a few sizes and
/// what is missing is filled up: a GPU compiles and tunes its kernels for each size, so the sizes must be few
/// and known before the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batching {
    /// No pass has more rows.
    bound: usize,
    /// Sizes that were asked for; `None`: the rule of the device.
    wanted: Option<Vec<usize>>,
    /// Whether the device wants few sizes.
    few: bool,
    /// The sizes of passes, ascending; empty: any size up to `bound`.
    sizes: Vec<usize>,
}

/// One pass: so many rows from `first` on, filled up to `size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) size: usize,
}

impl Batching {
    /// The rule for a network on a device; `few` for a GPU.
    pub(crate) fn new(network: &Network, few: bool) -> Self {
        Self { bound: bound(network), wanted: None, few, sizes: Vec::new() }.settled()
    }

    pub(crate) fn with_bound(self, rows: usize) -> Self {
        Self { bound: rows.max(1), ..self }.settled()
    }

    pub(crate) fn with_sizes(self, sizes: &[usize]) -> Self {
        Self { wanted: Some(sizes.to_vec()).filter(|sizes| !sizes.is_empty()), ..self }.settled()
    }

    fn settled(mut self) -> Self {
        self.sizes = match &self.wanted {
            Some(sizes) => sizes.clone(),
            None if self.few => {
                (0..usize::BITS).map(|bit| 1 << bit).take_while(|&size| size <= self.bound).collect()
            }
            None => return Self { sizes: Vec::new(), ..self },
        };
        self.sizes.retain(|size| (1..=self.bound).contains(size));
        if self.sizes.is_empty() {
            self.sizes.push(self.bound);
        }
        self.sizes.sort_unstable();
        self.sizes.dedup();
        self
    }

    /// The sizes of passes, ascending; empty when they may have any size.
    pub(crate) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The most rows of a pass.
    pub(crate) fn largest(&self) -> usize {
        self.sizes.last().copied().unwrap_or(self.bound)
    }

    /// The passes of a batch, in order.
    pub(crate) fn passes(&self, rows: usize) -> impl Iterator<Item = Pass> + '_ {
        (0..rows).step_by(self.largest()).map(move |first| {
            let rows = self.largest().min(rows - first);
            let size = self.sizes.iter().copied().find(|&size| size >= rows).unwrap_or(rows);
            Pass { first, rows, size }
        })
    }
}

/// As many rows as keep the largest layer's values within [`PASS_VALUES`].
fn bound(network: &Network) -> usize {
    let largest = network.layers().iter().flat_map(|layer| {
        let convolved: usize = layer.output.iter().product();
        [layer.input.iter().product(), convolved]
    });
    (PASS_VALUES / largest.max().unwrap_or(1).max(1)).clamp(1, MAX_PASS_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batching(few: bool) -> Batching {
        let network = Network::new(network::preset("mlp", &[4], 2).unwrap()).unwrap();
        Batching::new(&network, few)
    }

    fn passes(batching: &Batching, rows: usize) -> Vec<[usize; 3]> {
        batching.passes(rows).map(|pass| [pass.first, pass.rows, pass.size]).collect()
    }

    #[test]
    fn a_cpu_takes_batches_as_they_come() {
        let any = batching(false);
        assert_eq!((any.sizes(), any.largest()), (&[][..], 256));
        assert_eq!(passes(&any, 0), [[0; 3]; 0]);
        assert_eq!(passes(&any, 5), [[0, 5, 5]]);
        assert_eq!(passes(&any, 300), [[0, 256, 256], [256, 44, 44]]);
        assert_eq!(passes(&any.with_bound(2), 3), [[0, 2, 2], [2, 1, 1]]);
    }

    #[test]
    fn a_gpu_takes_powers_of_two() {
        let few = batching(true);
        assert_eq!(few.sizes(), [1, 2, 4, 8, 16, 32, 64, 128, 256]);
        assert_eq!(passes(&few, 5), [[0, 5, 8]]);
        assert_eq!(passes(&few, 8), [[0, 8, 8]]);
        assert_eq!(passes(&few, 300), [[0, 256, 256], [256, 44, 64]]);
        // Not above the bound, so that a pass is never larger than memory allows.
        let bounded = few.with_bound(37);
        assert_eq!((bounded.sizes().len(), bounded.largest()), (6, 32));
        assert_eq!(passes(&bounded, 37), [[0, 32, 32], [32, 5, 8]]);
        assert_eq!(bounded.with_bound(0).sizes(), [1]);
    }

    #[test]
    fn sizes_that_are_asked_for_are_kept_within_the_bound() {
        for few in [false, true] {
            let sizes = batching(few).with_sizes(&[16, 3, 0, 16, 1000]);
            assert_eq!(sizes.sizes(), [3, 16]);
            assert_eq!(passes(&sizes, 20), [[0, 16, 16], [16, 4, 16]]);
            assert_eq!(sizes.clone().with_bound(5).sizes(), [3]);
            assert_eq!(sizes.clone().with_bound(2).sizes(), [2], "something must be left");
            assert_eq!(sizes.with_sizes(&[]), batching(few));
        }
    }
}
