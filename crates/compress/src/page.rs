//! `report.html` of a comparison: scores against what they cost, the table, the paired tests, and what pruning each
//! group of channels would cost. Self-contained, as the report of a run is, and made of the same pieces.

use serde::Serialize;
use train::report::chart::{self, Mark, Point, Scatter, Unit};
use train::report::{document, html};

use crate::compare::{
    Compared, IN_INT8, Pair, Row, difference_text, interval_text, metric_name, p_text, rows,
};
use crate::side::Side;
use crate::significance::Method;

/// What the page tells. Only `entries` must be there; an empty list leaves no trace on the page.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// The heading.
    pub title: &'a str,
    /// What stands below it, a line each.
    pub about: Vec<String>,
    /// The models; the first is what the others are compared with.
    pub entries: Vec<Entry<'a>>,
    /// Paired tests.
    pub pairs: &'a [Pair],
    /// How the score falls when parts of the network are taken away.
    pub sensitivity: Option<&'a Sensitivity>,
}

/// One model, or one step on the way to it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// How it is called.
    pub name: &'a str,
    /// What was measured.
    pub side: &'a Side,
    /// How its point looks.
    pub mark: Mark,
    /// What else is to be said, such as why a step was left out; may be empty.
    pub note: &'a str,
}

/// Curves of a score over the share of channels that are kept, one per group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The name of the score.
    pub metric: String,
    /// The score with everything kept.
    pub full: f64,
    /// The split that was scored.
    pub split: String,
    /// One per group of channels.
    pub curves: Vec<Curve>,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// Its name, such as the layers that belong to it.
    pub name: String,
    /// The share of its channels that are kept, and the score then.
    pub points: Vec<(f64, f64)>,
}

impl<'a> Page<'a> {
    /// The page of `compress compare`.
    #[must_use]
    pub fn of(compared: &'a Compared) -> Self {
        let entry = |(place, standing): (usize, &'a crate::compare::Standing)| Entry {
            name: &standing.side.model,
            side: &standing.side,
            mark: if place == 0 { Mark::Reference } else { Mark::Other },
            note: "",
        };
        Self {
            title: "Models side by side",
            about: vec![compared.about()],
            entries: compared.models.iter().enumerate().map(entry).collect(),
            pairs: &compared.pairs,
            sensitivity: None,
        }
    }
}

/// The page as HTML.
#[must_use]
pub fn render(page: &Page<'_>) -> String {
    let body = [header(page), costs(page), quantities(page), tests(page.pairs), sensitivity(page)];
    document(&format!("{} · Brazier", page.title), &body.concat())
}

fn header(page: &Page<'_>) -> String {
    let about: Vec<String> = page.about.iter().map(|line| html::escape(line)).collect();
    format!(
        "<header>\n<p class=\"brand\">Brazier</p>\n<h1>{}</h1>\n<p class=\"soft\">{}</p>\n</header>\n",
        html::escape(page.title),
        about.join("<br>")
    )
}

/// How the score is drawn.
fn score_axis(metric: &str) -> (&str, Unit) {
    (metric_name(metric), if metric == "accuracy" { Unit::Percent } else { Unit::Number })
}

/// The score against each of the costs.
fn costs(page: &Page<'_>) -> String {
    let Some(first) = page.entries.first() else { return String::new() };
    let metric = first.side.metric;
    let y = score_axis(metric);
    let chart = |name: &str, unit: Unit, cost: &dyn Fn(&Side) -> f64| {
        let point = |entry: &Entry<'_>| -> (f64, f64) { (cost(entry.side), entry.side.score) };
        let points: Vec<Point<'_>> = page
            .entries
            .iter()
            .map(|entry| {
                let ((x, y), Entry { name, side, mark, .. }) = (point(entry), *entry);
                Point { name, mark, x, y, interval: side.interval }
            })
            .collect();
        let title = format!("{} against {name}", y.0);
        let drawn = chart::scatter(&Scatter { title: &title, x: (name, unit), y }, &points);
        if drawn.is_empty() { drawn } else { format!("<div>{drawn}</div>\n") }
    };
    let mut charts = chart("bytes of the weights file", Unit::Bytes, &|side| side.record_bytes as f64);
    for (place, latency) in first.side.latency.iter().enumerate() {
        let name = format!("latency at batch {}", latency.batch);
        charts += &chart(&name, Unit::Microseconds, &|side| {
            side.latency.get(place).map_or(f64::NAN, |latency| latency.median_us)
        });
    }
    charts += &chart("multiplications (MACs)", Unit::Count, &|side| side.macs as f64);
    let best = if metric == "mae" { "Down" } else { "Up" };
    let hollow = page.entries.iter().any(|entry| entry.mark == Mark::Hollow);
    let tried = if hollow { " Hollow points were tried and not taken." } else { "" };
    let intervals = page.entries.iter().any(|entry| entry.side.interval.is_some());
    let lines = if intervals { " The lines are 95 % intervals of the score." } else { "" };
    let note = format!(
        "{best} and to the left is better. The numbers are those of the table.{lines}{tried} Points that would cover \
         one another are moved apart sideways."
    );
    let title = format!("{} against what it costs", capital(metric_name(metric)));
    html::section(&title, &format!("<div class=\"wide\">\n{charts}</div>\n<p class=\"soft\">{note}</p>"))
}

/// One line per model.
fn quantities(page: &Page<'_>) -> String {
    let sides: Vec<&Side> = page.entries.iter().map(|entry| entry.side).collect();
    // How much of it is in int8 is said by the precision.
    let quantities: Vec<Row> = rows(&sides).into_iter().filter(|row| row.name != IN_INT8).collect();
    // Headings break between words, but not before a number.
    let names: Vec<String> = quantities
        .iter()
        .map(|row| row.name.replace("batch ", "batch\u{a0}").replace("not 0", "not\u{a0}0"))
        .collect();
    let mut header = vec!["", "model"];
    header.extend(names.iter().map(String::as_str));
    let line = |(place, entry): (usize, &Entry<'_>)| {
        let quantities = quantities.iter().map(|row| {
            let cell = &row.cells[place];
            format!("{}\n{}", cell.value.replacen(" (", "\n(", 1), cell.change).trim_end().to_owned()
        });
        [(place + 1).to_string(), entry.name.to_owned()].into_iter().chain(quantities).collect()
    };
    let lines: Vec<Vec<String>> = page.entries.iter().enumerate().map(line).collect();
    let noted = page.entries.iter().enumerate().filter(|(_, entry)| !entry.note.is_empty());
    let notes: Vec<String> = noted
        .map(|(place, entry)| html::escape(&format!("{} {}: {}", place + 1, entry.name, entry.note)))
        .collect();
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!("<p class=\"soft\">{}</p>", notes.join("<br>")),
    };
    html::section("Every quantity", &format!("{}{notes}", html::table(&header, &lines, 3)))
}

/// Sentences about the first model and each other, and a table of all pairs.
fn tests(pairs: &[Pair]) -> String {
    let Some(first) = pairs.first() else { return String::new() };
    let header = ["", "only the first", "only the second", "p", "change", "95 % interval", "better"];
    let row = |pair: &Pair| {
        vec![
            format!("{} and {}", pair.a, pair.b),
            cli::grouped(pair.test.only_a),
            cli::grouped(pair.test.only_b),
            p_text(pair.p_holm).trim_start_matches("p = ").trim_start_matches("p ").to_owned(),
            difference_text(pair.metric, pair.test.difference),
            interval_text(pair.metric, pair.test.interval),
            pair.better().unwrap_or("not shown").to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = pairs.iter().map(row).collect();
    let with_first = pairs.iter().filter(|pair| pair.a == first.a);
    let sentences: String =
        with_first.map(|pair| format!("<p>{}.</p>\n", html::escape(&pair.verdict))).collect();
    let how = match first.test.method {
        Method::McnemarExact => {
            "McNemar's exact test: of the samples that only one of the two gets right, each would be a toss of a coin \
             if both were equally good."
        }
        Method::Randomization => {
            "The randomization test: if both were equally good, which of them gave which answer would be a toss of a \
             coin for each sample. The columns count the samples that only the one, or only the other, answers better."
        }
    };
    let holm = if pairs.len() > 1 { " p is after Holm's correction for all pairs." } else { "" };
    let table = html::table(&header, &rows, 1);
    html::section("Do they really differ?", &format!("{sentences}{table}<p class=\"soft\">{how}{holm}</p>"))
}

/// Small charts side by side, with the same ends, so that they can be read against one another.
fn sensitivity(page: &Page<'_>) -> String {
    let Some(sensitivity) = page.sensitivity else { return String::new() };
    let (name, unit) = score_axis(&sensitivity.metric);
    let values = sensitivity.curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
    let finite = values.chain([sensitivity.full]).filter(|value| value.is_finite());
    let ends = finite
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let chart = |curve: &Curve| {
        let title = format!("{name} by the share of channels of {} that are kept", curve.name);
        let drawn = chart::small(&title, &curve.points, ends, unit, Some(sensitivity.full), "channels kept");
        match drawn.as_str() {
            "" => drawn,
            _ => format!("<div><h3>{}</h3>{drawn}</div>\n", html::escape(&curve.name)),
        }
    };
    let charts: String = sensitivity.curves.iter().map(chart).collect();
    if charts.is_empty() {
        return charts;
    }
    let note = format!(
        "Each group alone, the rest of the network untouched, without fine-tuning: the {} on the {} split. The dashed \
         line is the whole network.",
        html::escape(name),
        html::escape(&sensitivity.split)
    );
    html::section(
        "What each group of channels is worth",
        &format!("<div class=\"small\">\n{charts}</div>\n<p class=\"soft\">{note}</p>"),
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
