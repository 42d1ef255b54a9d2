//! An inspection of data as a person reads it.

use std::fmt::Write;

use cli::{Paint, Table, grouped};
use network::preprocess::ColumnKind;
use train::data::inspect::{ColumnSummary, Inspection};
use train::data::{DataKind, Part};

/// Classes and columns that are shown; `--json` has all of them.
const SHOWN: usize = 40;

/// The whole text.
pub(super) fn render(found: &Inspection, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut text, found, paint);
    text
}

fn write_all(text: &mut String, found: &Inspection, paint: Paint) -> std::fmt::Result {
    let count = |count: usize| grouped(count as u64);
    writeln!(text, "{}  {} samples, {}", paint.bold(&found.name), count(found.samples), kind(&found.data))?;
    writeln!(text, "task    {}", found.task.name())?;
    writeln!(text, "sha256  {}", found.sha256)?;
    if !found.origin.citation.is_empty() {
        let licence =
            if found.origin.licence.is_empty() { "no licence stated" } else { &found.origin.licence };
        writeln!(text, "origin  {} ({licence})", found.origin.citation)?;
    }
    let split = &found.split;
    writeln!(
        text,
        "split   train {}, validation {}, test {} ({}; seed {})",
        count(split.train),
        count(split.validation),
        count(split.test),
        split.rule,
        split.seed
    )?;
    if found.left_out > 0 {
        writeln!(text, "        {} samples were left out by cleaning", count(found.left_out))?;
    }
    labels(text, found)?;
    columns(text, "target", &found.targets)?;
    columns(text, "column", &found.columns)?;
    pictures(text, found)?;
    duplicates(text, found)?;
    writeln!(text)?;
    if found.warnings.is_empty() {
        return writeln!(text, "{}", paint.green("nothing that will hurt was found"));
    }
    for warning in &found.warnings {
        writeln!(text, "{} {warning}", paint.yellow("warning:"))?;
    }
    for example in found.unreadable_examples.iter().skip(1) {
        writeln!(text, "  {example}")?;
    }
    Ok(())
}

fn kind(kind: &DataKind) -> String {
    match kind {
        DataKind::Image { channels, height, width, max_value } => {
            let colour = if *channels == 1 { "grey" } else { "colour" };
            format!("{colour} images of {height}×{width}, values 0–{max_value}")
        }
        DataKind::Table { columns } => {
            let numeric = columns.iter().filter(|column| column.kind == ColumnKind::Numeric).count();
            format!("rows of {numeric} numeric and {} categorical columns", columns.len() - numeric)
        }
        DataKind::Numbers { shape } => format!("numbers of shape {shape:?}"),
        _ => "samples".to_owned(),
    }
}

fn labels(text: &mut String, found: &Inspection) -> std::fmt::Result {
    if found.labels.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["class", "train", "validation", "test", "share of train"]).numbers(1..=4);
    for label in found.labels.iter().take(SHOWN) {
        let share = label.train as f64 / found.split.train.max(1) as f64;
        let numbers = [label.train, label.validation, label.test].map(|count| grouped(count as u64));
        let [train, validation, test] = numbers;
        table.row([label.label.clone(), train, validation, test, format!("{:.1} %", 100.0 * share)]);
    }
    writeln!(text, "\n{}", table.to_string().trim_end())?;
    more(text, found.labels.len())
}

fn columns(text: &mut String, title: &str, columns: &[ColumnSummary]) -> std::fmt::Result {
    if columns.is_empty() {
        return Ok(());
    }
    let header = [title, "kind", "missing", "distinct", "min", "mean", "max", "std"];
    let mut table = Table::new(header).numbers(2..=7);
    for column in columns.iter().take(SHOWN) {
        let kind = if column.kind == ColumnKind::Numeric { "numeric" } else { "categorical" };
        let [min, mean, max, std] = [column.min, column.mean, column.max, column.std].map(number);
        let (missing, distinct) = (grouped(column.missing as u64), grouped(column.distinct as u64));
        table.row([column.name.clone(), kind.to_owned(), missing, distinct, min, mean, max, std]);
    }
    writeln!(text, "\n{}", table.to_string().trim_end())?;
    more(text, columns.len())
}

fn more(text: &mut String, len: usize) -> std::fmt::Result {
    if len > SHOWN { writeln!(text, "… and {} more (--json has all)", len - SHOWN) } else { Ok(()) }
}

/// Four significant digits.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return String::new() };
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = value.abs().log10().floor() as i32;
    if (-4..7).contains(&digits) {
        format!("{value:.*}", (3 - digits).max(0) as usize)
    } else {
        format!("{value:.3e}")
    }
}

fn pictures(text: &mut String, found: &Inspection) -> std::fmt::Result {
    let Some(pictures) = &found.pictures else { return Ok(()) };
    let sizes = pictures
        .sizes
        .iter()
        .map(|size| format!("{}×{} ({})", size.height, size.width, grouped(size.count as u64)));
    let sizes = sizes.collect::<Vec<_>>().join(", ");
    let more = match pictures.distinct_sizes - pictures.sizes.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    writeln!(text, "\nsizes   {sizes}{more}")?;
    writeln!(text, "pixels  from {} to {}", pictures.min, pictures.max)
}

fn duplicates(text: &mut String, found: &Inspection) -> std::fmt::Result {
    let duplicates = &found.duplicates;
    let across: Vec<String> = duplicates
        .across
        .iter()
        .map(|shared| {
            format!(
                "{} of {} in {}",
                grouped(shared.samples as u64),
                shared.judged.name(),
                shared.known.name()
            )
        })
        .collect();
    let across = if across.is_empty() { "none".to_owned() } else { across.join(", ") };
    let [train, validation, test] =
        [duplicates.within_train, duplicates.within_validation, duplicates.within_test]
            .map(|count| grouped(count as u64));
    writeln!(
        text,
        "\nequal samples  within {} {train}, {} {validation}, {} {test}; across parts: {across}",
        Part::Train.name(),
        Part::Validation.name(),
        Part::Test.name()
    )?;
    for [one, other] in &duplicates.examples {
        writeln!(text, "  {one} = {other}")?;
    }
    Ok(())
}
