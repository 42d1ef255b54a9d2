//! The self-check: a model must give the answers that it was packed with.

use network::{NamedTensor, Tensor};

use crate::error::PredictError;
use crate::predictor::Predictor;

/// How far an output may be from the packed one, as a share of the sample's largest output (at least 1).
/// Devices add in different orders; 32-bit floats then differ in the sixth digit or so.
const TOLERANCE: f32 = 1e-3;

/// What a self-check found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelfCheck {
    /// How many packed samples were compared; 0 for a model without samples.
    pub samples: usize,
    /// The largest difference to a packed output.
    pub largest_difference: f32,
}

impl Predictor {
    /// Runs the package's samples and compares the outputs with those that were packed: each may differ by
    /// 0.001 of the sample's largest output, or by 0.001 where all are smaller than 1. A model without samples
    /// runs one sample of zeros. Either way the model is warmed up afterwards.
    ///
    /// # Errors
    /// The first output that differs, or a sample that cannot be used.
    pub fn self_check(&self) -> Result<SelfCheck, PredictError> {
        let samples = self.manifest().map(|manifest| manifest.samples.as_slice()).unwrap_or_default();
        if samples.is_empty() {
            self.infer(&self.zeros()?)?;
            return Ok(SelfCheck { samples: 0, largest_difference: 0.0 });
        }
        let mut inputs = Vec::with_capacity(samples.len());
        for (index, sample) in samples.iter().enumerate() {
            let input = sample.input.to_raw();
            inputs.push(input.map_err(|error| PredictError::Sample { index, reason: error.to_string() })?);
        }
        let outputs = self.infer(&[self.prepare(&inputs)?])?;
        let found = outputs.first().and_then(|output| output.tensor.as_f32()).unwrap_or_default();
        let width = found.len() / samples.len();
        let mut largest_difference = 0.0f32;
        for (index, (sample, found)) in samples.iter().zip(found.chunks_exact(width.max(1))).enumerate() {
            let largest = sample.logits.iter().fold(1.0f32, |largest, logit| largest.max(logit.abs()));
            let tolerance = TOLERANCE * largest;
            for (output, (&expected, &found)) in sample.logits.iter().zip(found).enumerate() {
                let difference = (expected - found).abs();
                if difference.is_nan() || difference > tolerance {
                    let device = self.device().to_string();
                    return Err(PredictError::SelfCheck {
                        index,
                        output,
                        found,
                        expected,
                        tolerance,
                        device,
                    });
                }
                largest_difference = largest_difference.max(difference);
            }
        }
        Ok(SelfCheck { samples: samples.len(), largest_difference })
    }

    /// One row of zeros for every input.
    fn zeros(&self) -> Result<Vec<NamedTensor>, PredictError> {
        let zeros = self.signature().inputs.iter().map(|spec| {
            let sample_shape = spec.sample_shape().unwrap_or_default();
            let values = vec![0.0; sample_shape.iter().product()];
            let shape = std::iter::once(1).chain(sample_shape).collect();
            Tensor::from_f32(shape, values)
                .map(|tensor| NamedTensor { name: spec.name.clone(), tensor })
                .map_err(|error| PredictError::Internal { reason: error.to_string() })
        });
        zeros.collect()
    }
}
