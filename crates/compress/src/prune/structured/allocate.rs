//! How the cuts are shared out among the groups: the order of all cuts that can be made, and how many of them a budget
//! asks for.

use network::channels::{Group, Removal};

use super::sensitivity::Curve;
use super::{Allocation, GroupsConfig, Metric, PruneError};

/// A group with its channels ranked and the sizes that it may have.
pub(super) struct Candidate<'a> {
    pub(super) group: &'a Group,
    importance: Vec<f64>,
    /// The channels, the least important first.
    ranked: Vec<usize>,
    /// Falling; the first is all channels.
    pub(super) sizes: Vec<usize>,
}

/// One group goes from one size to the next smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The place of its candidate.
    pub(super) candidate: usize,
    pub(super) from: usize,
    pub(super) to: usize,
}

impl<'a> Candidate<'a> {
    /// `whole` is how many filters the group had before the first step.
    pub(super) fn new(group: &'a Group, importance: Vec<f64>, whole: usize, config: &GroupsConfig) -> Self {
        let mut ranked: Vec<usize> = (0..group.channels).collect();
        // Equal ones go from the last on, so that nothing depends on how the sort is done.
        ranked.sort_by(|&a, &b| importance[a].total_cmp(&importance[b]).then(b.cmp(&a)));
        Self { group, importance, ranked, sizes: sizes(group.channels, group.width, whole, config) }
    }

    /// The channels that go when so many stay, ascending.
    pub(super) fn removed(&self, kept: usize) -> Vec<usize> {
        let mut removed = self.ranked[..self.ranked.len().saturating_sub(kept)].to_vec();
        removed.sort_unstable();
        removed
    }

    /// The mean importance of what goes in a cut.
    fn harm(&self, from: usize, to: usize) -> f64 {
        let all = self.ranked.len();
        let gone = &self.ranked[all - from..all - to];
        gone.iter().map(|&channel| self.importance[channel]).sum::<f64>() / gone.len().max(1) as f64
    }
}

/// The sizes that a group of `width` filters per channel may have, falling: all channels, and below that multiples.
/// Bounds are those of the `whole` filters that it had at first, so that many small steps end where one large one does.
pub(super) fn sizes(channels: usize, width: usize, whole: usize, config: &GroupsConfig) -> Vec<usize> {
    let (width, mut multiple) = (width.max(1), config.multiple.max(1));
    while multiple > 1 && whole < 2 * multiple {
        multiple /= 2;
    }
    let step = multiple / greatest_common_divisor(multiple, width);
    let share = (config.keep * whole as f64).ceil() as usize;
    let least = config.minimum.max(share).max(1).div_ceil(width);
    let below = (1..=channels.saturating_sub(1) / step).rev().map(|count| count * step);
    std::iter::once(channels).chain(below.filter(|&size| size >= least)).collect()
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// All cuts that can be made, in the order in which they are.
pub(super) fn order(
    candidates: &[Candidate<'_>],
    allocation: Allocation,
    metric: Metric,
    curves: &[Curve],
) -> Vec<Cut> {
    // The next size of each, and how bad it would be to go there: what counts first, then what decides between equals.
    let mut next = vec![1; candidates.len()];
    let score = |place: usize, at: usize| -> Option<[f64; 2]> {
        let candidate = &candidates[place];
        let (from, to) = (*candidate.sizes.get(at - 1)?, *candidate.sizes.get(at)?);
        let harm = candidate.harm(from, to);
        Some(match allocation {
            Allocation::Global => [harm, 0.0],
            // The group of which the greatest share is left.
            Allocation::Uniform => [-(from as f64) / candidate.group.channels as f64, harm],
            Allocation::Sensitivity => {
                let per_channel = match metric {
                    Metric::Macs | Metric::Latency => candidate.group.macs_per_channel,
                    Metric::Parameters | Metric::Bytes => candidate.group.parameters_per_channel,
                };
                let lost = curves.iter().find(|curve| curve.group == candidate.group.name);
                let lost = lost.map_or(0.0, |curve| curve.drop_at(to) - curve.drop_at(from));
                [lost / (per_channel.max(1) as f64 * (from - to) as f64), harm]
            }
        })
    };
    let mut cuts = Vec::new();
    loop {
        let scored = (0..candidates.len()).filter_map(|place| Some((place, score(place, next[place])?)));
        let least = scored.min_by(|(_, a), (_, b)| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
        let Some((candidate, _)) = least else { return cuts };
        let sizes = &candidates[candidate].sizes;
        cuts.push(Cut { candidate, from: sizes[next[candidate] - 1], to: sizes[next[candidate]] });
        next[candidate] += 1;
    }
}

/// How many channels of each candidate are left after the first cuts.
fn kept(candidates: &[Candidate<'_>], cuts: &[Cut]) -> Vec<usize> {
    let mut kept: Vec<usize> = candidates.iter().map(|candidate| candidate.group.channels).collect();
    cuts.iter().for_each(|cut| kept[cut.candidate] = cut.to);
    kept
}

/// What a choice costs, as a share of what there was at first.
pub(super) trait Meter {
    /// For so many channels of each candidate.
    fn share(&mut self, kept: &[usize]) -> Result<f64, PruneError>;
    /// Whether the same choice always costs the same, and a smaller one never more.
    fn is_exact(&self) -> bool;
}

/// The fewest cuts that hold the limit, and the share that is left.
///
/// Where costs are exact, cuts that the limit does not need after all are taken back, the last first, so that no group
/// could keep its next larger size; where groups shall keep the same share, one cut of each at most. What is measured
/// is not that exact: cuts are added until the limit holds.
pub(super) fn choose(
    candidates: &[Candidate<'_>],
    cuts: &[Cut],
    allocation: Allocation,
    limit: f64,
    meter: &mut dyn Meter,
) -> Result<(Vec<usize>, f64), PruneError> {
    let at = |count: usize, meter: &mut dyn Meter| meter.share(&kept(candidates, &cuts[..count]));
    let whole = at(0, meter)?;
    if whole <= limit {
        return Ok((kept(candidates, &[]), whole));
    }
    let least = at(cuts.len(), meter)?;
    if least > limit {
        return Err(PruneError::Budget { limit, least });
    }
    let (mut breaks, mut holds) = (0, cuts.len());
    while holds - breaks > 1 {
        let middle = usize::midpoint(breaks, holds);
        if at(middle, meter)? <= limit { holds = middle } else { breaks = middle }
    }
    let mut left = kept(candidates, &cuts[..holds]);
    let mut share = meter.share(&left)?;
    if !meter.is_exact() {
        while share > limit && holds < cuts.len() {
            holds += 1;
            left = kept(candidates, &cuts[..holds]);
            share = meter.share(&left)?;
        }
        return Ok((left, share));
    }
    let even = allocation == Allocation::Uniform;
    let mut taken_back = vec![false; candidates.len()];
    for &Cut { candidate, from, to } in cuts[..holds].iter().rev() {
        if left[candidate] != to || (even && taken_back[candidate]) {
            continue;
        }
        left[candidate] = from;
        let with = meter.share(&left)?;
        if with <= limit {
            (share, taken_back[candidate]) = (with, true);
        } else {
            left[candidate] = to;
        }
    }
    Ok((left, share))
}

/// The channels that go when so many of each candidate stay.
pub(super) fn removal(candidates: &[Candidate<'_>], kept: &[usize]) -> Removal {
    let pairs = candidates.iter().zip(kept).filter(|(candidate, kept)| **kept < candidate.group.channels);
    pairs.map(|(candidate, &kept)| (candidate.group.name.clone(), candidate.removed(kept))).collect()
}

#[cfg(test)]
mod tests {
    use network::channels::Groups;

    use super::*;
    use crate::prune::structured::sensitivity::Point;

    fn config(multiple: usize, minimum: usize, keep: f64) -> GroupsConfig {
        GroupsConfig { exclude: Vec::new(), multiple, minimum, keep }
    }

    #[test]
    fn sizes_are_what_kernels_like_within_bounds() {
        let cases: &[(usize, usize, usize, GroupsConfig, &[usize])] = &[
            (64, 1, 64, config(16, 8, 0.1), &[64, 48, 32, 16]),
            (50, 1, 50, config(16, 8, 0.1), &[50, 48, 32, 16]),
            // Fewer than two multiples: halves, quarters, and the minimum.
            (20, 1, 20, config(16, 8, 0.1), &[20, 16, 8]),
            (10, 1, 10, config(16, 1, 0.1), &[10, 8, 4]),
            (6, 1, 6, config(16, 8, 0.1), &[6]),
            (3, 1, 3, config(1, 1, 0.0), &[3, 2, 1]),
            (100, 1, 100, config(16, 8, 0.5), &[100, 96, 80, 64]),
            // Later steps keep to the bounds of the first.
            (24, 1, 64, config(16, 8, 0.0), &[24, 16]),
            // Channels of several filters: a multiple of both.
            (16, 4, 64, config(16, 8, 0.1), &[16, 12, 8, 4]),
            (12, 3, 36, config(4, 8, 0.0), &[12, 8, 4]),
        ];
        for (channels, width, whole, config, expected) in cases {
            assert_eq!(
                sizes(*channels, *width, *whole, config),
                *expected,
                "{channels} of {width}: {config:?}"
            );
        }
    }

    /// Two groups of four channels, `a` and `b`; a channel of `a` costs more.
    fn groups() -> Groups {
        let spec = serde_json::from_value(serde_json::json!({
            "inputs": [{"name": "input", "shape": [9]}],
            "layers": [{"type": "dense", "name": "a", "units": 4}, {"type": "dense", "name": "b", "units": 4},
                {"type": "dense", "name": "c", "units": 2}]
        }))
        .unwrap();
        Groups::of(&network::Network::new(spec).unwrap())
    }

    fn candidates<'a>(groups: &'a Groups, importance: [[f64; 4]; 2]) -> Vec<Candidate<'a>> {
        let config = config(1, 1, 0.0);
        let pairs = groups.groups.iter().zip(importance);
        pairs.map(|(group, importance)| Candidate::new(group, importance.to_vec(), 4, &config)).collect()
    }

    fn names(cuts: &[Cut]) -> Vec<usize> {
        cuts.iter().map(|cut| cut.candidate).collect()
    }

    #[test]
    fn cuts_come_in_the_order_of_the_allocation() {
        let groups = groups();
        let candidates = candidates(&groups, [[4.0, 1.0, 3.0, 2.0], [0.5, 0.5, 5.0, 2.5]]);
        let order = |allocation, curves: &[Curve]| order(&candidates, allocation, Metric::Macs, curves);
        let global = order(Allocation::Global, &[]);
        assert_eq!(names(&global), [1, 1, 0, 0, 1, 0]);
        assert_eq!(global[2], Cut { candidate: 0, from: 4, to: 3 });
        assert_eq!(names(&order(Allocation::Uniform, &[])), [1, 0, 1, 0, 1, 0]);
        // `a` bears nothing and `b` bears one cut well.
        let curve = |group: &str, drops: [f64; 3]| Curve {
            group: group.to_owned(),
            channels: 4,
            metric: "accuracy".to_owned(),
            part: "validation".to_owned(),
            points: (0..3).map(|at| Point { kept: 4 - at, score: 0.0, drop: drops[at] }).collect(),
        };
        let curves = [curve("a", [0.0, 9.0, 18.0]), curve("b", [0.0, 0.1, 90.0])];
        assert_eq!(names(&order(Allocation::Sensitivity, &curves)), [1, 0, 0, 0, 1, 1]);
        // Equal channels go from the last on.
        assert_eq!(candidates[1].removed(3), [1]);
        assert_eq!(candidates[0].removed(2), [1, 3]);
        let kept = [4, 2];
        assert_eq!(removal(&candidates, &kept), [("b".to_owned(), vec![0, 1])].into());
    }

    /// Adds up weights of the channels that are left; the first measurements may be too high.
    struct Fake {
        weights: [f64; 2],
        exact: bool,
        noise: Vec<f64>,
    }

    impl Meter for Fake {
        fn share(&mut self, kept: &[usize]) -> Result<f64, PruneError> {
            let noise = self.noise.pop().unwrap_or(0.0);
            Ok(kept.iter().zip(self.weights).map(|(&kept, weight)| kept as f64 * weight).sum::<f64>() + noise)
        }

        fn is_exact(&self) -> bool {
            self.exact
        }
    }

    #[test]
    fn the_fewest_cuts_hold_the_limit_and_needless_ones_are_taken_back() {
        let groups = groups();
        let candidates = candidates(&groups, [[4.0, 1.0, 3.0, 2.0], [0.5, 0.5, 5.0, 2.5]]);
        let cuts = order(&candidates, Allocation::Global, Metric::Macs, &[]);
        let exact = |limit: f64| {
            let mut meter = Fake { weights: [0.2, 0.05], exact: true, noise: Vec::new() };
            choose(&candidates, &cuts, Allocation::Global, limit, &mut meter)
        };
        assert_eq!(exact(1.0).unwrap().0, [4, 4]);
        // Two cuts of `b` were not enough; with the one of `a` both are taken back.
        let (kept, share) = exact(0.81).unwrap();
        assert_eq!(kept, [3, 4]);
        assert!((share - 0.8).abs() < 1e-12);
        assert_eq!(exact(0.9).unwrap().0, [4, 2]);
        assert_eq!(exact(0.25).unwrap().0, [1, 1]);
        let error = exact(0.2).unwrap_err().to_string();
        assert!(
            error.starts_with("a share of 0.200 cannot be reached") && error.contains("0.250"),
            "{error}"
        );
    }

    #[test]
    fn what_is_measured_is_cut_until_a_measurement_holds() {
        let groups = groups();
        let candidates = candidates(&groups, [[4.0, 1.0, 3.0, 2.0], [0.5, 0.5, 5.0, 2.5]]);
        let cuts = order(&candidates, Allocation::Global, Metric::Latency, &[]);
        // Whole, least, three of the search, and one at the end that says that it was not enough.
        let noise = vec![0.5, 0.0, 0.0, 0.0, 0.0, 0.0];
        let mut meter = Fake { weights: [0.125, 0.125], exact: false, noise };
        let (kept, share) = choose(&candidates, &cuts, Allocation::Global, 0.76, &mut meter).unwrap();
        assert!(share <= 0.76, "{kept:?} {share}");
        assert!(kept.iter().sum::<usize>() < 6, "one cut more than without noise: {kept:?}");
    }
}
