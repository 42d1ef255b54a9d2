//! The one predictor: from raw inputs to typed answers, by way of prepared tensors and raw outputs.

use artifact::{Manifest, ModelRef, Package, Registry};
use engine::Profile;
use model::{DeviceSpec, Lane, Precision};
use network::quantization::Quantization;
use network::{
    NamedTensor, Network, Postprocess, Prediction, Preprocess, RawInput, Signature, Tensor, Weights,
};
use rayon::prelude::*;

use crate::batching::Batching;
use crate::check::Expected;
use crate::error::{PredictError, PrepareError};
use crate::placed::{Kernels, Placed};
use crate::placement::Placement;

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
    /// The parameters, as a record holds them: of a layer that computes in int8, integers and scales.
    pub weights: Weights,
    /// Which layers are integers.
    pub quantization: Option<Quantization>,
}

/// A model on a device, ready to answer. It is `Send` and `Sync`: share it in an [`Arc`](std::sync::Arc) and
/// call it from any thread.
///
/// **On a CPU** computing happens in the calling thread and in as many others as
/// [`model::device::set_threads`] said once, in `main`. The device `cpu` is the engine, which compiles the network
/// when the model is opened; a network that it cannot compile runs on Burn, and [`Predictor::kernels`] says why.
///
/// **On a GPU** one thread owns the device: the network is built, run and dropped there, and calls of several
/// threads, and of several predictors on the same GPU, wait for each other there. Preparing and finishing stay in
/// the calling thread. Each pass has one of a few sizes ([`Predictor::batch_sizes`]), since a GPU compiles and
/// tunes kernels for every new one; [`Predictor::warm_up`] runs and checks them all.
#[derive(Debug)]
pub struct Predictor {
    name: String,
    version: u64,
    manifest: Option<Manifest>,
    network: Network,
    signature: Signature,
    preprocess: Preprocess,
    postprocess: Postprocess,
    quantization: Option<Quantization>,
    pub(crate) placed: Placed,
    pub(crate) batching: Batching,
    /// What the self-check compares with when there are no samples.
    pub(crate) reference: Option<Expected>,
}

impl Predictor {
    /// Opens a model of a registry: `name@version`, `name@alias`, or `name` for the one in production.
    ///
    /// # Errors
    /// When there is no such model, its package is damaged, or the device cannot be had or lacks the precision.
    pub fn open(
        registry: &Registry,
        reference: &ModelRef,
        placement: impl Into<Placement>,
    ) -> Result<Self, PredictError> {
        Self::from_package(&registry.package(reference)?, placement)
    }

    /// Opens a package that has been read already.
    ///
    /// # Errors
    /// When its weights cannot be read, or the device cannot be had or lacks the precision.
    pub fn from_package(package: &Package, placement: impl Into<Placement>) -> Result<Self, PredictError> {
        let manifest = package.manifest();
        let parts = Parts {
            network: package.network().clone(),
            preprocess: manifest.preprocess.clone(),
            postprocess: manifest.postprocess.clone(),
            weights: package.weights()?,
            quantization: package.quantization().cloned(),
        };
        let predictor = Self::new(parts, placement.into(), !manifest.samples.is_empty())?;
        let (name, version) = (manifest.name.clone(), manifest.version);
        Ok(Self { name, version, manifest: Some(manifest.clone()), ..predictor })
    }

    /// Makes a predictor of a network that is not packed; its name is `unpacked`, its version 0.
    ///
    /// # Errors
    /// When the parts do not fit each other, or the device cannot be had or lacks the precision.
    pub fn from_parts(parts: Parts, placement: impl Into<Placement>) -> Result<Self, PredictError> {
        Self::new(parts, placement.into(), false)
    }

    fn new(parts: Parts, placement: Placement, has_samples: bool) -> Result<Self, PredictError> {
        let Parts { network, preprocess, postprocess, weights, quantization } = parts;
        let (given, taken) = (preprocess.output_shape(), network.input_shape());
        if given != taken {
            return Err(PredictError::Shape { given, taken: taken.to_vec() });
        }
        postprocess.check(network.output_shape().iter().product())?;
        let lane = Lane::open(&placement.device)?;
        let gpu = lane.device().is_gpu();
        // A GPU may compute something wrong and say nothing, so a model without samples needs something else to
        // be measured by, and so does one with int8 layers where those run in floats. It costs a pass on the CPU.
        let plan = quantization.as_ref();
        let placed = Placed::new(&network, &weights, plan, lane, placement.precision)?;
        let in_integers = placed.kernels().is_engine() && placement.precision == Precision::F32;
        let in_floats = plan.is_some_and(Quantization::computes_int8) && !in_integers;
        let unchecked = in_floats || !has_samples && (gpu || placement.precision != Precision::F32);
        let reference = unchecked.then(|| Expected::from_cpu(&network, &weights, plan)).transpose()?;
        Ok(Self {
            name: "unpacked".to_owned(),
            version: 0,
            manifest: None,
            signature: network.signature(),
            batching: Batching::new(&network, gpu),
            network,
            preprocess,
            postprocess,
            quantization,
            placed,
            reference,
        })
    }

    /// Sets how many rows may go through the network at once; longer batches are cut, so that memory is bounded.
    /// Without it the number follows from the network: at most [`MAX_PASS_ROWS`](crate::MAX_PASS_ROWS), fewer
    /// when its layers are large.
    #[must_use]
    pub fn with_pass_rows(self, rows: usize) -> Self {
        Self { batching: self.batching.clone().with_bound(rows), ..self }
    }

    /// Sets the sizes that passes have; a pass with fewer rows is filled up with zeros to the next size, and the
    /// answers to those are dropped. Sizes above the number of rows that may go through at once are left out; if
    /// that leaves none, that number is the only size. An empty list takes the rule of the device back.
    #[must_use]
    pub fn with_batch_sizes(self, sizes: &[usize]) -> Self {
        Self { batching: self.batching.clone().with_sizes(sizes), ..self }
    }

    /// How many rows go through the network at once: the largest of [`Predictor::batch_sizes`], if there are any.
    #[must_use]
    pub fn pass_rows(&self) -> usize {
        self.batching.largest()
    }

    /// The sizes that passes have, ascending. Without [`Predictor::with_batch_sizes`] these are the powers of two
    /// on a GPU; none on a CPU, where a pass has the rows that there are.
    #[must_use]
    pub fn batch_sizes(&self) -> &[usize] {
        self.batching.sizes()
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

    /// The device that it runs on; never [`DeviceSpec::Auto`], which is resolved when the model is opened.
    #[must_use]
    pub fn device(&self) -> DeviceSpec {
        self.placed.placement().device
    }

    /// The precision that it computes in.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.placed.placement().precision
    }

    /// Whether the plan of an int8 package runs in integers here: on the engine, unless another precision was asked for.
    #[must_use]
    pub fn runs_int8(&self) -> bool {
        let computes = self.quantization.as_ref().is_some_and(Quantization::computes_int8);
        computes && self.kernels().is_engine() && self.precision() == Precision::F32
    }

    /// The name of what it computes in: `int8` where the plan of its package runs, else that of
    /// [`Predictor::precision`], into which a device without int8 turns such a package.
    #[must_use]
    pub fn precision_name(&self) -> &'static str {
        if self.runs_int8() { "int8" } else { self.precision().name() }
    }

    /// Which layers are integers, and which of them compute in int8; nothing: all are floats.
    #[must_use]
    pub fn quantization(&self) -> Option<&Quantization> {
        self.quantization.as_ref()
    }

    /// What computes: the engine, or Burn and why.
    #[must_use]
    pub fn kernels(&self) -> &Kernels {
        self.placed.kernels()
    }

    /// Measures on this thread what of the network runs how, and how fast; nothing where Burn computes. It takes some
    /// tens of runs.
    #[must_use]
    pub fn profile(&self) -> Option<Profile> {
        self.placed.profile()
    }

    /// Answers raw inputs, in their order: [`Predictor::prepare`], [`Predictor::infer`] and
    /// [`Predictor::finish`] for as many at once as memory allows.
    ///
    /// # Errors
    /// When an input cannot be prepared or overflows in half precision; the error says which, and nothing is
    /// answered then. When the device fails.
    pub fn predict(&self, inputs: &[RawInput]) -> Result<Vec<Prediction>, PredictError> {
        if self.signature.inputs.len() != 1 {
            return Err(PredictError::Inputs { inputs: self.signature.inputs.len() });
        }
        let mut predictions = Vec::with_capacity(inputs.len());
        for (pass, rows) in inputs.chunks(self.pass_rows()).enumerate() {
            let first = pass * self.pass_rows();
            let prepared = self
                .prepare(rows)
                .map_err(|PrepareError { index, source }| PrepareError { index: first + index, source })?;
            let outputs = self.infer(&[prepared]).map_err(|error| match error {
                PredictError::Overflow { row, precision } => {
                    PredictError::Overflow { row: first + row, precision }
                }
                error => error,
            })?;
            predictions.extend(self.finish(&outputs)?);
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
