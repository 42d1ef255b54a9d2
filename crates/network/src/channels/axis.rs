//! Which entries of which values are the same channel, while the layers are walked.
//!
//! The features of a value are `count` units of `block` neighbours each: a convolution's channels are units of one,
//! and flattening an image of `h × w` makes units of `h · w`. Units that must go together are joined. Two partitions
//! of the same features may be cut at different places (a grouped convolution reads runs of channels); they are
//! joined at the places where both are cut, so a unit may become several of what it was.

use super::FixedReason;

/// How the features of a value are cut: entry `e` belongs to unit `e / block` of the dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    dimension: usize,
    block: usize,
}

/// One dimension as it was met. It is a root, or so many of its units are one unit of another.
#[derive(Debug)]
struct Dimension {
    joined: Option<Joined>,
    count: usize,
    fixed: Option<FixedReason>,
}

#[derive(Clone, Copy, Debug)]
struct Joined {
    to: usize,
    /// This many units are one there.
    factor: usize,
}

/// An axis in its final form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The dimension that all joined ones ended in.
    pub(super) root: usize,
    /// Units of it.
    pub(super) count: usize,
    /// Neighbouring entries of one unit.
    pub(super) block: usize,
}

/// All dimensions of a network.
#[derive(Debug, Default)]
pub(super) struct Dimensions {
    dimensions: Vec<Dimension>,
}

impl Dimensions {
    /// Features that are tied to nothing yet.
    pub(super) fn fresh(&mut self, count: usize) -> Axis {
        self.dimensions.push(Dimension { joined: None, count, fixed: None });
        Axis { dimension: self.dimensions.len() - 1, block: 1 }
    }

    pub(super) fn resolve(&self, axis: Axis) -> Resolved {
        let (mut root, mut block) = (axis.dimension, axis.block);
        while let Some(Joined { to, factor }) = self.dimensions[root].joined {
            root = to;
            block *= factor;
        }
        Resolved { root, count: self.dimensions[root].count, block }
    }

    /// Why the channels of a root cannot go.
    pub(super) fn fixed(&self, root: usize) -> Option<&FixedReason> {
        self.dimensions[root].fixed.as_ref()
    }

    /// Every entry is followed by `times` entries of the same unit: flattening, and multiplied channels.
    pub(super) fn repeat(&self, axis: Axis, times: usize) -> Axis {
        Axis { block: axis.block * times, ..axis }
    }

    /// The same units, each with so many entries: what a grouped convolution gives.
    pub(super) fn with_block(&self, axis: Axis, block: usize) -> Axis {
        Axis { dimension: self.resolve(axis).root, block }
    }

    /// The channels of this axis stay. The first reason counts.
    pub(super) fn fix(&mut self, axis: Axis, reason: FixedReason) {
        let root = self.resolve(axis).root;
        self.dimensions[root].fixed.get_or_insert(reason);
    }

    /// Makes units of whole runs of `block` entries, which must divide the features.
    pub(super) fn coarsen(&mut self, axis: Axis, block: usize) {
        let Resolved { root, count, block: present } = self.resolve(axis);
        let factor = least_common_multiple(present, block) / present.max(1);
        if factor > 1 {
            let fixed = self.dimensions[root].fixed.clone();
            self.dimensions.push(Dimension { joined: None, count: count / factor, fixed });
            self.dimensions[root].joined = Some(Joined { to: self.dimensions.len() - 1, factor });
        }
    }

    /// Features that are added entry by entry are the same channels.
    pub(super) fn join(&mut self, a: Axis, b: Axis) {
        let (block_a, block_b) = (self.resolve(a).block, self.resolve(b).block);
        self.coarsen(a, block_b);
        self.coarsen(b, block_a);
        let (a, b) = (self.resolve(a).root, self.resolve(b).root);
        if a != b {
            let fixed = self.dimensions[b].fixed.clone();
            self.dimensions[b].joined = Some(Joined { to: a, factor: 1 });
            if let Some(reason) = fixed {
                self.dimensions[a].fixed.get_or_insert(reason);
            }
        }
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x.max(1) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_joined_where_both_are_cut() {
        let mut dimensions = Dimensions::default();
        let (a, b) = (dimensions.fresh(12), dimensions.fresh(3));
        // 12 single channels, read in runs of 2, added to 3 channels of 4 entries each.
        dimensions.coarsen(a, 2);
        let flat = dimensions.repeat(b, 4);
        dimensions.join(a, flat);
        let (a, flat) = (dimensions.resolve(a), dimensions.resolve(flat));
        assert_eq!(a, flat);
        assert_eq!((a.count, a.block, dimensions.resolve(b).block), (3, 4, 1));
        // Runs of 3 and of 2 have only every sixth cut in common.
        let (c, d) = (dimensions.fresh(12), dimensions.fresh(12));
        dimensions.coarsen(c, 3);
        dimensions.coarsen(d, 2);
        dimensions.join(d, c);
        assert_eq!(dimensions.resolve(c).block, 6);
        assert_eq!(dimensions.resolve(c), dimensions.resolve(d));
    }

    #[test]
    fn a_reason_reaches_all_that_is_joined_before_and_after() {
        let mut dimensions = Dimensions::default();
        let axes = [8, 8, 8].map(|count| dimensions.fresh(count));
        dimensions.join(axes[0], axes[1]);
        dimensions.fix(axes[1], FixedReason::Output { output: "logits".to_owned() });
        dimensions.coarsen(axes[0], 4);
        dimensions.join(axes[2], axes[0]);
        dimensions.fix(axes[2], FixedReason::Input { input: "input".to_owned() });
        for axis in axes {
            let root = dimensions.resolve(axis).root;
            assert_eq!(dimensions.fixed(root), Some(&FixedReason::Output { output: "logits".to_owned() }));
        }
    }
}
