//! The training configuration: what a person writes ([`TrainConfig`]) and what is checked out of it.
//!
//! The tables below only say which keys exist. An option that does not apply to the chosen kind (momentum
//! with Adam) is found when the typed forms are made, [`Optimizer`] and [`Schedule`], and is an error that
//! names the key: a value that a person wrote is never ignored.

mod defaults;
mod network;
mod optimizer;
mod schedule;
mod settings;

use serde::{Deserialize, Serialize};

pub use self::defaults::{defaults, optimizer_preset};
pub use self::network::{NetworkConfig, NetworkConfigError, check_outputs};
pub use self::optimizer::{Optimizer, OptimizerConfig, OptimizerKind, OptimizerRule};
pub use self::schedule::{Schedule, ScheduleConfig, ScheduleKind};
pub use self::settings::{
    AugmentConfig, CheckpointConfig, ClassWeights, EarlyStoppingConfig, FitConfig, Metric,
};
use crate::data::DataConfig;

/// The only version of the format so far.
pub const CONFIG_VERSION: u32 = 1;

/// A whole training configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// The name under which the model is published, and from which runs are named.
    pub name: String,
    /// One sentence for the model card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A package whose weights are the starting point: `name@version` or `name@alias`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Layers whose parameters stay as `init` gives them; `conv*` names every layer that begins with `conv`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// What is learned from.
    pub data: DataConfig,
    /// What is trained.
    #[serde(default)]
    pub network: NetworkConfig,
    /// How weights follow gradients.
    pub optimizer: OptimizerConfig,
    /// How the learning rate moves.
    pub schedule: ScheduleConfig,
    /// How long, in what portions, and what is watched.
    pub train: FitConfig,
}

/// A configuration that says something impossible.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An option that belongs to other kinds.
    #[error("`{key}` does not apply to {kind}; {hint}")]
    DoesNotApply {
        /// The dotted key.
        key: &'static str,
        /// What was chosen.
        kind: String,
        /// Where the option would apply.
        hint: &'static str,
    },
    /// A value outside its range.
    #[error("`{key}` must be {expected}, but is {found}")]
    Value {
        /// The dotted key.
        key: &'static str,
        /// What would be right.
        expected: String,
        /// What was written.
        found: String,
    },
    /// A value that is needed and not there.
    #[error("`{key}` is missing; {hint}")]
    Missing {
        /// The dotted key.
        key: &'static str,
        /// What to write.
        hint: String,
    },
}

impl ConfigError {
    /// The dotted key that is wrong; its origin is where a person looks first.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::DoesNotApply { key, .. } | Self::Value { key, .. } | Self::Missing { key, .. } => key,
        }
    }

    fn value(key: &'static str, expected: impl Into<String>, found: impl std::fmt::Display) -> Self {
        Self::Value { key, expected: expected.into(), found: found.to_string() }
    }
}

/// The parts of a configuration whose values cannot be wrong any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// How weights follow gradients.
    pub optimizer: Optimizer,
    /// How the learning rate moves.
    pub schedule: Schedule,
}

impl TrainConfig {
    /// Checks everything that can be checked without the data.
    ///
    /// # Errors
    /// The first key whose value is impossible or does not apply.
    pub fn check(&self) -> Result<Checked, ConfigError> {
        if self.version != CONFIG_VERSION {
            return Err(ConfigError::value("version", CONFIG_VERSION.to_string(), self.version));
        }
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        let sound = self.name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && self.name.chars().all(letters)
            && self.name.len() <= 64;
        if !sound {
            let expected = "1 to 64 of a-z, 0-9, `-`, `_` and `.`, the first a letter or digit";
            return Err(ConfigError::value("name", expected, format!("`{}`", self.name)));
        }
        if !self.freeze.is_empty() && self.init.is_none() {
            return Err(ConfigError::DoesNotApply {
                key: "freeze",
                kind: "a training without `init`".to_owned(),
                hint: "only weights that `init` loads can be kept as they are",
            });
        }
        self.network.check()?;
        self.train.check()?;
        Ok(Checked { optimizer: self.optimizer.check()?, schedule: self.schedule.check()? })
    }
}
