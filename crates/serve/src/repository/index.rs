//! The listing of the model repository extension.

use schemars::JsonSchema;
use serde::Serialize;

use crate::state::{Catalog, Version};

/// One version of a model, or a model without one, as the protocol's repository extension lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IndexEntry {
    /// The model.
    pub name: String,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `UNAVAILABLE`, `LOADING`, `READY` or `UNLOADING`.
    pub state: &'static str,
    /// Why it is so; empty where there is nothing to say.
    pub reason: String,
}

/// Lists every version that is known, or only those that are ready.
#[must_use]
pub fn index(catalog: &Catalog, ready_only: bool) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for (name, model) in &catalog.models {
        for (number, version) in &model.versions {
            if ready_only && !matches!(version, Version::Ready(_)) {
                continue;
            }
            entries.push(IndexEntry {
                name: name.clone(),
                version: Some(number.to_string()),
                state: version.protocol_state(),
                reason: model.reasons.get(number).cloned().unwrap_or_default(),
            });
        }
    }
    entries
}
