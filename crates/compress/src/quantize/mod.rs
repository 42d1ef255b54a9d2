//! Post-training quantization to integers (Jacob et al. 2018; Nagel et al. 2021, section 3).
//!
//! Three modes: *static* int8, with ranges of activations found by a calibration; *dynamic* int8, with a range for
//! each sample when it is there; and *weight-only*, with weights of 8 or 4 bits in blocks and everything computed in
//! floats. Weights are symmetric, activations asymmetric with a zero that is a byte; all is found from data without
//! training. A layer stays in floats where the engine has no int8 kernel for it, where it is slower in int8 on this
//! machine, where a value that it reads had no range, or where the accuracy on the validation split asks for it, the
//! most harmful layer first. The choice is fixed in the package, so that answers do not depend on the machine.

mod bias;
mod sensitivity;
mod work;

use engine::{CompileError, RunError};
use network::fold::{FoldError, fold_batch_norm, with_biases};
use network::quantization::QuantizationError;
use network::{Weights, equalize};
use predict::{DeviceSpec, Parts, PredictError, Predictor};
use serde::Serialize;
use train::data::{DataError, DataSet};
use train::evaluate::{EvaluateError, evaluate};

use self::work::Work;
use crate::calibrate::sample::{Drawn, prepared, stratified};
use crate::config::{Mode, QuantizeConfig};
use crate::finish::drop_between;
use crate::judge;
use crate::names::UnknownLayer;

/// A quantization that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum QuantizeError {
    #[error("{model} is quantized already; quantize the package that it was made from{}", hint(parent))]
    Quantized { model: String, parent: Option<String> },
    #[error("no layer can be quantized: {reason}")]
    NoLayer { reason: String },
    #[error(
        "no layer can be quantized: with any the headline metric falls by {drop:.3}, and {allowed} is allowed"
    )]
    TooLossy { drop: f64, allowed: f64 },
    #[error(transparent)]
    UnknownLayer(#[from] UnknownLayer),
    #[error("the {split} split has no samples, and quantization needs some to {purpose}")]
    NoSamples { split: &'static str, purpose: &'static str },
    #[error(
        "the training split has samples of {classes} classes, and `calibration.samples` is {samples}; it must be at \
         least {classes}, so that no class is missing"
    )]
    FewSamples { samples: usize, classes: usize },
    #[error("`{key}` is {value} at index {index}; a weight that is no finite number cannot be quantized")]
    NotFiniteWeight { key: String, index: usize, value: f32 },
    #[error("activation `{name}` is {value} for a training sample, so it has no range")]
    NotFinite { name: String, value: f32 },
    #[error("the network has {found} inputs, and calibration samples have one")]
    Inputs { found: usize },
    #[error("a tensor of the quantized network is not valid")]
    Tensor(#[from] network::LengthError),
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
    /// How it is quantized, as [`network::Quantization::precision`] calls it; `f32`: it is not.
    pub precision: &'static str,
    /// Why it stays in floats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its quantization alone costs: the signal-to-quantization-noise ratio of the network's outputs, in
    /// decibels, over the calibration samples. Infinite ones are left out: nothing is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqnr_db: Option<f64>,
    /// What its quantization alone costs of the headline metric on the samples that choose, in the units of the gate;
    /// below 0 where the metric is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<f64>,
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
    /// How many layers stay floats because the metric fell by too much with them.
    pub too_lossy: usize,
    /// What a person should know of: classes that no sample stands for.
    pub warnings: Vec<String>,
}

/// What is going on, for the display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Making the channels of neighbouring layers alike.
    Equalize {
        /// How many pairs of layers.
        pairs: usize,
    },
    /// Running samples to see the activations.
    Calibrate {
        /// How many.
        samples: usize,
    },
    /// Trying the methods of calibration on one value.
    Choose {
        /// The layer that makes it, or the input.
        value: &'a str,
    },
    /// Comparing the speed of layers in floats and in int8.
    Time,
    /// Taking the mean error of the outputs of one layer out of its bias.
    Correct {
        /// Its name.
        layer: &'a str,
    },
    /// Quantizing one layer alone, to see what it costs.
    Sensitivity {
        /// Its name.
        layer: &'a str,
    },
    /// Scoring the choice on samples of the validation split, or of the training split where there is none.
    Score {
        /// How many layers are quantized.
        int8: usize,
        /// The split that they are of.
        part: &'static str,
    },
}

/// Quantizes a model of floats: `parts` with the data that it was trained on. The training split is what ranges and
/// biases are fitted to, the validation split is what chooses; the test split is not looked at.
///
/// # Errors
/// When the model cannot be quantized, or there is no data to do it with.
pub fn quantize(
    parts: &Parts,
    data: &DataSet,
    config: &QuantizeConfig,
    stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Quantized, QuantizeError> {
    if parts.quantization.is_some() {
        return Err(QuantizeError::Quantized { model: "the model".to_owned(), parent: None });
    }
    check_finite(&parts.weights)?;
    let (network, mut weights) = fold_batch_norm(&parts.network, &parts.weights)?;
    if config.equalize {
        let (equalized, pairs) = equalize::equalize(&network, &weights)?;
        stage(Stage::Equalize { pairs: pairs.len() });
        weights = equalized;
    }
    let (network, weights) = with_biases(&network, &weights)?;
    let mut work = Work::new(network, weights, config)?;
    let floats = Predictor::from_parts(work.parts_of_floats(parts), DeviceSpec::Cpu)?;
    work.some_layer()?;

    let (part, choosing) = judge::choosing(data);
    let choosing = train::data::draw(choosing, judge::SAMPLES, config.calibration.seed);
    let Drawn { indices: mut drawn, warnings } =
        stratified(data, config.calibration.samples, config.calibration.seed)?;
    if drawn.is_empty() {
        if config.mode == Mode::Static || config.bias_correction {
            return Err(QuantizeError::NoSamples { split: "training", purpose: "calibrate with" });
        }
        // Nothing is fitted to them: they only show what each layer costs.
        drawn = train::data::draw(&choosing, config.calibration.samples, config.calibration.seed);
    }
    let rows = prepared::<QuantizeError>(&floats, data, &drawn)?;
    if config.mode == Mode::Static {
        stage(Stage::Calibrate { samples: drawn.len() });
        work.calibrate(&rows, drawn.len(), config, stage)?;
        work.some_layer()?;
    }
    if config.layers.faster_only && config.mode != Mode::WeightOnly {
        stage(Stage::Time);
        work.keep_slow_layers_in_floats()?;
        work.some_layer()?;
    }
    if config.bias_correction {
        work.correct_biases(&rows, stage)?;
    }

    let before = evaluate(&floats, data, part, &choosing, &mut |_| ())?;
    let mut score = |parts: &Parts| -> Result<f64, QuantizeError> {
        let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu)?;
        let after = evaluate(&predictor, data, part, &choosing, &mut |_| ())?;
        Ok(drop_between(&before, &after))
    };
    work.measure_each_alone(parts, &rows, &mut score, stage)?;
    let mut too_lossy = 0;
    loop {
        stage(Stage::Score { int8: work.candidates().count(), part });
        let parts = work.parts(parts)?;
        let drop = score(&parts)?;
        if drop <= config.gate.max_drop {
            let layers = work.choices;
            return Ok(Quantized { parts, layers, drop, chosen_on: part, too_lossy, warnings });
        }
        if !work.give_up_the_most_harmful(drop, config.gate.max_drop) {
            return Err(QuantizeError::TooLossy { drop, allowed: config.gate.max_drop });
        }
        too_lossy += 1;
    }
}

/// Every number of the record, or the first that is none.
fn check_finite(weights: &Weights) -> Result<(), QuantizeError> {
    for (key, tensor) in weights {
        let values = tensor.as_f32().unwrap_or_default();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let (key, value) = (key.clone(), values[index]);
            return Err(QuantizeError::NotFiniteWeight { key, index, value });
        }
    }
    Ok(())
}
