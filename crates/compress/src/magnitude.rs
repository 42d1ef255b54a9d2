//! Unstructured pruning: the smallest weights become zero, on a schedule, and stay so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use predict::Parts;
use serde::{Deserialize, Serialize};
use train::data::DataSet;
use train::fit::hold::{Mask, PruningSchedule, Ranking, Sparsify};

use crate::config::{CONFIG_VERSION, GateConfig};
use crate::distill::{DistillError, TeachingConfig, nested, taught};
use crate::finetune::{FinetuneConfig, FinetuneError, FinetuneHooks, Finetuned, Guidance, finetune};
use crate::names::{UnknownLayer, matching, matching_any, with_weights};

/// What a person writes; `configs/compress/prune-magnitude.toml` says what the keys mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MagnitudeConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// The share of weights that are zero at the end, in [0, 1).
    pub sparsity: f64,
    /// What the weights are compared with.
    pub scope: Scope,
    /// Layers that stay as they are.
    pub dense: Vec<String>,
    /// Layers with a share of their own; with the scope `layer`.
    pub layers: BTreeMap<String, f64>,
    /// When weights become zero.
    pub schedule: GradualConfig,
    /// With this table, the network as it was before, or another, teaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teaching: Option<TeachingConfig>,
    /// How the rest of the weights is trained meanwhile and afterwards.
    pub finetune: FinetuneConfig,
    /// What may be lost.
    pub gate: GateConfig,
}

/// What weights are compared with to say which are the smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Those of all layers.
    #[default]
    Global,
    /// Those of their layer: every layer gets the same share of zeros, or its own.
    Layer,
    /// Those of all layers, each measured against the larger ones of its layer (LAMP, Lee et al. 2021).
    Lamp,
}

/// When weights become zero (Zhu and Gupta 2017). Shares are of the steps of the fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradualConfig {
    /// The share of zeros at the beginning, in [0, 1).
    pub initial: f64,
    /// After which share of the steps it begins.
    pub begin: f64,
    /// After which share of the steps the final sparsity is there; the same as `begin`: at once.
    pub end: f64,
    /// Steps between two prunings.
    pub every: u64,
}

impl Default for MagnitudeConfig {
    fn default() -> Self {
        Self {
            version: CONFIG_VERSION,
            sparsity: 0.9,
            scope: Scope::default(),
            dense: Vec::new(),
            layers: BTreeMap::new(),
            schedule: GradualConfig::default(),
            teaching: None,
            finetune: FinetuneConfig::default(),
            gate: GateConfig::default(),
        }
    }
}

impl Default for GradualConfig {
    fn default() -> Self {
        Self { initial: 0.0, begin: 0.0, end: 0.5, every: 50 }
    }
}

/// A pruning that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum MagnitudeError {
    #[error(transparent)]
    Layer(#[from] UnknownLayer),
    #[error("layer `{layer}` is in `dense`, which leaves it as it is, and in `layers`, which prunes it")]
    Both { layer: String },
    #[error("`dense` leaves no layer to prune")]
    NoLayer,
    #[error(transparent)]
    Teacher(#[from] DistillError),
    #[error(transparent)]
    Finetune(#[from] FinetuneError),
}

/// A network with zeros among its weights, not packed yet.
#[derive(Clone, Debug)]
pub struct Sparse {
    /// The network.
    pub parts: Parts,
    /// Each layer with weights.
    pub layers: Vec<LayerZeros>,
    /// How it was trained.
    pub tuned: Finetuned,
}

/// How many weights of a layer are zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerZeros {
    /// Its name.
    pub layer: String,
    /// How many weights it has, biases not counted.
    pub weights: usize,
    /// How many of them are zero.
    pub zeros: usize,
}

impl MagnitudeConfig {
    /// The first value that cannot be: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        let GradualConfig { initial, begin, end, every } = self.schedule;
        let share = |value: f64| (0.0..1.0).contains(&value);
        let checks = [
            (self.version != CONFIG_VERSION, "version", "must be 1"),
            (!share(self.sparsity), "sparsity", "must be in [0, 1)"),
            (!self.layers.values().all(|&value| share(value)), "layers", "must be in [0, 1)"),
            (
                !self.layers.is_empty() && self.scope != Scope::Layer,
                "layers",
                "belongs to the scope `layer`; elsewhere layers share one sparsity",
            ),
            (!share(initial) || initial > self.sparsity, "schedule.initial", "must be from 0 to `sparsity`"),
            (!(0.0..=1.0).contains(&begin), "schedule.begin", "must be from 0 to 1"),
            (!(begin..=1.0).contains(&end), "schedule.end", "must be from `begin` to 1"),
            (every == 0, "schedule.every", "must be at least 1"),
        ];
        if let Some((_, key, message)) = checks.into_iter().find(|(wrong, _, _)| *wrong) {
            return Some((key.to_owned(), message.to_owned()));
        }
        let teaching = self.teaching.as_ref().and_then(|teaching| teaching.fault("teaching"));
        teaching.or_else(|| nested("finetune", self.finetune.fault())).or_else(|| self.gate.fault())
    }

    /// Which weights go first, and how many.
    fn ranking(&self, parts: &Parts) -> Result<Ranking, MagnitudeError> {
        let network = &parts.network;
        let dense = matching_any(network, &self.dense, "dense")?;
        let layers: BTreeSet<String> =
            with_weights(network).into_iter().filter(|layer| !dense.contains(layer)).collect();
        if layers.is_empty() {
            return Err(MagnitudeError::NoLayer);
        }
        let key = |layer: &String| format!("{layer}.weight");
        let keys = || layers.iter().map(key).collect::<BTreeSet<String>>();
        Ok(match self.scope {
            Scope::Global => Ranking::Together(keys(), self.sparsity),
            Scope::Lamp => Ranking::Lamp(keys(), self.sparsity),
            Scope::Layer => {
                let mut targets: BTreeMap<String, f64> =
                    keys().into_iter().map(|key| (key, self.sparsity)).collect();
                for (pattern, &share) in &self.layers {
                    for layer in matching(network, pattern, "layers")? {
                        if dense.contains(&layer) {
                            return Err(MagnitudeError::Both { layer });
                        }
                        targets.insert(key(&layer), share);
                    }
                }
                Ranking::Each(targets)
            }
        })
    }

    /// The schedule for a fine-tuning of so many steps.
    fn schedule(&self, steps: u64) -> PruningSchedule {
        let GradualConfig { initial, begin, end, every } = self.schedule;
        let after = |share: f64| (steps as f64 * share).round() as u64;
        PruningSchedule { initial, start: after(begin), end: after(end), every }
    }
}

/// Makes weights zero at once and trains nothing: what a sensitivity analysis asks.
///
/// # Errors
/// When the model is quantized already, a layer is named that is not there, or none is left.
pub fn prune_at_once(parts: &Parts, config: &MagnitudeConfig) -> Result<Parts, MagnitudeError> {
    if parts.quantization.is_some() {
        return Err(FinetuneError::Quantized.into());
    }
    let mask = Mask::smallest(&parts.weights, &config.ranking(parts)?);
    Ok(Parts { weights: mask.applied(&parts.weights), ..parts.clone() })
}

/// Prunes while the rest is trained. With a teacher, or where the configuration asks for one, its answers are learned
/// from.
///
/// # Errors
/// When the configuration does not fit the network or the data, or the training fails.
pub fn prune(
    parts: &Parts,
    data: &DataSet,
    config: &MagnitudeConfig,
    teacher: Option<&Parts>,
    hooks: &mut FinetuneHooks<'_>,
) -> Result<Sparse, MagnitudeError> {
    let distillation = taught(parts, config.teaching.as_ref(), teacher)?;
    let schedule = config.schedule(config.finetune.steps(data.splits.train.len()));
    let constraint = Arc::new(Sparsify::new(schedule, config.ranking(parts)?));
    let guidance = Guidance { distillation, constraint: Some(constraint), ..Guidance::default() };
    let tuned = finetune(parts, data, &config.finetune, guidance, hooks)?;
    let parts = Parts { weights: tuned.weights.clone(), ..parts.clone() };
    Ok(Sparse { layers: zeros(&parts), parts, tuned })
}

/// How many weights of each layer are zero: floats or integers.
#[must_use]
pub fn zeros(parts: &Parts) -> Vec<LayerZeros> {
    let layers = with_weights(&parts.network).into_iter();
    let count = |layer: String| {
        let tensor = parts.weights.get(&format!("{layer}.weight"))?;
        let zeros = match tensor.elements() {
            network::Elements::F32(values) => values.iter().filter(|value| **value == 0.0).count(),
            network::Elements::I8(values) => values.iter().filter(|value| **value == 0).count(),
            _ => 0,
        };
        Some(LayerZeros { layer, weights: tensor.elements().len(), zeros })
    };
    layers.filter_map(count).collect()
}
