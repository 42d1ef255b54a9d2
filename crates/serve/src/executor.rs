//! What answers batches of prepared tensors: a model, a pipeline of models, or whatever a test needs.

use std::fmt::Debug;
use std::sync::Arc;

use network::{NamedTensor, Signature};
use predict::{PredictError, Predictor};

use crate::drift::Sketch;

/// Answers batches. It blocks, and several threads may call it at once.
pub trait Executor: Send + Sync + Debug {
    /// What it takes and gives: names, types and dimensions. Where [`Executor::max_rows`] is not 0, the first
    /// dimension of every input and output is the batch.
    fn signature(&self) -> &Signature;

    /// What runs it, as the protocol's metadata names it.
    fn platform(&self) -> &str;

    /// The most rows of one call that it takes well. 0: there is no batch dimension, and every call is one request.
    fn max_rows(&self) -> usize;

    /// Answers one batch, which fits the signature: every output of the signature, with as many rows as the inputs.
    /// A row's answer must not depend on the rows beside it.
    ///
    /// # Errors
    /// When it cannot. A batch of several requests is then run again request by request, so that a bad one fails
    /// alone. A panic counts as a failure.
    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError>;

    /// The model, where there is exactly one: it knows the way from raw inputs and to typed answers.
    fn predictor(&self) -> Option<&Arc<Predictor>> {
        None
    }

    /// What was counted of the inputs and answers, where they are watched.
    fn sketch(&self) -> Option<&Arc<Sketch>> {
        None
    }

    /// Hears that a request was answered with what an earlier one was answered.
    fn repeated(&self, _inputs: &[NamedTensor], _outputs: &[NamedTensor]) {}
}

/// Why a batch has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The values of one row cannot be computed, which is the client's fault.
    #[error("row {row}: {reason}")]
    Row {
        /// The row in the batch, from 0.
        row: usize,
        /// What is wrong with it, as the client may read it.
        reason: String,
    },
    /// The inputs fit the signature and cannot be answered all the same; the client may read why.
    #[error("{0}")]
    Input(String),
    /// The model or its device failed; only the log says how.
    #[error(transparent)]
    Model(#[from] PredictError),
    /// Something else failed; only the log says how.
    #[error("{0}")]
    Failed(String),
}

/// On a CPU, more rows at once gain nothing: the engine works through a batch in blocks of a few rows, and who comes
/// next waits for the whole of it.
const CPU_ROWS: usize = 32;

impl Executor for Arc<Predictor> {
    fn signature(&self) -> &Signature {
        Predictor::signature(self)
    }

    fn platform(&self) -> &'static str {
        "brazier_burnpack"
    }

    fn max_rows(&self) -> usize {
        let pass = self.pass_rows();
        if self.device().is_gpu() { pass } else { pass.min(CPU_ROWS) }
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        self.infer(inputs).map_err(|error| match error {
            // What overflows in 16 bits depends on the values that were sent; a model that always does is not served.
            PredictError::Overflow { row, precision } => ExecuteError::Row {
                row,
                reason: format!("its values are too large for the precision of this server, {precision}"),
            },
            error => ExecuteError::Model(error),
        })
    }

    fn predictor(&self) -> Option<&Arc<Predictor>> {
        Some(self)
    }
}

/// Answers with what it is given.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Identity(pub(crate) Signature);

#[cfg(test)]
impl Executor for Identity {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn platform(&self) -> &'static str {
        "identity"
    }

    fn max_rows(&self) -> usize {
        1
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        Ok(inputs.to_vec())
    }
}
