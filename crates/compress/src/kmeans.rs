//! k-means of numbers on a line: groups are intervals, so one sort does for all rounds.

use serde::{Deserialize, Serialize};

/// Where centroids begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At equal distances from the least value to the greatest: the few large weights, which matter most, get
    /// centroids of their own (Han, Mao and Dally 2016, section 3.2).
    #[default]
    Linear,
    /// Drawn among the values, those far from the others more likely (k-means++, Arthur and Vassilvitskii 2007).
    PlusPlus,
}

/// Replaces every value by the centroid of its group, of which there are `count`, or fewer where there are fewer
/// values. Zeros are a group of their own, whose centroid is exactly 0; no other value joins it. Lloyd's rounds end
/// when nothing moves, or after `rounds`. Values must be finite.
#[must_use]
pub(crate) fn kmeans(values: &[f32], count: usize, start: Start, seed: u64, rounds: usize) -> Vec<f32> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|&value| value != 0.0).collect();
    let groups = count - usize::from(sorted.len() < values.len()).min(count);
    sorted.sort_by(f32::total_cmp);
    let mut distinct = sorted.clone();
    distinct.dedup();
    let centroids = if distinct.len() <= groups {
        distinct
    } else if groups == 0 {
        // There is room for the zeros alone, and what is not zero must be something.
        return vec![0.0; values.len()];
    } else {
        Line::new(&sorted).centroids(&distinct, groups, start, seed, rounds)
    };
    let borders = borders(&centroids);
    let nearest = |&value: &f32| {
        if value == 0.0 {
            return 0.0;
        }
        centroids[borders.partition_point(|&border| border < f64::from(value))]
    };
    values.iter().map(nearest).collect()
}

/// Half-way between neighbours.
fn borders(centroids: &[f32]) -> Vec<f64> {
    centroids.windows(2).map(|pair| (f64::from(pair[0]) + f64::from(pair[1])) / 2.0).collect()
}

/// Sorted values with their sums from the beginning.
struct Line<'a> {
    sorted: &'a [f32],
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl<'a> Line<'a> {
    fn new(sorted: &'a [f32]) -> Self {
        let running = |of: fn(f64) -> f64| {
            let mut sum = 0.0;
            let next = |&value: &f32| {
                sum += of(f64::from(value));
                sum
            };
            std::iter::once(0.0).chain(sorted.iter().map(next)).collect::<Vec<f64>>()
        };
        Self { sorted, sums: running(|value| value), squares: running(|value| value * value) }
    }

    fn mean(&self, from: usize, to: usize) -> f64 {
        (self.sums[to] - self.sums[from]) / (to - from).max(1) as f64
    }

    /// The sum of squared distances to the mean.
    fn spread(&self, from: usize, to: usize) -> f64 {
        let sum = self.sums[to] - self.sums[from];
        self.squares[to] - self.squares[from] - sum * sum / (to - from).max(1) as f64
    }

    fn centroids(&self, distinct: &[f32], groups: usize, start: Start, seed: u64, rounds: usize) -> Vec<f32> {
        let mut centroids = match start {
            Start::Linear => linear(distinct, groups),
            Start::PlusPlus => self.plus_plus(groups, seed),
        };
        let mut ends = Vec::new();
        for _ in 0..rounds {
            let before = std::mem::replace(&mut ends, self.ends(&centroids));
            if before == ends {
                break;
            }
            self.fill_empty(&mut ends);
            centroids = self.means(&ends);
        }
        let mut centroids: Vec<f32> = centroids.into_iter().map(|centroid| centroid as f32).collect();
        centroids.dedup();
        centroids
    }

    /// Where each group ends.
    fn ends(&self, centroids: &[f64]) -> Vec<usize> {
        let border = |pair: &[f64]| (pair[0] + pair[1]) / 2.0;
        let end = |pair: &[f64]| self.sorted.partition_point(|&value| f64::from(value) <= border(pair));
        centroids.windows(2).map(end).chain([self.sorted.len()]).collect()
    }

    fn means(&self, ends: &[usize]) -> Vec<f64> {
        let starts = std::iter::once(&0).chain(ends);
        starts.zip(ends).map(|(&from, &to)| self.mean(from, to)).collect()
    }

    /// A group that nobody is in takes half of the group that is spread most.
    fn fill_empty(&self, ends: &mut Vec<usize>) {
        let wanted = ends.len();
        ends.dedup();
        if ends.first() == Some(&0) {
            ends.remove(0);
        }
        while ends.len() < wanted {
            let starts: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).collect();
            let spreads = starts.iter().zip(&*ends).map(|(&from, &to)| self.spread(from, to));
            let widest = spreads.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
            let Some((widest, _)) = widest else { return };
            let (from, to) = (starts[widest], ends[widest]);
            let mean = self.mean(from, to);
            let half = from + self.sorted[from..to].partition_point(|&value| f64::from(value) <= mean);
            if half <= from || half >= to {
                return;
            }
            ends.insert(widest, half);
        }
    }

    fn plus_plus(&self, groups: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let at = |share: f64| ((self.sorted.len() as f64 * share) as usize).min(self.sorted.len() - 1);
        let mut chosen = vec![f64::from(self.sorted[at(uniform(&mut state))])];
        let mut distances = vec![f64::INFINITY; self.sorted.len()];
        while chosen.len() < groups {
            let last = chosen[chosen.len() - 1];
            let mut total = 0.0;
            for (distance, &value) in distances.iter_mut().zip(self.sorted) {
                *distance = distance.min((f64::from(value) - last).powi(2));
                total += *distance;
            }
            let mut left = total * uniform(&mut state);
            let place = distances.iter().position(|distance| {
                left -= distance;
                left < 0.0
            });
            chosen.push(f64::from(self.sorted[place.unwrap_or(self.sorted.len() - 1)]));
        }
        chosen.sort_by(f64::total_cmp);
        chosen
    }
}

fn linear(distinct: &[f32], groups: usize) -> Vec<f64> {
    let (least, most) = (f64::from(distinct[0]), f64::from(distinct[distinct.len() - 1]));
    let step = (most - least) / (groups.max(2) - 1) as f64;
    (0..groups).map(|group| least + step * group as f64).collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014): a number in [0, 1), a function of the seed and of how many were drawn.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distinct(values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        values.sort_by(f32::total_cmp);
        values.dedup();
        values
    }

    #[test]
    fn groups_are_the_obvious_ones() {
        let values = [0.9, 1.1, -2.0, 0.0, -2.2, 1.0, -0.0, 5.0];
        for start in [Start::Linear, Start::PlusPlus] {
            let grouped = kmeans(&values, 4, start, 1, 100);
            let expected = [1.0, 1.0, -2.1, 0.0, -2.1, 1.0, 0.0, 5.0];
            let close = grouped.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(close, "{start:?}: {grouped:?}");
        }
        assert_eq!(kmeans(&values, 100, Start::Linear, 1, 100), values);
    }

    proptest! {
        #[test]
        fn there_are_as_many_values_as_asked_for_and_zeros_stay(
            values in proptest::collection::vec(prop_oneof![1 => Just(0.0f32), 3 => -4.0f32..4.0], 1..200),
            count in 2usize..20,
            plus_plus: bool,
            seed: u64,
        ) {
            let start = if plus_plus { Start::PlusPlus } else { Start::Linear };
            let grouped = kmeans(&values, count, start, seed, 50);
            prop_assert_eq!(&grouped, &kmeans(&values, count, start, seed, 50));
            let (before, after) = (distinct(&values), distinct(&grouped));
            prop_assert_eq!(after.len(), before.len().min(count), "{:?} of {:?}", after, before);
            for (value, grouped) in values.iter().zip(&grouped) {
                prop_assert_eq!(*value == 0.0, *grouped == 0.0);
                // Nobody is nearer to another centroid that is not the zeros'.
                let distance = (value - grouped).abs();
                let nearest = after.iter().filter(|&&c| c != 0.0 || *value == 0.0);
                let nearest = nearest.map(|centroid| (value - centroid).abs()).fold(f32::INFINITY, f32::min);
                prop_assert!(distance <= nearest + 1e-5);
            }
        }
    }
}
