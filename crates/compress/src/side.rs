//! One model as a column of a comparison: what it answers, what it weighs, and how long it takes.

use artifact::Package;
use network::Weights;
use network::quantization::Quantization;
use predict::Predictor;
use serde::Serialize;
use train::evaluate::Evaluation;

use crate::compare::Latency;

/// What is known of a model that was scored and timed.
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
    /// Its value on the split that was scored.
    pub score: f64,
    /// The 95 % interval of the score, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Bytes of the file with the weights, as it lies on disk.
    pub record_bytes: u64,
    /// Numbers that were learned.
    pub parameters: u64,
    /// Those of them that are not 0.
    pub nonzero: u64,
    /// Multiply–accumulates for one sample.
    pub macs: u64,
    /// Those of them in int8.
    pub int8_macs: u64,
    /// How long a batch takes.
    pub latency: Vec<Latency>,
}

impl Side {
    /// What is known of a model whose weights are these, in a file of so many bytes.
    #[must_use]
    pub fn new(
        model: String,
        predictor: &Predictor,
        weights: &Weights,
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
            interval: interval(metric, evaluation),
            record_bytes,
            parameters: network.parameter_count(),
            nonzero: nonzero(network, weights),
            macs: network.macs(),
            int8_macs: int8.iter().map(|layer| layer.macs).sum(),
            latency,
        }
    }

    /// The score as a person reads it, with its interval.
    #[must_use]
    pub fn score_text(&self) -> String {
        let shown = match self.metric {
            "accuracy" => format!("{:.2} %", 100.0 * self.score),
            _ => format!("{:.4}", self.score),
        };
        match (self.interval, self.metric) {
            (Some([low, high]), "accuracy") => format!("{shown} ({:.2}–{:.2})", 100.0 * low, 100.0 * high),
            (Some([low, high]), _) => format!("{shown} ({low:.4}–{high:.4})"),
            (None, _) => shown,
        }
    }
}

/// The interval of the accuracy, where that is the score; that of an evaluation of labels is of the share of samples
/// whose labels are all right.
fn interval(metric: &str, evaluation: &Evaluation) -> Option<[f64; 2]> {
    let interval = evaluation.interval.as_ref().filter(|_| metric == "accuracy");
    interval.map(|interval| [interval.low, interval.high])
}

/// Bytes of the file with the weights of a package.
#[must_use]
pub fn record_bytes(package: &Package) -> u64 {
    let files = package.manifest().files.iter();
    files.filter(|file| file.path == artifact::manifest::WEIGHTS_FILE).map(|file| file.size_bytes).sum()
}

/// Learned numbers that are not 0, running statistics and scales not counted.
fn nonzero(network: &network::Network, weights: &Weights) -> u64 {
    let learned = network.parameters().filter(|parameter| parameter.role.is_trained());
    let of = |tensor: &network::Tensor| match tensor.elements() {
        network::Elements::I8(values) => values.iter().filter(|&&value| value != 0).count(),
        network::Elements::F32(values) => values.iter().filter(|&&value| value != 0.0).count(),
        _ => 0,
    };
    learned.filter_map(|parameter| weights.get(&parameter.key)).map(|tensor| of(tensor) as u64).sum()
}
