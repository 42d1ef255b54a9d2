//! Weights that share a few values: k-means for each layer, and the centroids trained (Han, Mao and Dally 2016,
//! section 3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use network::{LengthError, Tensor, Weights};
use predict::Parts;
use serde::{Deserialize, Serialize};
use train::data::DataSet;
use train::fit::hold::{Clusters, ClustersError};

use crate::config::{CONFIG_VERSION, GateConfig};
use crate::distill::{DistillError, TeachingConfig, nested, taught};
use crate::finetune::{FinetuneConfig, FinetuneError, FinetuneHooks, Finetuned, Guidance, finetune};
use crate::kmeans::kmeans;
use crate::names::{UnknownLayer, matching, matching_any, with_weights};

pub use crate::kmeans::Start;

/// The most values that a parameter may share.
const MOST: usize = 4096;

/// What a person writes; `configs/compress/cluster.toml` says what the keys mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// How many different values the weights of a layer have at most; zero is one of them where there are zeros.
    pub clusters: usize,
    /// The same for biases, which are grouped by themselves; 0 leaves them alone.
    pub biases: usize,
    /// Layers with a number of their own.
    pub layers: BTreeMap<String, usize>,
    /// Layers that stay as they are.
    pub floats: Vec<String>,
    /// Where the centroids begin.
    pub start: Start,
    /// The seed of `start = "plus-plus"`.
    pub seed: u64,
    /// The most rounds of k-means.
    pub rounds: usize,
    /// With this table, the network as it was before, or another, teaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teaching: Option<TeachingConfig>,
    /// How the centroids, and all that is not grouped, are trained.
    pub finetune: FinetuneConfig,
    /// What may be lost.
    pub gate: GateConfig,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let mut finetune = FinetuneConfig { epochs: 5, ..FinetuneConfig::default() };
        // A centroid moves all its members at once.
        finetune.optimizer.learning_rate = 1e-4;
        Self {
            version: CONFIG_VERSION,
            clusters: 32,
            biases: 0,
            layers: BTreeMap::new(),
            floats: Vec::new(),
            start: Start::default(),
            seed: 1,
            rounds: 100,
            teaching: None,
            finetune,
            gate: GateConfig::default(),
        }
    }
}

/// A clustering that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum ClusterError {
    #[error(transparent)]
    Layer(#[from] UnknownLayer),
    #[error("layer `{layer}` is in `floats`, which leaves it as it is, and in `layers`, which groups it")]
    Both { layer: String },
    #[error("`floats` leaves no layer to group")]
    NoLayer,
    #[error("the weight `{key}` is {value} at index {index}, which belongs to no group")]
    NotFinite { key: String, index: usize, value: f32 },
    #[error(transparent)]
    Groups(#[from] ClustersError),
    #[error("a grouped tensor is not valid")]
    Length(#[from] LengthError),
    #[error(transparent)]
    Teacher(#[from] DistillError),
    #[error(transparent)]
    Finetune(#[from] FinetuneError),
}

/// A network whose weights share values, not packed yet.
#[derive(Clone, Debug)]
pub struct Clustered {
    /// The network.
    pub parts: Parts,
    /// Each grouped parameter.
    pub codebooks: Vec<Codebook>,
    /// How the centroids were trained.
    pub tuned: Finetuned,
}

/// The values that a parameter has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Codebook {
    /// The parameter: `<layer>.weight` or `<layer>.bias`.
    pub key: String,
    /// How many weights share them.
    pub weights: usize,
    /// Ascending.
    pub values: Vec<f32>,
}

impl ClusterConfig {
    /// The first value that cannot be: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        let sound = |count: usize| (2..=MOST).contains(&count);
        let range = "must be from 2 to 4096";
        let checks = [
            (self.version != CONFIG_VERSION, "version", "must be 1"),
            (!sound(self.clusters), "clusters", range),
            (self.biases != 0 && !sound(self.biases), "biases", "must be 0, or from 2 to 4096"),
            (!self.layers.values().all(|&count| sound(count)), "layers", range),
            (self.rounds == 0, "rounds", "must be at least 1"),
        ];
        if let Some((_, key, message)) = checks.into_iter().find(|(wrong, _, _)| *wrong) {
            return Some((key.to_owned(), message.to_owned()));
        }
        let teaching = self.teaching.as_ref().and_then(|teaching| teaching.fault("teaching"));
        teaching.or_else(|| nested("finetune", self.finetune.fault())).or_else(|| self.gate.fault())
    }

    /// How many values each parameter may have.
    fn counts(&self, parts: &Parts) -> Result<BTreeMap<String, usize>, ClusterError> {
        let network = &parts.network;
        let floats = matching_any(network, &self.floats, "floats")?;
        let mut layers: BTreeMap<String, usize> = with_weights(network)
            .into_iter()
            .filter(|layer| !floats.contains(layer))
            .map(|layer| (layer, self.clusters))
            .collect();
        if layers.is_empty() {
            return Err(ClusterError::NoLayer);
        }
        for (pattern, &count) in &self.layers {
            for layer in matching(network, pattern, "layers")? {
                if floats.contains(&layer) {
                    return Err(ClusterError::Both { layer });
                }
                layers.insert(layer, count);
            }
        }
        let mut counts = BTreeMap::new();
        for (layer, count) in layers {
            let bias = format!("{layer}.bias");
            if self.biases > 0 && parts.weights.contains_key(&bias) {
                counts.insert(bias, self.biases);
            }
            counts.insert(format!("{layer}.weight"), count);
        }
        Ok(counts)
    }
}

/// Groups weights and trains nothing: every weight becomes the centroid next to it.
///
/// # Errors
/// When the model is quantized already, a layer is named that is not there, or a weight is no number.
pub fn cluster_at_once(parts: &Parts, config: &ClusterConfig) -> Result<Parts, ClusterError> {
    if parts.quantization.is_some() {
        return Err(FinetuneError::Quantized.into());
    }
    let mut weights = parts.weights.clone();
    for (key, count) in config.counts(parts)? {
        let Some(tensor) = parts.weights.get(&key) else { continue };
        let values = tensor.as_f32().unwrap_or_default();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(ClusterError::NotFinite { key, index, value: values[index] });
        }
        let grouped = kmeans(values, count, config.start, config.seed, config.rounds);
        weights.insert(key, Tensor::from_f32(tensor.shape().to_vec(), grouped)?);
    }
    Ok(Parts { weights, ..parts.clone() })
}

/// Groups weights and trains the centroids; zeros stay zeros. With a teacher, or where the configuration asks for
/// one, its answers are learned from.
///
/// # Errors
/// When the configuration does not fit the network or the data, or the training fails.
pub fn cluster(
    parts: &Parts,
    data: &DataSet,
    config: &ClusterConfig,
    teacher: Option<&Parts>,
    hooks: &mut FinetuneHooks<'_>,
) -> Result<Clustered, ClusterError> {
    let distillation = taught(parts, config.teaching.as_ref(), teacher)?;
    let grouped = cluster_at_once(parts, config)?;
    let keys: BTreeSet<String> = config.counts(parts)?.into_keys().collect();
    let constraint = Clusters::of(&grouped.weights, &keys, MOST)?;
    let guidance = Guidance { distillation, constraint: Some(Arc::new(constraint)), ..Guidance::default() };
    let tuned = finetune(&grouped, data, &config.finetune, guidance, hooks)?;
    let parts = Parts { weights: tuned.weights.clone(), ..grouped };
    let codebooks = keys.iter().map(|key| codebook(&parts.weights, key)).collect();
    Ok(Clustered { parts, codebooks, tuned })
}

/// The different values of a parameter.
fn codebook(weights: &Weights, key: &str) -> Codebook {
    let all = weights.get(key).and_then(Tensor::as_f32).unwrap_or_default();
    let mut values: Vec<f32> = all.to_vec();
    values.sort_by(f32::total_cmp);
    values.dedup();
    Codebook { key: key.to_owned(), weights: all.len(), values }
}
