//! Early stopping: which epoch was best, and when to give up.

use serde::{Deserialize, Serialize};

use super::EpochRecord;
use crate::config::{EarlyStoppingConfig, Metric};

/// The rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopping {
    metric: Metric,
    patience: usize,
    min_delta: f64,
}

/// Where the rule stands; part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoppingState {
    /// The best epoch so far, from 1, and what it reached.
    pub best: Option<Best>,
    /// Epochs since then.
    pub stale: usize,
}

/// An epoch and the value it reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// From 1.
    pub epoch: usize,
    /// The value of the watched metric, as the bits of a 64-bit float: text could round it.
    #[serde(with = "super::history::bits")]
    pub value: f64,
}

impl From<&EarlyStoppingConfig> for Stopping {
    fn from(config: &EarlyStoppingConfig) -> Self {
        Self { metric: config.metric, patience: config.patience, min_delta: config.min_delta }
    }
}

impl Stopping {
    /// Takes note of an epoch; true when it is the best so far.
    pub(super) fn improved(&self, state: &mut StoppingState, record: &EpochRecord) -> bool {
        let value = match self.metric {
            Metric::Loss => record.valid_loss,
            _ => record.valid_score,
        };
        let value = value.unwrap_or(f64::NAN);
        let better = match state.best {
            None => !value.is_nan(),
            Some(best) if self.metric.higher_is_better() => value > best.value + self.min_delta,
            Some(best) => value < best.value - self.min_delta,
        };
        if better {
            *state = StoppingState { best: Some(Best { epoch: record.epoch, value }), stale: 0 };
        } else {
            state.stale += 1;
        }
        better
    }

    /// Whether patience is at its end.
    pub(super) fn is_over(&self, state: &StoppingState) -> bool {
        state.stale >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(metric: Metric, min_delta: f64, values: &[f64]) -> (Option<usize>, usize) {
        let rule = Stopping { metric, patience: 2, min_delta };
        let mut state = StoppingState::default();
        for (index, &value) in values.iter().enumerate() {
            let record = EpochRecord {
                epoch: index + 1,
                valid_loss: Some(value),
                valid_score: Some(value),
                ..EpochRecord::default()
            };
            rule.improved(&mut state, &record);
            if rule.is_over(&state) {
                return (state.best.map(|best| best.epoch), index + 1);
            }
        }
        (state.best.map(|best| best.epoch), values.len())
    }

    #[test]
    fn the_best_epoch_is_remembered_and_patience_ends() {
        assert_eq!(run(Metric::Loss, 0.0, &[3.0, 2.0, 2.5, 2.4, 1.0]), (Some(2), 4));
        assert_eq!(run(Metric::Accuracy, 0.0, &[0.1, 0.3, 0.2, 0.4, 0.4, 0.4]), (Some(4), 6));
        assert_eq!(run(Metric::Loss, 0.5, &[3.0, 2.8, 2.6, 2.4]), (Some(1), 3));
        // No number is no improvement.
        assert_eq!(run(Metric::Loss, 0.0, &[f64::NAN, f64::NAN, 1.0]), (None, 2));
    }
}
