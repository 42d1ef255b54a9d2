//! `models ls`.

use artifact::registry::ModelEntry;
use artifact::{Manifest, ModelRef, Package, Registry, RegistryError, Selector, check_name};
use cli::{Printer, Table};
use serde_json::{Value, json};

use super::{found, score};

pub(super) fn run(registry: &Registry, name: Option<&str>, printer: &Printer) -> anyhow::Result<()> {
    let scan = registry.scan()?;
    for warning in &scan.warnings {
        printer.warn(format!("ignored {}: {}", warning.path.display(), warning.reason));
    }
    let mut models = scan.models;
    if let Some(name) = name {
        found(check_name(name).map_err(RegistryError::from))?;
        models.retain(|model| model.name == name);
        if models.is_empty() {
            // Says which models there are.
            found(registry.resolve(&ModelRef { name: name.to_owned(), selector: Selector::Default }))?;
        }
    }
    let mut table =
        Table::new(["model", "aliases", "task", "score", "parameters", "size", "made"]).numbers([4, 5]);
    let mut items = Vec::new();
    for model in &models {
        for &version in &model.versions {
            let path = registry.root().join(&model.name).join(version.to_string());
            let aliases = aliases(model, version);
            match Package::read_manifest(&path, registry.limits()) {
                Ok(manifest) => {
                    table.row(row(&manifest, version, &aliases));
                    items.push(item(&manifest, version, &aliases));
                }
                Err(error) => {
                    let name = format!("{}@{version}", model.name);
                    printer
                        .warn(format!("{name} cannot be read; `cargo xtask models verify {name}` says why"));
                    table.row([&name, &aliases.join(", "), "unreadable"]);
                    items.push(json!({
                        "name": model.name, "version": version, "aliases": aliases, "error": error.to_string(),
                    }));
                }
            }
        }
    }
    printer.result(&json!({ "models": items }), || match table.is_empty() {
        true => {
            format!("no models in {}; `cargo xtask quickstart` makes a first one", registry.root().display())
        }
        false => table.to_string(),
    })?;
    Ok(())
}

fn aliases(model: &ModelEntry, version: u64) -> Vec<String> {
    let pointing = model.aliases.iter().filter(|&(_, &target)| target == version);
    pointing.map(|(alias, _)| alias.clone()).collect()
}

fn row(manifest: &Manifest, version: u64, aliases: &[String]) -> [String; 7] {
    [
        format!("{}@{version}", manifest.name),
        aliases.join(", "),
        manifest.task().name().to_owned(),
        decisive(manifest).map_or_else(String::new, |(name, value)| format!("{name} {}", score(value))),
        parameters(manifest).map_or_else(String::new, cli::grouped),
        cli::bytes(size(manifest)),
        manifest.created.clone().unwrap_or_default(),
    ]
}

fn item(manifest: &Manifest, version: u64, aliases: &[String]) -> Value {
    json!({
        "name": manifest.name,
        "version": version,
        "aliases": aliases,
        "task": manifest.task().name(),
        "metrics": manifest.metrics,
        "parameters": parameters(manifest),
        "size_bytes": size(manifest),
        "created": manifest.created,
    })
}

/// The score that decides, or the only one.
fn decisive(manifest: &Manifest) -> Option<(&str, f64)> {
    let named = manifest
        .evaluation
        .as_ref()
        .and_then(|evaluation| manifest.metrics.get_key_value(&evaluation.metric));
    named.or_else(|| manifest.metrics.iter().next()).map(|(name, &value)| (name.as_str(), value))
}

fn parameters(manifest: &Manifest) -> Option<u64> {
    manifest.check().ok().map(|network| network.parameter_count())
}

pub(super) fn size(manifest: &Manifest) -> u64 {
    manifest.files.iter().fold(0, |sum, file| sum.saturating_add(file.size_bytes))
}
