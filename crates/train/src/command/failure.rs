//! Errors of the library as the command line tells them: with a hint, and as a mistake of the person or of
//! the machine.

use artifact::RegistryError;
use cli::ErrorExt as _;
use cli::config::Resolved;
use model::DeviceError;
use predict::{CompileError, PredictError};
use train::config::TrainConfig;
use train::data::DataError;
use train::evaluate::PackedDataError;
use train::init::InitError;
use train::pipeline::TrainError;
use train::prepare::PrepareError;
use train::run::RunError;

use super::resolve::refusal;

/// Says where in the configuration the mistake is, where it is one, and what to do.
pub(super) fn explain(error: TrainError, resolved: &Resolved<TrainConfig>) -> anyhow::Error {
    match error {
        TrainError::Config(error) | TrainError::Prepare(PrepareError::Config(error)) => {
            refusal(resolved, &error)
        }
        TrainError::Prepare(PrepareError::Data(error)) => explain_data(error),
        TrainError::Prepare(PrepareError::Init(error)) => match &error {
            InitError::Registry(registry) if !registry.is_not_found() => error.into(),
            InitError::Package(_) => error.into(),
            _ => usage(error, None),
        },
        TrainError::Prepare(error) => usage(error, Some("`--print-network` shows the layers of a preset")),
        TrainError::Device(error) => explain_device(error),
        error @ TrainError::NoPlace(_) => {
            usage(error, Some("give another folder with `--models`, or make no package with `--no-pack`"))
        }
        TrainError::Publish { ref run, .. } => {
            let hint = format!(
                "when the cause is mended, `train --resume {run}` packs the model without training again"
            );
            hinted(error.into(), &hint)
        }
        TrainError::Run(
            error @ (RunError::Unknown { .. } | RunError::Over { .. } | RunError::DataChanged { .. }),
        ) => usage(error, None),
        TrainError::Fit(error) => {
            let hint = error.hint();
            let error = anyhow::Error::from(error);
            match hint {
                Some(hint) => hinted(error, hint),
                None => error,
            }
        }
        error => error.into(),
    }
}

/// A device that is not there or cannot do what was asked is the person's mistake; one that fails is not.
pub(super) fn explain_device(error: DeviceError) -> anyhow::Error {
    let hint = error.hint();
    match (error, hint) {
        (error @ DeviceError::Failed { .. }, Some(hint)) => hinted(error.into(), &hint),
        (error, hint) => usage(error, hint.as_deref()),
    }
}

/// A model that cannot be opened or used where it was asked for.
pub(super) fn explain_predict(error: PredictError) -> anyhow::Error {
    match error {
        PredictError::Device(error) => explain_device(error),
        // A tier of instructions that there is not.
        PredictError::Compile(error @ CompileError::Isa(_)) => usage(error, None),
        error => error.into(),
    }
}

/// Data of a package: what is missing or does not fit is the person's to mend.
pub(super) fn explain_packed_data(error: PackedDataError) -> anyhow::Error {
    match error {
        PackedDataError::Data(error) => explain_data(error),
        error @ (PackedDataError::Unknown { .. } | PackedDataError::Table(_)) => {
            usage(error, Some("name the data with `--data PATH` or `--config FILE`"))
        }
        error @ PackedDataError::Changed { .. } => {
            usage(error, Some("`--data PATH` scores other data and compares nothing"))
        }
        error => usage(error, None),
    }
}

/// An error of the registry: a name that it does not have is the person's mistake.
pub(super) fn explain_registry(error: RegistryError) -> anyhow::Error {
    if error.is_not_found() {
        return usage(error, Some("`cargo xtask models ls` lists what there is"));
    }
    error.into()
}

/// An error of the data, with its own hint.
pub(super) fn explain_data(error: DataError) -> anyhow::Error {
    let hint = error.hint();
    let configured = matches!(error, DataError::Config { .. });
    let error = anyhow::Error::from(error);
    let error = if configured { as_usage(error) } else { error };
    match hint {
        Some(hint) => hinted(error, &hint),
        None => error,
    }
}

fn usage(error: impl Into<anyhow::Error>, hint: Option<&str>) -> anyhow::Error {
    let error = as_usage(error.into());
    match hint {
        Some(hint) => hinted(error, hint),
        None => error,
    }
}

fn as_usage(error: anyhow::Error) -> anyhow::Error {
    match Err::<(), _>(error).usage() {
        Ok(()) => anyhow::Error::msg("an error was lost"),
        Err(error) => error,
    }
}

pub(super) fn hinted(error: anyhow::Error, hint: &str) -> anyhow::Error {
    match Err::<(), _>(error).hint(hint) {
        Ok(()) => anyhow::Error::msg("an error was lost"),
        Err(error) => error,
    }
}
