//! The one predictor: from raw inputs to typed answers, by way of prepared tensors and raw outputs.

use artifact::{Manifest, ModelRef, Package, Registry};
use burn::tensor::Device;
use model::{DeviceSpec, Net, Value};
use network::{
    Elements, NamedTensor, Network, Postprocess, Prediction, Preprocess, RawInput, Signature, Tensor, Weights,
};
use rayon::prelude::*;

use crate::error::{PredictError, PrepareError};

/// How many values the largest layer may give for one pass through the network (64 MiB of 32-bit floats), and
/// how many rows at most; both bound the memory that a batch takes.
const PASS_VALUES: usize = 1 << 24;
const PASS_ROWS: usize = 256;

/// From so many inputs on, preparing them is spread over the compute threads.
const PARALLEL_FROM: usize = 16;

/// What a predictor is made of when there is no package yet.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The checked network.
    pub network: Network,
    /// The way in.
    pub preprocess: Preprocess,
    /// The way out.
    pub postprocess: Postprocess,
    /// The parameters.
    pub weights: Weights,
}

/// A model on a device, ready to answer. It is `Send` and `Sync`: share it in an [`Arc`](std::sync::Arc) and
/// call it from any thread.
///
/// Computing happens in the calling thread and in rayon's global pool; give that its size once, in `main`,
/// with [`model::device::set_threads`].
#[derive(Debug)]
pub struct Predictor {
    name: String,
    version: u64,
    manifest: Option<Manifest>,
    network: Network,
    signature: Signature,
    preprocess: Preprocess,
    postprocess: Postprocess,
    net: Net,
    spec: DeviceSpec,
    device: Device,
    pass_rows: usize,
}

impl Predictor {
    /// Opens a model of a registry: `name@version`, `name@alias`, or `name` for the one in production.
    ///
    /// # Errors
    /// When there is no such model, its package is damaged, or the device cannot be had.
    pub fn open(
        registry: &Registry,
        reference: &ModelRef,
        device: &DeviceSpec,
    ) -> Result<Self, PredictError> {
        Self::from_package(&registry.package(reference)?, device)
    }

    /// Opens a package that has been read already.
    ///
    /// # Errors
    /// When its weights cannot be read or the device cannot be had.
    pub fn from_package(package: &Package, device: &DeviceSpec) -> Result<Self, PredictError> {
        let manifest = package.manifest();
        let parts = Parts {
            network: package.network().clone(),
            preprocess: manifest.preprocess.clone(),
            postprocess: manifest.postprocess.clone(),
            weights: package.weights()?,
        };
        let predictor = Self::from_parts(parts, device)?;
        let (name, version) = (manifest.name.clone(), manifest.version);
        Ok(Self { name, version, manifest: Some(manifest.clone()), ..predictor })
    }

    /// Makes a predictor of a network that is not packed; its name is `unpacked`, its version 0.
    ///
    /// # Errors
    /// When the parts do not fit each other or the device cannot be had.
    pub fn from_parts(parts: Parts, device: &DeviceSpec) -> Result<Self, PredictError> {
        let Parts { network, preprocess, postprocess, weights } = parts;
        let (given, taken) = (preprocess.output_shape(), network.input_shape());
        if given != taken {
            return Err(PredictError::Shape { given, taken: taken.to_vec() });
        }
        postprocess.check(network.output_shape().iter().product())?;
        let opened = device.open()?;
        let net = Net::from_weights(&network, &weights, &opened)?;
        Ok(Self {
            name: "unpacked".to_owned(),
            version: 0,
            manifest: None,
            signature: network.signature(),
            pass_rows: pass_rows(&network),
            network,
            preprocess,
            postprocess,
            net,
            spec: *device,
            device: opened,
        })
    }

    /// Sets how many rows go through the network at once; longer batches are cut, so that memory is bounded.
    /// Without it the number follows from the network: at most 256, fewer when its layers are large.
    #[must_use]
    pub fn with_pass_rows(mut self, rows: usize) -> Self {
        self.pass_rows = rows.max(1);
        self
    }

    /// How many rows go through the network at once.
    #[must_use]
    pub fn pass_rows(&self) -> usize {
        self.pass_rows
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's version; 0 when it is not packed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The package's manifest, when there is a package.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The names, types and dimensions of the prepared inputs and raw outputs.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The way in.
    #[must_use]
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The way out.
    #[must_use]
    pub fn postprocess(&self) -> &Postprocess {
        &self.postprocess
    }

    /// The device that it runs on.
    #[must_use]
    pub fn device(&self) -> &DeviceSpec {
        &self.spec
    }

    /// Answers raw inputs, in their order: [`Predictor::prepare`], [`Predictor::infer`] and
    /// [`Predictor::finish`] for as many at once as memory allows.
    ///
    /// # Errors
    /// When an input cannot be prepared; the error says which, and nothing is answered then.
    pub fn predict(&self, inputs: &[RawInput]) -> Result<Vec<Prediction>, PredictError> {
        if self.signature.inputs.len() != 1 {
            return Err(PredictError::Inputs { inputs: self.signature.inputs.len() });
        }
        let mut predictions = Vec::with_capacity(inputs.len());
        for (pass, rows) in inputs.chunks(self.pass_rows).enumerate() {
            let prepared = self.prepare(rows).map_err(|error| PrepareError {
                index: pass * self.pass_rows + error.index,
                source: error.source,
            })?;
            predictions.extend(self.finish(&self.infer(&[prepared])?)?);
        }
        Ok(predictions)
    }

    /// Prepares raw inputs as one batch of the network's first input: FP32 `[inputs, …]`.
    ///
    /// # Errors
    /// The first input that cannot be prepared, by its index.
    pub fn prepare(&self, inputs: &[RawInput]) -> Result<NamedTensor, PrepareError> {
        let sample_shape = self.preprocess.output_shape();
        let mut values = Vec::with_capacity(inputs.len() * sample_shape.iter().product::<usize>());
        if inputs.len() < PARALLEL_FROM {
            for (index, input) in inputs.iter().enumerate() {
                self.preprocess
                    .prepare_into(input, &mut values)
                    .map_err(|source| PrepareError { index, source })?;
            }
        } else {
            let prepared: Vec<_> = inputs.par_iter().map(|input| self.preprocess.prepare(input)).collect();
            for (index, sample) in prepared.into_iter().enumerate() {
                values.extend(sample.map_err(|source| PrepareError { index, source })?);
            }
        }
        let shape: Vec<usize> = std::iter::once(inputs.len()).chain(sample_shape).collect();
        let tensor = Tensor::from_f32(shape, values).map_err(|error| PrepareError {
            index: 0,
            source: network::PreprocessError::Prepared {
                expected: self.preprocess.output_shape(),
                found: error.to_string(),
            },
        })?;
        let name = self.signature.inputs.first().map(|spec| spec.name.clone()).unwrap_or_default();
        Ok(NamedTensor { name, tensor })
    }

    /// Runs prepared inputs through the network and returns all raw outputs, in the signature's order.
    ///
    /// # Errors
    /// When the inputs do not fit [`Predictor::signature`], or the device cannot be read.
    pub fn infer(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, PredictError> {
        let rows = self.signature.check_inputs(inputs)?;
        let internal = |reason: String| PredictError::Internal { reason };
        // In the order of the signature, which a caller need not keep.
        let mut sources = Vec::with_capacity(self.signature.inputs.len());
        for spec in &self.signature.inputs {
            let input = inputs.iter().find(|input| input.name == spec.name);
            let values = input.and_then(|input| input.tensor.as_f32());
            let values = values.ok_or_else(|| internal(format!("input `{}` is not FP32", spec.name)))?;
            let sample_shape = spec.sample_shape().unwrap_or_default();
            sources.push((values, sample_shape));
        }
        let mut collected: Vec<Vec<f32>> = vec![Vec::new(); self.signature.outputs.len()];
        for first in (0..rows).step_by(self.pass_rows) {
            let count = self.pass_rows.min(rows - first);
            let mut pass = Vec::with_capacity(sources.len());
            for (values, sample_shape) in &sources {
                let size: usize = sample_shape.iter().product();
                let part = values[first * size..(first + count) * size].to_vec();
                let shape: Vec<usize> = std::iter::once(count).chain(sample_shape.iter().copied()).collect();
                let value = Value::from_vec(part, &shape, &self.device);
                pass.push(value.ok_or_else(|| internal(format!("a batch of shape {shape:?}")))?);
            }
            for (output, value) in collected.iter_mut().zip(self.net.run(pass, None)) {
                output.extend(value.into_vec().map_err(internal)?);
            }
        }
        let named = self.signature.outputs.iter().zip(collected).map(|(spec, values)| {
            let shape = std::iter::once(rows).chain(spec.sample_shape().unwrap_or_default()).collect();
            let tensor = Tensor::new(shape, Elements::F32(values));
            tensor
                .map(|tensor| NamedTensor { name: spec.name.clone(), tensor })
                .map_err(|error| internal(error.to_string()))
        });
        named.collect()
    }

    /// Turns raw outputs into typed answers, one per row of the network's first output.
    ///
    /// # Errors
    /// When that output is missing or does not fit [`Predictor::signature`].
    pub fn finish(&self, outputs: &[NamedTensor]) -> Result<Vec<Prediction>, PredictError> {
        let Some(spec) = self.signature.outputs.first() else {
            return Ok(Vec::new());
        };
        let output = outputs.iter().find(|output| output.name == spec.name);
        let output =
            output.ok_or_else(|| PredictError::Internal { reason: format!("no output `{}`", spec.name) })?;
        spec.check(&output.tensor).map_err(PredictError::Outputs)?;
        let width: usize = spec.sample_shape().unwrap_or_default().iter().product();
        let values = output.tensor.as_f32().unwrap_or_default();
        values.chunks_exact(width.max(1)).map(|logits| Ok(self.postprocess.apply(logits)?)).collect()
    }
}

/// As many rows as keep the largest layer's values within [`PASS_VALUES`].
fn pass_rows(network: &Network) -> usize {
    let largest = network.layers().iter().flat_map(|layer| {
        let convolved: usize = layer.output.iter().product();
        [layer.input.iter().product(), convolved]
    });
    (PASS_VALUES / largest.max().unwrap_or(1).max(1)).clamp(1, PASS_ROWS)
}
