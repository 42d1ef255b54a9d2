//! What is exported: a network with its weights, and what a reader of the file should know about it.

use std::collections::BTreeMap;

use artifact::{Package, PackageError};
use network::quantization::with_fixed_ranges;
use network::{Network, Quantization, QuantizationError, Weights};

/// A model in memory. [`Model::open`] makes it of a package; [`Model::new`] of its parts.
#[derive(Clone, Debug)]
pub struct Model {
    name: String,
    version: u64,
    description: String,
    network: Network,
    weights: Weights,
    quantization: Option<Quantization>,
    metadata: BTreeMap<String, String>,
}

impl Model {
    /// A model of its parts. With a `quantization`, the weights of its layers are integers with scales; all others
    /// are 32-bit floats.
    #[must_use]
    pub fn new(
        name: &str,
        version: u64,
        network: Network,
        weights: Weights,
        quantization: Option<Quantization>,
    ) -> Self {
        let metadata = BTreeMap::from([
            ("name".to_owned(), name.to_owned()),
            ("version".to_owned(), version.to_string()),
        ]);
        let (name, description) = (name.to_owned(), String::new());
        Self { name, version, description, network, weights, quantization, metadata }
    }

    /// Reads a package. Its task, labels, preprocessing and postprocessing become metadata, because a file of
    /// another format has no place to compute them.
    ///
    /// # Errors
    /// When the record changed since the package was opened, or cannot be read.
    pub fn open(package: &Package) -> Result<Self, PackageError> {
        let manifest = package.manifest();
        let (network, weights) = (package.network().clone(), package.weights()?);
        let quantization = package.quantization().cloned();
        let mut model = Self::new(&manifest.name, manifest.version, network, weights, quantization);
        model.description.clone_from(&manifest.description);
        let json = |value: serde_json::Result<String>| {
            value.map_err(|source| PackageError::Json { path: package.path().join("manifest.json"), source })
        };
        let entries = [
            ("task", manifest.task().name().to_owned()),
            ("labels", json(serde_json::to_string(manifest.labels()))?),
            ("preprocess", json(serde_json::to_string(&manifest.preprocess))?),
            ("postprocess", json(serde_json::to_string(&manifest.postprocess))?),
        ];
        for (key, value) in entries {
            model = model.with_metadata(key, value);
        }
        Ok(model)
    }

    /// The layers that ONNX gets as floats though they are integers here, in alphabetical order: dynamic ones, and
    /// those whose weights alone are integers.
    #[must_use]
    pub fn layers_as_floats(&self) -> Vec<&str> {
        let plan = self.quantization.iter();
        let layers = plan.flat_map(|plan| plan.dynamic.iter().chain(plan.weight_only.keys()));
        let mut layers: Vec<&str> = layers.map(String::as_str).collect();
        layers.sort_unstable();
        layers
    }

    /// The same with those layers as floats; nothing where there are none.
    pub(crate) fn with_fixed_ranges(&self) -> Result<Option<Self>, QuantizationError> {
        let Some(plan) = self.quantization.as_ref().filter(|_| !self.layers_as_floats().is_empty()) else {
            return Ok(None);
        };
        let (quantization, weights) = with_fixed_ranges(&self.network, plan, &self.weights)?;
        Ok(Some(Self { quantization, weights, ..self.clone() }))
    }

    /// With an entry in the metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: String) -> Self {
        self.metadata.insert(key.to_owned(), value);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What it is for, in words; may be empty.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The checked network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The record.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The plan of an int8 model.
    #[must_use]
    pub fn quantization(&self) -> Option<&Quantization> {
        self.quantization.as_ref()
    }

    /// What a reader should know, by key: `name`, `version` and, from a package, `task`, `labels`, `preprocess`
    /// and `postprocess`, the last three as JSON.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}
