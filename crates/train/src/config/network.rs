//! `[network]`: a preset by name, or layers.

use network::spec::{InputSpec, Layer, NetworkSpec};
use network::{Network, PRESETS};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Which network is trained. The shape of its input and the number of its outputs come from the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The name of a preset: `mlp`, `lenet-300-100`, `lenet5`, `digits-cnn`, `keras-cnn`, `resnet20`,
    /// `resnet32`, `resnet56`, `vgg-small`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The layers, instead of a preset; `--print-network` shows those of a preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Layer>>,
}

impl NetworkConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match (&self.preset, &self.layers) {
            (Some(_), Some(_)) => Err(ConfigError::DoesNotApply {
                key: "network.layers",
                kind: "a network with a preset".to_owned(),
                hint: "give either `preset` or `layers`",
            }),
            (Some(name), None) if !PRESETS.contains(&name.as_str()) => Err(ConfigError::value(
                "network.preset",
                format!("one of {}", PRESETS.join(", ")),
                format!("`{name}`"),
            )),
            _ => Ok(()),
        }
    }

    /// Whether neither a preset nor layers were given; fine-tuning then takes the network of `init`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.preset.is_none() && self.layers.is_none()
    }

    /// The network for samples of shape `input` and `outputs` logits.
    ///
    /// # Errors
    /// A layer that cannot read what reaches it, or an output of another width.
    pub fn build(&self, input: &[usize], outputs: usize) -> Result<Network, NetworkConfigError> {
        let spec = match (&self.preset, &self.layers) {
            (Some(name), _) => network::preset(name, input, outputs)?,
            (None, Some(layers)) => NetworkSpec {
                inputs: vec![InputSpec { name: "input".to_owned(), shape: input.to_vec() }],
                layers: layers.clone(),
                outputs: Vec::new(),
            },
            (None, None) => return Err(NetworkConfigError::Missing),
        };
        let network = Network::new(spec)?;
        check_outputs(&network, outputs)?;
        Ok(network)
    }
}

/// Refuses a network whose output does not fit the classes or targets.
///
/// # Errors
/// When the first output is not `[outputs]`.
pub fn check_outputs(network: &Network, outputs: usize) -> Result<(), NetworkConfigError> {
    if network.output_shape() == [outputs] {
        return Ok(());
    }
    Err(NetworkConfigError::Outputs { found: network.output_shape().to_vec(), expected: outputs })
}

/// A network that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkConfigError {
    /// Neither a preset nor layers.
    #[error("`network` is missing; write `preset = \"mlp\"` (or another of {}) or `layers = […]` under [network]", PRESETS.join(", "))]
    Missing,
    /// An unknown preset.
    #[error(transparent)]
    Preset(#[from] network::PresetError),
    /// A layer that does not fit.
    #[error("the network does not fit the data: {0}")]
    Shape(#[from] network::ShapeError),
    /// A last layer that does not fit the task.
    #[error(
        "the network gives {found:?}, but the data needs [{expected}]; let the last layer be `{{ type = \"dense\", units = {expected} }}`"
    )]
    Outputs {
        /// What the network gives.
        found: Vec<usize>,
        /// How many numbers the task needs.
        expected: usize,
    },
}
