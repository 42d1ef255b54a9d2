//! Prepared tensors through the network, in passes.

use std::iter::once;

use model::Precision;
use network::{Elements, NamedTensor, Tensor};

use crate::batching::Pass;
use crate::error::PredictError;
use crate::placed::Rows;
use crate::predictor::Predictor;

impl Predictor {
    /// Runs prepared inputs through the network and returns all raw outputs, in the signature's order.
    ///
    /// # Errors
    /// When the inputs do not fit [`Predictor::signature`], when the device fails, or when half-precision numbers
    /// overflow. A panic in the device's driver or backend is such a failure; later calls may succeed.
    pub fn infer(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, PredictError> {
        let rows = self.signature().check_inputs(inputs)?;
        let passes: Vec<Pass> = self.batching.passes(rows).collect();
        self.infer_passes(inputs, rows, &passes)
    }

    /// Runs the given passes, which cover all `rows` of inputs that have been checked.
    pub(crate) fn infer_passes(
        &self,
        inputs: &[NamedTensor],
        rows: usize,
        passes: &[Pass],
    ) -> Result<Vec<NamedTensor>, PredictError> {
        let internal = |reason: String| PredictError::Internal { reason };
        let signature = self.signature();
        // In the order of the signature, which a caller need not keep.
        let mut sources = Vec::with_capacity(signature.inputs.len());
        for spec in &signature.inputs {
            let input = inputs.iter().find(|input| input.name == spec.name);
            let values = input.and_then(|input| input.tensor.as_f32());
            let values = values.ok_or_else(|| internal(format!("input `{}` is not FP32", spec.name)))?;
            sources.push((values, spec.sample_shape().unwrap_or_default()));
        }
        let shapes: Vec<Vec<usize>> =
            signature.outputs.iter().map(|spec| spec.sample_shape().unwrap_or_default()).collect();
        let mut collected: Vec<Vec<f32>> = vec![Vec::new(); shapes.len()];
        for Pass { first, rows, size } in passes.iter().copied() {
            let parts: Vec<Rows<'_>> = sources
                .iter()
                .map(|(values, shape)| {
                    let width: usize = shape.iter().product();
                    (&values[first * width..(first + rows) * width], shape.as_slice())
                })
                .collect();
            let outputs = self.placed.run(&parts, rows, size)?;
            for ((collected, shape), values) in collected.iter_mut().zip(&shapes).zip(outputs) {
                let width: usize = shape.iter().product();
                let part = values.get(..rows * width);
                let part =
                    part.ok_or_else(|| internal(format!("{} values for {rows} rows", values.len())))?;
                self.check_finite(part, first, width)?;
                collected.extend_from_slice(part);
            }
        }
        let named = signature.outputs.iter().zip(shapes).zip(collected).map(|((spec, shape), values)| {
            let tensor = Tensor::new(once(rows).chain(shape).collect(), Elements::F32(values));
            tensor
                .map(|tensor| NamedTensor { name: spec.name.clone(), tensor })
                .map_err(|error| internal(error.to_string()))
        });
        named.collect()
    }

    /// In half precision a number overflows that would not in 32 bits; what follows from it is no answer.
    fn check_finite(&self, values: &[f32], first: usize, width: usize) -> Result<(), PredictError> {
        let precision = self.precision();
        if precision == Precision::F32 {
            return Ok(());
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(place) => Err(PredictError::Overflow { row: first + place / width.max(1), precision }),
        }
    }
}
