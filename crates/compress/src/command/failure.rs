//! Errors of the library as the command line tells them: with a hint, and as a mistake of the person or of the
//! machine.

use artifact::{NameError, RegistryError};
use cli::ErrorExt as _;
use compress::cluster::ClusterError;
use compress::distill::DistillError;
use compress::finetune::FinetuneError;
use compress::magnitude::MagnitudeError;
use compress::pipeline::SearchError;
use compress::prune::structured::PruneError;
use compress::qat::QatError;
use compress::quantize::QuantizeError;
use compress::recipe::RecipeError;
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

/// A name that no model can have, as `--name` gives it.
pub(super) fn name<T>(error: NameError) -> anyhow::Result<T> {
    Err(cli::usage_error(format!("--name: {error}")))
}

/// A training that cannot be done: what was asked is the person's mistake, the rest is the machine's.
pub(super) fn finetune<T>(error: FinetuneError) -> anyhow::Result<T> {
    match &error {
        FinetuneError::Fit(cause) => match cause.hint() {
            Some(hint) => Err(error).hint(hint),
            None => Err(error.into()),
        },
        FinetuneError::Directory(_) => Err(error.into()),
        _ => Err(error).usage(),
    }
}

/// A model that cannot be pruned as it was asked.
pub(super) fn prune<T>(error: PruneError) -> anyhow::Result<T> {
    match error {
        PruneError::Finetune(error) => finetune(error),
        PruneError::Teacher(error) => distill(error),
        PruneError::Config { .. }
        | PruneError::Quantized
        | PruneError::Nothing { .. }
        | PruneError::UnknownGroup { .. }
        | PruneError::Budget { .. }
        | PruneError::NoSamples { .. } => Err(error).usage(),
        error => Err(error.into()),
    }
}

/// A model whose weights cannot be made zero as it was asked.
pub(super) fn magnitude<T>(error: MagnitudeError) -> anyhow::Result<T> {
    match error {
        MagnitudeError::Finetune(error) => finetune(error),
        MagnitudeError::Teacher(error) => distill(error),
        error => Err(error).usage(),
    }
}

/// A model whose weights cannot be grouped as it was asked.
pub(super) fn cluster<T>(error: ClusterError) -> anyhow::Result<T> {
    match error {
        ClusterError::Finetune(error) => finetune(error),
        ClusterError::Teacher(error) => distill(error),
        ClusterError::Length(_) => Err(error.into()),
        error => Err(error).usage(),
    }
}

/// A student that cannot be taught as it was asked.
pub(super) fn distill<T>(error: DistillError) -> anyhow::Result<T> {
    match error {
        DistillError::Finetune(error) => finetune(error),
        DistillError::Teacher(_) => Err(error.into()),
        error => Err(error).usage(),
    }
}

/// A model that cannot be trained for int8 as it was asked.
pub(super) fn qat<T>(error: QatError) -> anyhow::Result<T> {
    match error {
        QatError::Finetune(error) => finetune(error),
        QatError::Teacher(error) => distill(error),
        QatError::Layer(_) | QatError::NoLayer { .. } | QatError::Inputs { .. } => Err(error).usage(),
        error => Err(error.into()),
    }
}

/// A model that cannot be compressed within a budget.
pub(super) fn search<T>(error: SearchError) -> anyhow::Result<T> {
    match error {
        SearchError::Teacher(error) => distill(error),
        SearchError::Quantized => Err(error).usage(),
        error => Err(error.into()),
    }
}

/// A recipe that cannot be followed.
pub(super) fn recipe<T>(error: RecipeError) -> anyhow::Result<T> {
    match error {
        RecipeError::Prune(error) => prune(error),
        RecipeError::Magnitude(error) => magnitude(error),
        RecipeError::Cluster(error) => cluster(error),
        RecipeError::Qat(error) => qat(error),
        error => Err(error.into()),
    }
}
