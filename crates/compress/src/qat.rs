//! Quantization-aware training: the network is trained as it will run in int8 (Jacob et al. 2018, section 3).
//!
//! Batch normalisation is folded first, so what is trained is what runs. Which values are bytes is asked of the engine,
//! and they are rounded in training exactly there; [`Agreement`] says how close the two come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::{CompileError, Options, Plan, Program, RunError};
use network::fold::{FoldError, fold_batch_norm, with_biases};
use network::quantization::{Calibration, CalibrationMethod, QuantizationError};
use network::quantization::{dequantize, int8_outputs, quantize_weights};
use network::spec::Op;
use network::{Affine, Network, Quantization, Tensor, Weights};
use predict::{DeviceSpec, Parts, PredictError, Predictor};
use serde::{Deserialize, Serialize};
use train::data::{DataError, DataSet};
use train::fit::hold::{Mask, Sparsify};
use train::fit::{Constraint, FitError, RangeRule, simulate};

use crate::calibrate::sample::prepared;
use crate::config::{CONFIG_VERSION, GateConfig};
use crate::distill::{DistillError, TeachingConfig, nested, taught};
use crate::finetune::{
    FakeQuantization, FinetuneConfig, FinetuneError, FinetuneHooks, Finetuned, Guidance, finetune,
};
use crate::judge;
use crate::names::{UnknownLayer, matching_any};

/// The most samples that training's arithmetic and the engine's are compared on.
const COMPARED: usize = 512;

/// What a person writes; `configs/compress/qat.toml` says what the keys mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QatConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// How the ranges of values follow training.
    pub ranges: RangesConfig,
    /// Layers that stay floats: names, or beginnings of names with a `*` behind.
    pub float: Vec<String>,
    /// With this table, the network as it was before, or another, teaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teaching: Option<TeachingConfig>,
    /// How the weights are trained.
    pub finetune: FinetuneConfig,
    /// What may be lost.
    pub gate: GateConfig,
}

/// How the ranges of values follow training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RangesConfig {
    /// What moves them.
    pub rule: RangesRule,
    /// The share of the old range that is kept with every batch, in [0, 1); for `moving-average`.
    pub momentum: f64,
    /// How many samples of the training split give the ranges that training begins with.
    pub samples: usize,
    /// After this share of the steps, from 0 to 1, ranges stand still.
    pub freeze_after: f64,
}

/// What moves the ranges of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangesRule {
    /// The least and the greatest of each batch.
    #[default]
    MovingAverage,
    /// Gradients.
    Learned,
}

impl Default for QatConfig {
    fn default() -> Self {
        let mut finetune = FinetuneConfig { epochs: 5, ..FinetuneConfig::default() };
        // The network is trained already and has only to move to the grid.
        finetune.optimizer.learning_rate = 1e-4;
        Self {
            version: CONFIG_VERSION,
            ranges: RangesConfig::default(),
            float: Vec::new(),
            teaching: None,
            finetune,
            gate: GateConfig { max_drop: 0.2 },
        }
    }
}

impl Default for RangesConfig {
    fn default() -> Self {
        Self { rule: RangesRule::default(), momentum: 0.99, samples: 512, freeze_after: 0.8 }
    }
}

/// A training that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum QatError {
    #[error(transparent)]
    Layer(#[from] UnknownLayer),
    #[error("no layer can run in int8: {reason}")]
    NoLayer { reason: String },
    #[error("the network has {found} inputs, and training samples have one")]
    Inputs { found: usize },
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Plan(#[from] QuantizationError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Teacher(#[from] DistillError),
    #[error(transparent)]
    Finetune(#[from] FinetuneError),
    #[error("what was trained cannot be looked at")]
    Simulate(#[from] FitError),
}

/// A network that was trained for int8, not packed yet.
#[derive(Clone, Debug)]
pub struct Aware {
    /// The network with its weights as integers, and the plan.
    pub parts: Parts,
    /// The same in floats: what was trained, before it was rounded for good.
    pub floats: Parts,
    /// How it was trained; its scores are those of the rounded network.
    pub tuned: Finetuned,
    /// How close the engine comes to what was trained.
    pub agreement: Agreement,
}

/// Training's arithmetic beside the engine's, on the same samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// How many samples were compared.
    pub samples: usize,
    /// The share of them with the same greatest output.
    pub same: f64,
    /// The largest difference of an output, as a share of the largest output.
    pub difference: f64,
}

impl QatConfig {
    /// The first value that cannot be: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        let RangesConfig { momentum, samples, freeze_after, .. } = self.ranges;
        let checks = [
            (self.version != CONFIG_VERSION, "version", "must be 1"),
            (!(0.0..1.0).contains(&momentum), "ranges.momentum", "must be in [0, 1)"),
            (!(1..=1 << 20).contains(&samples), "ranges.samples", "must be from 1 to 1048576"),
            (!(0.0..=1.0).contains(&freeze_after), "ranges.freeze_after", "must be from 0 to 1"),
        ];
        if let Some((_, key, message)) = checks.into_iter().find(|(wrong, _, _)| *wrong) {
            return Some((key.to_owned(), message.to_owned()));
        }
        let teaching = self.teaching.as_ref().and_then(|teaching| teaching.fault("teaching"));
        teaching.or_else(|| nested("finetune", self.finetune.fault())).or_else(|| self.gate.fault())
    }
}

/// Trains a model of floats for int8. Weights that are zero stay zero. `start` is a plan to begin with, such as that
/// of [`quantize`](crate::quantize::quantize): its layers and its ranges; without it all layers that can are int8. With
/// a teacher, or where the configuration asks for one, its answers are learned from.
///
/// # Errors
/// When no layer can run in int8, the configuration does not fit the network or the data, or the training fails.
pub fn qat(
    parts: &Parts,
    data: &DataSet,
    config: &QatConfig,
    start: Option<&Quantization>,
    teacher: Option<&Parts>,
    hooks: &mut FinetuneHooks<'_>,
) -> Result<Aware, QatError> {
    if parts.quantization.is_some() {
        return Err(FinetuneError::Quantized.into());
    }
    let distillation = taught(parts, config.teaching.as_ref(), teacher)?;
    let (network, weights) = fold_batch_norm(&parts.network, &parts.weights)?;
    let (network, weights) = with_biases(&network, &weights)?;
    let folded = Parts { network, weights, ..parts.clone() };
    let layers = int8_layers(&folded.network, &config.float, start)?;
    let samples = train::data::draw(&data.splits.train, config.ranges.samples, config.finetune.seed);
    if samples.is_empty() {
        return Err(FinetuneError::NoSamples.into());
    }
    let mut activations = ranges(&folded, &rows(&folded, data, &samples)?)?;
    if let Some(start) = start {
        activations.extend(start.activations.clone());
    }
    let method = match config.ranges.rule {
        RangesRule::MovingAverage => CalibrationMethod::MovingAverage,
        RangesRule::Learned => CalibrationMethod::Learned,
    };
    let calibration = Calibration::new(method, data.splits.train.len(), config.finetune.seed);
    let mut plan = Quantization::calibrated(layers, activations, calibration);
    let used = program(&folded.network, &folded.weights, &plan)?.byte_values().clone();
    plan.activations.retain(|name, _| used.contains(name));

    let simulation = FakeQuantization {
        layers: plan.layers.iter().cloned().collect(),
        activations: plan.activations.clone(),
        ranges: match config.ranges.rule {
            RangesRule::MovingAverage => RangeRule::MovingAverage { momentum: config.ranges.momentum },
            RangesRule::Learned => RangeRule::Learned,
        },
        freeze_after: config.ranges.freeze_after,
    };
    let guidance = Guidance {
        distillation,
        constraint: zeros(&folded.weights),
        fake_quantization: Some(simulation.clone()),
    };
    let mut tuning = config.finetune.clone();
    tuning.freeze.extend(left_norms(&folded.network));
    let tuned = finetune(&folded, data, &tuning, guidance, hooks)?;
    plan.activations.clone_from(&tuned.activations);
    let floats = Parts { weights: tuned.weights.clone(), ..folded };
    let weights = quantize_weights(&floats.network, &plan.layers, &floats.weights)?;
    let parts = Parts { weights, quantization: Some(plan), ..floats.clone() };

    let watched = train::data::draw(judge::choosing(data).1, COMPARED, config.finetune.seed);
    let simulation = FakeQuantization { activations: tuned.activations.clone(), ..simulation };
    let agreement = agreement(&floats, &parts, &simulation, &rows(&floats, data, &watched)?)?;
    Ok(Aware { parts, floats, tuned, agreement })
}

/// The layers that will be int8.
fn int8_layers(
    network: &Network,
    float: &[String],
    start: Option<&Quantization>,
) -> Result<Vec<String>, QatError> {
    let float = matching_any(network, float, "float")?;
    let chosen = |name: &String| start.is_none_or(|start| start.layers.contains(name));
    let all = network.spec().all_layers().into_iter();
    let can = all.filter(|layer| int8_outputs(&layer.op).is_ok());
    let layers: Vec<String> =
        can.map(|layer| layer.name.clone()).filter(|name| !float.contains(name) && chosen(name)).collect();
    if layers.is_empty() {
        let reason = match float.is_empty() {
            true => "there are no dense layers and no convolutions of one group",
            false => "`float` keeps all that could in floats",
        };
        return Err(QatError::NoLayer { reason: reason.to_owned() });
    }
    Ok(layers)
}

/// Normalisations that could not be folded: they run with their statistics, so they are trained with them.
fn left_norms(network: &Network) -> Vec<String> {
    let layers = network.spec().all_layers().into_iter();
    layers.filter(|layer| matches!(layer.op, Op::BatchNorm(_))).map(|layer| layer.name.clone()).collect()
}

/// Holds the zeros of a network that has some among its weights.
fn zeros(weights: &Weights) -> Option<Arc<dyn Constraint>> {
    let has_zeros = |(key, tensor): &(&String, &Tensor)| {
        key.ends_with(".weight") && tensor.as_f32().is_some_and(|values| values.contains(&0.0))
    };
    let keys: BTreeSet<String> = weights.iter().filter(has_zeros).map(|(key, _)| key.clone()).collect();
    if keys.is_empty() {
        return None;
    }
    Some(Arc::new(Sparsify::keep(Mask::of(weights, &keys))))
}

/// Prepared samples, row after row.
fn rows(parts: &Parts, data: &DataSet, indices: &[usize]) -> Result<Vec<f32>, QatError> {
    prepared(&Predictor::from_parts(parts.clone(), DeviceSpec::Cpu)?, data, indices)
}

/// From the least to the greatest of every value.
fn ranges(parts: &Parts, rows: &[f32]) -> Result<BTreeMap<String, Affine>, QatError> {
    let program = Program::compile(&parts.network, &parts.weights, Options::default())?;
    let [input] = program.inputs() else {
        return Err(QatError::Inputs { found: program.inputs().len() });
    };
    let mut seen: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    for rows in rows.chunks(input.values * 64) {
        program.observe(&[rows], rows.len() / input.values, &mut |name, values| {
            let least = values.iter().copied().fold(f32::INFINITY, f32::min);
            let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let ends = seen.entry(name.to_owned()).or_insert((least, most));
            *ends = (ends.0.min(least), ends.1.max(most));
        })?;
    }
    Ok(seen.into_iter().map(|(name, (least, most))| (name, Affine::covering(least, most))).collect())
}

/// The network of floats as the engine will run it in int8.
fn program(network: &Network, weights: &Weights, plan: &Quantization) -> Result<Program, QatError> {
    let quantized = quantize_weights(network, &plan.layers, weights)?;
    let floats = dequantize(network, plan, &quantized)?;
    Ok(Program::compile_int8(network, &floats, &Plan::new(plan, &quantized), Options::default())?)
}

/// Runs prepared rows through both.
fn agreement(
    floats: &Parts,
    int8: &Parts,
    simulation: &FakeQuantization,
    rows: &[f32],
) -> Result<Agreement, QatError> {
    let shape = floats.network.input_shape();
    let samples = rows.len() / shape.iter().product::<usize>().max(1);
    let shape: Vec<usize> = std::iter::once(samples).chain(shape.iter().copied()).collect();
    let trained = simulate(&floats.network, &floats.weights, simulation, &shape, rows)?;
    let predictor = Predictor::from_parts(int8.clone(), DeviceSpec::Cpu)?;
    let name = predictor.signature().inputs.first().map(|input| input.name.clone()).unwrap_or_default();
    let tensor = Tensor::from_f32(shape, rows.to_vec());
    let tensor = tensor.map_err(|error| PredictError::Internal { reason: error.to_string() })?;
    let outputs = predictor.infer(&[network::NamedTensor { name, tensor }])?;
    let served = outputs.first().and_then(|output| output.tensor.as_f32()).unwrap_or_default();
    let width = (served.len() / samples.max(1)).max(1);
    let pairs = trained.chunks_exact(width).zip(served.chunks_exact(width));
    let same = pairs.filter(|(a, b)| greatest(a) == greatest(b)).count();
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0f32, |most, v| most.max(v.abs()));
    let difference = largest(&mut trained.iter().zip(served).map(|(a, b)| a - b));
    let size = largest(&mut trained.iter().copied()).max(f32::MIN_POSITIVE);
    let same = same as f64 / samples.max(1) as f64;
    Ok(Agreement { samples, same, difference: f64::from(difference) / f64::from(size) })
}

/// The place of the greatest output; of a single one, whether it is above 0.
fn greatest(outputs: &[f32]) -> usize {
    match outputs {
        [one] => usize::from(*one > 0.0),
        _ => outputs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(place, _)| place),
    }
}
