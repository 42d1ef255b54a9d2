//! The manifest: everything a program must know about a model besides its weights.
//!
//! Fields may be added with a newer minor version and older programs ignore them. Inside `network`,
//! `quantization`, `preprocess` and `postprocess` an unknown field is an error instead: it would change what the
//! model computes, and ignoring it would give wrong answers. A program that does not know `quantization` refuses
//! an int8 package all the same, because its record is not that of the network.

mod file_entry;
mod format;
mod lineage;
mod observed;
mod reference;
mod sample;

use std::collections::BTreeMap;

use network::{
    Network, NetworkSpec, Postprocess, Preprocess, Quantization, QuantizationError, ShapeError, Signature,
    Task,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::file_entry::{FileEntry, FileEntryError};
pub use self::format::{FormatVersion, FormatVersionError};
pub use self::lineage::{EvaluationSettings, Lineage, LineageStep};
pub use self::observed::{Columns, Distribution, Observed};
pub use self::reference::{ClassShare, FeatureReference, QUANTILE_LEVELS, ReferenceStatistics};
pub use self::sample::{MAX_SAMPLES, Sample, SampleCell, SampleError, SampleInput};
use crate::model_ref::{NameError, check_name};

/// The name of the manifest's file.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The name of the record's file.
pub const WEIGHTS_FILE: &str = "weights.bpk";
/// The name of the evaluation's file.
pub const EVALUATION_FILE: &str = "evaluation.json";
/// The name of the file that tells what of the network runs how, and how fast.
pub const PROFILE_FILE: &str = "profile.json";
/// The name of the file that tells what compression changed.
pub const COMPRESSION_FILE: &str = "compression.json";
/// The name of the model card's file.
pub const CARD_FILE: &str = "card.md";

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Brazier package manifest")]
pub struct Manifest {
    /// The version of this file's format.
    pub format: FormatVersion,
    /// The model's name.
    pub name: String,
    /// The model's version, from 1. Filled in when the package is published.
    pub version: u64,
    /// When the package was made, in RFC 3339 (`2026-01-31T12:00:00Z`). The caller tells the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What the model is for, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The layers.
    pub network: NetworkSpec,
    /// Which layers compute in int8, and what their bytes mean; left out: everything is 32-bit floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// How raw inputs become the network's input.
    pub preprocess: Preprocess,
    /// How the network's outputs become answers; holds the task and the class names.
    pub postprocess: Postprocess,
    /// Names, types and dimensions of the network's inputs and outputs.
    pub signature: Signature,
    /// Scores on the test split by name, such as `accuracy`, at most 15 significant digits each.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// How the scores were measured, so that they can be measured again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluationSettings>,
    /// What the training data looked like.
    #[serde(default)]
    pub reference: ReferenceStatistics,
    /// A few raw inputs with the logits that the model gave for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// Where the model comes from.
    #[serde(default)]
    pub lineage: Lineage,
    /// The other files of the package. Filled in when the package is published.
    #[serde(default)]
    pub files: Vec<FileEntry>,
}

/// A manifest that contradicts itself or asks for what this program does not know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum ManifestError {
    #[error("it is no valid JSON of a manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "its format is {found}, and this program reads {known}.x: a newer Brazier wrote it, update to read it"
    )]
    Newer { found: FormatVersion, known: u32 },
    #[error("its format is {found}, and this program reads {known}.x")]
    Older { found: FormatVersion, known: u32 },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the version must be at least 1")]
    Version,
    #[error("the network is not valid")]
    Network(#[from] ShapeError),
    #[error("the quantization does not fit the network")]
    Quantization(#[from] QuantizationError),
    #[error("the signature is not the network's: {0}")]
    Signature(String),
    #[error("the preprocessing gives {given:?} and the network takes {taken:?}")]
    Input { given: Vec<usize>, taken: Vec<usize> },
    #[error("preprocess: {0}")]
    Preprocess(String),
    #[error("the postprocessing does not fit the network")]
    Postprocess(#[from] network::postprocess::PostprocessError),
    #[error("sample {index}: {source}")]
    Sample { index: usize, source: SampleError },
    #[error("there are {found} samples, and at most {MAX_SAMPLES} are kept")]
    Samples { found: usize },
    #[error("reference.observed: {0}")]
    Observed(String),
    #[error("files: {0}")]
    File(#[from] FileEntryError),
    #[error("`{field}` is not a finite number")]
    NotFinite { field: String },
    #[error("it belongs to `{found}`, and here is the place of `{expected}`")]
    Place { found: String, expected: String },
}

impl Manifest {
    /// A manifest of a checked network, with the signature filled in and everything optional left out.
    #[must_use]
    pub fn new(name: &str, network: &Network, preprocess: Preprocess, postprocess: Postprocess) -> Self {
        Self {
            format: FormatVersion::CURRENT,
            name: name.to_owned(),
            version: 1,
            created: None,
            description: String::new(),
            network: network.spec().clone(),
            quantization: None,
            preprocess,
            postprocess,
            signature: network.signature(),
            metrics: BTreeMap::new(),
            evaluation: None,
            reference: ReferenceStatistics::default(),
            samples: Vec::new(),
            lineage: Lineage::default(),
            files: Vec::new(),
        }
    }

    /// What the model is asked to tell.
    #[must_use]
    pub fn task(&self) -> Task {
        self.postprocess.task
    }

    /// The names of the classes, labels or targets.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.postprocess.labels
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When the JSON is malformed, the format is of another major version, or [`Manifest::check`] fails.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        // The version is read first: a newer major may not even have the fields that are known here.
        #[derive(Deserialize)]
        struct Head {
            format: FormatVersion,
        }
        let Head { format: found } = serde_json::from_slice(bytes)?;
        let known = FormatVersion::CURRENT.major;
        if !FormatVersion::CURRENT.reads(found) {
            return Err(match found.major > known {
                true => ManifestError::Newer { found, known },
                false => ManifestError::Older { found, known },
            });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The bytes of `manifest.json`: indented, arrays of numbers on one line, a final line break. The same
    /// manifest gives the same bytes.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        Ok(crate::json::to_vec(self)?)
    }

    /// Checks everything that can be checked without the other files, and returns the network.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<Network, ManifestError> {
        check_name(&self.name)?;
        if self.version == 0 {
            return Err(ManifestError::Version);
        }
        let network = Network::new(self.network.clone())?;
        self.quantization.iter().try_for_each(|quantization| quantization.check(&network))?;
        let signature = network.signature();
        if self.signature != signature {
            let show = |signature: &Signature| {
                let names = |specs: &[network::TensorSpec]| {
                    specs.iter().map(|spec| format!("`{}` {spec}", spec.name)).collect::<Vec<_>>().join(", ")
                };
                format!("{} → {}", names(&signature.inputs), names(&signature.outputs))
            };
            let difference = format!("it says {} instead of {}", show(&self.signature), show(&signature));
            return Err(ManifestError::Signature(difference));
        }
        self.preprocess.check().map_err(ManifestError::Preprocess)?;
        let given = self.preprocess.output_shape();
        if given != network.input_shape() {
            return Err(ManifestError::Input { given, taken: network.input_shape().to_vec() });
        }
        let outputs = network::element_count(network.output_shape()).unwrap_or(usize::MAX);
        self.postprocess.check(outputs)?;
        if self.samples.len() > MAX_SAMPLES {
            return Err(ManifestError::Samples { found: self.samples.len() });
        }
        for (index, sample) in self.samples.iter().enumerate() {
            sample.check(outputs).map_err(|source| ManifestError::Sample { index, source })?;
        }
        file_entry::check_all(&self.files)?;
        self.reference.observed.iter().try_for_each(Observed::check).map_err(ManifestError::Observed)?;
        self.check_numbers()?;
        Ok(network)
    }

    /// JSON has no infinities: they would be written as `null` and not come back.
    fn check_numbers(&self) -> Result<(), ManifestError> {
        let metrics = self.metrics.iter().map(|(name, value)| (format!("metrics.{name}"), *value));
        let features = self.reference.features.iter().flat_map(|feature| {
            let name = format!("reference.features.{}", feature.name);
            feature
                .quantiles
                .iter()
                .chain(feature.categories.values())
                .map(move |value| (name.clone(), *value))
        });
        match metrics.chain(features).find(|(_, value)| !value.is_finite()) {
            Some((field, _)) => Err(ManifestError::NotFinite { field }),
            None => Ok(()),
        }
    }

    /// A score with 15 significant digits: what a manifest keeps, and what comes back from it unchanged.
    /// Compare a repeated score with a packed one after rounding it in the same way.
    #[must_use]
    pub fn round_metric(value: f64) -> f64 {
        format!("{value:.14e}").parse().unwrap_or(value)
    }
}
