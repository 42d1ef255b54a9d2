//! From a candidate to the draft of a package: scored and timed beside its parent, once, on the thing that is served.
//!
//! Every method of this crate ends here, so that a gain or a loss means the same whatever made it. Nothing is
//! published: the caller looks at [`Finished::fault`] and takes [`Finished::draft`] to the registry.

use std::collections::BTreeMap;

use artifact::manifest::{COMPRESSION_FILE, Observed, PROFILE_FILE, SampleError};
use artifact::registry::Encoding;
use artifact::{Draft, EvaluationSettings, Lineage, LineageStep, Manifest, Package, RecordError, Sample};
use network::{RawInput, Weights};
use predict::{DeviceSpec, Parts, PredictError, Predictor};
use train::data::DataSet;
use train::evaluate::{EvaluateError, Evaluation, evaluate};
use train::observed::observe_outputs;

use crate::compare::latencies;
use crate::report::{Comparison, Findings};
use crate::side::{Side, record_bytes};

/// How often each side is timed.
const TURNS: usize = 31;

/// A model that a method made, chosen without a look at the test split.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The method, such as `quantize`.
    pub method: &'static str,
    /// The network with its weights as the record will hold them.
    pub parts: Parts,
    /// What was asked for.
    pub config: serde_json::Value,
    /// What was done, in order.
    pub steps: Vec<LineageStep>,
    /// How far the headline metric fell on the samples that chose, in the units of [`drop_between`].
    pub drop: f64,
    /// The split that those samples are of.
    pub chosen_on: &'static str,
    /// How far it may fall on the test split; without it, as far as it likes.
    pub max_drop: Option<f64>,
    /// Whether its record goes through the codec: smaller where weights are sparse, shared or integers.
    pub coded: bool,
    /// What the method found out on the way.
    pub findings: Findings,
}

/// A candidate that cannot be measured or packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one step")]
pub enum FinishError {
    #[error("a sample of the parent cannot be used")]
    Sample(#[from] SampleError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error("the record cannot be read or written")]
    Record(#[from] RecordError),
    #[error("the record cannot be coded")]
    Codec(#[from] artifact::codec::CodecError),
    #[error(transparent)]
    Observe(#[from] train::observed::ObserveError),
    #[error(transparent)]
    Package(#[from] artifact::PackageError),
    #[error("a report cannot be written")]
    Json(#[from] serde_json::Error),
}

/// A candidate beside its parent.
pub struct Finished<'a> {
    parent: &'a Package,
    parts: Parts,
    predictor: Predictor,
    evaluation: Evaluation,
    observed: Option<Observed>,
    max_drop: Option<f64>,
    coded: bool,
    /// Both in numbers.
    pub comparison: Comparison,
}

/// Scores both on the test split, in full, and times them in turns. `progress` hears how many of how many samples
/// are scored.
///
/// # Errors
/// When either cannot answer.
pub fn finish<'a>(
    parent: &'a Package,
    candidate: Candidate,
    data: &DataSet,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Finished<'a>, FinishError> {
    let before = Predictor::from_package(parent, DeviceSpec::Cpu)?;
    let after = Predictor::from_parts(candidate.parts.clone(), DeviceSpec::Cpu)?;
    let indices = &data.splits.test;
    let mut score = |model: &Predictor, already: usize| {
        evaluate(model, data, "test", indices, &mut |done| progress(already + done, 2 * indices.len()))
    };
    let (scored_before, scored_after) = (score(&before, 0)?, score(&after, indices.len())?);
    let [latency_before, latency_after] = in_turns(&before, &after)?;
    let manifest = parent.manifest();
    // The candidate reads what its parent reads, and gives answers of its own.
    let observed = manifest.reference.observed.clone();
    let observed = observed.map(|inputs| observe_outputs(inputs, data, &after)).transpose()?;
    let name = format!("{}@{}", manifest.name, manifest.version);
    let bytes = file_bytes(&candidate.parts.weights, candidate.coded)?;
    let weights = parent.weights()?;
    let comparison = Comparison {
        method: candidate.method,
        config: candidate.config,
        before: Side::new(name, &before, &weights, &scored_before, record_bytes(parent), latency_before),
        after: Side::new(
            "candidate".to_owned(),
            &after,
            &candidate.parts.weights,
            &scored_after,
            bytes,
            latency_after,
        ),
        chosen_on: candidate.chosen_on,
        drop_choosing: candidate.drop,
        drop_test: drop_between(&scored_before, &scored_after),
        steps: candidate.steps,
        findings: candidate.findings,
    };
    Ok(Finished {
        parent,
        parts: candidate.parts,
        predictor: after,
        evaluation: scored_after,
        observed,
        max_drop: candidate.max_drop,
        coded: candidate.coded,
        comparison,
    })
}

/// Bytes of the file that holds these weights.
///
/// # Errors
/// When they cannot be written.
pub fn file_bytes(weights: &Weights, coded: bool) -> Result<u64, FinishError> {
    let bytes = if coded { artifact::codec::encode(weights)? } else { artifact::record::encode(weights)? };
    Ok(bytes.len() as u64)
}

fn in_turns(
    before: &Predictor,
    after: &Predictor,
) -> Result<[Vec<crate::compare::Latency>; 2], PredictError> {
    let mut measured = latencies(&[before, after], TURNS)?.into_iter();
    Ok([measured.next().unwrap_or_default(), measured.next().unwrap_or_default()])
}

/// How much worse the headline metric is: percentage points for shares, per cent for the error of a regression;
/// below 0 where it is better.
#[must_use]
pub fn drop_between(before: &Evaluation, after: &Evaluation) -> f64 {
    let ((name, before), (_, after)) = (before.headline(), after.headline());
    let worse =
        if name == "mae" { (after - before) / before.abs().max(f64::MIN_POSITIVE) } else { before - after };
    100.0 * worse
}

impl Finished<'_> {
    /// Why the candidate is not to be packed: more than the gate allows is lost on the test split.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let (drop, allowed) = (self.comparison.drop_test, self.max_drop?);
        (drop > allowed).then(|| {
            format!("nothing is packed: on the test split {drop:.3} is lost, and {allowed} is allowed")
        })
    }

    /// The draft of a package named `name`: everything of the parent but the weights, the layers, the scores, and
    /// the logits of its samples. `config_sha256` is the digest of the configuration, `created` the time as the
    /// caller tells it.
    ///
    /// # Errors
    /// When the samples of the parent cannot be answered.
    pub fn draft(
        &self,
        name: &str,
        config_sha256: String,
        created: Option<String>,
    ) -> Result<Draft, FinishError> {
        let (parent, parts) = (self.parent.manifest(), &self.parts);
        let (preprocess, postprocess) = (parts.preprocess.clone(), parts.postprocess.clone());
        let mut manifest = Manifest::new(name, &parts.network, preprocess, postprocess);
        manifest.created = created;
        manifest.description.clone_from(&parent.description);
        manifest.quantization.clone_from(&parts.quantization);
        manifest.metrics.clone_from(&self.evaluation.metrics);
        manifest.reference = parent.reference.clone();
        manifest.reference.observed.clone_from(&self.observed);
        let settings = parent.evaluation.clone().unwrap_or_default();
        let precision = self.predictor.precision_name();
        manifest.evaluation = Some(EvaluationSettings {
            split: self.evaluation.split.clone(),
            samples: self.evaluation.samples as u64,
            device: self.predictor.device().to_string(),
            precision: precision.to_owned(),
            kernels: Some(self.predictor.kernels().to_string()),
            batch_size: self.predictor.pass_rows() as u64,
            ..settings
        });
        manifest.samples = samples(parent, &self.predictor)?;
        manifest.lineage = Lineage {
            parent: Some(format!("{}@{}", parent.name, parent.version)),
            run: None,
            config_sha256: Some(config_sha256),
            crates: train::run::crate_versions(),
            device: Some(self.predictor.device().to_string()),
            precision: Some(precision.to_owned()),
            steps: self.comparison.steps.clone(),
            ..parent.lineage.clone()
        };
        let comparison = serde_json::to_value(&self.comparison)?;
        let mut reports = BTreeMap::from([(COMPRESSION_FILE.to_owned(), comparison)]);
        if let Some(profile) = self.predictor.profile() {
            reports.insert(PROFILE_FILE.to_owned(), serde_json::to_value(profile)?);
        }
        let evaluation = serde_json::to_value(&self.evaluation)?;
        let encoding = if self.coded { Encoding::Coded } else { Encoding::Plain };
        Ok(Draft { evaluation, reports, encoding, ..Draft::new(manifest, parts.weights.clone()) })
    }
}

/// The samples of the parent with the logits that the model gives now.
fn samples(parent: &Manifest, predictor: &Predictor) -> Result<Vec<Sample>, FinishError> {
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
