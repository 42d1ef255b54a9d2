//! What can go wrong when a program is made or run.

use network::QuantizationError;

use crate::isa::IsaError;

/// A network that cannot be compiled, or weights that do not belong to it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum CompileError {
    #[error("layer `{layer}` ({kind}) cannot be compiled for the CPU engine: {reason}")]
    Unsupported { layer: String, kind: &'static str, reason: String },
    #[error("the record has no tensor `{key}`, which the network needs with the shape {shape:?}")]
    Missing { key: String, shape: Vec<usize> },
    #[error("the record's tensor `{key}` must be {expected}, but is {found}")]
    Mismatch { key: String, expected: String, found: String },
    #[error("the record's tensor `{key}` belongs to no layer of the network")]
    Unused { key: String },
    #[error("layer `{layer}` is to run in int8, but the plan has no range for `{value}`; it has {known}")]
    Range { layer: String, value: String, known: String },
    #[error("layer `{layer}` is to run in int8, but the plan gives {found} scales for {expected} outputs")]
    Scales { layer: String, expected: usize, found: usize },
    #[error(
        "layer `{layer}` of the int8 plan is no layer of the network that has weights; those are {known}"
    )]
    Plan { layer: String, known: String },
    #[error("layer `{layer}` is to run in int8, but one of its weights is no finite number")]
    NotFinite { layer: String },
    #[error("layer `{layer}`: a sample needs {floats} floats there; {limit} are the most")]
    TooLarge { layer: String, floats: u64, limit: u64 },
    #[error("the record does not fit the quantization")]
    Quantization(#[from] QuantizationError),
    #[error(transparent)]
    Isa(#[from] IsaError),
}

/// A call of a program with buffers that do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RunError {
    #[error(
        "the program has {expected} inputs and {outputs} outputs, but {found} and {found_outputs} were given"
    )]
    Count { expected: usize, outputs: usize, found: usize, found_outputs: usize },
    #[error("input `{name}` needs {rows} rows of {per_row} values, so {expected}, but {found} were given")]
    Input { name: String, rows: usize, per_row: usize, expected: usize, found: usize },
    #[error("output `{name}` needs room for {rows} rows of {per_row} values, so {expected}, but has {found}")]
    Output { name: String, rows: usize, per_row: usize, expected: usize, found: usize },
    #[error("this scratch belongs to another program: make one with `Program::scratch`")]
    Scratch,
}
