//! What some inputs and the answers to them look like, for packages that are made without a training set.

use artifact::manifest::{Distribution, Observed};
use network::observe::Feature;
use network::{Observer, RawInput};

use crate::error::PredictError;
use crate::predictor::Predictor;

impl Predictor {
    /// The distributions of some inputs and of the model's answers to them, in the numbers that a server watches
    /// ([`network::observe`]); `split` says which answers they are.
    ///
    /// # Errors
    /// When an input cannot be prepared or answered.
    pub fn observe(&self, inputs: &[RawInput], split: &str) -> Result<Observed, PredictError> {
        let observer = Observer::new(self.preprocess(), self.postprocess());
        let mut seen = vec![Vec::new(); observer.inputs().len()];
        let mut said = vec![Vec::new(); observer.outputs().len()];
        let prepared = self.prepare(inputs)?;
        let values = prepared.tensor.as_f32().unwrap_or_default();
        for sample in values.chunks(values.len().checked_div(inputs.len()).unwrap_or(0).max(1)) {
            let mut row = Vec::with_capacity(seen.len());
            observer.observe_input(sample, &mut row);
            seen.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        for answer in self.predict(inputs)? {
            let mut row = Vec::with_capacity(said.len());
            observer.observe_output(&answer, &mut row);
            said.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        let of = |features: &[Feature], columns: Vec<Vec<f32>>| {
            let columns = features.iter().zip(columns);
            columns.filter_map(|(feature, values)| Distribution::of(feature, values)).collect()
        };
        let (inputs, outputs) = (of(observer.inputs(), seen), of(observer.outputs(), said));
        Ok(Observed { inputs, outputs, outputs_split: split.to_owned() })
    }
}
