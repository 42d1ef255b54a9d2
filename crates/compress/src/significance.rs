//! Whether two models differ, or only seem to: paired tests on the answers to the same samples.
//!
//! One question is asked of every task: if both models were equally good, which of them gave which answer to a sample
//! would be a toss of a coin — how often would such tosses make a difference as large as the one that was found? For
//! classes that has a closed form, McNemar's test: of the samples that only one of the two gets right, each is a toss.
//! The exact binomial form is used whatever the counts; the χ² statistic with continuity correction (Dietterich 1998,
//! "Approximate Statistical Tests for Comparing Supervised Classification Learning Algorithms", §3.1) is what people
//! used where that was too much to compute. For errors of a regression and for labels the tosses are made: the
//! randomization test (Fisher 1935; Yeh 2000, "More accurate tests for the statistical significance of result
//! differences"), on the very metric that is told, the mean absolute error or the micro F1.

use network::{Prediction, Task};
use serde::Serialize;
use train::data::Target;
use train::evaluate::Outcome;

/// Tosses of all coins, where they are too many to go through every case.
const ROUNDS: u64 = 9_999;
/// Up to so many coins every case is gone through.
const EVERY_CASE: usize = 15;
/// Samples drawn again for an interval.
const RESAMPLES: u64 = 2_000;
/// Of the normal distribution, for 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// What one sample adds to a score, which is the sum of the parts over the sum of the wholes: right answers over
/// answers, absolute errors over samples, twice the labels found over those given and those there are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Term {
    /// What stands above the line.
    pub part: f64,
    /// What stands below it.
    pub whole: f64,
}

/// What every answer adds to the headline metric of its task. An answer of another task, which an evaluation refuses,
/// adds nothing. `labels` are the model's.
#[must_use]
pub fn terms(outcomes: &[Outcome], labels: &[String]) -> Vec<Term> {
    outcomes.iter().map(|outcome| term(outcome, labels)).collect()
}

fn term(outcome: &Outcome, labels: &[String]) -> Term {
    match (&outcome.target, &outcome.prediction) {
        (Target::Class(truth), Prediction::Class { index, .. }) => {
            Term { part: f64::from(u8::from(truth == index)), whole: 1.0 }
        }
        (Target::Labels(truth), Prediction::Labels { labels: given, .. }) => {
            let present = truth.iter().filter(|present| **present).count();
            let found =
                labels.iter().zip(truth).filter(|(label, present)| **present && given.contains(label));
            Term { part: 2.0 * found.count() as f64, whole: (present + given.len()) as f64 }
        }
        (Target::Values(truth), Prediction::Values { values }) => {
            let errors =
                truth.iter().zip(values).map(|(truth, told)| (f64::from(*told) - f64::from(*truth)).abs());
            Term { part: errors.sum::<f64>() / truth.len().max(1) as f64, whole: 1.0 }
        }
        _ => Term::default(),
    }
}

/// How a difference was tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// McNemar's test in its exact, binomial form.
    McnemarExact,
    /// The randomization test.
    Randomization,
}

/// Two models on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairTest {
    /// How the difference was tested.
    pub method: Method,
    /// How many samples both answered.
    pub samples: usize,
    /// Samples that the first answers better: that only it gets right, with fewer wrong labels, or closer to the truth.
    pub only_a: u64,
    /// Samples that the second answers better.
    pub only_b: u64,
    /// The score of the second less that of the first.
    pub difference: f64,
    /// The 95 % interval of that: for classes after Agresti & Min (2005), otherwise from samples drawn again
    /// (Efron 1979, percentiles).
    pub interval: [f64; 2],
    /// How probable a difference at least as large would be if both were equally good; two-sided.
    pub p: f64,
}

/// Compares two models whose answers to the same samples, in the same order, are `a` and `b`. Equal seeds give equal
/// results.
#[must_use]
pub fn paired(task: Task, a: &[Term], b: &[Term], seed: u64) -> PairTest {
    let samples = a.len().min(b.len());
    let better = |x: &Term, y: &Term| match task {
        Task::MultiClass | Task::Binary => x.part > y.part,
        // A label is wrong when it is given and absent, or present and not given.
        Task::MultiLabel => x.whole - x.part < y.whole - y.part,
        Task::Regression => x.part < y.part,
    };
    let count = |of: &dyn Fn(&Term, &Term) -> bool| a.iter().zip(b).filter(|(a, b)| of(a, b)).count() as u64;
    let only_a = count(&|a, b| better(a, b));
    let only_b = count(&|a, b| better(b, a));
    let difference = score(b) - score(a);
    let (method, p, interval) = match task {
        Task::MultiClass | Task::Binary => {
            (Method::McnemarExact, mcnemar(only_a, only_b), matched_proportions(only_a, only_b, samples))
        }
        _ => (Method::Randomization, randomization(a, b, seed), resampled_difference(a, b, seed)),
    };
    PairTest { method, samples, only_a, only_b, difference, interval, p }
}

/// The sum of the parts over the sum of the wholes; 0 of nothing.
#[must_use]
pub fn score(terms: &[Term]) -> f64 {
    let sum = terms.iter().fold(Term::default(), |sum, term| Term {
        part: sum.part + term.part,
        whole: sum.whole + term.whole,
    });
    ratio(sum.part, sum.whole)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// McNemar's exact test, two-sided: how probable it is that `only_a + only_b` tosses of a coin come out at least as
/// unevenly as these.
#[must_use]
pub fn mcnemar(only_a: u64, only_b: u64) -> f64 {
    let (tosses, fewer) = (only_a + only_b, only_a.min(only_b));
    // The logarithm of the probability of exactly `fewer`, and from there on down to 0.
    let chosen = |k: u64| ((tosses - k) as f64).ln() - ((k + 1) as f64).ln();
    let log = (0..fewer).map(chosen).sum::<f64>() - tosses as f64 * std::f64::consts::LN_2;
    let mut term = log.exp();
    let mut tail = 0.0;
    for k in (0..=fewer).rev() {
        tail += term;
        term *= k as f64 / (tosses - k + 1) as f64;
        if term < tail * f64::EPSILON {
            break;
        }
    }
    (2.0 * tail).min(1.0)
}

/// The interval of the difference of two accuracies on the same samples: Wald's after half a sample was added to each
/// of the four counts (Agresti & Min 2005, "Simple improved confidence intervals for comparing matched proportions").
fn matched_proportions(only_a: u64, only_b: u64, samples: usize) -> [f64; 2] {
    let (a, b, n) = (only_a as f64 + 0.5, only_b as f64 + 0.5, samples as f64 + 2.0);
    let difference = (b - a) / n;
    let error = ((a + b) - (b - a) * (b - a) / n).max(0.0).sqrt() / n;
    [(difference - Z * error).max(-1.0), (difference + Z * error).min(1.0)]
}

/// The randomization test, two-sided. Every way to swap the answers is gone through where those are few; otherwise
/// 9,999 are drawn, and the one that was found counts as one more.
fn randomization(a: &[Term], b: &[Term], seed: u64) -> f64 {
    let sum = |terms: &[Term]| {
        terms.iter().fold((0.0, 0.0), |(part, whole), term| (part + term.part, whole + term.whole))
    };
    let (of_a, of_b) = (sum(a), sum(b));
    let swaps: Vec<(f64, f64)> =
        a.iter().zip(b).filter(|(a, b)| a != b).map(|(a, b)| (b.part - a.part, b.whole - a.whole)).collect();
    let found = (ratio(of_b.0, of_b.1) - ratio(of_a.0, of_a.1)).abs();
    // Sums in another order differ in their last digits.
    let as_large = |swapped: &dyn Fn(usize) -> bool| {
        let moved = swaps.iter().enumerate().filter(|(index, _)| swapped(*index));
        let (part, whole) = moved.fold((0.0, 0.0), |sum, (_, swap)| (sum.0 + swap.0, sum.1 + swap.1));
        let difference = ratio(of_b.0 - part, of_b.1 - whole) - ratio(of_a.0 + part, of_a.1 + whole);
        difference.abs() >= found * (1.0 - 1e-9)
    };
    if swaps.len() <= EVERY_CASE {
        let cases = 1u64 << swaps.len();
        let extreme = (0..cases).filter(|case| as_large(&|index| case >> index & 1 == 1)).count();
        return extreme as f64 / cases as f64;
    }
    let extreme = (0..ROUNDS)
        .filter(|&round| {
            let words: Vec<u64> =
                (0..swaps.len().div_ceil(64) as u64).map(|word| mix(seed, round, word)).collect();
            as_large(&|index| words[index / 64] >> (index % 64) & 1 == 1)
        })
        .count();
    (extreme + 1) as f64 / (ROUNDS + 1) as f64
}

/// The 95 % interval of a score, from samples drawn again.
#[must_use]
pub fn resampled(terms: &[Term], seed: u64) -> [f64; 2] {
    percentiles(terms.len(), seed, |draw| {
        let (mut part, mut whole) = (0.0, 0.0);
        draw(&mut |index| {
            part += terms[index].part;
            whole += terms[index].whole;
        });
        ratio(part, whole)
    })
}

fn resampled_difference(a: &[Term], b: &[Term], seed: u64) -> [f64; 2] {
    percentiles(a.len().min(b.len()), seed, |draw| {
        let mut sums = [0.0; 4];
        draw(&mut |index| {
            let [of_a, of_b] = [a[index], b[index]];
            for (sum, value) in sums.iter_mut().zip([of_a.part, of_a.whole, of_b.part, of_b.whole]) {
                *sum += value;
            }
        });
        ratio(sums[2], sums[3]) - ratio(sums[0], sums[1])
    })
}

/// Where the middle 95 % of a statistic lie when it is taken of `len` samples drawn with replacement.
fn percentiles(
    len: usize,
    seed: u64,
    mut statistic: impl FnMut(&dyn Fn(&mut dyn FnMut(usize))) -> f64,
) -> [f64; 2] {
    let mut found: Vec<f64> = (0..RESAMPLES)
        .map(|round| {
            statistic(&|hear| {
                for sample in 0..len as u64 {
                    // The upper half of the product is even over the samples to one part in 2^64 / len.
                    let drawn = (u128::from(mix(!seed, round, sample)) * len as u128) >> 64;
                    hear(drawn as usize);
                }
            })
        })
        .collect();
    found.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| found[((RESAMPLES - 1) as f64 * share).round() as usize];
    [at(0.025), at(0.975)]
}

/// A draw as a function of its place (SplitMix64, Steele et al. 2014).
fn mix(seed: u64, round: u64, word: u64) -> u64 {
    let step = |state: u64| {
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    step(step(step(seed) ^ round) ^ word)
}

/// What several tests at once make of each p-value: Holm's correction (1979), so that all of them together find a
/// difference where there is none in at most 5 of 100 cases.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least: f64 = 0.0;
    for (place, &index) in order.iter().enumerate() {
        least = least.max(((p.len() - place) as f64 * p[index]).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests;
