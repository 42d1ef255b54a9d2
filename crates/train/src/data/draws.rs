//! Random draws as pure functions of (seed, purpose, epoch, sample).
//!
//! There is no generator state to save or to share: every decision opens its own ChaCha8 stream, so the
//! number of workers and the point at which a run was resumed change nothing. Bounded numbers and shuffles
//! are written out here because the results must stay the same when a dependency changes its algorithms.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is drawn for; streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The order of samples within an epoch.
    Order = 1,
    /// The shift of one sample in one epoch.
    Shift = 2,
    /// Which samples are test data.
    TestSplit = 3,
    /// Which samples of the training split are for validation.
    ValidationSplit = 4,
    /// Data that the project makes.
    Generate = 5,
    /// Which samples of a split are looked at, where not all are.
    Sample = 6,
    /// The maps from a student's layers to a teacher's.
    Regressor = 7,
}

/// The stream of one decision.
pub(crate) fn stream(seed: u64, purpose: Purpose, epoch: u64, sample: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (chunk, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, sample]) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A number below `bound`, each equally likely; 0 when `bound` is 0.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    if bound < 2 {
        return 0;
    }
    // Numbers under `2^64 mod bound` would favour small results: they are drawn again.
    let rejected = bound.wrapping_neg() % bound;
    loop {
        let draw = rng.next_u64();
        if draw >= rejected {
            return draw % bound;
        }
    }
}

/// A number in `[0, 1)` with 53 random bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A draw from the normal distribution with mean 0 and deviation 1 (Box–Muller).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

/// Fisher–Yates.
pub(crate) fn shuffle<T>(values: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..values.len()).rev() {
        values.swap(last, below(rng, last as u64 + 1) as usize);
    }
}

/// The first weights of a map from `from` channels to `to`, `[to, from]`: normal, so that values keep their size.
pub(crate) fn regressor_weights(seed: u64, index: u64, from: usize, to: usize) -> Vec<f32> {
    let mut rng = stream(seed, Purpose::Regressor, index, 0);
    let size = 1.0 / (from.max(1) as f64).sqrt();
    (0..from * to).map(|_| (normal(&mut rng) * size) as f32).collect()
}

/// The order in which an epoch visits `len` samples: a permutation of `0..len`.
#[must_use]
pub fn order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    shuffle(&mut order, &mut stream(seed, Purpose::Order, epoch, 0));
    order
}

/// `count` of the given indices, or all where there are fewer, each equally likely; in ascending order.
#[must_use]
pub fn draw(indices: &[usize], count: usize, seed: u64) -> Vec<usize> {
    let mut drawn = indices.to_vec();
    shuffle(&mut drawn, &mut stream(seed, Purpose::Sample, 0, 0));
    drawn.truncate(count);
    drawn.sort_unstable();
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_permutations_that_stay_the_same() {
        let mut sorted = order(100, 7, 3);
        assert_eq!(sorted, order(100, 7, 3));
        assert_ne!(sorted, order(100, 7, 4));
        assert_ne!(sorted, order(100, 8, 3));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        // Pinned: a run that is resumed with a newer build must see the same order.
        assert_eq!(order(8, 1, 1), [4, 1, 3, 7, 5, 0, 6, 2]);
    }

    #[test]
    fn samples_are_drawn_without_repeating_any() {
        let indices: Vec<usize> = (0..50).map(|index| 3 * index).collect();
        let drawn = draw(&indices, 20, 1);
        assert!(drawn.len() == 20 && drawn.is_sorted_by(|a, b| a < b), "{drawn:?}");
        assert!(drawn.iter().all(|index| indices.contains(index)));
        assert_eq!(drawn, draw(&indices, 20, 1));
        assert_ne!(drawn, draw(&indices, 20, 2));
        assert_eq!(draw(&indices, 99, 1), indices);
    }

    #[test]
    fn bounded_draws_are_even_and_normal_draws_normal() {
        let mut rng = stream(1, Purpose::Generate, 0, 0);
        let mut counts = [0; 6];
        for _ in 0..60_000 {
            counts[below(&mut rng, 6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        let draws: Vec<f64> = (0..40_000).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / 40_000.0;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 40_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
