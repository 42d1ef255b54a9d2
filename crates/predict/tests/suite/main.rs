//! Tests of the library and of the command, from outside.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod command;
mod input;
mod predictor;

use std::sync::Arc;

use artifact::{Draft, Manifest, Registry, Sample, SampleInput};
use network::preprocess::{Column, ColumnRule, Fit, ImagePreprocess, TablePreprocess, UnknownRule};
use network::{Cell, Network, Postprocess, Preprocess, RawInput, Row, Task};
use predict::{DeviceSpec, Parts, Predictor};

/// Grey images of 4 × 6 pixels with values to 16.
fn images() -> Preprocess {
    Preprocess::Image(ImagePreprocess {
        channels: 1,
        height: 4,
        width: 6,
        max_value: 16.0,
        mean: vec![0.3],
        std: vec![0.4],
        fit: Fit::Stretch,
    })
}

/// Two numeric columns, one with a stand-in for missing values, and a colour.
fn table() -> Preprocess {
    let column = |name: &str, rule| Column { name: name.to_owned(), rule };
    Preprocess::Table(TablePreprocess {
        columns: vec![
            column("age", ColumnRule::Numeric { impute: Some(40.0), clip: None, offset: 40.0, factor: 0.1 }),
            column("weight", ColumnRule::Numeric { impute: None, clip: None, offset: 70.0, factor: 0.05 }),
            column(
                "colour",
                ColumnRule::Categorical {
                    categories: vec!["blue".to_owned(), "red".to_owned()],
                    unknown: UnknownRule::Refuse,
                    impute: None,
                },
            ),
        ],
    })
}

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn parts(preprocess: Preprocess, postprocess: Postprocess, layers: &str) -> Parts {
    let shape = preprocess.output_shape();
    let json = format!(r#"{{"inputs": [{{"name": "input", "shape": {shape:?}}}], "layers": [{layers}]}}"#);
    let network = Network::new(serde_json::from_str(&json).unwrap()).unwrap();
    let weights = model::initial_weights(&network, 11);
    Parts { network, preprocess, postprocess, weights, quantization: None }
}

const CONVOLUTION: &str = r#"{"name": "conv", "type": "conv2d", "channels": 5, "kernel": 3, "padding": 1},
    {"type": "batch_norm"}, {"type": "relu"}, {"type": "flatten"}, {"name": "head", "type": "dense", "units": 3}"#;

/// Three classes of images.
fn image_parts() -> Parts {
    parts(images(), Postprocess::new(Task::MultiClass, labels(&["cat", "dog", "emu"])), CONVOLUTION)
}

/// Two classes of rows.
fn table_parts() -> Parts {
    let layers = r#"{"type": "dense", "units": 6}, {"type": "tanh"}, {"type": "dense", "units": 1}"#;
    parts(table(), Postprocess::new(Task::Binary, labels(&["benign", "malignant"])), layers)
}

fn image_input(seed: usize) -> RawInput {
    RawInput::Numbers((0..24).map(|i| ((i * 7 + seed * 13) % 17) as f32).collect())
}

fn row_input(age: Cell, weight: Cell, colour: Cell) -> RawInput {
    let columns: Arc<[String]> = labels(&["age", "weight", "colour"]).into();
    RawInput::Row(Row::new(columns, vec![age, weight, colour]).unwrap())
}

/// Publishes parts with `samples` of their own answers.
fn publish(registry: &Registry, name: &str, parts: Parts, samples: &[RawInput]) {
    let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu).unwrap();
    let Parts { network, preprocess, postprocess, weights, .. } = parts;
    let mut manifest = Manifest::new(name, &network, preprocess, postprocess);
    for input in samples {
        let prepared = predictor.prepare(std::slice::from_ref(input)).unwrap();
        let logits = predictor.infer(&[prepared]).unwrap().remove(0).tensor.as_f32().unwrap().to_vec();
        manifest.samples.push(Sample { input: SampleInput::from_raw(input).unwrap(), logits });
    }
    registry.publish(name, Draft::new(manifest, weights)).unwrap();
}
