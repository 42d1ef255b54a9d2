//! The JSON Schema of the manifest, generated from its types and committed.

use crate::manifest::Manifest;

/// The schema as it lies in `configs/schema/manifest.schema.json`, with a final line break.
#[must_use]
pub fn manifest_schema() -> String {
    let schema = schemars::schema_for!(Manifest);
    // A schema is a JSON value; writing one cannot fail.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
