//! Loading: every version of every model in the registry, each checked before it serves.
//!
//! A package that is damaged, or whose answers on this device are not those that were packed, is logged and
//! skipped; the others serve. What the log says stays in the log, for it names paths.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use artifact::registry::ModelEntry;
use artifact::{ModelRef, Registry, Selector};
use model::device::panic_message;
use predict::{DeviceError, Kernels, Placement, PredictError, Predictor, WarmUp};

use crate::error::suggestion;
use crate::served::Served;
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

/// Lists what is there, so that the listing is complete before the first model is loaded.
///
/// # Errors
/// When the registry cannot be read, is empty, or lacks the default model.
pub fn discover(state: &State, registry: &Registry, default: Option<ModelRef>) -> Result<(), LoadError> {
    let scan = registry.scan()?;
    for warning in scan.warnings {
        tracing::warn!(path = %warning.path.display(), reason = warning.reason, "ignored");
    }
    let mut models = BTreeMap::new();
    for ModelEntry { name, versions, aliases } in scan.models {
        let versions = versions.into_iter().map(|number| (number, Version::Loading)).collect();
        models.insert(name, Model { versions, aliases });
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
    state.update(|catalog| {
        catalog.models = models;
        catalog.default = default;
    });
    Ok(())
}

/// Loads and warms up whatever [`discover`] found, then declares the server ready.
///
/// # Errors
/// When not one package could be loaded.
pub fn load(state: &State, registry: &Registry, options: &Options) -> Result<(), LoadError> {
    let found = state.catalog();
    let all = found
        .models
        .iter()
        .flat_map(|(name, model)| model.versions.keys().map(move |number| (name, *number)));
    let (mut count, mut last_loaded, mut device) = (0usize, None::<Arc<Served>>, None);
    for (name, number) in all {
        count += 1;
        let version = match open(registry, name, number, options) {
            Ok((predictor, warm)) => {
                report(&predictor, &warm);
                let served = Served::predictor_of(predictor, &state.scheduler, &state.health);
                last_loaded = Some(Arc::clone(&served));
                Version::Ready(served)
            }
            Err(error) => {
                tracing::error!(model = %name, version = number, error = %chain(error.as_ref()), "not served");
                if let Some((error, failed)) = gpu_failure(&error) {
                    device = Some(failed.clone());
                    // It may have taken along those that were loaded before.
                    if let Some(earlier) = last_loaded.as_ref().and_then(|served| served.predictor()) {
                        state.health.note(earlier, Some(error), || earlier.self_check().map(drop));
                    }
                }
                Version::Failed
            }
        };
        state.update(|catalog| {
            if let Some(model) = catalog.models.get_mut(name) {
                model.versions.insert(number, version);
            }
        });
    }
    if last_loaded.is_none() {
        return Err(LoadError::AllFailed { count, path: registry.root().to_owned(), device });
    }
    state.loaded();
    Ok(())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The failure of a GPU, if it was one. What fails on a CPU is the package, which makes a backend panic.
fn gpu_failure(error: &Failure) -> Option<(&PredictError, &DeviceError)> {
    let error = error.downcast_ref()?;
    match error {
        PredictError::Device(failed @ DeviceError::Failed { device, .. }) if device.is_gpu() => {
            Some((error, failed))
        }
        _ => None,
    }
}

/// Opens one version and compares it with its packed answers at every size of a pass, which also warms it up.
fn open(
    registry: &Registry,
    name: &str,
    number: u64,
    options: &Options,
) -> Result<(Predictor, Vec<WarmUp>), Failure> {
    // A hostile package must not take the server down, whatever it makes a library do.
    let open = || -> Result<(Predictor, Vec<WarmUp>), Failure> {
        let reference = ModelRef { name: name.to_owned(), selector: Selector::Version(number) };
        let mut predictor = Predictor::open(registry, &reference, options.placement)?;
        // A CPU takes batches as they come; filling them up would only cost time.
        if predictor.device().is_gpu() {
            predictor = predictor.with_batch_sizes(&options.batch_sizes);
        }
        let warm = predictor.warm_up()?;
        Ok((predictor, warm))
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open))
        .unwrap_or_else(|panic| Err(format!("loading it panicked: {}", panic_message(panic.as_ref())).into()))
}

/// Logs what was loaded, and how long it took to warm up.
fn report(predictor: &Predictor, warm: &[WarmUp]) {
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
fn chain(error: &(dyn std::error::Error + Send + Sync)) -> String {
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
