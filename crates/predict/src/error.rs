//! What a predictor refuses.

use artifact::{ManifestError, PackageError, RegistryError};
use model::{DeviceError, NetError, Precision};
use network::postprocess::PostprocessError;
use network::{PreprocessError, SignatureError};

use crate::placement::Placement;

/// A raw input that cannot be prepared, and which one of the batch it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("input {index}: {source}")]
pub struct PrepareError {
    /// Its index in the batch, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub source: PreprocessError,
}

/// A model that cannot be opened or an input that it cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum PredictError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Compile(#[from] engine::CompileError),
    #[error("the weights do not fit the network")]
    Weights(#[from] artifact::RecordError),
    #[error("the preprocessing gives {given:?}, but the network takes {taken:?}")]
    Shape { given: Vec<usize>, taken: Vec<usize> },
    #[error(
        "the network has {inputs} inputs; raw inputs can only be prepared for one, so give prepared tensors"
    )]
    Inputs { inputs: usize },
    #[error(transparent)]
    Input(#[from] PrepareError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("outputs: {0}")]
    Outputs(SignatureError),
    #[error("the postprocessing does not fit: {0}")]
    Postprocess(#[from] PostprocessError),
    #[error("sample {index} of the package cannot be used: {reason}")]
    Sample { index: usize, reason: String },
    #[error(
        "the model does not give the answers that {origin}: output {output} of sample {index} is {found}, but \
         {expected} (± {tolerance}) is right; the device `{}` computes something else in {} with {rows} rows at once",
        placement.device, placement.precision
    )]
    SelfCheck {
        index: usize,
        output: usize,
        found: f32,
        expected: f32,
        tolerance: f32,
        origin: &'static str,
        placement: Placement,
        rows: usize,
    },
    /// `row` is the row in the batch that the caller gave, from 0, however the batch was cut.
    #[error(
        "the answer to row {row} is not a finite number in {precision}: its values are too large for that precision; \
         f32 has the range"
    )]
    Overflow { row: usize, precision: Precision },
    #[error("the network gave values that do not fit its signature: {reason}")]
    Internal { reason: String },
}

impl From<ManifestError> for PredictError {
    fn from(error: ManifestError) -> Self {
        Self::Internal { reason: error.to_string() }
    }
}
