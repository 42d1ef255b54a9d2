//! Loading: every version of every model in the registry, each checked before it serves.
//!
//! A package that is damaged, or whose answers on this device are not those that were packed, is logged and
//! skipped; the others serve. What the log says stays in the log, for it names paths.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use artifact::registry::ModelEntry;
use artifact::{ModelRef, PackageError, Registry, RegistryError, Selector};
use network::{NamedTensor, Tensor};
use predict::{DeviceError, Kernels, Placement, PredictError, Predictor, WarmUp};

use crate::error::suggestion;
use crate::executor::Executor as _;
use crate::repository::{Settings, Worker};
use crate::state::{Model, State, Version};

/// How models are opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where they run, and in which precision.
    pub placement: Placement,
    /// On a GPU the sizes of passes; empty for the predictor's own rule.
    pub batch_sizes: Vec<usize>,
}

/// A registry from which nothing can be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum LoadError {
    #[error("the registry cannot be read")]
    Registry(#[from] artifact::RegistryError),
    #[error("there are no models in {path}")]
    Empty { path: std::path::PathBuf },
    #[error("the default model `{name}` is not in the registry, which has {known}{hint}")]
    Default { name: String, known: String, hint: String },
    #[error("none of the {count} packages in {path} could be loaded")]
    AllFailed {
        count: usize,
        path: std::path::PathBuf,
        /// The last failure of a GPU, which is the cause then.
        #[source]
        device: Option<DeviceError>,
    },
}

/// Lists what is there, so that the listing is complete before the first model is loaded, and notes the default model
/// whether it is there or not.
///
/// # Errors
/// When the registry cannot be read, is empty, or lacks the default model.
pub fn discover(state: &State, registry: &Registry, default: Option<ModelRef>) -> Result<(), LoadError> {
    state.update(|catalog| catalog.default.clone_from(&default));
    let scan = registry.scan()?;
    for warning in scan.warnings {
        tracing::warn!(path = %warning.path.display(), reason = warning.reason, "ignored");
    }
    let mut models = BTreeMap::new();
    for ModelEntry { name, versions, aliases } in scan.models {
        let versions = versions.into_iter().map(|number| (number, Version::Loading)).collect();
        models.insert(name, Model { versions, aliases, ..Model::default() });
    }
    if models.is_empty() {
        return Err(LoadError::Empty { path: registry.root().to_owned() });
    }
    if let Some(wanted) = &default {
        let known = || models.keys().map(String::as_str);
        let exists = models.get(&wanted.name).is_some_and(|model| match &wanted.selector {
            Selector::Version(number) => model.versions.contains_key(number),
            Selector::Alias(alias) => model.aliases.contains_key(alias),
            Selector::Default | Selector::Latest => true,
        });
        if !exists {
            let hint = suggestion(&wanted.name, known().filter(|name| *name != wanted.name));
            let known = known().collect::<Vec<_>>().join(", ");
            return Err(LoadError::Default { name: wanted.to_string(), known, hint });
        }
    }
    state.update(|catalog| catalog.models = models);
    Ok(())
}

/// Loads and warms up every version of every model, then declares the server ready.
///
/// # Errors
/// When not one package could be loaded.
pub fn load(state: &State, registry: &Registry, options: &Options) -> Result<(), LoadError> {
    Worker::new(registry.clone(), options.clone(), Settings::default()).begin(state)
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A model and how long its batches took, or why it cannot be served.
pub(crate) type Opened = Result<(Arc<Predictor>, Vec<WarmUp>), Failure>;

/// The failure of a GPU, if it was one. What fails on a CPU is the package, which makes a backend panic.
pub(crate) fn gpu_failure(error: &Failure) -> Option<(&PredictError, &DeviceError)> {
    let error = error.downcast_ref()?;
    match error {
        PredictError::Device(failed @ DeviceError::Failed { device, .. }) if device.is_gpu() => {
            Some((error, failed))
        }
        _ => None,
    }
}

/// Opens one version, compares it with its packed answers at every size of a pass, and runs the sizes of batches that
/// it will be given.
pub(crate) fn open(registry: &Registry, name: &str, number: u64, options: &Options) -> Opened {
    let reference = ModelRef { name: name.to_owned(), selector: Selector::Version(number) };
    let mut predictor = Predictor::open(registry, &reference, options.placement)?;
    // A CPU takes batches as they come; filling them up would only cost time.
    if predictor.device().is_gpu() {
        predictor = predictor.with_batch_sizes(&options.batch_sizes);
    }
    let warm = predictor.warm_up()?;
    let predictor = Arc::new(predictor);
    if predictor.batch_sizes().is_empty() {
        for rows in [1, predictor.max_rows()] {
            predictor.infer(&zeros(&predictor, rows)?)?;
        }
    }
    Ok((predictor, warm))
}

/// A batch of zeros.
fn zeros(predictor: &Predictor, rows: usize) -> Result<Vec<NamedTensor>, Failure> {
    let inputs = predictor.signature().inputs.iter().map(|spec| {
        let shape: Vec<usize> =
            std::iter::once(rows).chain(spec.sample_shape().unwrap_or_default()).collect();
        let values = vec![0.0; shape.iter().product()];
        Ok(NamedTensor { name: spec.name.clone(), tensor: Tensor::from_f32(shape, values)? })
    });
    inputs.collect()
}

/// Why a version is not served, as listings may say it: without paths, which the log has.
pub(crate) fn told(error: &Failure) -> String {
    const UNTOLD: &str = "the package could not be loaded; the server's log says why";
    let package = |error: &PackageError| match error {
        PackageError::NoManifest { .. } => "the package has no manifest".to_owned(),
        PackageError::Manifest { source, .. } => format!("the manifest is not valid: {source}"),
        PackageError::Damaged { problems, .. } => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("the package is damaged: {}", problems.join("; "))
        }
        PackageError::Record { source, .. } => format!("the weights are not valid: {source}"),
        PackageError::Codec { source, .. } => format!("the weights cannot be unwrapped: {source}"),
        _ => UNTOLD.to_owned(),
    };
    match error.downcast_ref() {
        Some(PredictError::Package(error) | PredictError::Registry(RegistryError::Package(error))) => {
            package(error)
        }
        Some(
            error @ (PredictError::Device(_)
            | PredictError::Shape { .. }
            | PredictError::Sample { .. }
            | PredictError::SelfCheck { .. }
            | PredictError::Overflow { .. }),
        ) => error.to_string(),
        _ => UNTOLD.to_owned(),
    }
}

/// Logs what was loaded, and how long it took to warm up.
pub(crate) fn report(predictor: &Predictor, warm: &[WarmUp]) {
    let (model, version) = (predictor.name(), predictor.version());
    for WarmUp { rows, check, first, again } in warm {
        tracing::debug!(model, version, rows, ?check, ?first, ?again, "warmed up");
    }
    let took: Duration = warm.iter().map(|warm| warm.first + warm.again.unwrap_or_default()).sum();
    tracing::info!(
        model,
        version,
        device = %predictor.device(),
        precision = %predictor.precision_name(),
        kernels = %predictor.kernels(),
        batch_sizes = ?predictor.batch_sizes(),
        samples = warm.iter().map(|warm| warm.check.samples).max().unwrap_or(0),
        largest_difference = warm.iter().map(|warm| warm.check.largest_difference).fold(0.0, f32::max),
        warm_up_ms = took.as_millis(),
        "loaded"
    );
    // On the device `cpu` alone there is a reason: what the engine cannot compile is slower than it need be.
    if let Kernels::Burn { reason: Some(reason) } = predictor.kernels() {
        tracing::warn!(model, version, reason, "runs on Burn instead of the engine");
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors repeat their source in their own message; the repetition tells nothing.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use model::DeviceSpec;

    use super::*;

    #[test]
    fn only_gpus_fail_by_themselves() {
        let failed = |device| -> Failure {
            PredictError::from(DeviceError::Failed { device, reason: String::new() }).into()
        };
        assert!(gpu_failure(&failed(DeviceSpec::Wgpu(0))).is_some());
        assert!(gpu_failure(&failed(DeviceSpec::Cpu)).is_none());
        assert!(gpu_failure(&"something else".into()).is_none());
    }
}
