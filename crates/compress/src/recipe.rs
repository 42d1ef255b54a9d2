//! Several methods one after the other, as a file says: what a search found out, or a person knows, done again.

use predict::Parts;
use serde::{Deserialize, Serialize};
use train::data::DataSet;
use train::fit::Finish;

use crate::cluster::{ClusterConfig, ClusterError, cluster};
use crate::config::{CONFIG_VERSION, GateConfig};
use crate::finetune::FinetuneHooks;
use crate::magnitude::{MagnitudeConfig, MagnitudeError, prune};
use crate::prune::structured::{PruneError, StructuredConfig, prune_and_train};
use crate::qat::{QatConfig, QatError, qat};

/// What a person writes; `configs/compress/lenet-300-100.toml` is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecipeConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// The methods, in order.
    pub steps: Vec<Step>,
    /// What may be lost in all; the gates of the steps are not asked.
    pub gate: GateConfig,
}

/// One method with its configuration, as its own command reads it. Where it has a table `teaching`, the model that the
/// recipe began with teaches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Step {
    /// Channels removed.
    Prune(StructuredConfig),
    /// Single weights made zero.
    Magnitude(MagnitudeConfig),
    /// Weights that share values.
    Cluster(ClusterConfig),
    /// Trained for int8.
    Qat(QatConfig),
}

/// A recipe that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one method")]
pub enum RecipeError {
    #[error(transparent)]
    Prune(#[from] PruneError),
    #[error(transparent)]
    Magnitude(#[from] MagnitudeError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Qat(#[from] QatError),
}

impl Step {
    /// Its name as the file writes it.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Prune(_) => "prune",
            Self::Magnitude(_) => "magnitude",
            Self::Cluster(_) => "cluster",
            Self::Qat(_) => "qat",
        }
    }

    /// What it does, for people.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Prune(config) => {
                format!("{:.0} % of the {} left", 100.0 * config.budget.share, config.budget.metric.name())
            }
            Self::Magnitude(config) => format!("{:.1} % of the weights zero", 100.0 * config.sparsity),
            Self::Cluster(config) => format!("at most {} values per layer", config.clusters),
            Self::Qat(_) => "trained for int8".to_owned(),
        }
    }

    /// How many epochs it trains.
    #[must_use]
    pub fn epochs(&self) -> usize {
        match self {
            Self::Prune(config) => config.finetune.epochs,
            Self::Magnitude(config) => config.finetune.epochs,
            Self::Cluster(config) => config.finetune.epochs,
            Self::Qat(config) => config.finetune.epochs,
        }
    }

    fn fault(&self) -> Option<(String, String)> {
        match self {
            Self::Prune(config) => config.fault(),
            Self::Magnitude(config) => config.fault(),
            Self::Cluster(config) => config.fault(),
            Self::Qat(config) => config.fault(),
        }
    }

    /// Does it; none when the training was stopped.
    ///
    /// # Errors
    /// When the method cannot be used as it says.
    pub fn run(
        &self,
        parts: &Parts,
        parent: &Parts,
        data: &DataSet,
        hooks: &mut FinetuneHooks<'_>,
    ) -> Result<Option<Parts>, RecipeError> {
        let (done, parts) = match self {
            Self::Prune(config) => {
                let teacher = config.teaching.as_ref().map(|_| parent);
                let done = prune_and_train(parts, data, config, teacher, hooks, &mut |_| ())?;
                (done.tuned.finish, done.pruned.parts)
            }
            Self::Magnitude(config) => {
                let done = prune(parts, data, config, config.teaching.as_ref().map(|_| parent), hooks)?;
                (done.tuned.finish, done.parts)
            }
            Self::Cluster(config) => {
                let done = cluster(parts, data, config, config.teaching.as_ref().map(|_| parent), hooks)?;
                (done.tuned.finish, done.parts)
            }
            Self::Qat(config) => {
                let teacher = config.teaching.as_ref().map(|_| parent);
                let done = qat(parts, data, config, None, teacher, hooks)?;
                (done.tuned.finish, done.parts)
            }
        };
        Ok((done != Finish::Interrupted).then_some(parts))
    }
}

impl RecipeConfig {
    /// The first value that cannot be: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        if self.version != CONFIG_VERSION {
            return Some(("version".to_owned(), "must be 1".to_owned()));
        }
        if self.steps.is_empty() {
            return Some(("steps".to_owned(), "must hold at least one step".to_owned()));
        }
        // Integers cannot be trained further.
        let early = self.steps.iter().rev().skip(1).any(|step| matches!(step, Step::Qat(_)));
        if early {
            return Some(("steps".to_owned(), "must have `qat` last, if at all".to_owned()));
        }
        let step = |(index, step): (usize, &Step)| {
            let (key, message) = step.fault()?;
            Some((format!("steps[{index}].{key}"), message))
        };
        self.steps.iter().enumerate().find_map(step).or_else(|| self.gate.fault())
    }

    /// Whether the result has zeros or shared values that the codec makes small.
    #[must_use]
    pub fn is_coded(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Magnitude(_) | Step::Cluster(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<String> {
        toml::from_str::<RecipeConfig>(text).unwrap().fault().map(|(key, _)| key)
    }

    #[test]
    fn committed_recipes_are_sound() {
        for name in ["lenet-300-100", "lenet5"] {
            let path = format!("{}/../../configs/compress/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(fault(&text), None, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(fault("version = 2").as_deref(), Some("version"));
        assert_eq!(fault("version = 1").as_deref(), Some("steps"));
        let step = |text: &str| format!("version = 1\n[[steps]]\n{text}\n");
        assert_eq!(fault(&step("method = \"cluster\"")), None);
        let wrong = step("method = \"magnitude\"\nsparsity = 1.0");
        assert_eq!(fault(&wrong).as_deref(), Some("steps[0].sparsity"));
        let early = format!("{}[[steps]]\nmethod = \"cluster\"\n", step("method = \"qat\""));
        assert_eq!(fault(&early).as_deref(), Some("steps"));
        assert!(toml::from_str::<RecipeConfig>(&step("method = \"huffman\"")).is_err());
        assert!(toml::from_str::<RecipeConfig>(&step("method = \"qat\"\nsparsity = 0.5")).is_err());
    }
}
