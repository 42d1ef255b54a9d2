//! What compression changed, in numbers: printed, and kept in the package.

use cli::Table;
use network::quantization::Quantization;
use predict::Predictor;
use serde::Serialize;
use train::evaluate::Evaluation;

use crate::compare::Latency;
use crate::config::QuantizeConfig;
use crate::quantize::LayerChoice;

/// A model before and after.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was asked for.
    pub config: QuantizeConfig,
    /// The parent.
    pub before: Side,
    /// What came out.
    pub after: Side,
    /// How far the headline metric fell on the samples that chose the layers, in the units of the gate.
    pub drop_choosing: f64,
    /// The split that those samples are of: `validation`, or `train` where there is none.
    pub chosen_on: &'static str,
    /// How far it fell on the test split.
    pub drop_test: f64,
    /// Every layer with weights, and what became of it.
    pub layers: Vec<LayerChoice>,
}

/// One side of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Its name and version, once it has one.
    pub model: String,
    /// The precision of its layers with weights.
    pub precision: String,
    /// What computes.
    pub kernels: String,
    /// The name of the metric that counts most.
    pub metric: &'static str,
    /// Its value on the test split.
    pub score: f64,
    /// The 95 % interval of the accuracy, where that is what is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Bytes of the record.
    pub record_bytes: u64,
    /// Multiply–accumulates for one sample.
    pub macs: u64,
    /// Those of them in int8.
    pub int8_macs: u64,
    /// How long a batch takes.
    pub latency: Vec<Latency>,
}

impl Side {
    /// What is known of a model.
    #[must_use]
    pub fn new(
        model: String,
        predictor: &Predictor,
        evaluation: &Evaluation,
        record_bytes: u64,
        latency: Vec<Latency>,
    ) -> Self {
        let (metric, score) = evaluation.headline();
        let network = predictor.network();
        let in_int8 = |name: &String, plan: &Quantization| plan.layers.contains(name);
        let layers: Vec<_> = network.layers().iter().filter(|layer| layer.macs > 0).collect();
        let plan = predictor.quantization();
        let int8: Vec<_> =
            layers.iter().filter(|layer| plan.is_some_and(|plan| in_int8(&layer.name, plan))).collect();
        let precision = match int8.len() {
            0 => "f32".to_owned(),
            count if count == layers.len() => "int8".to_owned(),
            count => format!("int8 ({count} of {} layers)", layers.len()),
        };
        Self {
            model,
            precision,
            kernels: predictor.kernels().to_string(),
            metric,
            score,
            interval: evaluation.interval.as_ref().map(|interval| [interval.low, interval.high]),
            record_bytes,
            macs: network.macs(),
            int8_macs: int8.iter().map(|layer| layer.macs).sum(),
            latency,
        }
    }

    fn score(&self) -> String {
        let shown = match self.metric {
            "accuracy" => format!("{:.2} %", 100.0 * self.score),
            _ => format!("{:.4}", self.score),
        };
        match self.interval {
            Some([low, high]) => format!("{shown} ({:.2}–{:.2})", 100.0 * low, 100.0 * high),
            None => shown,
        }
    }
}

impl Comparison {
    /// Both sides in a table, and the layers in another.
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
        row(self.before.metric, sides.map(Side::score), self.score_change());
        row(
            "record",
            sides.map(|side| cli::bytes(side.record_bytes)),
            times(self.before.record_bytes as f64, self.after.record_bytes as f64, "smaller"),
        );
        let share = |side: &Side| format!("{:.0} %", 100.0 * side.int8_macs as f64 / side.macs.max(1) as f64);
        row("multiplications in int8", sides.map(share), String::new());
        for (before, after) in self.before.latency.iter().zip(&self.after.latency) {
            row(
                &format!("latency, batch {}", before.batch),
                [before, after].map(|latency| format!("{:.0} µs", latency.median_us)),
                times(before.median_us, after.median_us, "faster"),
            );
        }
        format!("{table}\n{}", self.layers_table())
    }

    /// Percentage points of a share, per cent of an error; above 0 is more of it.
    fn score_change(&self) -> String {
        match self.before.metric {
            "mae" => format!("{:+.2} %", self.drop_test),
            _ => format!("{:+.2}", 0.0 - self.drop_test),
        }
    }

    fn layers_table(&self) -> Table {
        let mut table = Table::new(["layer", "type", "MACs", "quantized to", "SQNR", "drop alone", ""])
            .numbers([2, 4, 5]);
        for choice in &self.layers {
            table.row([
                choice.layer.clone(),
                choice.kind.to_owned(),
                cli::grouped(choice.macs),
                choice.precision.to_owned(),
                choice.sqnr_db.map_or_else(String::new, |ratio| format!("{ratio:.1} dB")),
                choice.drop.map_or_else(String::new, |drop| format!("{drop:.3}")),
                choice.reason.clone().unwrap_or_default(),
            ]);
        }
        table
    }
}

/// `3.9× smaller`, or what is the other way round as `0.8× faster`.
fn times(before: f64, after: f64, word: &str) -> String {
    format!("{:.2}× {word}", before / after.max(f64::MIN_POSITIVE))
}
