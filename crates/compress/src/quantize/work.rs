//! A quantization under way: which layers are quantized so far, and the record and the plan that this makes.

use std::collections::BTreeMap;

use engine::{Options, Program};
use network::quantization::{
    Calibration, CalibrationMethod, WeightOnly, int8_outputs, quantize_weights_only, quantize_weights_with,
};
use network::spec::Op;
use network::{Affine, Network, Quantization, Tensor, Weights};
use predict::Parts;

use super::{LayerChoice, QuantizeError, Stage};
use crate::calibrate::choose::choose;
use crate::calibrate::{self, Rule};
use crate::config::{Method, Mode, QuantizeConfig};
use crate::names::matching_any;
use crate::speed::{relative, slower};

/// A quantization under way.
pub(super) struct Work {
    pub(super) network: Network,
    /// Floats, with batch normalisation folded.
    pub(super) weights: Weights,
    /// As they are once a layer is quantized: integers, scales, and the corrected bias.
    quantized: Weights,
    pub(super) choices: Vec<LayerChoice>,
    pub(super) mode: Mode,
    weight_only: WeightOnly,
    pub(super) activations: BTreeMap<String, Affine>,
    calibration: Option<Calibration>,
}

impl Work {
    pub(super) fn new(
        network: Network,
        weights: Weights,
        config: &QuantizeConfig,
    ) -> Result<Self, QuantizeError> {
        let precision = match config.mode {
            Mode::Static => "int8",
            Mode::Dynamic => "int8 dynamic",
            Mode::WeightOnly if config.weight_only.bits == 4 => "int4 weights",
            Mode::WeightOnly => "int8 weights",
        };
        let mut choices = Vec::new();
        for (layer, info) in network.spec().all_layers().into_iter().zip(network.layers()) {
            if !matches!(layer.op, Op::Dense(_) | Op::Conv2d(_)) {
                continue;
            }
            let reason = match config.mode {
                Mode::WeightOnly => None,
                Mode::Static | Mode::Dynamic => int8_outputs(&layer.op).err().map(str::to_owned),
            };
            choices.push(LayerChoice {
                layer: layer.name.clone(),
                kind: layer.op.type_name(),
                macs: info.macs,
                precision: if reason.is_none() { precision } else { "f32" },
                reason,
                sqnr_db: None,
                drop: None,
            });
        }
        let float = matching_any(&network, &config.layers.float, "layers.float")?;
        for choice in choices.iter_mut().filter(|choice| float.contains(&choice.layer)) {
            choice.keep("the configuration says so".to_owned());
        }
        let weight_only = WeightOnly::from(config.weight_only);
        let mut work = Self {
            network,
            weights,
            quantized: Weights::new(),
            choices,
            mode: config.mode,
            weight_only,
            activations: BTreeMap::new(),
            calibration: None,
        };
        // All that may be quantized, once: what a layer becomes does not depend on the others.
        let layers: Vec<String> = work.candidates().map(str::to_owned).collect();
        let record = match config.mode {
            Mode::WeightOnly => {
                let layers = layers.iter().map(|layer| (layer, &weight_only));
                quantize_weights_only(&work.network, layers, &work.weights)?
            }
            Mode::Static | Mode::Dynamic => {
                quantize_weights_with(&work.network, &layers, &work.weights, config.weights.into())?
            }
        };
        work.quantized = record;
        Ok(work)
    }

    /// The layers that are quantized as things stand, in the order of the network.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &str> {
        self.choices.iter().filter(|choice| choice.precision != "f32").map(|choice| choice.layer.as_str())
    }

    /// An error when no layer is left.
    pub(super) fn some_layer(&self) -> Result<(), QuantizeError> {
        if self.candidates().next().is_some() {
            return Ok(());
        }
        let reason = self.choices.iter().find_map(|choice| choice.reason.clone());
        let reason = reason.unwrap_or_else(|| "it has no dense or convolution layers".to_owned());
        Err(QuantizeError::NoLayer { reason })
    }

    pub(super) fn parts_of_floats(&self, parts: &Parts) -> Parts {
        Parts {
            network: self.network.clone(),
            preprocess: parts.preprocess.clone(),
            postprocess: parts.postprocess.clone(),
            weights: self.weights.clone(),
            quantization: None,
        }
    }

    /// The network with the present choice of layers, as a record holds it.
    pub(super) fn parts(&self, parts: &Parts) -> Result<Parts, QuantizeError> {
        let layers: Vec<String> = self.candidates().map(str::to_owned).collect();
        self.parts_with(parts, &layers)
    }

    /// The network with these layers quantized, and no others.
    pub(super) fn parts_with(&self, parts: &Parts, layers: &[String]) -> Result<Parts, QuantizeError> {
        let mut plan = self.plan(layers);
        // Only the ranges that this plan uses belong to it: leaving any other out compiles to the same program.
        let program = self.program(layers)?;
        let used = program.byte_values();
        plan.activations.retain(|name, _| used.contains(name));
        match &mut plan.calibration {
            Some(calibration) if !used.is_empty() => {
                calibration.chosen.retain(|name, _| used.contains(name));
            }
            calibration => *calibration = None,
        }
        let weights = self.record(layers);
        Ok(Parts { weights, quantization: Some(plan), ..self.parts_of_floats(parts) })
    }

    /// The plan in which these layers, and no others, are quantized, with all ranges that there are.
    fn plan(&self, layers: &[String]) -> Quantization {
        if self.mode == Mode::WeightOnly {
            let weight_only = layers.iter().map(|layer| (layer.clone(), self.weight_only)).collect();
            return Quantization { weight_only, ..Quantization::default() };
        }
        let dynamic = if self.mode == Mode::Dynamic { layers.to_vec() } else { Vec::new() };
        let (activations, calibration) = (self.activations.clone(), self.calibration.clone());
        Quantization { layers: layers.to_vec(), activations, calibration, dynamic, ..Quantization::default() }
    }

    /// The record in which these layers, and no others, are quantized.
    pub(super) fn record(&self, layers: &[String]) -> Weights {
        let mut record = self.weights.clone();
        for layer in layers {
            for parameter in ["weight", "bias", "scale"] {
                let key = format!("{layer}.{parameter}");
                if let Some(tensor) = self.quantized.get(&key) {
                    record.insert(key, tensor.clone());
                }
            }
        }
        record
    }

    /// The floats that stand for that record.
    pub(super) fn dequantized(&self, layers: &[String]) -> Result<Weights, QuantizeError> {
        Ok(network::quantization::dequantize(&self.network, &self.plan(layers), &self.record(layers))?)
    }

    /// The program in which these layers, and no others, are quantized.
    pub(super) fn program(&self, layers: &[String]) -> Result<Program, QuantizeError> {
        let plan = self.plan(layers);
        Ok(Program::from_record(&self.network, &self.record(layers), Some(&plan), Options::default())?)
    }

    /// The program of floats.
    pub(super) fn floats(&self) -> Result<Program, QuantizeError> {
        Ok(Program::compile(&self.network, &self.weights, Options::default())?)
    }

    /// Gives the bias of a quantized layer.
    pub(super) fn set_bias(&mut self, layer: &str, bias: Vec<f32>) -> Result<(), QuantizeError> {
        self.quantized.insert(format!("{layer}.bias"), Tensor::from_f32(vec![bias.len()], bias)?);
        Ok(())
    }

    /// Finds the ranges of all values. A layer that reads a value without one stays in floats.
    pub(super) fn calibrate(
        &mut self,
        rows: &[f32],
        samples: usize,
        config: &QuantizeConfig,
        stage: &mut dyn FnMut(Stage<'_>),
    ) -> Result<(), QuantizeError> {
        let program = self.floats()?;
        let seen = calibrate::histograms(&program, rows)?;
        let empty = |name: &&String| seen.get(*name).is_none_or(calibrate::Histogram::is_empty);
        for choice in self.choices.iter_mut().filter(|choice| choice.precision != "f32") {
            let read = program.read().get(&choice.layer);
            if let Some(name) = read.into_iter().flatten().find(empty) {
                let reason = format!("`{name}`, which it reads, was 0 in every calibration sample: no range");
                choice.keep(reason);
            }
        }
        let rules = Rule::of(&config.calibration);
        let mut chosen: BTreeMap<String, CalibrationMethod> = BTreeMap::new();
        if let [rule] = rules[..] {
            self.activations = seen.iter().map(|(name, seen)| (name.clone(), seen.affine(rule))).collect();
        } else {
            let layers: Vec<String> = self.candidates().map(str::to_owned).collect();
            // Which values are bytes does not depend on what the bytes mean.
            self.activations =
                seen.iter().map(|(name, seen)| (name.clone(), seen.affine(Rule::MinMax))).collect();
            let needed = self.program(&layers)?.byte_values().clone();
            let mut say = |value: &str| stage(Stage::Choose { value });
            for (name, (affine, method)) in choose(&program, rows, &seen, &needed, &rules, &mut say)? {
                self.activations.insert(name.clone(), affine);
                chosen.insert(name, method);
            }
        }
        let calibration = &config.calibration;
        let with_percentile = matches!(calibration.method, Method::Percentile | Method::Auto);
        self.calibration = Some(Calibration {
            method: calibration.method.into(),
            percentile: with_percentile.then_some(calibration.percentile),
            chosen,
            samples,
            split: "train".to_owned(),
            seed: calibration.seed,
        });
        Ok(())
    }

    /// Takes layers out of int8 as long as that makes the whole faster, the one that loses most time first. What
    /// counts is the whole program, for a layer that leaves int8 also moves the borders of its neighbours.
    pub(super) fn keep_slow_layers_in_floats(&mut self) -> Result<(), QuantizeError> {
        let floats = self.floats()?;
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
}

impl LayerChoice {
    pub(super) fn keep(&mut self, reason: String) {
        self.precision = "f32";
        self.reason.get_or_insert(reason);
    }
}
