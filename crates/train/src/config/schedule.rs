//! `[schedule]`: how the learning rate moves.

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::optimizer::within;

/// The shape of the schedule after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Always the same.
    Constant,
    /// Times `gamma` every `every_epochs` epochs.
    Step,
    /// A straight line to `final_factor`.
    Linear,
    /// Half a cosine down to `final_factor`.
    Cosine,
    /// Times `gamma` every epoch, in small steps.
    Exponential,
}

impl ScheduleKind {
    fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Step => "step",
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::Exponential => "exponential",
        }
    }
}

/// The keys of `[schedule]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// `constant`, `step`, `linear`, `cosine` or `exponential`.
    pub kind: ScheduleKind,
    /// The learning rate rises in a straight line over this many first steps.
    #[serde(default)]
    pub warmup_steps: u64,
    /// `step` (0.1 unless given) and `exponential` (0.95): the factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// `step`: epochs between two drops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_epochs: Option<u64>,
    /// `linear` and `cosine`: the share of the learning rate that is left at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_factor: Option<f64>,
}

/// `[schedule]` with every value in its range and nothing that does not apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    warmup_steps: u64,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Constant,
    Step { gamma: f64, every_epochs: u64 },
    Linear { final_factor: f64 },
    Cosine { final_factor: f64 },
    Exponential { gamma: f64 },
}

impl ScheduleConfig {
    /// The checked form.
    ///
    /// # Errors
    /// A value outside its range, or one that does not apply to the kind.
    pub fn check(&self) -> Result<Schedule, ConfigError> {
        use ScheduleKind::{Constant, Cosine, Exponential, Linear, Step};
        let kind = self.kind;
        let apply = |key, given: bool, kinds: &[ScheduleKind], hint| {
            if given && !kinds.contains(&kind) {
                return Err(ConfigError::DoesNotApply { key, kind: format!("`{}`", kind.name()), hint });
            }
            Ok(())
        };
        apply(
            "schedule.gamma",
            self.gamma.is_some(),
            &[Step, Exponential],
            "it belongs to `step` and `exponential`",
        )?;
        apply("schedule.every_epochs", self.every_epochs.is_some(), &[Step], "it belongs to `step`")?;
        let ends = [Linear, Cosine];
        apply(
            "schedule.final_factor",
            self.final_factor.is_some(),
            &ends,
            "it belongs to `linear` and `cosine`",
        )?;
        let gamma = |default| {
            let value = self.gamma.unwrap_or(default);
            if value > 0.0 && value <= 1.0 {
                Ok(value)
            } else {
                Err(ConfigError::value("schedule.gamma", "in (0, 1]", value))
            }
        };
        let final_factor =
            within("schedule.final_factor", self.final_factor.unwrap_or(0.0), 0.0, 1.0, "in [0, 1)")?;
        let shape = match kind {
            Constant => Shape::Constant,
            Step => match self.every_epochs {
                Some(0) => return Err(ConfigError::value("schedule.every_epochs", "1 or more", 0)),
                Some(every_epochs) => Shape::Step { gamma: gamma(0.1)?, every_epochs },
                None => {
                    let hint = "`step` needs the number of epochs between two drops".to_owned();
                    return Err(ConfigError::Missing { key: "schedule.every_epochs", hint });
                }
            },
            Linear => Shape::Linear { final_factor },
            Cosine => Shape::Cosine { final_factor },
            Exponential => Shape::Exponential { gamma: gamma(0.95)? },
        };
        Ok(Schedule { warmup_steps: self.warmup_steps, shape })
    }
}

impl Schedule {
    /// The factor of the highest learning rate at `step` (from 0) of `total` steps with `per_epoch` in an
    /// epoch. It depends on nothing else, so there is no state to save.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "no training has 2^52 steps")]
    pub fn factor(&self, step: u64, per_epoch: u64, total: u64) -> f64 {
        if step < self.warmup_steps {
            // The first step must already move, so the line starts above zero.
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let (step, total) = (step - self.warmup_steps, total.saturating_sub(self.warmup_steps).max(1));
        let progress = (step as f64 / total as f64).min(1.0);
        let epochs = step as f64 / per_epoch.max(1) as f64;
        match self.shape {
            Shape::Constant => 1.0,
            Shape::Step { gamma, every_epochs } => gamma.powf((epochs / every_epochs as f64).floor()),
            Shape::Linear { final_factor } => 1.0 - (1.0 - final_factor) * progress,
            Shape::Cosine { final_factor } => {
                final_factor + (1.0 - final_factor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
            Shape::Exponential { gamma } => gamma.powf(epochs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(text: &str, steps: &[u64]) -> Vec<f64> {
        let schedule = toml::from_str::<ScheduleConfig>(text).unwrap().check().unwrap();
        let round = |value: f64| (value * 1e4).round() / 1e4;
        steps.iter().map(|&step| round(schedule.factor(step, 10, 100))).collect()
    }

    #[test]
    fn the_shapes_are_the_known_ones() {
        assert_eq!(factors("kind = 'constant'", &[0, 50, 200]), [1.0, 1.0, 1.0]);
        assert_eq!(
            factors("kind = 'step'\nevery_epochs = 2\ngamma = 0.5", &[0, 19, 20, 40]),
            [1.0, 1.0, 0.5, 0.25]
        );
        assert_eq!(factors("kind = 'linear'", &[0, 50, 100]), [1.0, 0.5, 0.0]);
        assert_eq!(factors("kind = 'cosine'\nfinal_factor = 0.2", &[0, 50, 100, 500]), [1.0, 0.6, 0.2, 0.2]);
        assert_eq!(factors("kind = 'exponential'\ngamma = 0.5", &[0, 10, 20]), [1.0, 0.5, 0.25]);
        assert_eq!(factors("kind = 'constant'\nwarmup_steps = 4", &[0, 1, 3, 4]), [0.25, 0.5, 1.0, 1.0]);
        assert_eq!(factors("kind = 'linear'\nwarmup_steps = 50", &[49, 50, 75, 100]), [1.0, 1.0, 0.5, 0.0]);
    }

    #[test]
    fn options_that_do_not_apply_are_errors() {
        let cases = [
            (
                "kind = 'cosine'\ngamma = 0.5",
                "`schedule.gamma` does not apply to `cosine`; it belongs to `step` and `exponential`",
            ),
            (
                "kind = 'step'",
                "`schedule.every_epochs` is missing; `step` needs the number of epochs between two drops",
            ),
            ("kind = 'step'\nevery_epochs = 0", "`schedule.every_epochs` must be 1 or more, but is 0"),
            (
                "kind = 'constant'\nfinal_factor = 0.1",
                "`schedule.final_factor` does not apply to `constant`; it belongs to `linear` and `cosine`",
            ),
        ];
        for (text, message) in cases {
            let config = toml::from_str::<ScheduleConfig>(text).unwrap();
            assert_eq!(config.check().unwrap_err().to_string(), message, "{text}");
        }
    }
}
