//! The model card: what a person should know about a model, made from its manifest.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use network::{Network, Preprocess, Quantization, Task};

use crate::manifest::Manifest;

/// More classes than this are counted instead of listed.
const LISTED: usize = 20;

/// Writes the card as Markdown: what the model does, how well, from which data, and how to use it.
#[must_use]
pub fn card(manifest: &Manifest) -> String {
    let mut text = format!("# {}@{}\n\n", manifest.name, manifest.version);
    if !manifest.description.is_empty() {
        push(&mut text, &format!("{}\n", manifest.description));
    }
    push(&mut text, &purpose(manifest));
    push(&mut text, &scores(manifest));
    push(&mut text, &data(manifest));
    push(&mut text, &network(manifest));
    push(&mut text, &origin(manifest));
    push(&mut text, &usage(manifest));
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Sections are separated by one blank line; an empty one leaves no trace.
fn push(text: &mut String, section: &str) {
    if !section.is_empty() {
        text.push_str(section);
        text.push('\n');
    }
}

fn purpose(manifest: &Manifest) -> String {
    let labels = manifest.labels();
    let names = if labels.len() > LISTED { String::new() } else { format!(": {}", list(labels)) };
    let count = labels.len();
    let does = match manifest.task() {
        Task::MultiClass => format!("Tells which one of {count} classes an input belongs to{names}."),
        Task::Binary => format!("Tells which of two classes an input belongs to{names}."),
        Task::MultiLabel => format!("Tells which of {count} labels an input has{names}."),
        Task::Regression => format!("Predicts {count} {}{names}.", plural(count, "number", "numbers")),
    };
    format!("## What it does\n\n{does} It takes {}.\n", manifest.preprocess.expects())
}

fn scores(manifest: &Manifest) -> String {
    if manifest.metrics.is_empty() {
        return String::new();
    }
    let mut text = "## How well\n\n".to_owned();
    if let Some(evaluation) = &manifest.evaluation {
        let _ = writeln!(
            text,
            "Measured once, on {} samples of the {} split, in {} on {}. The decisive score is {}.\n",
            evaluation.samples,
            cell(&evaluation.split),
            cell(&evaluation.precision),
            cell(&evaluation.device),
            cell(&evaluation.metric),
        );
    }
    text.push_str("| Score | Value |\n|---|---:|\n");
    for (name, value) in &manifest.metrics {
        let _ = writeln!(text, "| {} | {} |", cell(name), number(*value));
    }
    text
}

fn data(manifest: &Manifest) -> String {
    let (lineage, reference) = (&manifest.lineage, &manifest.reference);
    let mut text = String::new();
    if let Some(name) = &lineage.data {
        let origin = lineage.data_origin.as_ref().map(|origin| format!(": {}", cell(origin)));
        let _ = writeln!(text, "{}{}.\n", cell(name), origin.unwrap_or_default());
    }
    if !reference.class_shares.is_empty() && reference.class_shares.len() <= LISTED {
        let _ = writeln!(text, "Shares among its {} training samples:\n", reference.samples);
        text.push_str("| Class | Share |\n|---|---:|\n");
        for class in &reference.class_shares {
            let _ = writeln!(text, "| {} | {:.1} % |", cell(&class.class), class.share * 100.0);
        }
    } else if reference.samples > 0 {
        let _ = writeln!(text, "It was trained on {} samples.", reference.samples);
    }
    if text.is_empty() { text } else { format!("## Training data\n\n{}\n", text.trim_end()) }
}

fn network(manifest: &Manifest) -> String {
    // A manifest that is packed has been checked; a card of another one simply lacks the table.
    let Ok(network) = Network::new(manifest.network.clone()) else { return String::new() };
    let quantization = manifest.quantization.as_ref();
    format!(
        "## Network\n\n{} parameters, {} multiply–accumulates per input.\n\n{}```text\n{}\n```\n",
        network.parameter_count(),
        network.macs(),
        quantization.map(|plan| precision(&network, plan)).unwrap_or_default(),
        network::summary_with_precision(&network, quantization).trim_end(),
    )
}

/// How much of the network is integers, and where the ranges of its values come from.
fn precision(network: &Network, plan: &Quantization) -> String {
    let layers = network.layers().iter().filter(|layer| layer.macs > 0);
    let all = layers.clone().count();
    let share = |is: &dyn Fn(&str) -> bool| {
        let macs: u64 = layers.clone().filter(|layer| is(&layer.name)).map(|layer| layer.macs).sum();
        macs as f64 / network.macs().max(1) as f64 * 100.0
    };
    let mut text = String::new();
    if plan.computes_int8() {
        let int8: BTreeSet<&str> = plan.layers.iter().map(String::as_str).collect();
        let _ = write!(
            text,
            "{} of its {all} layers with weights compute in int8, which is {:.1} % of the multiply–accumulates.",
            int8.len(),
            share(&|layer| int8.contains(layer)),
        );
    }
    if let Some(calibration) = &plan.calibration {
        let percentile =
            calibration.percentile.map(|share| format!(" {}", number(share))).unwrap_or_default();
        let _ = write!(
            text,
            " The ranges of their values are from {} samples of the {} split ({}{percentile}, seed {}).",
            calibration.samples,
            cell(&calibration.split),
            calibration.method.name(),
            calibration.seed,
        );
    }
    if !plan.dynamic.is_empty() {
        let count = plan.dynamic.len();
        let _ =
            write!(text, " {count} of them find the range of what they read in each input when it is there.");
    }
    if let Some(how) = plan.weight_only.values().next() {
        let count = plan.weight_only.len();
        let _ = write!(
            text,
            "{}{count} of its {all} layers with weights keep them as integers of {} bits with a scale for each {} of \
             an output, and compute in floats.",
            if text.is_empty() { "" } else { " " },
            how.bits,
            how.block,
        );
    }
    if text.is_empty() { text } else { format!("{text}\n\n") }
}

fn origin(manifest: &Manifest) -> String {
    let lineage = &manifest.lineage;
    let seed = lineage.seed.map(|seed| seed.to_string());
    let crates: Vec<String> =
        lineage.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let crates = (!crates.is_empty()).then(|| crates.join(", "));
    let rows = [
        ("Made", manifest.created.as_ref()),
        ("Parent", lineage.parent.as_ref()),
        ("Run", lineage.run.as_ref()),
        ("Seed", seed.as_ref()),
        ("Device", lineage.device.as_ref()),
        ("Precision", lineage.precision.as_ref()),
        ("Crates", crates.as_ref()),
        ("SHA-256 of the configuration", lineage.config_sha256.as_ref()),
        ("SHA-256 of the data", lineage.data_sha256.as_ref()),
    ];
    let rows: String = rows
        .iter()
        .filter_map(|(name, value)| value.map(|value| format!("| {name} | {} |\n", cell(value))))
        .collect();
    if rows.is_empty() { rows } else { format!("## Where it comes from\n\n| | |\n|---|---|\n{rows}") }
}

fn usage(manifest: &Manifest) -> String {
    let input = match &manifest.preprocess {
        Preprocess::Image(_) => "picture.png",
        Preprocess::Table(_) => "rows.csv",
        _ => "-",
    };
    format!(
        "## How to use it\n\n```sh\ncargo xtask predict {}@{} {input}\ncargo run --release -p serve\n```\n",
        manifest.name, manifest.version
    )
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| cell(name)).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// At most five digits after the point: a person compares, the manifest keeps the rest.
fn number(value: f64) -> String {
    let text = format!("{value:.5}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A text that cannot break out of its place: names of classes come from files.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '<' | '>' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' => cell.extend(['\\', character]),
            character if character.is_control() => cell.push(' '),
            character => cell.push(character),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_cells() {
        assert_eq!(number(0.991_666_666), "0.99167");
        assert_eq!(number(1.0), "1");
        assert_eq!(number(120.0), "120");
        assert_eq!(cell("a|b\n<script>"), "a\\|b \\<script\\>");
    }
}
