//! Models side by side: what each costs, measured on the thing that is served.

use std::time::{Duration, Instant};

use network::{NamedTensor, Tensor};
use predict::{PredictError, Predictor};
use serde::Serialize;

/// Batch sizes at which latency is measured: one request, and a full batch.
pub const BATCHES: [usize; 2] = [1, 64];

/// How long one pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Rows of the batch.
    pub batch: usize,
    /// The median of the turns, in microseconds.
    pub median_us: f64,
    /// The fastest turn, in microseconds.
    pub least_us: f64,
}

/// Measures several models in turns, so that a machine that gets slower is slower for all: `turns` times each, at
/// each size of [`BATCHES`], over rows without a pattern. The result has a list for each model.
///
/// # Errors
/// When a model cannot run.
pub fn latencies(models: &[&Predictor], turns: usize) -> Result<Vec<Vec<Latency>>, PredictError> {
    let mut measured = vec![Vec::with_capacity(BATCHES.len()); models.len()];
    for batch in BATCHES {
        let inputs = models.iter().map(|model| rows(model, batch)).collect::<Result<Vec<_>, _>>()?;
        let mut times = vec![Vec::with_capacity(turns); models.len()];
        for turn in 0..=turns {
            for ((model, inputs), times) in models.iter().zip(&inputs).zip(&mut times) {
                let took = run(model, inputs)?;
                // The first turn wakes threads and caches.
                if turn > 0 {
                    times.push(took);
                }
            }
        }
        for (measured, mut times) in measured.iter_mut().zip(times) {
            times.sort_unstable();
            let microseconds = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
            measured.push(Latency {
                batch,
                median_us: microseconds(times.get(times.len() / 2)),
                least_us: microseconds(times.first()),
            });
        }
    }
    Ok(measured)
}

/// The time of one pass: of several in a row where one is too short to be measured alone.
fn run(model: &Predictor, inputs: &[NamedTensor]) -> Result<Duration, PredictError> {
    let start = Instant::now();
    let mut passes = 0;
    while passes == 0 || start.elapsed() < Duration::from_micros(500) {
        model.infer(inputs)?;
        passes += 1;
    }
    Ok(start.elapsed() / passes)
}

fn rows(model: &Predictor, batch: usize) -> Result<Vec<NamedTensor>, PredictError> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut number = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    };
    let input = |spec: &network::TensorSpec| {
        let shape: Vec<usize> =
            std::iter::once(batch).chain(spec.sample_shape().unwrap_or_default()).collect();
        let values = (0..shape.iter().product()).map(|_| number()).collect();
        let tensor = Tensor::from_f32(shape, values);
        let tensor = tensor.map_err(|error| PredictError::Internal { reason: error.to_string() })?;
        Ok(NamedTensor { name: spec.name.clone(), tensor })
    };
    model.signature().inputs.iter().map(input).collect()
}
