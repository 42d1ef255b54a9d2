//! Runs raw inputs through a model and writes the answer. Knows no HTTP.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use network::{NamedTensor, Prediction, RawInput};
use predict::{Predictor, PrepareError};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use crate::error::{Result, ServeError};
use crate::payload::{Inputs, at};
use crate::pool::Pool;
use crate::served::{AskError, Call, Served};
use crate::{front, telemetry};

/// How long the parts of an answer took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Waiting for a thread that prepares, and for one that computes.
    pub queue: Duration,
    /// Reading the body's content and preprocessing.
    pub prepare: Duration,
    /// The network, with joining batches and taking them apart.
    pub infer: Duration,
}

/// Predicts every input. `size` is that of the body, by which it is judged how long preparing takes.
///
/// # Errors
/// 400 for an input that does not fit the model or its precision, with its place in the list; what
/// [`Served::ask`](crate::served::Served::ask) refuses; 500 when the network or its device fails.
pub async fn predict(
    served: &Served,
    inputs: Inputs,
    pool: &Pool,
    size: usize,
    timing: &mut Timing,
) -> Result<Vec<Prediction>> {
    let predictor = served.raw()?;
    let inputs = Arc::new(inputs);
    let rows = inputs.rows.len();
    let mut predictions = Vec::with_capacity(rows);
    // As many at once as the predictor runs in one pass, so that memory does not grow with the list.
    let pass = predictor.pass_rows().max(1);
    for first in (0..rows).step_by(pass) {
        let range = first..rows.min(first + pass);
        let failed = |index: usize, reason: &dyn std::fmt::Display| {
            if inputs.list {
                at(first + index, reason)
            } else {
                ServeError::invalid(format_args!("`input`: {reason}"))
            }
        };
        let (began, before) = (Instant::now(), *timing);
        let rows = range.len();
        let prepared = prepare(predictor, &inputs, range, pool, size, timing).await;
        let prepared =
            prepared.and_then(|prepared| prepared.map_err(|error| failed(error.index, &error.source)));
        let prepared = front::counted(served, began, prepared)?;
        let waited = timing.queue.saturating_sub(before.queue);
        telemetry::prepared(rows, began + waited, timing.prepare.saturating_sub(before.prepare));
        let call = Call { inputs: vec![prepared], ..Call::default() };
        let asked = Instant::now();
        let answer = served.ask(call).await.map_err(|error| match error {
            AskError::Row { row, reason } => failed(row, &reason),
            error => error.into(),
        })?;
        telemetry::answered(asked, &answer.timing);
        timing.queue += answer.timing.queue;
        timing.infer +=
            answer.timing.compute_input + answer.timing.compute_infer + answer.timing.compute_output;
        predictions.extend(predictor.finish(&answer.outputs).map_err(ServeError::internal)?);
    }
    Ok(predictions)
}

/// Prepares some of the inputs. A picture is decoded in the pool however few its bytes are: it may unpack to many.
async fn prepare(
    predictor: &Arc<Predictor>,
    inputs: &Arc<Inputs>,
    range: Range<usize>,
    pool: &Pool,
    size: usize,
    timing: &mut Timing,
) -> Result<std::result::Result<NamedTensor, PrepareError>> {
    let rows = inputs.rows.get(range.clone()).unwrap_or_default();
    let pictures = rows.iter().any(|row| matches!(row, RawInput::EncodedImage(_)));
    let size = if pictures { usize::MAX } else { size };
    let (predictor, inputs) = (Arc::clone(predictor), Arc::clone(inputs));
    let job = move || {
        let start = Instant::now();
        let prepared = predictor.prepare(inputs.rows.get(range).unwrap_or_default());
        Ok((prepared, start.elapsed()))
    };
    let done = pool.run_sized(size, job).await?;
    timing.queue += done.queued;
    let (prepared, took) = done.value;
    timing.prepare += took;
    Ok(prepared)
}

/// The body of an answer.
#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<View<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<View<'a>>>,
}

/// Writes the answer: `prediction` for one input, `predictions` for a list; with `top`, the `top` most
/// probable classes in order.
///
/// # Errors
/// 500 when it cannot be written.
pub fn write(served: &Served, predictions: &[Prediction], list: bool, top: Option<usize>) -> Result<Vec<u8>> {
    let names = served.predictor().map_or(&[][..], |predictor| &predictor.postprocess().labels);
    let mut views: Vec<View<'_>> =
        predictions.iter().map(|prediction| View { prediction, names, top }).collect();
    let prediction = if list { None } else { views.pop() };
    let predictions = list.then_some(views);
    let answer = Answer { model: served.name(), version: served.version(), prediction, predictions };
    serde_json::to_vec(&answer).map_err(ServeError::internal)
}

/// A prediction as clients see it: numbers by name, in the order of the labels.
struct View<'a> {
    prediction: &'a Prediction,
    names: &'a [String],
    top: Option<usize>,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.prediction {
            Prediction::Class { class, probability, probabilities, .. } => {
                map.serialize_entry("class", class)?;
                map.serialize_entry("probability", probability)?;
                map.serialize_entry("probabilities", &Named(self.names, probabilities))?;
            }
            Prediction::Labels { labels, probabilities, .. } => {
                map.serialize_entry("labels", labels)?;
                map.serialize_entry("probabilities", &Named(self.names, probabilities))?;
            }
            Prediction::Values { values } => map.serialize_entry("values", &Named(self.names, values))?,
        }
        if let Some(top) = self.top {
            let ranked = self.prediction.top_k(top, self.names);
            let entries: Vec<Ranked> =
                ranked.into_iter().map(|(class, probability)| Ranked { class, probability }).collect();
            map.serialize_entry("top", &entries)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Ranked {
    class: String,
    probability: f32,
}

/// `{"name": value, …}` in the order of the names.
struct Named<'a>(&'a [String], &'a [f32]);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}
