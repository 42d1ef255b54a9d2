//! Where a model comes from, and how its scores were measured.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What produced a model; enough to produce it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Lineage {
    /// The model it was made from, as `name@version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The identifier of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The digest of the resolved configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
    /// The name of the data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Where the data comes from and under which licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_origin: Option<String>,
    /// The digest of the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_sha256: Option<String>,
    /// The seed of every random draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Versions of the crates that did the work, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub crates: BTreeMap<String, String>,
    /// The device it was trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The precision it was trained in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// What was done to the parent to make it smaller or faster, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<LineageStep>,
}

/// One step from a parent to a smaller or faster model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LineageStep {
    /// The method, such as `quantize`.
    pub method: String,
    /// What it did, for people.
    pub summary: String,
}

/// How the scores of the manifest were measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EvaluationSettings {
    /// The split, such as `test`.
    pub split: String,
    /// How many samples it has.
    pub samples: u64,
    /// The score that decides, a key of the metrics.
    pub metric: String,
    /// The device; on the same device, in the same precision and with the same kernels the scores come back exactly.
    pub device: String,
    /// The precision, such as `f32`.
    pub precision: String,
    /// What computed, such as `engine avx512`: scores come back exactly with the same kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<String>,
    /// Samples per batch.
    pub batch_size: u64,
    /// The data section of the run's configuration, which says where the samples are.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}
