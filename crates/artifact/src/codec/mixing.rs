//! Adaptive probabilities, and how several of them become one.
//!
//! A [`Counter`] learns how often a bit is set in one context. A [`Mixer`] weighs the logits of several
//! predictions and learns the weights from how wrong their sum was (logistic mixing, Mahoney 2005). All numbers
//! are whole, so that writing and reading learn the same on every machine.

use super::coder::{CERTAIN, Coder, PRECISION};
use super::logistic::{LIMIT, squash, stretch};

/// A probability of one, which is none that can be coded.
pub(super) const PRECISION_ONE: u32 = 1 << PRECISION;
/// A probability of one half.
pub(super) const HALF: u32 = 1 << (PRECISION - 1);

/// How often a bit is set in a context: a probability that moves less the more it has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    /// In 1/2²².
    probability: u32,
    seen: u16,
}

const FINE: u32 = 22 - PRECISION as u32;

impl Counter {
    /// A counter that expects `probability` (in 1/2¹⁶) until it knows better.
    pub(super) const fn new(probability: u32) -> Self {
        Self { probability: probability << FINE, seen: 0 }
    }

    /// The probability in 1/2¹⁶.
    pub(super) fn probability(self) -> u32 {
        (self.probability >> FINE).clamp(1, CERTAIN)
    }

    /// The logit of the probability.
    pub(super) fn logit(self) -> i32 {
        stretch(self.probability())
    }

    /// Whether it has learnt anything yet.
    pub(super) fn is_fresh(self) -> bool {
        self.seen == 0
    }

    /// Learns a bit. The first expectation is worth `prior` bits; after `limit` bits the counter begins to forget.
    pub(super) fn update(&mut self, bit: bool, prior: u16, limit: u16) {
        let target = if bit { (1i64 << 22) - 1 } else { 0 };
        let weight = i64::from(self.seen) + i64::from(prior) + 1;
        let moved = i64::from(self.probability) + (target - i64::from(self.probability)) / weight;
        self.probability = u32::try_from(moved).unwrap_or_default();
        if self.seen < limit {
            self.seen += 1;
        }
    }

    /// Codes a bit with this counter alone.
    pub(super) fn code<C: Coder>(&mut self, coder: &mut C, bit: bool) -> bool {
        let bit = coder.bit(bit, self.probability());
        self.update(bit, 1, 250);
        bit
    }
}

/// Weighs `N` predictions with the weights of one of several contexts.
#[derive(Clone, Debug)]
pub(super) struct Mixer<const N: usize> {
    /// In 1/2¹⁶.
    weights: Vec<[i32; N]>,
    inputs: [i32; N],
    context: usize,
    probability: u32,
}

/// Weights stay below 256.
const HEAVIEST: i64 = 1 << 24;

impl<const N: usize> Mixer<N> {
    /// All contexts begin with the same weights, in hundredths.
    pub(super) fn new(contexts: usize, hundredths: [i32; N]) -> Self {
        let weights = vec![hundredths.map(|weight| (weight << 16) / 100); contexts.max(1)];
        Self { weights, inputs: [0; N], context: 0, probability: HALF }
    }

    /// The logit of a set bit, of the logits `inputs` in a context.
    pub(super) fn mix(&mut self, inputs: [i32; N], context: usize) -> i32 {
        self.context = context.min(self.weights.len() - 1);
        self.inputs = inputs;
        let weights = &self.weights[self.context];
        let sum: i64 = weights.iter().zip(&inputs).map(|(&w, &x)| i64::from(w) * i64::from(x)).sum();
        let logit = (sum >> 16).clamp(i64::from(-LIMIT), i64::from(LIMIT)) as i32;
        self.probability = squash(logit);
        logit
    }

    /// Learns the bit of the last [`Mixer::mix`], by a step of the gradient of what the bit took.
    pub(super) fn update(&mut self, bit: bool, rate: i64) {
        let target = if bit { i64::from(CERTAIN) + 1 } else { 0 };
        let error = target - i64::from(self.probability);
        for (weight, input) in self.weights[self.context].iter_mut().zip(self.inputs) {
            let step = (error * i64::from(input) * rate + (1 << 21)) >> 22;
            *weight = (i64::from(*weight) + step).clamp(-HEAVIEST, HEAVIEST) as i32;
        }
    }
}

/// The logit of a share, drawn towards `expected` (in 1/2¹⁶) as if that had been seen `strength` times.
pub(super) fn share(hits: u64, trials: u64, expected: u32, strength: u64) -> i32 {
    let above = (hits << PRECISION) + u64::from(expected) * strength;
    stretch((above / (trials + strength).max(1)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::coder::Cost;

    #[test]
    fn a_counter_learns_a_share() {
        let mut counter = Counter::new(HALF);
        for index in 0..4000 {
            counter.update(index % 8 == 0, 1, 1000);
        }
        let found = f64::from(counter.probability()) / 65536.0;
        assert!((found - 0.125).abs() < 0.01, "{found}");
        (0..100_000).for_each(|_| counter.update(true, 1, 1000));
        assert!(counter.probability() > 65_400);
    }

    #[test]
    fn a_mixer_finds_out_whom_to_believe() {
        // One input knows, one lies, one says nothing.
        let mut mixer = Mixer::new(1, [0, 0, 30]);
        let mut cost = Cost::default();
        for index in 0u32..2000 {
            let bit = index.wrapping_mul(0x9e37_79b9) >> 31 == 1;
            let knows = if bit { 8192 } else { -8192 };
            let logit = mixer.mix([knows, -knows / 2, 0], 0);
            if index >= 1000 {
                cost.bit(bit, squash(logit));
            }
            mixer.update(bit, 8);
        }
        // A thousand bits for less than fifty.
        assert!(cost.units < 50 << 12, "{}", cost.units);
    }
}
