//! Weights that are zero and stay zero: magnitude pruning, step by step or at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use burn::tensor::{Tensor, TensorData};
use network::Weights;

use super::{OnDevice, lock};
use crate::fit::FitError;
use crate::fit::guidance::Constraint;

/// Which weights are zero and stay zero, by the key of the parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// `true` where a weight stays zero.
    zeros: BTreeMap<String, Vec<bool>>,
}

impl Mask {
    /// The zeros that weights have already: of every parameter in `keys`, those that are exactly 0.
    #[must_use]
    pub fn of(weights: &Weights, keys: &BTreeSet<String>) -> Self {
        let values = keys.iter().filter_map(|key| Some((key, weights.get(key)?.as_f32()?)));
        let zeros = values
            .map(|(key, values)| (key.clone(), values.iter().map(|&value| value == 0.0).collect()))
            .collect();
        Self { zeros }
    }

    /// The zeros that a ranking asks for at its end.
    #[must_use]
    pub fn smallest(weights: &Weights, ranking: &Ranking) -> Self {
        pruned(weights, ranking, &|last| last)
    }

    /// The weights with these zeros.
    #[must_use]
    pub fn applied(&self, weights: &Weights) -> Weights {
        let mut weights = weights.clone();
        for (key, zeros) in &self.zeros {
            let Some(values) = weights.get(key).and_then(network::Tensor::as_f32) else { continue };
            let zeroed = |(&value, &zero): (&f32, &bool)| if zero { 0.0 } else { value };
            let values: Vec<f32> = values.iter().zip(zeros).map(zeroed).collect();
            let shape = weights.get(key).map(|tensor| tensor.shape().to_vec()).unwrap_or_default();
            if let Ok(tensor) = network::Tensor::from_f32(shape, values) {
                weights.insert(key.clone(), tensor);
            }
        }
        weights
    }

    /// How many weights are zero, and how many there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let zeros = self.zeros.values().flatten();
        (zeros.clone().filter(|&&zero| zero).count(), zeros.count())
    }
}

/// How sparsity grows over the steps (Zhu and Gupta 2017, equation 1):
/// `s = final + (initial − final) · (1 − (step − start) / (end − start))³`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PruningSchedule {
    /// The share of zeros at `start`, in [0, 1).
    pub initial: f64,
    /// The step after which weights are first made zero.
    pub start: u64,
    /// The step after which the final sparsity is there; with `end` equal to `start` it comes at once.
    pub end: u64,
    /// Steps between two prunings; above 0.
    pub every: u64,
}

impl PruningSchedule {
    /// Everything before the first step.
    #[must_use]
    pub fn at_once() -> Self {
        Self { initial: 0.0, start: 0, end: 0, every: 1 }
    }

    /// Whether weights are made zero when so many steps are done.
    #[must_use]
    pub fn is_due(&self, step: u64) -> bool {
        step == self.end
            || step >= self.start && step < self.end && (step - self.start).is_multiple_of(self.every.max(1))
    }

    /// The share of zeros when so many steps are done, on the way to `last`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "no training has 2^52 steps")]
    pub fn sparsity(&self, step: u64, last: f64) -> f64 {
        if step >= self.end {
            return last;
        }
        let done = step.saturating_sub(self.start) as f64 / (self.end - self.start).max(1) as f64;
        last + (self.initial.min(last) - last) * (1.0 - done).powi(3)
    }
}

/// Which weights go first.
#[derive(Clone, Debug, PartialEq)]
pub enum Ranking {
    /// The smallest of each parameter, each down to its own share of zeros, by key.
    Each(BTreeMap<String, f64>),
    /// The smallest of all these parameters together, down to one share.
    Together(BTreeSet<String>, f64),
    /// All together, each weight measured by `w² / Σ v²` over the weights of its parameter that are not smaller
    /// (LAMP, Lee et al. 2021): no layer is emptied while others are full.
    Lamp(BTreeSet<String>, f64),
}

impl Ranking {
    fn keys(&self) -> Vec<&String> {
        match self {
            Self::Each(targets) => targets.keys().collect(),
            Self::Together(keys, _) | Self::Lamp(keys, _) => keys.iter().collect(),
        }
    }
}

/// Makes the smallest weights zero, on a schedule, and holds every zero.
#[derive(Debug)]
pub struct Sparsify {
    plan: Option<(PruningSchedule, Ranking)>,
    kept: BTreeSet<String>,
    state: Mutex<State>,
    /// 1 where a weight may be anything, 0 where it is zero.
    factors: OnDevice<Tensor<1>>,
}

#[derive(Debug, Default)]
struct State {
    mask: Mask,
    settled: bool,
}

impl Sparsify {
    /// Prunes on a schedule. Weights that are zero from the beginning stay so and count.
    #[must_use]
    pub fn new(schedule: PruningSchedule, ranking: Ranking) -> Self {
        let kept = ranking.keys().into_iter().cloned().collect();
        let (state, factors) = (Mutex::default(), OnDevice::default());
        Self { plan: Some((schedule, ranking)), kept, state, factors }
    }

    /// Holds the zeros that there are, and makes no others.
    #[must_use]
    pub fn keep(mask: Mask) -> Self {
        let kept = mask.zeros.keys().cloned().collect();
        let state = Mutex::new(State { mask, settled: true });
        Self { plan: None, kept, state, factors: OnDevice::default() }
    }

    /// The mask as it stands.
    #[must_use]
    pub fn mask(&self) -> Mask {
        lock(&self.state).mask.clone()
    }
}

impl Constraint for Sparsify {
    fn advance(&self, step: u64, weights: &dyn Fn() -> Result<Weights, FitError>) -> Result<bool, FitError> {
        let Some((schedule, ranking)) = &self.plan else { return Ok(false) };
        if !schedule.is_due(step) && step > 0 {
            return Ok(false);
        }
        let weights = weights()?;
        let mask = match schedule.is_due(step) {
            true => pruned(&weights, ranking, &|last| schedule.sparsity(step, last)),
            false => Mask::of(&weights, &self.kept),
        };
        *lock(&self.state) = State { mask, settled: step >= schedule.end };
        self.factors.clear();
        Ok(true)
    }

    fn holds(&self, key: &str) -> bool {
        self.kept.contains(key)
    }

    fn hold(&self, key: &str, values: Tensor<1>) -> Tensor<1> {
        let device = values.device();
        let count = values.dims()[0];
        let factors = self.factors.get(key, &device, |device| {
            let state = lock(&self.state);
            let zeros = state.mask.zeros.get(key).filter(|zeros| zeros.len() == count);
            let factor = |&zero: &bool| if zero { 0.0f32 } else { 1.0 };
            let factors: Vec<f32> =
                zeros.map_or_else(|| vec![1.0; count], |zeros| zeros.iter().map(factor).collect());
            Tensor::from_data(TensorData::new(factors, [count]), device)
        });
        // Adding 0 makes a negative zero a positive one.
        values * factors + 0.0
    }

    fn gradient(&self, key: &str, gradient: Tensor<1>) -> Tensor<1> {
        self.hold(key, gradient)
    }

    fn is_settled(&self) -> bool {
        lock(&self.state).settled
    }
}

/// The mask that leaves the greatest weights; `share` gives the share of zeros now for the one at the end.
fn pruned(weights: &Weights, ranking: &Ranking, share: &dyn Fn(f64) -> f64) -> Mask {
    let values = |key: &String| weights.get(key).and_then(network::Tensor::as_f32).unwrap_or_default();
    let mut mask = Mask::default();
    match ranking {
        Ranking::Each(targets) => {
            for (key, &last) in targets {
                let values = values(key);
                let scores = values.iter().map(|value| f64::from(value.abs())).collect();
                let mut zeros = smallest(&[scores], share(last));
                mask.zeros.insert(key.clone(), zeros.remove(0));
            }
        }
        Ranking::Together(keys, last) | Ranking::Lamp(keys, last) => {
            let score = |key: &String| match ranking {
                Ranking::Lamp(..) => lamp(values(key)),
                _ => values(key).iter().map(|value| f64::from(value.abs())).collect(),
            };
            let scores: Vec<Vec<f64>> = keys.iter().map(score).collect();
            mask.zeros = keys.iter().cloned().zip(smallest(&scores, share(*last))).collect();
        }
    }
    mask
}

/// Marks the smallest scores of all lists together, this share of them; of equal ones the first. Scores of 0 are
/// marked in any case: a weight that is zero stays so.
fn smallest(scores: &[Vec<f64>], share: f64) -> Vec<Vec<bool>> {
    let mut order: Vec<(f64, usize, usize)> = Vec::new();
    for (list, scores) in scores.iter().enumerate() {
        order.extend(scores.iter().enumerate().map(|(index, &score)| (score, list, index)));
    }
    let count = ((order.len() as f64 * share).round() as usize).min(order.len());
    let zeros = order.iter().filter(|(score, _, _)| *score == 0.0).count();
    let count = count.max(zeros);
    if count > 0 && count < order.len() {
        let compare = |a: &(f64, usize, usize), b: &(f64, usize, usize)| {
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
        };
        order.select_nth_unstable_by(count - 1, compare);
    }
    let mut marks: Vec<Vec<bool>> = scores.iter().map(|scores| vec![false; scores.len()]).collect();
    for &(_, list, index) in &order[..count] {
        marks[list][index] = true;
    }
    marks
}

/// Lee et al. 2021, equation 1.
fn lamp(values: &[f32]) -> Vec<f64> {
    let square = |index: usize| f64::from(values[index]).powi(2);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()).then(b.cmp(&a)));
    let mut scores = vec![0.0; values.len()];
    let mut sum = 0.0;
    for index in order {
        sum += square(index);
        scores[index] = if sum > 0.0 { square(index) / sum } else { 0.0 };
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equation 1 of the paper at its ends and in between: of 0 → 0.875 over 100 steps, a half is 1 − (1/2)³.
    #[test]
    fn sparsity_follows_the_cubic_schedule() {
        let schedule = PruningSchedule { initial: 0.0, start: 100, end: 200, every: 25 };
        let at = |step| schedule.sparsity(step, 0.8);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(at(100), 0.0);
        close(at(125), 0.8 * (1.0 - 0.75f64.powi(3)));
        close(at(150), 0.8 * 0.875);
        close(at(200), 0.8);
        close(at(900), 0.8);
        let from = PruningSchedule { initial: 0.5, ..schedule };
        close(from.sparsity(150, 0.9), 0.9 - 0.4 * 0.125);
        let due: Vec<u64> = (0..=300).filter(|&step| schedule.is_due(step)).collect();
        assert_eq!(due, [100, 125, 150, 175, 200]);
        let uneven = PruningSchedule { every: 40, ..schedule };
        assert_eq!((0..=300).filter(|&step| uneven.is_due(step)).collect::<Vec<_>>(), [100, 140, 180, 200]);
        assert_eq!((0..9).filter(|&step| PruningSchedule::at_once().is_due(step)).collect::<Vec<_>>(), [0]);
    }

    fn weights(pairs: &[(&str, &[f32])]) -> Weights {
        let tensor = |values: &[f32]| network::Tensor::from_f32(vec![values.len()], values.to_vec()).unwrap();
        pairs.iter().map(|(key, values)| ((*key).to_owned(), tensor(values))).collect()
    }

    #[test]
    fn the_smallest_weights_go_first() {
        let weights = weights(&[("a", &[0.1, -0.9, 0.2, 0.0]), ("b", &[-2.0, 3.0, 1.0, 0.3])]);
        let keys: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
        let each = [("a".to_owned(), 0.5), ("b".to_owned(), 0.25)].into();
        let mask = |ranking: Ranking| {
            let mask = pruned(&weights, &ranking, &|last| last);
            [mask.zeros["a"].clone(), mask.zeros["b"].clone()]
        };
        let (x, o) = (true, false);
        assert_eq!(mask(Ranking::Each(each)), [[x, o, o, x], [o, o, o, x]]);
        assert_eq!(mask(Ranking::Together(keys.clone(), 0.5)), [[x, o, x, x], [o, o, o, x]]);
        // What is zero stays zero, even when fewer are asked for.
        assert_eq!(mask(Ranking::Together(keys.clone(), 0.0)), [[o, o, o, x], [o, o, o, o]]);
        // By LAMP the greatest weight of each parameter counts 1 and goes last.
        let lamp = mask(Ranking::Lamp(keys, 0.75));
        assert_eq!(lamp, [[x, o, x, x], [x, o, x, x]]);
    }

    #[test]
    fn lamp_is_the_share_of_what_is_not_smaller() {
        let scores = lamp(&[1.0, -2.0, 3.0]);
        let expected = [1.0 / 14.0, 4.0 / 13.0, 1.0];
        assert!(scores.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{scores:?}");
    }
}
