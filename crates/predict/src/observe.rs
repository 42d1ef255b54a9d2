//! What some inputs and the answers to them look like, for packages that are made without a training set.

use artifact::manifest::{Columns, Observed};
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
        let prepared = self.prepare(inputs)?;
        let values = prepared.tensor.as_f32().unwrap_or_default();
        let mut seen = Columns::new(observer.inputs());
        for sample in values.chunks(values.len().checked_div(inputs.len()).unwrap_or(0).max(1)) {
            let mut row = Vec::with_capacity(observer.inputs().len());
            observer.observe_input(sample, &mut row);
            seen.push(row);
        }
        let mut said = Columns::new(observer.outputs());
        for answer in self.predict(inputs)? {
            let mut row = Vec::with_capacity(observer.outputs().len());
            observer.observe_output(&answer, &mut row);
            said.push(row);
        }
        let (inputs, outputs) = (seen.distributions(), said.distributions());
        Ok(Observed { inputs, outputs, outputs_split: split.to_owned() })
    }
}
