//! A comparison as people read it: one row per quantity, one sentence per pair.

use cli::Table;
use network::Task;

use super::{Compared, LEVEL, Pair};
use crate::side::Side;

/// One quantity of all models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// One per model.
    pub cells: Vec<Cell>,
}

/// One quantity of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The quantity.
    pub value: String,
    /// How it differs from that of the first model; empty for that itself, and where nothing is to be said.
    pub change: String,
}

/// The name of the row that says how many of the multiplications are in int8.
pub const IN_INT8: &str = "of them in int8";

/// Models beside the first of them in one table; more stand below.
const ACROSS: usize = 2;

/// Every quantity of the models, with what changes from the first to each other.
#[must_use]
pub fn rows(sides: &[&Side]) -> Vec<Row> {
    let Some(&reference) = sides.first() else { return Vec::new() };
    let row = |name: String, value: &dyn Fn(&Side) -> String, change: &dyn Fn(&Side) -> String| {
        let cell = |(place, side): (usize, &&Side)| {
            let change = if place == 0 { String::new() } else { change(side) };
            Cell { value: value(side), change }
        };
        Row { name, cells: sides.iter().enumerate().map(cell).collect() }
    };
    let none = |_: &Side| String::new();
    let score = |side: &Side| change_text(reference.metric, side.score - reference.score, reference.score);
    let counted = |name: &str, of: fn(&Side) -> u64| {
        let change = |side: &Side| times(of(reference) as f64, of(side) as f64, "fewer", "more");
        row(name.to_owned(), &|side| cli::grouped(of(side)), &change)
    };
    let bytes =
        |side: &Side| times(reference.record_bytes as f64, side.record_bytes as f64, "smaller", "larger");
    let mut rows = vec![
        row("precision".to_owned(), &|side| side.precision.clone(), &none),
        row(metric_name(reference.metric).to_owned(), &Side::score_text, &score),
        row("weights file".to_owned(), &|side| cli::bytes(side.record_bytes), &bytes),
        counted("parameters", |side| side.parameters),
        counted("of them not 0", |side| side.nonzero),
        counted("MACs", |side| side.macs),
    ];
    if sides.iter().any(|side| side.int8_macs > 0) {
        let share = |side: &Side| format!("{:.0} %", 100.0 * side.int8_macs as f64 / side.macs.max(1) as f64);
        rows.push(row(IN_INT8.to_owned(), &share, &none));
    }
    for (place, latency) in reference.latency.iter().enumerate() {
        let of = |side: &Side| side.latency.get(place).map_or(f64::NAN, |latency| latency.median_us);
        let change = |side: &Side| times(of(reference), of(side), "faster", "slower");
        let name = format!("latency, batch {}", latency.batch);
        rows.push(row(name, &|side| microseconds(of(side)), &change));
    }
    rows
}

/// The same as text, the first model beside a few others at a time.
#[must_use]
pub fn table(sides: &[&Side]) -> String {
    let Some((&reference, others)) = sides.split_first() else { return String::new() };
    let blocks = if others.is_empty() { vec![&[] as &[&Side]] } else { others.chunks(ACROSS).collect() };
    let mut texts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let shown: Vec<&Side> = std::iter::once(reference).chain(block.iter().copied()).collect();
        let mut header = vec![String::new(), reference.model.clone()];
        for side in block {
            header.extend([side.model.clone(), "change".to_owned()]);
        }
        let mut table = Table::new(header.clone()).numbers(1..header.len());
        for row in rows(&shown) {
            let mut cells = vec![row.name];
            for (place, cell) in row.cells.into_iter().enumerate() {
                cells.push(cell.value);
                if place > 0 {
                    cells.push(cell.change);
                }
            }
            table.row(cells);
        }
        texts.push(table.to_string());
    }
    texts.join("\n")
}

impl Compared {
    /// Everything for the terminal.
    #[must_use]
    pub fn human(&self) -> String {
        let sides: Vec<&Side> = self.models.iter().map(|model| &model.side).collect();
        let mut text = format!("{}\n\n{}\n", self.about(), table(&sides));
        for pair in &self.pairs {
            text += &format!("{}\n", pair.verdict);
        }
        text.trim_end().to_owned()
    }

    /// What was measured, on what.
    #[must_use]
    pub fn about(&self) -> String {
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        format!(
            "{} samples of {} ({}); latency is the median of {} turns on {} with {threads}",
            cli::grouped(self.samples as u64),
            self.data,
            self.split,
            self.turns,
            self.processor
        )
    }
}

/// A metric as a person says it.
#[must_use]
pub fn metric_name(metric: &str) -> &str {
    match metric {
        "micro_f1" => "micro F1",
        "mae" => "mean absolute error",
        other => other,
    }
}

/// A change of a score: percentage points of an accuracy, per cent of an error, otherwise the number itself.
#[must_use]
pub fn change_text(metric: &str, change: f64, reference: f64) -> String {
    match metric {
        "mae" if reference.abs() > 0.0 => format!("{} %", signed(100.0 * change / reference.abs(), 2)),
        _ => difference_text(metric, change),
    }
}

/// A difference of two scores: percentage points of an accuracy, otherwise in the unit of the score.
#[must_use]
pub fn difference_text(metric: &str, difference: f64) -> String {
    match metric {
        "accuracy" => format!("{} points", signed(100.0 * difference, 2)),
        _ => signed(difference, 4),
    }
}

/// The interval of a difference, in the unit of [`difference_text`] without its name.
#[must_use]
pub fn interval_text(metric: &str, ends: [f64; 2]) -> String {
    let [low, high] = ends.map(|end| match metric {
        "accuracy" => signed(100.0 * end, 2),
        _ => signed(end, 4),
    });
    format!("{low} to {high}")
}

/// A number with its sign, which zero has not.
fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{value:+.decimals$}");
    match text.contains(|digit: char| ('1'..='9').contains(&digit)) {
        true => text,
        false => text.trim_start_matches(['+', '-']).to_owned(),
    }
}

/// A probability with two digits that count.
#[must_use]
pub fn p_text(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p if p < 0.01 => format!("p = {p:.4}"),
        p if p < 0.1 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}

impl Pair {
    /// The better one of the two, where the samples can show that there is one.
    #[must_use]
    pub fn better(&self) -> Option<&str> {
        let second =
            if self.metric == "mae" { self.test.difference < 0.0 } else { self.test.difference > 0.0 };
        (self.p_holm < LEVEL).then_some(if second { &self.b } else { &self.a })
    }
}

/// What a paired test found, in words.
#[must_use]
pub fn sentence(pair: &Pair, task: Task) -> String {
    let Pair { a, b, test, .. } = pair;
    let (only_a, only_b) = (test.only_a, test.only_b);
    if only_a + only_b == 0 {
        let what = match task {
            Task::MultiClass | Task::Binary => "get the same samples right",
            Task::MultiLabel => "get as many labels of each sample right",
            Task::Regression => "are as close to the truth in each sample",
        };
        return format!("{a} and {b} {what}: there is no difference to test");
    }
    let samples = |count: u64| match count {
        1 => "1 sample".to_owned(),
        count => format!("{} samples", cli::grouped(count)),
    };
    let counts = match task {
        Task::MultiClass | Task::Binary => {
            format!("{} only {a} gets right, {} only {b}", samples(only_a), cli::grouped(only_b))
        }
        Task::MultiLabel => {
            format!("in {} {a} gets more labels right, in {} {b}", samples(only_a), cli::grouped(only_b))
        }
        Task::Regression => {
            format!("in {} {a} is closer to the truth, in {} {b}", samples(only_a), cli::grouped(only_b))
        }
    };
    let found = pair.better().map_or_else(
        || "no difference that these samples can show".to_owned(),
        |better| format!("{better} is better"),
    );
    let corrected = match pair.tests {
        0 | 1 => String::new(),
        tests => format!(" after correction for {tests} pairs"),
    };
    let difference = difference_text(pair.metric, test.difference);
    format!(
        "{counts}: {found} ({}{corrected}); from the first to the second the {} changes by {difference}, 95 % interval {}",
        p_text(pair.p_holm),
        metric_name(pair.metric),
        interval_text(pair.metric, test.interval)
    )
}

/// How many times less one is than the other, or more.
fn times(before: f64, after: f64, less: &str, more: &str) -> String {
    if !(before > 0.0 && after > 0.0) {
        return String::new();
    }
    let (ratio, word) = if after <= before { (before / after, less) } else { (after / before, more) };
    match ratio {
        ratio if ratio < 1.005 => "same".to_owned(),
        ratio if ratio < 9.995 => format!("{ratio:.2}× {word}"),
        ratio if ratio < 99.95 => format!("{ratio:.1}× {word}"),
        ratio => format!("{}× {word}", cli::grouped(ratio.round() as u64)),
    }
}

/// A time as a person reads it, with three digits that count.
#[must_use]
pub fn microseconds(value: f64) -> String {
    match value {
        value if value < 9.95 => format!("{value:.2} µs"),
        value if value < 99.5 => format!("{value:.1} µs"),
        value if value < 999.5 => format!("{value:.0} µs"),
        value if value < 99_950.0 => format!("{:.2} ms", value / 1e3),
        value => format!("{:.0} ms", value / 1e3),
    }
}
