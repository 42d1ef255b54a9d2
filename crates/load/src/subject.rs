//! What is served: presets with random weights, packed for our server and as ONNX for the others.

use std::path::Path;

use artifact::manifest::{Sample, SampleInput};
use artifact::{Draft, Manifest, Registry};
use network::{Network, Postprocess, Preprocess, RawInput, Task, Weights};
use predict::{DeviceSpec, Parts, Predictor};

/// Classes that every subject has.
const CLASSES: usize = 10;
/// Samples that a package carries with their answers.
const SAMPLES: usize = 16;
/// Inputs that the reference of drift is made of.
const OBSERVED: usize = 256;

/// Numbers in [−1, 1) without a pattern.
pub(crate) fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|place| ((place * 7919 + 13) % 2000) as f32 / 1000.0 - 1.0).collect()
}

/// A network with weights.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The name under which it is packed.
    pub name: String,
    network: Network,
    weights: Weights,
    manifest: Manifest,
}

/// A subject that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one step")]
pub enum SubjectError {
    #[error(transparent)]
    Preset(#[from] network::PresetError),
    #[error(transparent)]
    Shape(#[from] network::ShapeError),
    #[error(transparent)]
    Registry(#[from] artifact::RegistryError),
    #[error(transparent)]
    Predict(#[from] predict::PredictError),
    #[error(transparent)]
    Prepare(#[from] predict::PrepareError),
    #[error(transparent)]
    Sample(#[from] artifact::manifest::SampleError),
    #[error(transparent)]
    Export(#[from] export::ExportError),
    #[error("a file for the measurement cannot be written")]
    File(#[from] std::io::Error),
}

impl Subject {
    /// A preset at the size of the pictures that it is meant for.
    ///
    /// # Errors
    /// When there is no such preset.
    pub fn preset(name: &str) -> Result<Self, SubjectError> {
        let shape: &[usize] = match name {
            "digits-cnn" => &[1, 8, 8],
            "lenet-300-100" | "lenet5" => &[1, 28, 28],
            "mlp" => &[30],
            _ => &[3, 32, 32],
        };
        let network = Network::new(network::preset(name, shape, CLASSES)?)?;
        let weights = model::initial_weights(&network, 1);
        Self::new(name, network, weights)
    }

    /// Ten numbers in, the same ten numbers out: a network without layers.
    ///
    /// # Errors
    /// When the predictor cannot be made.
    pub fn identity() -> Result<Self, SubjectError> {
        let input = network::spec::InputSpec { name: "input".to_owned(), shape: vec![CLASSES] };
        let spec = network::NetworkSpec { inputs: vec![input], layers: Vec::new(), outputs: Vec::new() };
        let network = Network::new(spec)?;
        Self::new("identity", network, Weights::default())
    }

    /// The dimensions of a row.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.network.input_shape()
    }

    /// The name of its only input.
    #[must_use]
    pub fn input(&self) -> String {
        self.network.signature().inputs.first().map(|spec| spec.name.clone()).unwrap_or_default()
    }

    fn new(name: &str, network: Network, weights: Weights) -> Result<Self, SubjectError> {
        let labels = (0..CLASSES).map(|label| label.to_string()).collect();
        let preprocess = Preprocess::Numbers { shape: network.input_shape().to_vec() };
        let postprocess = Postprocess::new(Task::MultiClass, labels);
        let mut manifest = Manifest::new(name, &network, preprocess.clone(), postprocess.clone());
        let parts = Parts {
            network: network.clone(),
            preprocess,
            postprocess,
            weights: weights.clone(),
            quantization: None,
        };
        // As the packages of training have it: samples with their answers, and what drift is measured against. Without
        // them the server would do less than it does for a trained model.
        let predictor = Predictor::from_parts(parts, DeviceSpec::Cpu)?;
        let inputs = samples(network.input_shape().iter().product());
        for input in inputs.iter().take(SAMPLES) {
            let prepared = predictor.prepare(std::slice::from_ref(input))?;
            let outputs = predictor.infer(&[prepared])?;
            let logits = outputs.first().and_then(|output| output.tensor.as_f32()).unwrap_or_default();
            manifest.samples.push(Sample { input: SampleInput::from_raw(input)?, logits: logits.to_vec() });
        }
        manifest.reference.observed = Some(predictor.observe(&inputs, "train")?);
        Ok(Self { name: name.to_owned(), network, weights, manifest })
    }

    /// Publishes it in a registry, to be asked with plain numbers.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub fn publish(&self, registry: &Registry) -> Result<(), SubjectError> {
        registry.publish(&self.name, Draft::new(self.manifest.clone(), self.weights.clone()))?;
        Ok(())
    }

    /// Writes it as ONNX, with batch normalisation as it is.
    ///
    /// # Errors
    /// When it has a layer that ONNX does not, or the file cannot be written.
    pub fn write_onnx(&self, path: &Path) -> Result<(), SubjectError> {
        let model = export::Model::new(&self.name, 1, self.network.clone(), self.weights.clone(), None);
        std::fs::write(path, export::onnx(&model)?)?;
        Ok(())
    }
}

/// Inputs that differ.
fn samples(width: usize) -> Vec<RawInput> {
    let values = numbers(width + OBSERVED);
    values.windows(width.max(1)).map(|row| RawInput::Numbers(row.to_vec())).take(OBSERVED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_gives_back_what_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path()).unwrap();
        let subject = Subject::identity().unwrap();
        subject.publish(&registry).unwrap();
        let predictor = Predictor::open(&registry, &"identity".parse().unwrap(), DeviceSpec::Cpu).unwrap();
        let numbers: Vec<f32> = (0u8..10).map(f32::from).collect();
        let inputs = [predictor.prepare(&[RawInput::Numbers(numbers.clone())]).unwrap()];
        assert_eq!(predictor.infer(&inputs).unwrap()[0].tensor.as_f32().unwrap(), numbers);
    }
}
