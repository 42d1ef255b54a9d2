//! The confusion matrix: numbers where there is room for them, colours alone where there is not.

use super::html::{self, escape, table};
use crate::evaluate::Evaluation;

/// Up to so many classes the numbers are written into the cells.
const NUMBERED: usize = 24;
/// How many of the most frequent confusions are listed.
const LISTED: usize = 10;

/// The section; empty for tasks without classes.
pub(super) fn section(evaluation: &Evaluation) -> String {
    html::section("Confusion matrix", &body(evaluation))
}

fn body(evaluation: &Evaluation) -> String {
    let matrix = &evaluation.confusion;
    if matrix.is_empty() {
        return String::new();
    }
    let drawn = if matrix.len() <= NUMBERED { numbered(evaluation) } else { coloured(evaluation) };
    let pairs = frequent(evaluation);
    if pairs.is_empty() {
        return format!(
            "{drawn}<p class=\"soft\">No sample of the {} split was confused.</p>",
            escape(&evaluation.split)
        );
    }
    let listed = table(&["true class", "taken for", "times"], &pairs, 2);
    format!(
        "<div class=\"pair\"><div>{drawn}</div><div><h3>Most frequent confusions</h3>{listed}</div></div>"
    )
}

fn numbered(evaluation: &Evaluation) -> String {
    let mut out = String::from(
        "<p class=\"soft\">Rows are true classes, columns what was predicted.</p><div class=\"scroll\"><table class=\"confusion\"><thead><tr><th></th>",
    );
    for label in &evaluation.labels {
        out += &format!("<th scope=\"col\">{}</th>", escape(label));
    }
    out += "</tr></thead><tbody>";
    for (truth, row) in evaluation.confusion.iter().enumerate() {
        let label = evaluation.labels.get(truth).map_or("", String::as_str);
        out += &format!("<tr><th scope=\"row\">{}</th>", escape(label));
        let total: u64 = row.iter().sum();
        for (guess, &count) in row.iter().enumerate() {
            let share = count as f64 / total.max(1) as f64;
            let colour = if truth == guess { "--hit" } else { "--heat" };
            // A single mistake among hundreds must still be seen.
            let strength = if count == 0 { 0.0 } else { 0.14 + 0.66 * share };
            let text = if count == 0 { "·".to_owned() } else { count.to_string() };
            out += &format!("<td style=\"background:rgba(var({colour}),{strength:.2})\">{text}</td>");
        }
        out += "</tr>";
    }
    out + "</tbody></table></div>"
}

fn coloured(evaluation: &Evaluation) -> String {
    let size = evaluation.confusion.len();
    let cell = 480.0 / size as f64;
    let mut out = format!(
        "<p class=\"soft\">Rows are true classes, columns what was predicted.</p><svg viewBox=\"0 0 480 480\" role=\"img\" aria-label=\"Confusion matrix of {size} classes\">"
    );
    for (truth, row) in evaluation.confusion.iter().enumerate() {
        let total: u64 = row.iter().sum();
        for (guess, &count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
            let strength = 0.15 + 0.85 * count as f64 / total.max(1) as f64;
            let colour = if truth == guess { "--hit" } else { "--heat" };
            let label = |class: usize| escape(evaluation.labels.get(class).map_or("", String::as_str));
            out += &format!(
                "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{cell:.2}\" height=\"{cell:.2}\" style=\"fill:rgba(var({colour}),{strength:.2})\"><title>{} taken for {}: {count}</title></rect>",
                guess as f64 * cell,
                truth as f64 * cell,
                label(truth),
                label(guess)
            );
        }
    }
    out + "</svg>"
}

fn frequent(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let mut pairs = Vec::new();
    for (truth, row) in evaluation.confusion.iter().enumerate() {
        for (guess, &count) in row.iter().enumerate() {
            if truth != guess && count > 0 {
                pairs.push((count, truth, guess));
            }
        }
    }
    pairs.sort_by_key(|&(count, truth, guess)| (std::cmp::Reverse(count), truth, guess));
    pairs.truncate(LISTED);
    let label = |class: usize| evaluation.labels.get(class).cloned().unwrap_or_default();
    pairs
        .into_iter()
        .map(|(count, truth, guess)| vec![label(truth), label(guess), count.to_string()])
        .collect()
}
