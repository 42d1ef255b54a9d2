//! Loading: every version of every model in the registry, each checked before it serves.
//!
//! A package that is damaged is logged and skipped; the others serve. What the log says stays in the log,
//! for it names paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use artifact::registry::ModelEntry;
use artifact::{ModelRef, Registry, Selector};
use predict::{DeviceSpec, Predictor};

use crate::error::suggestion;
use crate::state::{Model, State, Version};

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
    AllFailed { count: usize, path: std::path::PathBuf },
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
pub fn load(state: &State, registry: &Registry, device: &DeviceSpec) -> Result<(), LoadError> {
    let found = state.catalog();
    let all = found
        .models
        .iter()
        .flat_map(|(name, model)| model.versions.keys().map(move |number| (name, *number)));
    let (mut loaded, mut count) = (0usize, 0usize);
    for (name, number) in all {
        count += 1;
        let version = match open(registry, name, number, device) {
            Ok(predictor) => {
                loaded += 1;
                tracing::info!(model = %name, version = number, "loaded");
                Version::Ready(Arc::new(predictor))
            }
            Err(error) => {
                tracing::error!(model = %name, version = number, error = %chain(error.as_ref()), "not served");
                Version::Failed
            }
        };
        state.update(|catalog| {
            if let Some(model) = catalog.models.get_mut(name) {
                model.versions.insert(number, version);
            }
        });
    }
    if loaded == 0 {
        return Err(LoadError::AllFailed { count, path: registry.root().to_owned() });
    }
    state.loaded();
    Ok(())
}

/// Opens one version and runs its self-check, which also warms it up.
fn open(
    registry: &Registry,
    name: &str,
    number: u64,
    device: &DeviceSpec,
) -> Result<Predictor, Box<dyn std::error::Error + Send + Sync>> {
    // A hostile package must not take the server down, whatever it makes a library do.
    let open = || -> Result<Predictor, Box<dyn std::error::Error + Send + Sync>> {
        let reference = ModelRef { name: name.to_owned(), selector: Selector::Version(number) };
        let predictor = Predictor::open(registry, &reference, device)?;
        predictor.self_check()?;
        Ok(predictor)
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        Err(format!("loading it panicked: {}", crate::pool::panic_message(panic.as_ref())).into())
    })
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
