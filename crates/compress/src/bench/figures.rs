//! What was measured, for tables and programs.

use engine::{Ceilings, Precision};
use serde::Serialize;

use super::FirstAnswer;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// The tier of instructions.
    pub isa: String,
    /// The processor, as it calls itself.
    pub processor: String,
    /// What the processor can do at most, by the number of threads.
    pub ceilings: Vec<Ceiling>,
    /// The bandwidth of one thread.
    pub bandwidth: Vec<Bandwidth>,
    /// ONNX Runtime's version, where it took part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_version: Option<String>,
    /// What a call of it from Python costs that computes nothing, in microseconds; part of all of its times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_call_us: Option<f64>,
    /// Why its own quantizer took no part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_quantizer: Option<String>,
    /// Forward passes.
    pub rows: Vec<Row>,
    /// Programs.
    pub programs: Vec<Compiled>,
    /// A package's way to its first answer.
    pub first_answer: FirstAnswer,
}

/// What so many threads can do together at most.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceiling {
    /// Threads at once.
    pub threads: usize,
    /// All of them together.
    #[serde(flatten)]
    pub ceilings: Ceilings,
}

/// How fast one thread reads.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bandwidth {
    /// The size of what it reads again and again.
    pub bytes: usize,
    /// Thousands of millions of bytes per second.
    pub gigabytes: f64,
}

/// One network in one precision, for one size of batch on so many threads.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The preset.
    pub network: String,
    /// What products are computed in.
    pub precision: Precision,
    /// Rows per pass.
    pub batch: usize,
    /// Threads of either side.
    pub threads: usize,
    /// One pass of Brazier.
    pub brazier: Speed,
    /// One pass of ONNX Runtime: of the faster of its models of this precision, and in f32 where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<PeerSpeed>,
    /// How many times as fast as ONNX Runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// How many times as fast as ONNX Runtime in f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_f32: Option<f64>,
    /// Thousands of millions of multiply–accumulates per second, as the network counts them.
    pub gmacs: f64,
    /// That as a share of what the threads can do at most.
    pub of_ceiling: f64,
}

/// Passes of one side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// The median, in microseconds.
    pub median_us: f64,
    /// The fastest, in microseconds.
    pub least_us: f64,
    /// Rows per second, at the median.
    pub rows_per_second: f64,
}

/// Passes of ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerSpeed {
    /// Which of its models: `f32`, `int8 (exported)`, `int8 (its quantizer)`.
    pub model: String,
    /// How fast.
    #[serde(flatten)]
    pub speed: Speed,
}

/// A compiled program.
#[derive(Clone, Debug, Serialize)]
pub struct Compiled {
    /// The preset.
    pub network: String,
    /// What products are computed in.
    pub precision: Precision,
    /// The median time of compiling, in milliseconds.
    pub compile_ms: f64,
    /// Bytes of packed weights.
    pub weight_bytes: usize,
    /// Bytes of scratch for each thread.
    pub scratch_bytes: usize,
    /// Samples that run through the program at once.
    pub block_rows: usize,
}
