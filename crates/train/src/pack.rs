//! From a finished training to the draft of a package.

use std::collections::BTreeMap;
use std::path::Path;

use artifact::manifest::{MAX_SAMPLES, PROFILE_FILE, SampleError};
use artifact::{Draft, EvaluationSettings, FileError, Lineage, Manifest, Sample, SampleInput};
use model::DeviceSpec;
use network::RawInput;
use predict::Predictor;

use crate::config::TrainConfig;
use crate::data::{DataError, DataSet, Target, statistics};
use crate::evaluate::{Evaluation, headline};
use crate::fit::Fitted;
use crate::observed::{self, ObserveError};
use crate::prepare::Prepared;
use crate::run::RunRecord;

/// What the package says about where it comes from.
pub struct Origin<'a> {
    /// The configuration.
    pub config: &'a TrainConfig,
    /// The run.
    pub record: &'a RunRecord,
    /// The device on which it was trained and scored.
    pub device: DeviceSpec,
    /// The time, as the caller tells it.
    pub created: Option<String>,
}

/// A package that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one step")]
pub enum PackError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Predict(#[from] predict::PredictError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error("a sample cannot be kept")]
    Sample(#[from] SampleError),
    #[error("the evaluation cannot be written")]
    Json(#[from] serde_json::Error),
}

/// Makes sure that a package of this name could be written: makes the registry's folder and writes a small
/// file where the package would appear, which goes away again.
///
/// # Errors
/// When the folder cannot be made or written.
pub fn check_place(root: &Path, name: &str) -> Result<(), FileError> {
    std::fs::create_dir_all(root).map_err(|source| FileError {
        action: "create directory",
        path: root.to_owned(),
        source,
    })?;
    let model = root.join(name);
    // The first package makes the model's folder; until then nothing of it should be seen.
    let place = if model.symlink_metadata().is_ok() { model } else { root.to_owned() };
    let probe = || {
        let folder =
            tempfile::Builder::new().prefix(artifact::atomic::TEMPORARY_PREFIX).tempdir_in(&place)?;
        std::fs::write(folder.path().join("probe"), [0; 4096])?;
        folder.close()
    };
    probe().map_err(|source| FileError { action: "write in", path: place.clone(), source })
}

/// The draft of the package.
///
/// # Errors
/// When samples cannot be read or predicted.
pub fn draft(
    prepared: &Prepared,
    fitted: &Fitted,
    evaluation: &Evaluation,
    predictor: &Predictor,
    origin: &Origin<'_>,
) -> Result<Draft, PackError> {
    let Origin { config, record, device, created } = origin;
    let data = &prepared.data;
    let mut manifest = Manifest::new(
        &config.name,
        &prepared.network,
        prepared.preprocess.clone(),
        prepared.postprocess.clone(),
    );
    manifest.created.clone_from(created);
    manifest.description = config.description.clone().unwrap_or_default();
    manifest.metrics = evaluation.metrics.clone();
    manifest.evaluation = Some(EvaluationSettings {
        split: evaluation.split.clone(),
        samples: evaluation.samples as u64,
        metric: headline(data.task).to_owned(),
        device: device.to_string(),
        precision: "f32".to_owned(),
        kernels: Some(predictor.kernels().to_string()),
        batch_size: predictor.pass_rows() as u64,
        data: serde_json::to_value(&config.data)?,
    });
    manifest.reference = statistics::reference(data, &prepared.preprocess)?;
    manifest.reference.observed = Some(observed::observe(data, predictor)?);
    if data.redistributable {
        manifest.samples = samples(data, predictor)?;
    }
    let described = [&data.origin.citation, &data.origin.licence];
    let described: Vec<&str> =
        described.into_iter().filter(|text| !text.is_empty()).map(String::as_str).collect();
    manifest.lineage = Lineage {
        parent: record.parent.clone(),
        run: Some(record.id.clone()),
        config_sha256: Some(record.config_sha256.clone()),
        data: Some(data.name.clone()),
        data_origin: (!described.is_empty()).then(|| described.join("; ")),
        data_sha256: Some(data.sha256.clone()),
        seed: Some(record.seed),
        crates: record.crates.clone(),
        device: Some(device.to_string()),
        precision: Some("f32".to_owned()),
        steps: Vec::new(),
    };
    let evaluation = serde_json::to_value(evaluation)?;
    let mut reports = BTreeMap::new();
    if let Some(profile) = predictor.profile() {
        reports.insert(PROFILE_FILE.to_owned(), serde_json::to_value(profile)?);
    }
    Ok(Draft { evaluation, reports, ..Draft::new(manifest, fitted.weights.clone()) })
}

/// Sixteen test samples, as many classes among them as fit, with the logits of the finished model.
fn samples(data: &DataSet, predictor: &Predictor) -> Result<Vec<Sample>, PackError> {
    let chosen = choose(data)?;
    let inputs = chosen.iter().map(|&index| data.source.read(index)).collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    let prepared = predictor.prepare(&inputs).map_err(predict::PredictError::from)?;
    let outputs = predictor.infer(&[prepared])?;
    let logits = outputs.first().and_then(|output| output.tensor.as_f32()).unwrap_or_default();
    let width = (logits.len() / inputs.len()).max(1);
    let keep = |(input, logits): (&RawInput, &[f32])| {
        Ok(Sample { input: SampleInput::from_raw(input)?, logits: logits.to_vec() })
    };
    inputs.iter().zip(logits.chunks_exact(width)).map(keep).collect()
}

/// Takes one sample of each class in turn until there are enough.
fn choose(data: &DataSet) -> Result<Vec<usize>, DataError> {
    let mut by_class: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &index in &data.splits.test {
        let class = match data.source.target(index)? {
            Target::Class(class) => class,
            Target::Labels(labels) => labels.iter().position(|on| *on).unwrap_or(labels.len()),
            Target::Values(_) => 0,
        };
        by_class.entry(class).or_default().push(index);
    }
    let mut chosen = Vec::new();
    for turn in 0.. {
        let before = chosen.len();
        chosen.extend(by_class.values().filter_map(|indices| indices.get(turn)));
        if chosen.len() == before || chosen.len() >= MAX_SAMPLES {
            break;
        }
    }
    chosen.truncate(MAX_SAMPLES);
    Ok(chosen)
}
