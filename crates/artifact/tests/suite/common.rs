//! What the tests pack: a small network with every kind of parameter, and a copy of a package to damage.

use std::fs;
use std::path::Path;

use std::collections::BTreeMap;

use artifact::manifest::{ClassShare, Distribution, FeatureReference, Observed, QUANTILE_LEVELS};
use artifact::{
    Draft, Encoding, EvaluationSettings, Lineage, Manifest, ReferenceStatistics, Sample, SampleInput,
};
use network::Observer;
use network::fold::fold_batch_norm;
use network::observe::Feature;
use network::quantization::quantize_weights;
use network::{Affine, Calibration, CalibrationMethod, Quantization};
use network::{Network, NetworkSpec, Postprocess, Preprocess, Task, Tensor, Weights};
use serde_json::json;

/// A network on grey pictures of 4 × 4 with a residual block and a batch normalisation.
pub(crate) fn network() -> Network {
    let spec = json!({
        "inputs": [{"name": "input", "shape": [1, 4, 4]}],
        "layers": [
            {"name": "conv1", "type": "conv2d", "channels": 2, "kernel": 3, "padding": 1},
            {"name": "norm1", "type": "batch_norm"},
            {"name": "relu1", "type": "relu"},
            {"name": "block1", "type": "residual", "body": [
                {"name": "block1.conv", "type": "conv2d", "channels": 2, "kernel": 1, "bias": false},
            ]},
            {"name": "pool1", "type": "max_pool2d", "kernel": 2},
            {"name": "flatten1", "type": "flatten"},
            {"name": "dense1", "type": "dense", "units": 3},
        ],
    });
    Network::new(serde_json::from_value::<NetworkSpec>(spec).unwrap()).unwrap()
}

/// Weights of the network that depend on `seed` alone.
pub(crate) fn weights(network: &Network, seed: u64) -> Weights {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let tensor = |parameter: &network::Parameter| {
        let values = (0..parameter.len()).map(|_| next()).collect();
        (parameter.key.clone(), Tensor::from_f32(parameter.shape.clone(), values).unwrap())
    };
    network.parameters().map(tensor).collect()
}

/// What is watched of a model that tells shapes apart, as if all pictures had been grey.
fn observed(manifest: &Manifest) -> Observed {
    let observer = Observer::new(&manifest.preprocess, &manifest.postprocess);
    let of = |features: &[Feature]| {
        let values = |place: usize| (0..480).map(|step| ((step + place) % 3) as f32 / 3.0).collect();
        let each = features.iter().enumerate();
        each.filter_map(|(place, feature)| Distribution::of(feature, values(place))).collect()
    };
    let (inputs, outputs) = (of(observer.inputs()), of(observer.outputs()));
    Observed { inputs, outputs, outputs_split: "validation".to_owned() }
}

/// A draft in which everything optional is filled in.
pub(crate) fn draft(seed: u64) -> Draft {
    let network = network();
    let preprocess = json!({
        "kind": "image", "channels": 1, "height": 4, "width": 4, "max_value": 16.0,
        "mean": [0.25], "std": [0.5], "fit": {"kind": "stretch"},
    });
    let preprocess: Preprocess = serde_json::from_value(preprocess).unwrap();
    let labels: Vec<String> = ["cross", "ring", "bar"].map(str::to_owned).to_vec();
    let postprocess = Postprocess::new(Task::MultiClass, labels.clone());
    let mut manifest = Manifest::new("shapes", &network, preprocess, postprocess);
    manifest.created = Some("2026-01-31T12:00:00Z".to_owned());
    manifest.description = "Tells drawn shapes apart.".to_owned();
    manifest.metrics = [("accuracy", 0.991_666_666_666_666_7), ("loss", 0.1 + 0.2)]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    manifest.evaluation = Some(EvaluationSettings {
        split: "test".to_owned(),
        samples: 120,
        metric: "accuracy".to_owned(),
        device: "flex".to_owned(),
        precision: "f32".to_owned(),
        kernels: None,
        batch_size: 64,
        data: json!({"kind": "embedded", "name": "shapes"}),
    });
    manifest.reference = ReferenceStatistics {
        samples: 480,
        quantile_levels: QUANTILE_LEVELS.to_vec(),
        features: vec![FeatureReference::numeric("channel 0", (0..=16).map(f64::from).collect(), 0)],
        class_shares: ClassShare::from_counts(&labels, &[160, 160, 160], 480),
        observed: Some(observed(&manifest)),
    };
    manifest.samples = vec![Sample {
        input: SampleInput::Numbers { values: (0..16).map(|value| value as f32 + 0.1).collect() },
        logits: vec![0.1, -2.5, 3.25e-7],
    }];
    manifest.lineage = Lineage {
        parent: Some("shapes@7".to_owned()),
        run: Some("20260131-120000-shapes".to_owned()),
        config_sha256: Some(artifact::digest::sha256_hex("config")),
        data: Some("shapes".to_owned()),
        data_origin: Some("drawn for the tests, CC0".to_owned()),
        data_sha256: Some(artifact::digest::sha256_hex("data")),
        seed: Some(u64::MAX),
        crates: [("burn".to_owned(), "0.22.1".to_owned())].into(),
        device: Some("flex".to_owned()),
        precision: Some("f32".to_owned()),
        steps: vec![artifact::LineageStep { method: "quantize".to_owned(), summary: "2 of 2".to_owned() }],
    };
    let weights = weights(&network, seed);
    Draft {
        manifest,
        weights,
        evaluation: json!({"accuracy": 0.9917, "confusion": [[40, 0], [1, 39]]}),
        card: String::new(),
        reports: BTreeMap::new(),
        encoding: Encoding::Plain,
    }
}

/// The draft with its batch normalisation folded.
pub(crate) fn folded_draft(seed: u64) -> Draft {
    let Draft { mut manifest, mut weights, evaluation, card, reports, encoding } = draft(seed);
    // A variance below zero cannot be folded.
    let variance = Tensor::from_f32(vec![2], vec![0.5, 1.5]).unwrap();
    weights.insert("norm1.running_var".to_owned(), variance);
    let (network, weights) = fold_batch_norm(&network(), &weights).unwrap();
    manifest.network = network.spec().clone();
    Draft { manifest, weights, evaluation, card, reports, encoding }
}

/// The folded draft in int8: `conv1` and `dense1` are integers, `block1.conv` is not.
pub(crate) fn int8_draft(seed: u64) -> Draft {
    let Draft { mut manifest, weights, evaluation, card, reports, encoding } = folded_draft(seed);
    let network = manifest.check().unwrap();
    let affine = |scale, zero_point| Affine { scale, zero_point };
    let plan = Quantization::calibrated(
        ["conv1", "dense1"].map(str::to_owned).to_vec(),
        [("input", affine(0.007_5, 85)), ("relu1", affine(0.01, 0)), ("pool1", affine(0.02, 12))]
            .map(|(name, affine)| (name.to_owned(), affine))
            .into(),
        Calibration { percentile: Some(99.99), ..Calibration::new(CalibrationMethod::Percentile, 480, 7) },
    );
    let weights = quantize_weights(&network, &plan.layers, &weights).unwrap();
    manifest.quantization = Some(plan);
    if let Some(evaluation) = &mut manifest.evaluation {
        (evaluation.device, evaluation.precision) = ("cpu".to_owned(), "int8".to_owned());
    }
    Draft { manifest, weights, evaluation, card, reports, encoding }
}

/// Copies the files of a package.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Changes a manifest as JSON.
pub(crate) fn edit_manifest(package: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = package.join("manifest.json");
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(&path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
}

/// An error and its causes.
pub(crate) fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
