//! How the numbers of one value are distributed, and the ranges that rules make of it.

use network::Affine;

use super::Rule;

/// Bins of a histogram. A range that is cut at a bin's edge is exact to 1/4096 of what was seen, a sixteenth of a
/// step of int8.
const BINS: usize = 4096;
/// Bins of magnitudes for the entropy, as TensorRT has them.
const MAGNITUDES: usize = 2048;
/// Levels of a byte on one side of zero, where there are numbers on both sides and where there are not.
const LEVELS: [usize; 2] = [128, 255];
/// What stands for a share of nothing, so that its logarithm is finite (as ONNX Runtime smooths).
const SMOOTH: f64 = 1e-4;
/// Sizes of a range that are tried: hundredths of what was seen.
const GRID: u32 = 100;

/// What was seen of one value.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    least: f32,
    most: f32,
    /// Numbers that are exactly zero are not in the bins: they cost nothing in any range, and after a rectifier they
    /// would outweigh everything else.
    zeros: u64,
    bins: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { least: f32::INFINITY, most: f32::NEG_INFINITY, zeros: 0, bins: Vec::new() }
    }
}

impl Histogram {
    /// Takes numbers into the range.
    pub(super) fn widen(&mut self, values: &[f32]) {
        for &value in values {
            self.least = self.least.min(value);
            self.most = self.most.max(value);
        }
    }

    /// Makes the bins once the range is known.
    pub(super) fn open(&mut self) {
        self.bins = vec![0; BINS];
    }

    pub(super) fn count(&mut self, values: &[f32]) {
        for &value in values {
            if value == 0.0 {
                self.zeros += 1;
            } else {
                let bin = self.bin(value);
                self.bins[bin] += 1;
            }
        }
    }

    fn bin(&self, value: f32) -> usize {
        let scale = BINS as f32 / (self.most - self.least).max(f32::MIN_POSITIVE);
        (((value - self.least) * scale) as usize).min(BINS - 1)
    }

    /// Whether nothing but zeros was seen, or numbers that no scale is small enough for.
    pub(crate) fn is_empty(&self) -> bool {
        let span = f64::from(self.most.max(0.0)) - f64::from(self.least.min(0.0));
        !((span / 255.0) as f32).is_normal()
    }

    /// What bytes mean by a rule.
    pub(crate) fn affine(&self, rule: Rule) -> Affine {
        let (least, most) = match rule {
            Rule::MinMax => (self.least, self.most),
            Rule::Percentile(share) => self.percentile(share),
            Rule::Entropy => self.entropy(),
            Rule::Mse => self.nearest(),
        };
        Affine::covering(least, most)
    }

    /// Moves each end to the edge of the first bin beyond which more than `100 − percentile` per cent lie.
    fn percentile(&self, percentile: f64) -> (f32, f32) {
        if percentile >= 100.0 {
            return (self.least, self.most);
        }
        let mut bins = self.bins.clone();
        bins[self.bin(0.0f32.clamp(self.least, self.most))] += self.zeros;
        let total: u64 = bins.iter().sum();
        // A little more, for 99.9 per cent of 1,000 leave 0.9999999999 outside.
        let outside = (total as f64 * (100.0 - percentile) / 100.0 + 1e-6) as u64;
        let skip = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut passed = 0;
            bins.take_while(|&&count| {
                passed += count;
                passed <= outside
            })
            .count()
        };
        let (below, above) = (skip(&mut bins.iter()), skip(&mut bins.iter().rev()));
        let step = (self.most - self.least) / BINS as f32;
        (self.least + step * below as f32, self.most - step * above as f32)
    }

    /// The middle of each bin that is not empty, and how much is in it.
    fn filled(&self) -> impl Iterator<Item = (f64, f64)> {
        let (least, step) =
            (f64::from(self.least), (f64::from(self.most) - f64::from(self.least)) / BINS as f64);
        let filled = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(move |(bin, &count)| (least + step * (bin as f64 + 0.5), count as f64))
    }

    /// The range whose rounded numbers are nearest to the numbers. Both ends shrink together first, then each alone.
    fn nearest(&self) -> (f32, f32) {
        let filled: Vec<(f64, f64)> = self.filled().collect();
        let range = |shares: [u32; 2]| {
            let end = |end: f32, share: u32| (f64::from(end) * f64::from(share) / f64::from(GRID)) as f32;
            (end(self.least.min(0.0), shares[0]), end(self.most.max(0.0), shares[1]))
        };
        let error = |shares: [u32; 2]| -> f64 {
            let (least, most) = range(shares);
            let affine = Affine::covering(least, most);
            let (scale, zero) = (f64::from(affine.scale), f64::from(affine.zero_point));
            let error = |&(value, count): &(f64, f64)| {
                let byte = ((value / scale).round_ties_even() + zero).clamp(0.0, 255.0);
                count * (value - (byte - zero) * scale).powi(2)
            };
            filled.iter().map(error).sum()
        };
        let mut best = ([GRID, GRID], error([GRID, GRID]));
        let attempt = |best: &mut ([u32; 2], f64), shares: [u32; 2]| {
            let error = error(shares);
            if error < best.1 {
                *best = (shares, error);
            }
        };
        (1..GRID).rev().for_each(|share| attempt(&mut best, [share, share]));
        if self.least < 0.0 && self.most > 0.0 {
            let [_, most] = best.0;
            (1..=GRID).rev().for_each(|least| attempt(&mut best, [least, most]));
            let [least, _] = best.0;
            (1..=GRID).rev().for_each(|most| attempt(&mut best, [least, most]));
        }
        range(best.0)
    }

    /// The threshold on the magnitude that loses least information. A byte has 128 levels on either side of zero, or
    /// 255 on the only one; a threshold has more bins below it than there are levels.
    fn entropy(&self) -> (f32, f32) {
        let greatest = f64::from(self.most.max(-self.least));
        let mut bins = vec![0.0f64; MAGNITUDES];
        for (value, count) in self.filled() {
            let bin = (value.abs() / greatest * MAGNITUDES as f64) as usize;
            bins[bin.min(MAGNITUDES - 1)] += count;
        }
        let levels = LEVELS[usize::from(self.least >= 0.0 || self.most <= 0.0)];
        let mut best = (MAGNITUDES, f64::INFINITY);
        for kept in levels..=MAGNITUDES {
            let divergence = divergence(&bins, kept, levels);
            // Of those alike the widest: it cuts least.
            if divergence <= best.1 {
                best = (kept, divergence);
            }
        }
        let threshold = (greatest * best.0 as f64 / MAGNITUDES as f64) as f32;
        (self.least.max(-threshold), self.most.min(threshold))
    }
}

/// How far the first `kept` bins, rounded to `levels`, are from themselves with all that lies beyond in the last one.
fn divergence(bins: &[f64], kept: usize, levels: usize) -> f64 {
    let (inside, outside) = bins.split_at(kept);
    let outliers: f64 = outside.iter().sum();
    let all = inside.iter().sum::<f64>() + outliers;
    let rounded_all: f64 = inside.iter().sum();
    if all == 0.0 || rounded_all == 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for level in 0..levels {
        let (first, last) = (level * kept / levels, (level + 1) * kept / levels);
        let members = &inside[first..last];
        let filled = members.iter().filter(|count| **count > 0.0).count();
        // What a level stands for is spread over those of its bins that are not empty.
        let each = members.iter().sum::<f64>() / filled.max(1) as f64 / rounded_all;
        for (index, &count) in members.iter().enumerate() {
            let count = if first + index + 1 == kept { count + outliers } else { count };
            if count > 0.0 {
                let rounded = if members[index] > 0.0 { each } else { SMOOTH };
                let share = count / all;
                sum += share * (share / rounded).ln();
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[f32]) -> Histogram {
        let mut seen = Histogram::default();
        seen.widen(values);
        seen.open();
        seen.count(values);
        seen
    }

    /// Normal numbers, by the sum of twelve uniform ones.
    fn normal(count: usize) -> Vec<f32> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut number = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count).map(|_| (0..12).map(|_| number()).sum::<f32>() - 6.0).collect()
    }

    fn error(values: &[f32], affine: Affine) -> f64 {
        let mut rounded = values.to_vec();
        super::super::round(&mut rounded, affine);
        super::super::noise(values, &rounded)
    }

    #[test]
    fn a_cut_keeps_the_share_that_it_promises() {
        // 1,000 values, one far away at either end.
        let values: Vec<f32> = (0..998).map(|index| 1000.0 + index as f32).chain([0.0, 4096.0]).collect();
        assert_eq!(seen(&values).percentile(99.9), (1000.0, 1998.0));
        assert_eq!(seen(&values).percentile(99.95), (0.0, 4096.0));
        assert_eq!(seen(&values).percentile(100.0), (0.0, 4096.0));
        // Zeros count: half of these are nothing else.
        let half: Vec<f32> = (0..1000).map(|index| if index % 2 == 0 { 0.0 } else { 4096.0 }).collect();
        assert_eq!(seen(&half).percentile(99.9), (0.0, 4096.0));
    }

    #[test]
    fn the_nearest_range_is_nearer_than_what_a_finer_search_finds() {
        let far: Vec<f32> = normal(20_000).into_iter().chain([60.0, -55.0]).collect();
        let positive: Vec<f32> = far.iter().map(|value| value.max(0.0)).collect();
        let uneven: Vec<f32> =
            far.iter().map(|value| if *value < 0.0 { 0.1 * value } else { *value }).collect();
        for values in [&far, &positive, &uneven] {
            let found = error(values, seen(values).affine(Rule::Mse));
            for rule in [Rule::MinMax, Rule::Percentile(99.9), Rule::Percentile(99.99), Rule::Entropy] {
                let other = error(values, seen(values).affine(rule));
                assert!(found <= other * 1.01, "{rule:?}: {other}, and {found} was found");
            }
            let both = |share: u32| {
                let share = share as f32 / 1000.0;
                let least = values.iter().copied().fold(0.0, f32::min);
                let most = values.iter().copied().fold(0.0, f32::max);
                error(values, Affine::covering(least * share, most * share))
            };
            let finest = (1..=1000).map(both).fold(f64::INFINITY, f64::min);
            assert!(found <= finest * 1.02, "{found}, and {finest} was possible");
        }
    }

    #[test]
    fn entropy_leaves_outliers_outside_and_the_rest_inside() {
        let far: Vec<f32> = normal(50_000).into_iter().chain([100.0, -90.0]).collect();
        let (least, most) = seen(&far).entropy();
        assert!(most < 25.0 && least > -25.0 && most > 2.5 && least < -2.5, "{least} {most}");
        // Numbers that are spread evenly have none.
        let even: Vec<f32> = (0..40_000).map(|index| index as f32 / 40_000.0).collect();
        let (least, most) = seen(&even).entropy();
        assert!(least >= 0.0 && most > 0.95, "{least} {most}");
    }

    #[test]
    fn no_rule_makes_a_range_of_nothing_and_each_bears_a_single_number() {
        for rule in [Rule::MinMax, Rule::Percentile(99.0), Rule::Entropy, Rule::Mse] {
            let zeros = seen(&[0.0; 5]);
            assert!(zeros.is_empty());
            assert_eq!(zeros.affine(rule), Affine { scale: 1.0, zero_point: 0 }, "{rule:?}");
            for value in [3.0, -3.0, 1e-30, f32::MAX] {
                let one = seen(&[value]);
                assert!(!one.is_empty());
                let affine = one.affine(rule);
                let mut back = [value];
                super::super::round(&mut back, affine);
                assert!((back[0] / value - 1.0).abs() < 0.01, "{rule:?}: {value} became {}", back[0]);
            }
        }
    }
}
