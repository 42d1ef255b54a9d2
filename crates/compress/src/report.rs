//! What compression changed, in numbers: printed, and kept in the package as `compression.json`.

use artifact::LineageStep;
use cli::Table;
use serde::Serialize;

use crate::side::Side;

/// A model before and after.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The method, such as `quantize`.
    pub method: &'static str,
    /// What was asked for.
    pub config: serde_json::Value,
    /// The parent.
    pub before: Side,
    /// What came out.
    pub after: Side,
    /// How far the headline metric fell on the samples that chose, in the units of the gate.
    pub drop_choosing: f64,
    /// The split that those samples are of: `validation`, or `train` where there is none.
    pub chosen_on: &'static str,
    /// How far it fell on the test split.
    pub drop_test: f64,
    /// What was done, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<LineageStep>,
    /// What the method found out on the way.
    #[serde(flatten)]
    pub findings: Findings,
}

/// What a method found out: an object of JSON for programs, and the same as text for people.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Fields that stand beside those of the comparison.
    #[serde(flatten)]
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// Tables for the terminal; may be empty.
    #[serde(skip)]
    pub text: String,
}

impl Findings {
    /// One finding under one name.
    ///
    /// # Errors
    /// When the value has no JSON.
    pub fn new(name: &str, value: &impl Serialize, text: String) -> Result<Self, serde_json::Error> {
        let fields = [(name.to_owned(), serde_json::to_value(value)?)].into_iter().collect();
        Ok(Self { fields, text })
    }
}

impl Comparison {
    /// Both sides in a table, and what the method found.
    #[must_use]
    pub fn human(&self) -> String {
        let sides = [&self.before, &self.after];
        let header = std::iter::once(String::new()).chain(sides.map(|side| side.model.clone()));
        let change = std::iter::once("change".to_owned());
        let mut table = Table::new(header.chain(change)).numbers(1..=3);
        let mut row = |name: &str, cells: [String; 2], change: String| {
            let [before, after] = cells;
            table.row([name.to_owned(), before, after, change]);
        };
        row("precision", sides.map(|side| side.precision.clone()), String::new());
        row(self.before.metric, sides.map(Side::score_text), self.score_change());
        row(
            "record",
            sides.map(|side| cli::bytes(side.record_bytes)),
            times(self.before.record_bytes as f64, self.after.record_bytes as f64, "smaller"),
        );
        let mut counted = |name: &str, of: fn(&Side) -> u64| {
            let counts = sides.map(of);
            if counts[0] != counts[1] {
                let [before, after] = counts.map(|count| count as f64);
                row(name, counts.map(cli::grouped), times(before, after, "fewer"));
            }
        };
        counted("parameters", |side| side.parameters);
        counted("parameters that are not 0", |side| side.nonzero);
        counted("multiplications", |side| side.macs);
        let share = |side: &Side| format!("{:.0} %", 100.0 * side.int8_macs as f64 / side.macs.max(1) as f64);
        if sides.iter().any(|side| side.int8_macs > 0) {
            row("multiplications in int8", sides.map(share), String::new());
        }
        for (before, after) in self.before.latency.iter().zip(&self.after.latency) {
            row(
                &format!("latency, batch {}", before.batch),
                [before, after].map(|latency| format!("{:.0} µs", latency.median_us)),
                times(before.median_us, after.median_us, "faster"),
            );
        }
        match self.findings.text.as_str() {
            "" => table.to_string(),
            text => format!("{table}\n{text}"),
        }
    }

    /// Percentage points of a share, per cent of an error; above 0 is more of it.
    fn score_change(&self) -> String {
        match self.before.metric {
            "mae" => format!("{:+.2} %", self.drop_test),
            _ => format!("{:+.2}", 0.0 - self.drop_test),
        }
    }
}

/// What is the other way round as `0.8× faster`.
fn times(before: f64, after: f64, word: &str) -> String {
    format!("{:.2}× {word}", before / after.max(f64::MIN_POSITIVE))
}
