//! Static post-training quantization to int8 (Jacob et al. 2018; Nagel et al. 2021, section 3).
//!
//! Weights are symmetric with a scale for each output channel, activations asymmetric with a zero that is a byte,
//! both found from data without training. A layer stays in floats where the engine has no int8 kernel for it, where
//! it is slower in int8 on this machine, or where the accuracy on the validation split asks for it, the most
//! harmful layer first. The choice is fixed in the package, so that answers do not depend on the machine.

use std::collections::BTreeMap;

use engine::{CompileError, Options, Plan, Program, RunError};
use network::fold::{FoldError, fold_batch_norm, with_biases};
use network::quantization::{Affine, Calibration, CalibrationMethod, Quantization, QuantizationError};
use network::quantization::{dequantize, quantize_weights};
use network::spec::Op;
use network::{Network, RawInput, Weights};
use predict::{DeviceSpec, Parts, PredictError, Predictor};
use serde::Serialize;
use train::data::{DataError, DataSet};
use train::evaluate::{EvaluateError, evaluate};

use crate::calibrate;
use crate::config::QuantizeConfig;
use crate::finish::drop_between;
use crate::speed::{relative, slower};

/// The most validation samples that choose which layers stay floats.
const CHOOSING_SAMPLES: usize = 5_000;

/// A quantization that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum QuantizeError {
    #[error("{model} is quantized already; quantize the package that it was made from{}", hint(parent))]
    Quantized { model: String, parent: Option<String> },
    #[error("no layer can run in int8: {reason}")]
    NoLayer { reason: String },
    #[error(
        "no layer can run in int8: with any the headline metric falls by {drop:.3}, and {allowed} is allowed"
    )]
    TooLossy { drop: f64, allowed: f64 },
    #[error("`{pattern}` in `layers.float` names no layer; there are {known}")]
    UnknownLayer { pattern: String, known: String },
    #[error("the {split} split has no samples, and quantization needs some to {purpose}")]
    NoSamples { split: &'static str, purpose: &'static str },
    #[error("activation `{name}` is {value} for a training sample, so it has no range")]
    NotFinite { name: String, value: f32 },
    #[error("the network has {found} inputs, and calibration samples have one")]
    Inputs { found: usize },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    Plan(#[from] QuantizationError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

fn hint(parent: &Option<String>) -> String {
    parent.as_ref().map_or_else(String::new, |parent| format!(", {parent}"))
}

/// What became of one layer with weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerChoice {
    /// Its name.
    pub layer: String,
    /// Its type: `dense`, `conv2d`.
    pub kind: &'static str,
    /// Multiply–accumulates for one sample.
    pub macs: u64,
    /// `int8` or `f32`.
    pub precision: &'static str,
    /// Why it stays in floats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its quantization alone costs: the signal-to-quantization-noise ratio of the network's outputs, in
    /// decibels, over the calibration samples. Infinite ones are left out: nothing is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqnr_db: Option<f64>,
}

/// A quantized network, not packed yet.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The network with its weights as the record will hold them, and the plan.
    pub parts: Parts,
    /// Every layer with weights.
    pub layers: Vec<LayerChoice>,
    /// How far the headline metric fell on the samples that chose the layers, in the units of the gate.
    pub drop: f64,
    /// The split that those samples are of.
    pub chosen_on: &'static str,
}

/// What is going on, for the display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Running samples to see the activations.
    Calibrate {
        /// How many.
        samples: usize,
    },
    /// Comparing the speed of layers in floats and in int8.
    Time,
    /// Quantizing one layer alone, to see what it costs.
    Sensitivity {
        /// Its name.
        layer: &'a str,
    },
    /// Scoring the choice on samples of the validation split, or of the training split where there is none.
    Score {
        /// How many layers are in int8.
        int8: usize,
        /// The split that they are of.
        part: &'static str,
    },
}

/// Quantizes a model of floats: `parts` with the data that it was trained on.
///
/// # Errors
/// When the model cannot be quantized, or there is no data to do it with.
pub fn quantize(
    parts: &Parts,
    data: &DataSet,
    config: &QuantizeConfig,
    stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Quantized, QuantizeError> {
    let (network, weights) = fold_batch_norm(&parts.network, &parts.weights)?;
    let (network, weights) = with_biases(&network, &weights)?;
    let mut work = Work::new(network, weights, config)?;
    let floats = Predictor::from_parts(work.parts_of_floats(parts), DeviceSpec::Cpu)?;
    work.some_layer()?;

    let chosen = train::data::draw(&data.splits.train, config.calibration.samples, config.calibration.seed);
    if chosen.is_empty() {
        return Err(QuantizeError::NoSamples { split: "training", purpose: "calibrate with" });
    }
    stage(Stage::Calibrate { samples: chosen.len() });
    let rows = prepare(&floats, data, &chosen)?;
    work.calibrate(&rows, chosen.len(), config)?;

    if config.layers.faster_only {
        stage(Stage::Time);
        work.keep_slow_layers_in_floats()?;
        work.some_layer()?;
    }
    work.measure_each_alone(&rows, stage)?;

    // Without a validation split the training split chooses; the test split never does.
    let (part, choosing) = match data.splits.validation.is_empty() {
        false => ("validation", &data.splits.validation),
        true => ("train", &data.splits.train),
    };
    let choosing = train::data::draw(choosing, CHOOSING_SAMPLES, config.calibration.seed);
    let before = evaluate(&floats, data, part, &choosing, &mut |_| ())?;
    loop {
        stage(Stage::Score { int8: work.candidates().count(), part });
        let parts = work.parts(parts)?;
        let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu)?;
        let after = evaluate(&predictor, data, part, &choosing, &mut |_| ())?;
        let drop = drop_between(&before, &after);
        if drop <= config.gate.max_drop {
            return Ok(Quantized { parts, layers: work.choices, drop, chosen_on: part });
        }
        if !work.give_up_the_most_harmful(drop, config.gate.max_drop) {
            return Err(QuantizeError::TooLossy { drop, allowed: config.gate.max_drop });
        }
    }
}

/// Prepared calibration samples, row after row.
fn prepare(predictor: &Predictor, data: &DataSet, indices: &[usize]) -> Result<Vec<f32>, QuantizeError> {
    let mut rows = Vec::new();
    for batch in indices.chunks(256) {
        let inputs: Vec<RawInput> =
            batch.iter().map(|&index| data.source.read(index)).collect::<Result<_, _>>()?;
        let prepared = predictor.prepare(&inputs).map_err(PredictError::from)?;
        rows.extend_from_slice(prepared.tensor.as_f32().unwrap_or_default());
    }
    Ok(rows)
}

/// A quantization under way.
struct Work {
    network: Network,
    /// Floats, with batch normalisation folded.
    weights: Weights,
    choices: Vec<LayerChoice>,
    activations: BTreeMap<String, Affine>,
    calibration: Calibration,
}

impl Work {
    fn new(network: Network, weights: Weights, config: &QuantizeConfig) -> Result<Self, QuantizeError> {
        let mut choices = Vec::new();
        for layer in network.spec().all_layers() {
            let (kind, reason) = match &layer.op {
                Op::Dense(_) => ("dense", None),
                Op::Conv2d(conv) if conv.groups == 1 => ("conv2d", None),
                Op::Conv2d(_) => ("conv2d", Some("a convolution in groups".to_owned())),
                _ => continue,
            };
            let macs =
                network.layers().iter().find(|info| info.name == layer.name).map_or(0, |info| info.macs);
            let precision = if reason.is_none() { "int8" } else { "f32" };
            choices.push(LayerChoice {
                layer: layer.name.clone(),
                kind,
                macs,
                precision,
                reason,
                sqnr_db: None,
            });
        }
        let known = choices.iter().map(|choice| format!("`{}`", choice.layer)).collect::<Vec<_>>().join(", ");
        for pattern in &config.layers.float {
            let matches = |name: &str| match pattern.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == pattern,
            };
            let mut found = false;
            for choice in choices.iter_mut().filter(|choice| matches(&choice.layer)) {
                found = true;
                choice.keep("the configuration says so".to_owned());
            }
            if !found {
                return Err(QuantizeError::UnknownLayer { pattern: pattern.clone(), known });
            }
        }
        let method = config.calibration.method;
        let calibration = Calibration {
            method,
            percentile: (method == CalibrationMethod::Percentile).then_some(config.calibration.percentile),
            samples: 0,
            split: "train".to_owned(),
            seed: config.calibration.seed,
        };
        Ok(Self { network, weights, choices, activations: BTreeMap::new(), calibration })
    }

    fn candidates(&self) -> impl Iterator<Item = &str> {
        self.choices.iter().filter(|choice| choice.precision == "int8").map(|choice| choice.layer.as_str())
    }

    /// An error when no layer is left for int8.
    fn some_layer(&self) -> Result<(), QuantizeError> {
        if self.candidates().next().is_some() {
            return Ok(());
        }
        let reason = self.choices.iter().find_map(|choice| choice.reason.clone());
        let reason = reason.unwrap_or_else(|| "it has no dense or convolution layers".to_owned());
        Err(QuantizeError::NoLayer { reason })
    }

    fn parts_of_floats(&self, parts: &Parts) -> Parts {
        Parts {
            network: self.network.clone(),
            preprocess: parts.preprocess.clone(),
            postprocess: parts.postprocess.clone(),
            weights: self.weights.clone(),
            quantization: None,
        }
    }

    /// The network with the present choice of layers, as a record holds it.
    fn parts(&self, parts: &Parts) -> Result<Parts, QuantizeError> {
        let layers: Vec<String> = self.candidates().map(str::to_owned).collect();
        let weights = quantize_weights(&self.network, &layers, &self.weights)?;
        // Only the ranges that this plan uses belong to it.
        let (calibration, activations) = (self.calibration.clone(), self.used_by(&layers)?);
        let quantization = Quantization { layers, activations, calibration };
        Ok(Parts { weights, quantization: Some(quantization), ..self.parts_of_floats(parts) })
    }

    /// The ranges that a plan needs: leaving any other out compiles to the same program.
    fn used_by(&self, layers: &[String]) -> Result<BTreeMap<String, Affine>, QuantizeError> {
        let program = self.program(layers)?;
        let used = program.byte_values();
        let mut activations = self.activations.clone();
        activations.retain(|name, _| used.contains(name));
        Ok(activations)
    }

    fn calibrate(
        &mut self,
        rows: &[f32],
        samples: usize,
        config: &QuantizeConfig,
    ) -> Result<(), QuantizeError> {
        let program = Program::compile(&self.network, &self.weights, Options::default())?;
        let method = config.calibration.method;
        self.activations = calibrate::ranges(&program, rows, method, config.calibration.percentile)?;
        self.calibration.samples = samples;
        Ok(())
    }

    /// The program in which these layers, and no others, run in int8.
    fn program(&self, layers: &[String]) -> Result<Program, QuantizeError> {
        let quantized = quantize_weights(&self.network, layers, &self.weights)?;
        let calibration = Calibration { samples: 1, ..self.calibration.clone() };
        let activations = self.activations.clone();
        let plan = Quantization { layers: layers.to_vec(), activations, calibration };
        let floats = dequantize(&self.network, &plan, &quantized)?;
        let plan = Plan::new(&plan, &quantized);
        Ok(Program::compile_int8(&self.network, &floats, &plan, Options::default())?)
    }

    /// Takes layers out of int8 as long as that makes the whole faster, the one that loses most time first. What
    /// counts is the whole program, for a layer that leaves int8 also moves the borders of its neighbours.
    fn keep_slow_layers_in_floats(&mut self) -> Result<(), QuantizeError> {
        let floats = self.program(&[])?;
        let mut layers: Vec<String> = self.candidates().map(str::to_owned).collect();
        let mut best = self.program(&layers)?;
        loop {
            let suspects = slower(&floats, &best, &layers);
            let mut gained = false;
            for layer in suspects {
                let without: Vec<String> = layers.iter().filter(|name| **name != layer).cloned().collect();
                let program = self.program(&without)?;
                if relative(&best, &program) < 0.99 {
                    for choice in self.choices.iter_mut().filter(|choice| choice.layer == layer) {
                        choice.keep("slower in int8 here".to_owned());
                    }
                    (layers, best, gained) = (without, program, true);
                    break;
                }
            }
            if !gained {
                return Ok(());
            }
        }
    }

    /// Quantizes each layer alone and notes what that costs.
    fn measure_each_alone(
        &mut self,
        rows: &[f32],
        stage: &mut dyn FnMut(Stage<'_>),
    ) -> Result<(), QuantizeError> {
        let reference = outputs(&self.program(&[])?, rows)?;
        let layers: Vec<String> = self.candidates().map(str::to_owned).collect();
        for layer in layers {
            stage(Stage::Sensitivity { layer: &layer });
            let found = outputs(&self.program(std::slice::from_ref(&layer))?, rows)?;
            let signal: f64 = reference.iter().map(|&value| f64::from(value).powi(2)).sum();
            let noise: f64 =
                reference.iter().zip(&found).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
            let ratio = 10.0 * (signal / noise).log10();
            for choice in self.choices.iter_mut().filter(|choice| choice.layer == layer) {
                choice.sqnr_db = Some(ratio).filter(|ratio| ratio.is_finite());
            }
        }
        Ok(())
    }

    /// Leaves the layer with the most noise in floats; `false` when that was the last one.
    fn give_up_the_most_harmful(&mut self, drop: f64, allowed: f64) -> bool {
        let noise = |choice: &LayerChoice| choice.sqnr_db.unwrap_or(f64::INFINITY);
        let int8 = self.choices.iter_mut().filter(|choice| choice.precision == "int8");
        let Some(worst) = int8.min_by(|a, b| noise(a).total_cmp(&noise(b))) else { return false };
        worst.keep(format!(
            "too lossy: with it the headline metric fell by {drop:.3}, and {allowed} is allowed"
        ));
        self.candidates().next().is_some()
    }
}

impl LayerChoice {
    fn keep(&mut self, reason: String) {
        self.precision = "f32";
        self.reason.get_or_insert(reason);
    }
}

/// The first output for all rows, on this thread.
fn outputs(program: &Program, rows: &[f32]) -> Result<Vec<f32>, QuantizeError> {
    let [input] = program.inputs() else {
        return Err(QuantizeError::Inputs { found: program.inputs().len() });
    };
    let count = rows.len() / input.values;
    let mut outputs: Vec<Vec<f32>> =
        program.outputs().iter().map(|port| vec![0.0; count * port.values]).collect();
    let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    program.run_all(None, &mut program.scratch(), &[rows], count, &mut slices)?;
    Ok(outputs.into_iter().next().unwrap_or_default())
}
