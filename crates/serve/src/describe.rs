//! The server's own description of models: what a client, and the playground, needs to ask them something.

use artifact::manifest::WEIGHTS_FILE;
use artifact::{Manifest, SampleCell, SampleInput};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use network::Preprocess;
use network::preprocess::ColumnRule;
use predict::Predictor;
use serde_json::{Map, Value, json};

use crate::served::Served;
use crate::state::{Catalog, Model};

/// Every model that may be seen, for `GET /models`. The default is that of all models, where it may be seen.
#[must_use]
pub fn catalog(catalog: &Catalog, may_see: impl Fn(&str) -> bool) -> Value {
    let default = catalog.find_default().ok().map(|served| served.name());
    let default = default.filter(|name| may_see(name));
    let seen = catalog.models.iter().filter(|(name, _)| may_see(name));
    let models: Vec<Value> = seen.map(|(name, entry)| model(name, entry)).collect();
    json!({ "models": models, "default": default })
}

/// One model with its versions.
#[must_use]
pub fn model(name: &str, model: &Model) -> Value {
    let versions: Vec<Value> = model
        .versions
        .iter()
        .map(|(number, version)| {
            let mut entry = json!({ "version": number, "state": version.state() });
            if let Some(reason) = model.reasons.get(number) {
                entry["reason"] = json!(reason);
            }
            entry
        })
        .collect();
    let answers = model.number(name, &artifact::Selector::Default).ok();
    json!({ "name": name, "versions": versions, "aliases": model.aliases, "answers": answers })
}

/// One version: task, labels, what it takes, how well it does, examples.
#[must_use]
pub fn version(served: &Served) -> Value {
    let Some(predictor) = served.predictor() else {
        return json!({
            "name": served.name(),
            "version": served.version(),
            "state": "ready",
            "platform": served.platform(),
            "signature": served.signature(),
        });
    };
    model_version(predictor)
}

fn model_version(predictor: &Predictor) -> Value {
    let postprocess = predictor.postprocess();
    let mut view = json!({
        "name": predictor.name(),
        "version": predictor.version(),
        "state": "ready",
        "device": predictor.device(),
        "precision": predictor.precision_name(),
        "task": postprocess.task.name(),
        "labels": postprocess.labels,
        "input": input(predictor.preprocess()),
        "parameters": predictor.network().parameter_count(),
        "signature": predictor.signature(),
    });
    // What computes: the engine with its instructions, or Burn and why.
    if let (Value::Object(view), Value::Object(kernels)) = (&mut view, json!(predictor.kernels())) {
        view.extend(kernels);
    }
    if let Some(plan) = predictor.quantization().filter(|plan| plan.computes_int8()) {
        let layers = predictor.network().layers().iter().filter(|layer| layer.macs > 0).count();
        view["quantization"] = json!({ "layers": plan.layers, "of": layers });
    }
    if let Some(manifest) = predictor.manifest() {
        view["metrics"] = json!(manifest.metrics);
        view["description"] = json!(manifest.description);
        view["created"] = json!(manifest.created);
        view["data"] = json!(manifest.lineage.data);
        view["size_bytes"] = json!(manifest.files.iter().map(|file| file.size_bytes).sum::<u64>());
        let record = manifest.files.iter().find(|file| file.path == WEIGHTS_FILE);
        view["record_bytes"] = json!(record.map(|file| file.size_bytes));
        view["samples"] = Value::Array(samples(manifest, predictor.preprocess()));
    }
    view
}

/// What a model takes, so that a form can be made from it.
fn input(preprocess: &Preprocess) -> Value {
    let mut view = match preprocess {
        Preprocess::Image(image) => json!({
            "kind": "image",
            "channels": image.channels,
            "height": image.height,
            "width": image.width,
            "max_value": image.max_value,
            "fit": image.fit,
        }),
        Preprocess::Table(table) => {
            let columns: Vec<Value> = table
                .columns
                .iter()
                .map(|column| match &column.rule {
                    ColumnRule::Numeric { impute, .. } => {
                        json!({ "name": column.name, "kind": "numeric", "optional": impute.is_some() })
                    }
                    ColumnRule::Categorical { categories, impute, .. } => json!({
                        "name": column.name,
                        "kind": "categorical",
                        "categories": categories,
                        "optional": impute.is_some(),
                    }),
                })
                .collect();
            json!({ "kind": "table", "columns": columns })
        }
        Preprocess::Numbers { shape } => json!({ "kind": "numbers", "shape": shape }),
        _ => json!({ "kind": "other" }),
    };
    view["expects"] = json!(preprocess.expects());
    view
}

/// The packaged samples in the form in which `/predict` takes them as `input`.
fn samples(manifest: &Manifest, preprocess: &Preprocess) -> Vec<Value> {
    manifest.samples.iter().filter_map(|sample| sample_input(&sample.input, preprocess)).collect()
}

fn sample_input(input: &SampleInput, preprocess: &Preprocess) -> Option<Value> {
    match input {
        SampleInput::Numbers { values } => Some(json!(values)),
        SampleInput::Image { base64 } => Some(json!(base64)),
        SampleInput::Row { columns, cells } => {
            let cell = |cell: &SampleCell| match cell {
                SampleCell::Missing(()) => Value::Null,
                SampleCell::Number(number) => json!(number),
                SampleCell::Text(text) => json!(text),
            };
            let row: Map<String, Value> = columns.iter().cloned().zip(cells.iter().map(cell)).collect();
            Some(Value::Object(row))
        }
        SampleInput::Pixels { height, width, base64, .. } => {
            // Numbers are in the data's units, and must have the network's size; other sizes stay unshown.
            let Preprocess::Image(image) = preprocess else { return None };
            if (*height, *width) != (image.height, image.width) {
                return None;
            }
            let pixels = STANDARD.decode(base64).ok()?;
            let values: Vec<f32> =
                pixels.iter().map(|&pixel| f32::from(pixel) * image.max_value / 255.0).collect();
            Some(json!(values))
        }
        _ => None,
    }
}
