//! Answers for people and for programs.

use cli::{Printer, Table};
use network::Prediction;
use predict::{DeviceSpec, Predictor};
use serde::Serialize;

use super::source::Input;

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    version: u64,
    device: DeviceSpec,
    precision: &'static str,
    labels: &'a [String],
    predictions: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    input: &'a str,
    #[serde(flatten)]
    prediction: &'a Prediction,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<Ranked>,
}

#[derive(Serialize)]
struct Ranked {
    label: String,
    probability: f32,
}

/// Prints all answers; `top` is how many classes were asked for.
pub(super) fn print(
    printer: &Printer,
    predictor: &Predictor,
    inputs: &[Input],
    predictions: &[Prediction],
    top: Option<usize>,
) -> anyhow::Result<()> {
    let labels = &predictor.postprocess().labels;
    let row = |(input, prediction): (_, _)| row(input, prediction, labels, top.unwrap_or(1));
    let answer = Answer {
        model: predictor.name(),
        version: predictor.version(),
        device: predictor.device(),
        precision: predictor.precision_name(),
        labels,
        predictions: inputs.iter().zip(predictions).map(row).collect(),
    };
    let human = || match (inputs, predictions) {
        ([input], [prediction]) => single(predictor, input, prediction, top),
        _ => several(predictor, inputs, predictions, top),
    };
    Ok(printer.result(&answer, human)?)
}

fn row<'a>(input: &'a Input, prediction: &'a Prediction, labels: &[String], top: usize) -> Row<'a> {
    let ranked = prediction.top_k(top, labels).into_iter();
    let top = ranked.map(|(label, probability)| Ranked { label, probability }).collect();
    Row { input: &input.name, prediction, top }
}

/// One input: its answer, then the classes in their order of probability.
fn single(predictor: &Predictor, input: &Input, prediction: &Prediction, top: Option<usize>) -> String {
    let labels = &predictor.postprocess().labels;
    let head = format!("{}@{}: {} is", predictor.name(), predictor.version(), input.name);
    let (head, table) = match prediction {
        Prediction::Class { class, .. } => {
            (format!("{head} {class}"), ranking("class", &prediction.top_k(top.unwrap_or(3), labels)))
        }
        Prediction::Labels { labels: given, .. } => {
            // Without being asked for fewer, all labels: any number of them may apply.
            let ranked = prediction.top_k(top.unwrap_or(labels.len()), labels);
            (format!("{head} {}", listed(given)), ranking("label", &ranked))
        }
        Prediction::Values { values } => {
            let mut table = Table::new(["target", "value"]).numbers([1]);
            for (label, value) in labels.iter().zip(values) {
                table.row([label.clone(), value.to_string()]);
            }
            let told: Vec<String> = values.iter().map(ToString::to_string).collect();
            (format!("{head} {}", told.join(", ")), table)
        }
    };
    format!("{head}\n\n{table}")
}

fn ranking(kind: &str, ranked: &[(String, f32)]) -> Table {
    let mut table = Table::new([kind, "probability"]).numbers([1]);
    for (label, probability) in ranked {
        table.row([label.clone(), percent(*probability)]);
    }
    table
}

/// Several inputs: one line each.
fn several(
    predictor: &Predictor,
    inputs: &[Input],
    predictions: &[Prediction],
    top: Option<usize>,
) -> String {
    let labels = &predictor.postprocess().labels;
    let top = top.unwrap_or(1);
    let regression = matches!(predictions.first(), Some(Prediction::Values { .. }));
    let mut header = vec!["input".to_owned()];
    let mut numbers = Vec::new();
    if regression {
        header.extend(labels.iter().cloned());
        numbers.extend(1..header.len());
    } else if matches!(predictions.first(), Some(Prediction::Labels { .. })) {
        header.push("labels".to_owned());
    } else {
        header.extend(["class".to_owned(), "probability".to_owned()]);
        numbers.push(2);
        if top > 1 {
            header.push("next".to_owned());
        }
    }
    let mut table = Table::new(header).numbers(numbers);
    for (input, prediction) in inputs.iter().zip(predictions) {
        let mut cells = vec![input.name.clone()];
        match prediction {
            Prediction::Class { class, index, probability, .. } => {
                cells.extend([class.clone(), percent(*probability)]);
                // The class stands first already; it need not be the most probable where a threshold rules.
                let others = prediction.top_k(labels.len(), labels).into_iter();
                let others = others.filter(|(label, _)| labels.get(*index) != Some(label)).take(top - 1);
                let others: Vec<String> =
                    others.map(|(label, p)| format!("{label} {}", percent(p))).collect();
                cells.push(others.join(", "));
            }
            Prediction::Labels { labels, .. } => cells.push(listed(labels)),
            Prediction::Values { values } => cells.extend(values.iter().map(ToString::to_string)),
        }
        table.row(cells);
    }
    format!("{}@{}\n\n{table}", predictor.name(), predictor.version())
}

fn listed(labels: &[String]) -> String {
    if labels.is_empty() { "none of the labels".to_owned() } else { labels.join(", ") }
}

fn percent(probability: f32) -> String {
    format!("{:.2} %", f64::from(probability) * 100.0)
}
