//! Errors of the library as the command line tells them: with a hint, and as a mistake of the person or of the
//! machine.

use artifact::RegistryError;
use cli::ErrorExt as _;
use compress::quantize::QuantizeError;
use train::evaluate::PackedDataError;

/// A name that the registry does not have is the person's mistake.
pub(super) fn registry<T>(error: RegistryError) -> anyhow::Result<T> {
    if error.is_not_found() {
        return Err(error).hint("`cargo xtask models ls` lists what there is").usage();
    }
    Err(error.into())
}

/// Data that is missing or not the package's.
pub(super) fn data<T>(error: PackedDataError) -> anyhow::Result<T> {
    match &error {
        PackedDataError::Data(cause) => match cause.hint() {
            Some(hint) => Err(error).hint(hint),
            None => Err(error.into()),
        },
        PackedDataError::Changed { .. } => {
            Err(error).hint("quantize a version that was trained on the data as it is now").usage()
        }
        _ => Err(error).usage(),
    }
}

/// A model that cannot be quantized as it was asked.
pub(super) fn quantize<T>(error: QuantizeError) -> anyhow::Result<T> {
    match &error {
        QuantizeError::UnknownLayer(_)
        | QuantizeError::Quantized { .. }
        | QuantizeError::FewSamples { .. }
        | QuantizeError::Inputs { .. } => Err(error).usage(),
        QuantizeError::NoLayer { .. } => Err(error)
            .hint("`layers.float` and `layers.faster_only` of the configuration keep layers in floats")
            .usage(),
        QuantizeError::TooLossy { .. } => Err(error)
            .hint("`gate.max_drop` says how much may be lost; other ranges may lose less: `calibration.percentile`")
            .gate_failed(),
        QuantizeError::Compile(_) => Err(error)
            .hint("int8 runs on the engine alone; `cargo xtask models show` lists the layers")
            .usage(),
        _ => Err(error.into()),
    }
}
