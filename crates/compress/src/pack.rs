//! From a quantized network to the draft of a package.

use std::collections::BTreeMap;

use artifact::manifest::{COMPRESSION_FILE, PROFILE_FILE, SampleError};
use artifact::{Draft, EvaluationSettings, Lineage, Manifest, Package, Sample};
use network::RawInput;
use predict::{PredictError, Predictor};
use train::evaluate::Evaluation;

use crate::quantize::Quantized;
use crate::report::Comparison;

/// A package that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one step")]
pub enum PackError {
    #[error("a sample of the parent cannot be used")]
    Sample(#[from] SampleError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error("a report cannot be written")]
    Json(#[from] serde_json::Error),
}

/// What the package says about how it was made.
pub struct Origin<'a> {
    /// The package that it was made from.
    pub parent: &'a Package,
    /// The digest of the resolved configuration.
    pub config_sha256: String,
    /// The time, as the caller tells it.
    pub created: Option<String>,
}

/// The draft of the next version: everything of the parent but the weights, the layers, the scores, and the logits of
/// its samples.
///
/// # Errors
/// When the samples of the parent cannot be answered.
pub fn draft(
    quantized: &Quantized,
    predictor: &Predictor,
    evaluation: &Evaluation,
    comparison: &Comparison,
    origin: &Origin<'_>,
) -> Result<Draft, PackError> {
    let (parent, parts) = (origin.parent.manifest(), &quantized.parts);
    let (preprocess, postprocess) = (parts.preprocess.clone(), parts.postprocess.clone());
    let mut manifest = Manifest::new(&parent.name, &parts.network, preprocess, postprocess);
    manifest.created.clone_from(&origin.created);
    manifest.description.clone_from(&parent.description);
    manifest.quantization.clone_from(&parts.quantization);
    manifest.metrics.clone_from(&evaluation.metrics);
    manifest.reference = parent.reference.clone();
    let settings = parent.evaluation.clone().unwrap_or_default();
    manifest.evaluation = Some(EvaluationSettings {
        split: evaluation.split.clone(),
        samples: evaluation.samples as u64,
        device: predictor.device().to_string(),
        precision: "int8".to_owned(),
        kernels: Some(predictor.kernels().to_string()),
        batch_size: predictor.pass_rows() as u64,
        ..settings
    });
    manifest.samples = samples(parent, predictor)?;
    manifest.lineage = Lineage {
        parent: Some(format!("{}@{}", parent.name, parent.version)),
        run: None,
        config_sha256: Some(origin.config_sha256.clone()),
        crates: train::run::crate_versions(),
        device: Some(predictor.device().to_string()),
        precision: Some("int8".to_owned()),
        ..parent.lineage.clone()
    };
    let mut reports = BTreeMap::from([(COMPRESSION_FILE.to_owned(), serde_json::to_value(comparison)?)]);
    if let Some(profile) = predictor.profile() {
        reports.insert(PROFILE_FILE.to_owned(), serde_json::to_value(profile)?);
    }
    let evaluation = serde_json::to_value(evaluation)?;
    Ok(Draft { manifest, weights: parts.weights.clone(), evaluation, card: String::new(), reports })
}

/// The samples of the parent with the logits that the model gives now.
fn samples(parent: &Manifest, predictor: &Predictor) -> Result<Vec<Sample>, PackError> {
    if parent.samples.is_empty() {
        return Ok(Vec::new());
    }
    let inputs: Vec<RawInput> =
        parent.samples.iter().map(|sample| sample.input.to_raw()).collect::<Result<_, _>>()?;
    let prepared = predictor.prepare(&inputs).map_err(PredictError::from)?;
    let outputs = predictor.infer(&[prepared])?;
    let logits = outputs.first().and_then(|output| output.tensor.as_f32()).unwrap_or_default();
    let width = (logits.len() / inputs.len()).max(1);
    let keep =
        |(sample, logits): (&Sample, &[f32])| Sample { input: sample.input.clone(), logits: logits.to_vec() };
    Ok(parent.samples.iter().zip(logits.chunks_exact(width)).map(keep).collect())
}
