//! `models show`.

use std::fmt::Write as _;

use artifact::{Manifest, ModelRef, Registry};
use cli::{Printer, Table};
use serde_json::json;

use super::list::size;
use super::{found, score};

pub(super) fn run(registry: &Registry, model: &ModelRef, printer: &Printer) -> anyhow::Result<()> {
    let resolved = found(registry.resolve(model))?;
    let manifest = registry.manifest(model)?;
    let aliases: Vec<String> = registry
        .aliases(&resolved.name)?
        .into_iter()
        .filter(|&(_, version)| version == resolved.version)
        .map(|(alias, _)| alias)
        .collect();
    let value = json!({"path": resolved.path, "aliases": aliases, "manifest": manifest});
    let path = resolved.path.display().to_string();
    printer.result(&value, || text(&manifest, &aliases, &path))?;
    Ok(())
}

fn text(manifest: &Manifest, aliases: &[String], path: &str) -> String {
    let (lineage, evaluation) = (&manifest.lineage, manifest.evaluation.as_ref());
    let mut facts = Table::new(["", ""]);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.row([name.to_owned(), value]);
        }
    };
    fact("path", Some(path.to_owned()));
    fact("description", Some(manifest.description.clone()));
    fact("aliases", Some(aliases.join(", ")));
    fact("task", Some(manifest.task().name().to_owned()));
    fact("takes", Some(manifest.preprocess.expects()));
    fact("tells", Some(shortened(manifest.labels())));
    fact("size", Some(cli::bytes(size(manifest))));
    fact("samples", Some(manifest.samples.len().to_string()));
    fact("made", manifest.created.clone());
    fact("parent", lineage.parent.clone());
    fact("run", lineage.run.clone());
    fact("data", lineage.data.clone());
    fact("data origin", lineage.data_origin.clone());
    fact("data sha256", lineage.data_sha256.clone());
    fact("config sha256", lineage.config_sha256.clone());
    fact("seed", lineage.seed.map(|seed| seed.to_string()));
    fact("device", lineage.device.clone());
    fact("precision", lineage.precision.clone());
    let crates = lineage.crates.iter().map(|(name, version)| format!("{name} {version}"));
    fact("crates", Some(crates.collect::<Vec<_>>().join(", ")));
    fact(
        "scored on",
        evaluation.map(|e| {
            format!("{} samples of the {} split, {} on {}", e.samples, e.split, e.precision, e.device)
        }),
    );

    // The header of a table of facts would say nothing; its rows alone are shown.
    let facts: String = facts.to_string().lines().skip(2).map(|line| format!("{line}\n")).collect();
    let mut text = format!("{}@{}\n\n{facts}", manifest.name, manifest.version);
    if !manifest.metrics.is_empty() {
        let mut table = Table::new(["score", "value"]).numbers([1]);
        for (name, &value) in &manifest.metrics {
            table.row([name.clone(), score(value)]);
        }
        let _ = write!(text, "\n{table}");
    }
    if let Ok(network) = manifest.check() {
        let table = network::summary_with_precision(&network, manifest.quantization.as_ref());
        let _ = write!(text, "\n{}\n", table.trim_end());
    }
    let mut files = Table::new(["file", "size", "sha256"]).numbers([1]);
    for file in &manifest.files {
        let size = match file.unwrapped_size_bytes.filter(|_| !file.encoding.is_empty()) {
            Some(content) => format!("{} for {}", cli::bytes(file.size_bytes), cli::bytes(content)),
            None => cli::bytes(file.size_bytes),
        };
        files.row([file.path.clone(), size, file.sha256.clone()]);
    }
    let _ = write!(text, "\n{files}");
    text
}

fn shortened(labels: &[String]) -> String {
    const SHOWN: usize = 12;
    let more = labels.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", labels[..labels.len() - more].join(", "))
}
