//! The configuration of the pipeline.

use serde::{Deserialize, Serialize};

use crate::config::CONFIG_VERSION;
use crate::distill::{TeachingConfig, nested};
use crate::finetune::FinetuneConfig;

/// What a person writes; `configs/compress/compress.toml` says what the keys mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// How far the headline metric may fall: percentage points for shares, per cent for the error of a regression.
    pub max_drop: f64,
    /// What is made small.
    pub target: Target,
    /// About how long the search may take.
    pub minutes: f64,
    /// What of the MACs (or of the parameters, with the target `size`) is left, in the order in which it is tried: the
    /// first; while that holds, the smaller ones; otherwise the greater ones.
    pub shares: Vec<f64>,
    /// The shares of zeros, likewise, with the target `size`.
    pub sparsities: Vec<f64>,
    /// The numbers of values that the weights of a layer share, likewise, with the target `size`.
    pub clusters: Vec<usize>,
    /// How the parent teaches what is left of it.
    pub teaching: TeachingConfig,
    /// How networks are trained between the steps; fewer epochs where the time is short.
    pub finetune: FinetuneConfig,
}

/// What is made small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The time of a pass.
    #[default]
    Latency,
    /// The bytes of the file with the weights.
    Size,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            version: CONFIG_VERSION,
            max_drop: 0.5,
            target: Target::default(),
            minutes: 10.0,
            shares: vec![0.5, 0.35, 0.25, 0.7],
            sparsities: vec![0.9, 0.95, 0.975, 0.8],
            clusters: vec![16, 8, 32],
            teaching: TeachingConfig::default(),
            finetune: FinetuneConfig::default(),
        }
    }
}

impl PipelineConfig {
    /// The first value that cannot be: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        let inside = |values: &[f64]| values.iter().all(|value| *value > 0.0 && *value < 1.0);
        let range = "must be numbers above 0 and below 1";
        let checks = [
            (self.version != CONFIG_VERSION, "version", "must be 1"),
            (!(0.0..=100.0).contains(&self.max_drop), "max_drop", "must be from 0 to 100"),
            (
                !(self.minutes > 0.0 && self.minutes <= 100_000.0),
                "minutes",
                "must be above 0 and at most 100000",
            ),
            (!inside(&self.shares), "shares", range),
            (!inside(&self.sparsities), "sparsities", range),
            (
                !self.clusters.iter().all(|count| (2..=4096).contains(count)),
                "clusters",
                "must be from 2 to 4096",
            ),
        ];
        if let Some((_, key, message)) = checks.into_iter().find(|(wrong, _, _)| *wrong) {
            return Some((key.to_owned(), message.to_owned()));
        }
        self.teaching.fault("teaching").or_else(|| nested("finetune", self.finetune.fault()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_the_defaults() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/compress/compress.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(toml::from_str::<PipelineConfig>(&text).unwrap(), PipelineConfig::default());
        assert_eq!(PipelineConfig::default().fault(), None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let fault = |text: &str| toml::from_str::<PipelineConfig>(text).unwrap().fault().unwrap().0;
        for (text, key) in [
            ("version = 2", "version"),
            ("max_drop = -0.1", "max_drop"),
            ("minutes = 0", "minutes"),
            ("shares = [0.5, 1.0]", "shares"),
            ("sparsities = [0.0]", "sparsities"),
            ("clusters = [1]", "clusters"),
            ("teaching.alpha = 2.0", "teaching.alpha"),
            ("finetune.epochs = 0", "finetune.epochs"),
        ] {
            assert_eq!(fault(text), key, "{text}");
        }
        assert!(toml::from_str::<PipelineConfig>("target = 'speed'").is_err());
    }
}
