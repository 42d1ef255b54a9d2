//! `[optimizer]`: how weights follow gradients.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Which rule moves the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent, with momentum when it is given.
    Sgd,
    /// Adam (Kingma & Ba 2015); weight decay is added to the gradient.
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    AdamW,
    /// AdaGrad (Duchi et al. 2011).
    AdaGrad,
    /// RMSProp (Tieleman & Hinton 2012).
    RmsProp,
}

impl OptimizerKind {
    /// The name as configurations write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Adam => "adam",
            Self::AdamW => "adamw",
            Self::AdaGrad => "adagrad",
            Self::RmsProp => "rmsprop",
        }
    }
}

/// The keys of `[optimizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// `sgd`, `adam`, `adamw`, `adagrad` or `rmsprop`.
    pub kind: OptimizerKind,
    /// The highest learning rate of the schedule.
    pub learning_rate: f64,
    /// `sgd` and `rmsprop`: the share of the last step that is kept, in [0, 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// `sgd`: look ahead along the momentum (Nesterov 1983).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// `adam` and `adamw`: decay of the mean of gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta1: Option<f64>,
    /// `adam` and `adamw`: decay of the mean of squared gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta2: Option<f64>,
    /// `rmsprop`: decay of the mean of squared gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// All but `sgd`: added to the root of the squared gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Decay of weights towards zero (L2; decoupled for `adamw`); biases and norms are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// The factor of the sum of absolute weights in the loss; biases and norms are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l1: Option<f64>,
    /// The largest norm of all gradients together; longer ones are scaled down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

/// `[optimizer]` with every value in its range and nothing that does not apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// The rule and its own numbers.
    pub rule: OptimizerRule,
    /// The highest learning rate of the schedule.
    pub learning_rate: f64,
    /// Decay of weights towards zero; 0 for none.
    pub weight_decay: f64,
    /// The factor of the sum of absolute weights in the loss; 0 for none.
    pub l1: f64,
    /// The largest norm of all gradients together.
    pub clip_norm: Option<f64>,
}

/// A rule and the numbers that belong to it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of OptimizerConfig")]
pub enum OptimizerRule {
    /// Stochastic gradient descent.
    Sgd { momentum: f64, nesterov: bool },
    /// Adam.
    Adam { beta1: f64, beta2: f64, epsilon: f64 },
    /// Adam with decoupled weight decay.
    AdamW { beta1: f64, beta2: f64, epsilon: f64 },
    /// AdaGrad.
    AdaGrad { epsilon: f64 },
    /// RMSProp.
    RmsProp { alpha: f64, momentum: f64, epsilon: f64 },
}

impl OptimizerConfig {
    /// The checked form.
    ///
    /// # Errors
    /// A value outside its range, or one that does not apply to the kind.
    pub fn check(&self) -> Result<Optimizer, ConfigError> {
        use OptimizerKind::{AdaGrad, Adam, AdamW, RmsProp, Sgd};
        let kind = self.kind;
        let apply = |key, given: bool, kinds: &[OptimizerKind], hint| {
            if given && !kinds.contains(&kind) {
                return Err(ConfigError::DoesNotApply { key, kind: format!("`{}`", kind.name()), hint });
            }
            Ok(())
        };
        apply(
            "optimizer.momentum",
            self.momentum.is_some(),
            &[Sgd, RmsProp],
            "it belongs to `sgd` and `rmsprop`",
        )?;
        apply("optimizer.nesterov", self.nesterov.is_some(), &[Sgd], "it belongs to `sgd`")?;
        apply("optimizer.beta1", self.beta1.is_some(), &[Adam, AdamW], "it belongs to `adam` and `adamw`")?;
        apply("optimizer.beta2", self.beta2.is_some(), &[Adam, AdamW], "it belongs to `adam` and `adamw`")?;
        apply("optimizer.alpha", self.alpha.is_some(), &[RmsProp], "it belongs to `rmsprop`")?;
        let rooted = [Adam, AdamW, AdaGrad, RmsProp];
        apply("optimizer.epsilon", self.epsilon.is_some(), &rooted, "`sgd` does not divide by a root")?;

        let share =
            |key, value: Option<f64>, default| within(key, value.unwrap_or(default), 0.0, 1.0, "in [0, 1)");
        let momentum = share("optimizer.momentum", self.momentum, 0.0)?;
        let nesterov = self.nesterov.unwrap_or(false);
        if nesterov && momentum == 0.0 {
            return Err(ConfigError::DoesNotApply {
                key: "optimizer.nesterov",
                kind: "`sgd` without momentum".to_owned(),
                hint: "give `optimizer.momentum` too",
            });
        }
        let (beta1, beta2) =
            (share("optimizer.beta1", self.beta1, 0.9)?, share("optimizer.beta2", self.beta2, 0.999)?);
        let alpha = share("optimizer.alpha", self.alpha, 0.99)?;
        let epsilon = positive("optimizer.epsilon", self.epsilon.unwrap_or(1e-8))?;
        let rule = match kind {
            Sgd => OptimizerRule::Sgd { momentum, nesterov },
            Adam => OptimizerRule::Adam { beta1, beta2, epsilon },
            AdamW => OptimizerRule::AdamW { beta1, beta2, epsilon },
            AdaGrad => OptimizerRule::AdaGrad { epsilon },
            RmsProp => OptimizerRule::RmsProp { alpha, momentum, epsilon },
        };
        let least =
            |key, value: Option<f64>| within(key, value.unwrap_or(0.0), 0.0, f64::INFINITY, "0 or more");
        Ok(Optimizer {
            rule,
            learning_rate: positive("optimizer.learning_rate", self.learning_rate)?,
            weight_decay: least("optimizer.weight_decay", self.weight_decay)?,
            l1: least("optimizer.l1", self.l1)?,
            clip_norm: self.clip_norm.map(|norm| positive("optimizer.clip_norm", norm)).transpose()?,
        })
    }
}

/// `value` when it is in `[low, high)`.
pub(super) fn within(
    key: &'static str,
    value: f64,
    low: f64,
    high: f64,
    expected: &'static str,
) -> Result<f64, ConfigError> {
    if value >= low && value < high { Ok(value) } else { Err(ConfigError::value(key, expected, value)) }
}

/// `value` when it is above 0 and finite.
pub(super) fn positive(key: &'static str, value: f64) -> Result<f64, ConfigError> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        Err(ConfigError::value(key, "a number above 0", value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Optimizer, ConfigError> {
        toml::from_str::<OptimizerConfig>(text).unwrap().check()
    }

    #[test]
    fn options_that_do_not_apply_are_errors() {
        let cases = [
            (
                "kind = 'adam'\nlearning_rate = 0.1\nmomentum = 0.9",
                "`optimizer.momentum` does not apply to `adam`; it belongs to `sgd` and `rmsprop`",
            ),
            (
                "kind = 'adamw'\nlearning_rate = 0.1\nnesterov = true",
                "`optimizer.nesterov` does not apply to `adamw`; it belongs to `sgd`",
            ),
            (
                "kind = 'sgd'\nlearning_rate = 0.1\nnesterov = true",
                "`optimizer.nesterov` does not apply to `sgd` without momentum; give `optimizer.momentum` too",
            ),
            (
                "kind = 'sgd'\nlearning_rate = 0.1\nepsilon = 1.0",
                "`optimizer.epsilon` does not apply to `sgd`; `sgd` does not divide by a root",
            ),
            (
                "kind = 'adagrad'\nlearning_rate = 0.1\nalpha = 0.5",
                "`optimizer.alpha` does not apply to `adagrad`; it belongs to `rmsprop`",
            ),
            (
                "kind = 'sgd'\nlearning_rate = 0.0",
                "`optimizer.learning_rate` must be a number above 0, but is 0",
            ),
            (
                "kind = 'sgd'\nlearning_rate = 0.1\nmomentum = 1.0",
                "`optimizer.momentum` must be in [0, 1), but is 1",
            ),
            ("kind = 'sgd'\nlearning_rate = 0.1\nl1 = nan", "`optimizer.l1` must be 0 or more, but is NaN"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
        }
        let optimizer = parse("kind = 'sgd'\nlearning_rate = 0.1\nmomentum = 0.9\nnesterov = true").unwrap();
        assert_eq!(optimizer.rule, OptimizerRule::Sgd { momentum: 0.9, nesterov: true });
    }
}
