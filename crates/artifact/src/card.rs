//! The model card: what a person should know about a model, made from its manifest.

use crate::manifest::Manifest;

/// Writes the card as Markdown.
#[must_use]
pub fn card(manifest: &Manifest) -> String {
    format!("# {}@{}\n", manifest.name, manifest.version)
}
