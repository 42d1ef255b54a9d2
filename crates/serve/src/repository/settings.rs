//! What an operator sets of the repository: who may change what is served, and how often the disk is looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::policy::Policy;
use crate::ensemble::EnsembleConfig;

/// `[repository]`: how the directory of models becomes what is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RepositoryConfig {
    /// What changes what is served after the start.
    pub mode: Mode,
    /// Milliseconds between two looks at the directory.
    pub poll_ms: u64,
    /// Which versions of a model are served; `model.NAME.versions` says it for one model.
    pub versions: Policy,
    /// In the modes `explicit` and `none`: the models that are loaded at the start; `*` means all.
    pub startup: Vec<String>,
    /// Whether the server starts, and stays not ready, when there is nothing that it can serve.
    pub allow_empty: bool,
}

/// What changes what is served after the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The directory: what appears in it is served, what disappears is not. Requests may unload a model, and load
    /// it again.
    #[default]
    Watch,
    /// Requests alone; the directory is looked at for what could be loaded.
    Explicit,
    /// Nothing.
    None,
}

impl Default for RepositoryConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Watch,
            poll_ms: 2000,
            versions: Policy::All,
            startup: vec!["*".to_owned()],
            allow_empty: false,
        }
    }
}

/// What the repository does by: the general settings, and what differs for single models.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[repository]`.
    pub general: RepositoryConfig,
    /// `model.NAME.versions`, by name.
    pub versions: BTreeMap<String, Policy>,
    /// `model.NAME.ensemble`, by name.
    pub ensembles: BTreeMap<String, EnsembleConfig>,
}

impl Settings {
    /// Which versions of a model are served.
    #[must_use]
    pub fn policy(&self, model: &str) -> &Policy {
        self.versions.get(model).unwrap_or(&self.general.versions)
    }

    /// What `repository.startup` names and `is_there` does not know.
    pub(super) fn missing_at_start(&self, is_there: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
        let names = self.general.startup.iter().map(String::as_str);
        names.filter(move |name| *name != "*" && !self.ensembles.contains_key(*name) && !is_there(name))
    }

    /// Whether a model is loaded at the start.
    pub(super) fn at_start(&self, model: &str) -> bool {
        self.general.mode == Mode::Watch
            || self.general.startup.iter().any(|name| name == "*" || name == model)
    }
}
