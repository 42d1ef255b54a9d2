//! Runs raw inputs through a model and writes the answer. Knows no HTTP.

use std::time::{Duration, Instant};

use network::{Prediction, RawInput};
use predict::{PredictError, Predictor};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use crate::error::{Result, ServeError};
use crate::health::Health;
use crate::payload::{Inputs, at};

/// How long the parts of an answer took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Reading the body's content and preprocessing.
    pub prepare: Duration,
    /// The network.
    pub infer: Duration,
}

/// Predicts every input.
///
/// # Errors
/// 400 for an input that does not fit the model or its precision, with its place in the list; 500 when the network
/// or its device fails.
pub fn predict(
    predictor: &Predictor,
    inputs: &Inputs,
    health: &Health,
    timing: &mut Timing,
) -> Result<Vec<Prediction>> {
    let mut predictions = Vec::with_capacity(inputs.rows.len());
    // As many at once as the predictor runs in one pass, so that memory does not grow with the list.
    let pass = predictor.pass_rows();
    for (chunk, rows) in inputs.rows.chunks(pass).enumerate() {
        predictions.extend(batch(predictor, rows, health, timing).map_err(|failed| match failed {
            Failed::Input(_, error) if !inputs.list => ServeError::invalid(format_args!("`input`: {error}")),
            Failed::Input(index, error) => at(chunk * pass + index, &error),
            Failed::Model(error) => error,
        })?);
    }
    Ok(predictions)
}

enum Failed {
    Input(usize, String),
    Model(ServeError),
}

fn batch(
    predictor: &Predictor,
    rows: &[RawInput],
    health: &Health,
    timing: &mut Timing,
) -> std::result::Result<Vec<Prediction>, Failed> {
    let start = Instant::now();
    let prepared =
        predictor.prepare(rows).map_err(|error| Failed::Input(error.index, error.source.to_string()))?;
    timing.prepare += start.elapsed();
    let start = Instant::now();
    let outputs = health.infer(predictor, std::slice::from_ref(&prepared));
    let outputs = outputs.map_err(|error| match error {
        // What overflows in 16 bits depends on the values that were sent; a model that always does is not served.
        PredictError::Overflow { row, precision } => Failed::Input(
            row,
            format!("its values are too large for the precision of this server, {precision}"),
        ),
        error => Failed::Model(ServeError::internal(error)),
    })?;
    timing.infer += start.elapsed();
    predictor.finish(&outputs).map_err(|error| Failed::Model(ServeError::internal(error)))
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
pub fn write(
    predictor: &Predictor,
    predictions: &[Prediction],
    list: bool,
    top: Option<usize>,
) -> Result<Vec<u8>> {
    let names = &predictor.postprocess().labels;
    let mut views: Vec<View<'_>> =
        predictions.iter().map(|prediction| View { prediction, names, top }).collect();
    let prediction = if list { None } else { views.pop() };
    let predictions = list.then_some(views);
    let answer = Answer { model: predictor.name(), version: predictor.version(), prediction, predictions };
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
