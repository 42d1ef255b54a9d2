//! The configuration of structured pruning.

use serde::{Deserialize, Serialize};

use crate::config::{CONFIG_VERSION, GateConfig};
use crate::distill::{TeachingConfig, nested};
use crate::finetune::FinetuneConfig;

/// What a person writes; `configs/compress/prune.toml` says what the keys mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StructuredConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// Which channels go first.
    pub criterion: Criterion,
    /// How the cuts are shared out among the groups.
    pub allocation: Allocation,
    /// In how many steps the budget is reached; between two, the network can be trained.
    pub steps: usize,
    /// The seed of all draws.
    pub seed: u64,
    /// What may be left.
    pub budget: BudgetConfig,
    /// Which groups are cut, and to which sizes.
    pub groups: GroupsConfig,
    /// The samples that are looked at.
    pub samples: SamplesConfig,
    /// The curves of what each group bears.
    pub sensitivity: SensitivityConfig,
    /// With this table, the network as it was before, or another, teaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teaching: Option<TeachingConfig>,
    /// How the network is trained after each step.
    pub finetune: FinetuneConfig,
    /// What may be lost.
    pub gate: GateConfig,
}

/// By what channels are ranked; `importance.rs` has the definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// The sum of absolute weights.
    L1,
    /// The root of the sum of squared weights.
    L2,
    /// The factor of batch normalisation (Liu et al. 2017).
    BatchNorm,
    /// How the loss would move, to first order (Molchanov et al. 2019).
    Taylor,
    /// A draw.
    Random,
}

/// How the cuts are shared out among the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// The least important channels of all groups together.
    Global,
    /// The same share of every group.
    Uniform,
    /// The least loss of accuracy for what is saved, by the sensitivity curves.
    Sensitivity,
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Multiply–accumulates of one sample.
    Macs,
    /// Trained values.
    Parameters,
    /// The record, unwrapped.
    Bytes,
    /// The time of one pass on this machine's engine, on one thread.
    Latency,
}

impl Metric {
    /// The name for tables and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Macs => "MACs",
            Self::Parameters => "parameters",
            Self::Bytes => "bytes",
            Self::Latency => "latency",
        }
    }
}

/// What may be left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// What is counted.
    pub metric: Metric,
    /// The share of what the parent has that may be left.
    pub share: f64,
    /// For `latency`: the rows of a pass.
    pub batch: usize,
}

/// Which groups are cut, and to which sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupsConfig {
    /// Names of layers whose channels all stay, or beginnings of names with a `*` behind.
    pub exclude: Vec<String>,
    /// What is left of a group is a multiple of this. Groups with fewer than two multiples take half of it, and so
    /// on.
    pub multiple: usize,
    /// The fewest channels that are left of a group.
    pub minimum: usize,
    /// The least share of its channels that is left of a group.
    pub keep: f64,
}

/// The samples that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplesConfig {
    /// How many of the training split, for gradients.
    pub gradients: usize,
    /// How many of the validation split, for the curves.
    pub sensitivity: usize,
}

/// The curves of what each group bears.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensitivityConfig {
    /// Draws them even where the allocation does not need them.
    pub curves: bool,
    /// The shares of a group that are left, each alone.
    pub levels: Vec<f64>,
}

impl Default for StructuredConfig {
    fn default() -> Self {
        Self {
            version: CONFIG_VERSION,
            criterion: Criterion::L2,
            allocation: Allocation::Global,
            steps: 1,
            seed: 1,
            budget: BudgetConfig::default(),
            groups: GroupsConfig::default(),
            samples: SamplesConfig::default(),
            sensitivity: SensitivityConfig::default(),
            teaching: None,
            finetune: FinetuneConfig::default(),
            gate: GateConfig::default(),
        }
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { metric: Metric::Macs, share: 0.5, batch: 1 }
    }
}

impl Default for GroupsConfig {
    fn default() -> Self {
        Self { exclude: Vec::new(), multiple: 16, minimum: 8, keep: 0.1 }
    }
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self { gradients: 1024, sensitivity: 1000 }
    }
}

impl Default for SensitivityConfig {
    fn default() -> Self {
        Self { curves: true, levels: vec![0.75, 0.5, 0.25] }
    }
}

impl StructuredConfig {
    /// The first value that cannot be: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        let Self { budget, groups, samples, .. } = self;
        let levels = &self.sensitivity.levels;
        let falling = levels.iter().zip(levels.iter().skip(1)).all(|(a, b)| a > b);
        let inside = levels.iter().all(|level| *level > 0.0 && *level < 1.0);
        let needs_levels = self.sensitivity.curves || self.allocation == Allocation::Sensitivity;
        let checks = [
            (self.version != CONFIG_VERSION, "version", "must be 1"),
            (!(1..=64).contains(&self.steps), "steps", "must be from 1 to 64"),
            (!(budget.share > 0.0 && budget.share < 1.0), "budget.share", "must be above 0 and below 1"),
            (!(1..=4096).contains(&budget.batch), "budget.batch", "must be from 1 to 4096"),
            (!(1..=1024).contains(&groups.multiple), "groups.multiple", "must be from 1 to 1024"),
            (groups.minimum == 0, "groups.minimum", "must be at least 1"),
            (!(0.0..=1.0).contains(&groups.keep), "groups.keep", "must be from 0 to 1"),
            (!(1..=1 << 20).contains(&samples.gradients), "samples.gradients", "must be from 1 to 1048576"),
            (
                !(1..=1 << 20).contains(&samples.sensitivity),
                "samples.sensitivity",
                "must be from 1 to 1048576",
            ),
            (
                !(falling && inside),
                "sensitivity.levels",
                "must be shares above 0 and below 1, the greatest first",
            ),
            (
                needs_levels && !(1..=32).contains(&levels.len()),
                "sensitivity.levels",
                "must be 1 to 32 shares, or none with `sensitivity.curves = false`",
            ),
        ];
        if let Some((_, key, message)) = checks.into_iter().find(|(wrong, _, _)| *wrong) {
            return Some((key.to_owned(), message.to_owned()));
        }
        let teaching = self.teaching.as_ref().and_then(|teaching| teaching.fault("teaching"));
        teaching.or_else(|| nested("finetune", self.finetune.fault())).or_else(|| self.gate.fault())
    }

    /// The share that may be left after a step, the first being 1: each takes the same share of what it finds.
    #[must_use]
    pub fn share_after(&self, step: usize) -> f64 {
        let steps = self.steps.max(1);
        self.budget.share.powf(step.min(steps) as f64 / steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_the_defaults() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/compress/prune.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(toml::from_str::<StructuredConfig>(&text).unwrap(), StructuredConfig::default());
        assert_eq!(StructuredConfig::default().fault(), None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let fault = |text: &str| toml::from_str::<StructuredConfig>(text).unwrap().fault().unwrap().0;
        for (text, key) in [
            ("version = 2", "version"),
            ("steps = 0", "steps"),
            ("budget.share = 1.0", "budget.share"),
            ("budget.share = nan", "budget.share"),
            ("budget.batch = 0", "budget.batch"),
            ("groups.multiple = 0", "groups.multiple"),
            ("groups.minimum = 0", "groups.minimum"),
            ("groups.keep = -0.1", "groups.keep"),
            ("samples.gradients = 0", "samples.gradients"),
            ("samples.sensitivity = 0", "samples.sensitivity"),
            ("sensitivity.levels = [0.5, 0.75]", "sensitivity.levels"),
            ("sensitivity.levels = [1.0]", "sensitivity.levels"),
            ("sensitivity.levels = []", "sensitivity.levels"),
            ("allocation = 'sensitivity'\nsensitivity = {curves = false, levels = []}", "sensitivity.levels"),
        ] {
            assert_eq!(fault(text), key, "{text}");
        }
        let none = "sensitivity = {curves = false, levels = []}";
        assert_eq!(toml::from_str::<StructuredConfig>(none).unwrap().fault(), None);
        assert!(toml::from_str::<StructuredConfig>("criterion = 'l3'").is_err());
        assert!(toml::from_str::<StructuredConfig>("budget.mac = 0.5").is_err());
    }

    #[test]
    fn steps_take_the_same_share_each_and_end_at_the_budget() {
        let config = StructuredConfig { steps: 3, ..StructuredConfig::default() };
        let shares: Vec<f64> = (0..=4).map(|step| config.share_after(step)).collect();
        assert_eq!((shares[0], shares[3], shares[4]), (1.0, 0.5, 0.5));
        assert!((shares[1] / shares[0] - shares[3] / shares[2]).abs() < 1e-12);
    }
}
