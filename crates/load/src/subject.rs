//! What is served: presets with random weights, packed for our server and as ONNX for the others.

use std::path::Path;

use artifact::{Draft, Manifest, Registry};
use network::{Network, Postprocess, Preprocess, Task, Weights};

/// Classes that every subject has.
const CLASSES: usize = 10;

/// A network with weights.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The name under which it is packed.
    pub name: String,
    network: Network,
    weights: Weights,
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
        Ok(Self { name: name.to_owned(), weights: model::initial_weights(&network, 1), network })
    }

    /// Ten numbers in, the same ten numbers out: a network without layers.
    ///
    /// # Errors
    /// Never.
    pub fn identity() -> Result<Self, SubjectError> {
        let input = network::spec::InputSpec { name: "input".to_owned(), shape: vec![CLASSES] };
        let spec = network::NetworkSpec { inputs: vec![input], layers: Vec::new(), outputs: Vec::new() };
        let network = Network::new(spec)?;
        Ok(Self { name: "identity".to_owned(), weights: Weights::default(), network })
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

    /// Publishes it in a registry, to be asked with plain numbers.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub fn publish(&self, registry: &Registry) -> Result<(), SubjectError> {
        let labels = (0..CLASSES).map(|label| label.to_string()).collect();
        let manifest = Manifest::new(
            &self.name,
            &self.network,
            Preprocess::Numbers { shape: self.shape().to_vec() },
            Postprocess::new(Task::MultiClass, labels),
        );
        registry.publish(&self.name, Draft::new(manifest, self.weights.clone()))?;
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

#[cfg(test)]
mod tests {
    use predict::{DeviceSpec, Predictor, RawInput};

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
