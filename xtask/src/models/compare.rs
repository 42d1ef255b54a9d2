//! `models diff`.

use artifact::diff::{Diff, diff};
use artifact::{ModelRef, Package, Registry};
use cli::{Printer, Table};
use serde_json::{Value, json};

use super::{found, score};

pub(super) fn run(
    registry: &Registry,
    before: &ModelRef,
    after: &ModelRef,
    printer: &Printer,
) -> anyhow::Result<()> {
    let (a, b) = (found(registry.package(before))?, found(registry.package(after))?);
    let diff = diff(&a, &b)?;
    let name = |package: &Package| format!("{}@{}", package.manifest().name, package.manifest().version);
    let (a, b) = (name(&a), name(&b));
    printer.result(&json!({"before": a, "after": b, "diff": diff}), || text(&a, &b, &diff))?;
    Ok(())
}

fn text(before: &str, after: &str, diff: &Diff) -> String {
    if diff.is_empty() {
        return format!("{before} and {after} are the same model");
    }
    let mut sections = Vec::new();
    let mut section = |table: Table| {
        if !table.is_empty() {
            sections.push(table.to_string());
        }
    };
    let mut metrics = Table::new(["score", before, after, "change"]).numbers([1, 2, 3]);
    for metric in &diff.metrics {
        let show = |value: Option<f64>| value.map_or_else(|| "—".to_owned(), score);
        let change = metric.before.zip(metric.after).map(|(a, b)| signed(b - a));
        metrics.row([
            metric.name.clone(),
            show(metric.before),
            show(metric.after),
            change.unwrap_or_default(),
        ]);
    }
    section(metrics);
    let mut files = Table::new(["file", before, after]).numbers([1, 2]);
    for file in &diff.files {
        let show = |size: Option<u64>| size.map_or_else(|| "—".to_owned(), cli::bytes);
        files.row([file.path.clone(), show(file.before), show(file.after)]);
    }
    section(files);
    let mut fields = Table::new(["field", before, after]);
    for field in &diff.fields {
        fields.row([field.path.clone(), short(&field.before), short(&field.after)]);
    }
    section(fields);
    let mut tensors = Table::new(["tensor", before, after, "largest difference"]).numbers([3]);
    for tensor in &diff.tensors {
        let show =
            |shape: &Option<Vec<usize>>| shape.as_ref().map_or_else(|| "—".to_owned(), |s| format!("{s:?}"));
        let difference = tensor.max_abs_difference.map(|value| format!("{value:.3e}"));
        tensors.row([
            tensor.name.clone(),
            show(&tensor.before),
            show(&tensor.after),
            difference.unwrap_or_default(),
        ]);
    }
    section(tensors);
    if diff.equal_tensors > 0 {
        let word = if diff.equal_tensors == 1 { "tensor is" } else { "tensors are" };
        sections.push(format!("{} {word} equal\n", diff.equal_tensors));
    }
    sections.join("\n")
}

fn signed(change: f64) -> String {
    let text = score(change);
    match text.as_str() {
        "0" | "-0" => "0".to_owned(),
        _ if change > 0.0 => format!("+{text}"),
        _ => text,
    }
}

/// A value in one short line; the JSON has it whole.
fn short(value: &Value) -> String {
    const WIDTH: usize = 48;
    let text = if value.is_null() { "—".to_owned() } else { value.to_string() };
    if text.chars().count() <= WIDTH {
        return text;
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}
