//! The training data and the answers of the finished model in the numbers that a server watches
//! ([`network::observe`]): the reference for drift.

use artifact::manifest::{Columns, Observed};
use network::Observer;
use predict::{PredictError, Predictor};
use rayon::prelude::*;

use crate::data::statistics::{MAX_SAMPLES, spread};
use crate::data::{DataError, DataSet, sample};

/// Answers that are looked at.
const MAX_OUTPUTS: usize = 5_000;
/// With fewer samples than this in the validation split, the answers for the training split tell more.
const FEW: usize = 100;

/// A reference that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one step")]
pub enum ObserveError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Predict(#[from] PredictError),
}

/// What the training data of a model and its answers look like.
///
/// # Errors
/// When a sample cannot be read, prepared or answered.
pub fn observe(data: &DataSet, predictor: &Predictor) -> Result<Observed, ObserveError> {
    let preprocess = predictor.preprocess();
    let observer = Observer::new(preprocess, predictor.postprocess());
    let mut columns = Columns::new(observer.inputs());
    for chunk in spread(&data.splits.train, MAX_SAMPLES).chunks(512) {
        let rows: Vec<Result<Vec<f32>, DataError>> = chunk
            .par_iter()
            .map(|&index| {
                let prepared = sample(data, preprocess, index)?;
                let mut values = Vec::with_capacity(observer.inputs().len());
                observer.observe_input(&prepared, &mut values);
                Ok(values)
            })
            .collect();
        for row in rows {
            columns.push(row?);
        }
    }
    let inputs = columns.distributions();
    observe_outputs(Observed { inputs, ..Observed::default() }, data, predictor)
}

/// The same inputs with the answers of another model of the same data: what compression makes of a model answers
/// differently, and reads the same.
///
/// # Errors
/// When a sample cannot be read or answered.
pub fn observe_outputs(
    inputs: Observed,
    data: &DataSet,
    predictor: &Predictor,
) -> Result<Observed, ObserveError> {
    let splits = &data.splits;
    let validation = splits.validation.len() >= FEW;
    let (split, indices) =
        if validation { ("validation", &splits.validation) } else { ("train", &splits.train) };
    let observer = Observer::new(predictor.preprocess(), predictor.postprocess());
    let mut columns = Columns::new(observer.outputs());
    for chunk in spread(indices, MAX_OUTPUTS).chunks(256) {
        let raw = chunk.iter().map(|&index| data.source.read(index)).collect::<Result<Vec<_>, _>>()?;
        for answer in predictor.predict(&raw)? {
            let mut values = Vec::with_capacity(observer.outputs().len());
            observer.observe_output(&answer, &mut values);
            columns.push(values);
        }
    }
    let outputs = columns.distributions();
    Ok(Observed { outputs, outputs_split: split.to_owned(), ..inputs })
}
