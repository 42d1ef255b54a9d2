//! Registries with small models, made for one test and removed with it.

use std::path::Path;

use artifact::manifest::{Manifest, Sample, SampleInput};
use artifact::{Draft, Registry};
use network::preprocess::{ColumnKind, Fit, ImagePreprocess, TableRules, fit_table};
use network::quantization::{Affine, Calibration, CalibrationMethod, Quantization, quantize_weights};
use network::{Cell, Network, Postprocess, Preprocess, RawInput, Row, Task};
use predict::{DeviceSpec, Parts, Predictor};
use tempfile::TempDir;

/// A registry in a temporary directory.
pub(crate) struct Models {
    directory: TempDir,
}

impl Models {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub(crate) fn open(&self) -> Registry {
        Registry::open(self.directory.path()).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Publishes a new version of an untrained model.
    pub(crate) fn publish(&self, name: &str, model: &Model, seed: u64) -> u64 {
        self.publish_with(name, model, seed, false, &[], |_| ())
    }

    /// Publishes the same in int8: every layer with weights, over the range of the values of [`digits`].
    pub(crate) fn publish_int8(&self, name: &str, model: &Model, seed: u64) -> u64 {
        self.publish_with(name, model, seed, true, &[], |_| ())
    }

    /// Publishes a new version that tells of these training data.
    pub(crate) fn publish_watched(&self, name: &str, model: &Model, seed: u64, data: &[RawInput]) -> u64 {
        self.publish_with(name, model, seed, false, data, |_| ())
    }

    /// Publishes a new version whose packed answers are not those of its weights: what a device that computes
    /// something else looks like.
    pub(crate) fn publish_spoiled(&self, name: &str, model: &Model, seed: u64) -> u64 {
        self.publish_with(name, model, seed, false, &[], |logits| logits[1] += 0.5)
    }

    fn publish_with(
        &self,
        name: &str,
        model: &Model,
        seed: u64,
        int8: bool,
        data: &[RawInput],
        change: impl FnOnce(&mut [f32]),
    ) -> u64 {
        let network = Network::new(toml::from_str(model.network).unwrap()).unwrap();
        let mut weights = model::initial_weights(&network, seed);
        let quantization = int8.then(|| quantization(&network));
        if let Some(plan) = &quantization {
            weights = quantize_weights(&network, &plan.layers, &weights).unwrap();
        }
        let mut manifest = Manifest::new(name, &network, model.preprocess.clone(), model.postprocess.clone());
        let parts = Parts {
            network,
            preprocess: model.preprocess.clone(),
            postprocess: model.postprocess.clone(),
            weights: weights.clone(),
            quantization: quantization.clone(),
        };
        let predictor = Predictor::from_parts(parts, DeviceSpec::Cpu).unwrap();
        let prepared = predictor.prepare(std::slice::from_ref(&model.sample)).unwrap();
        let mut logits = predictor.infer(&[prepared]).unwrap()[0].tensor.as_f32().unwrap().to_vec();
        change(&mut logits);
        manifest.samples = vec![Sample { input: SampleInput::from_raw(&model.sample).unwrap(), logits }];
        manifest.quantization = quantization;
        manifest.metrics.insert("accuracy".to_owned(), 0.5);
        manifest.reference.observed =
            (!data.is_empty()).then(|| predictor.observe(data, "validation").unwrap());
        let draft = Draft { evaluation: serde_json::json!({}), ..Draft::new(manifest, weights) };
        self.open().publish(name, draft).unwrap().version
    }

    /// Changes a byte of a version's weights.
    pub(crate) fn damage(&self, name: &str, version: u64) {
        let path = self.directory.path().join(name).join(version.to_string()).join("weights.bpk");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
}

/// A plan in which everything that can be is in int8.
fn quantization(network: &Network) -> Quantization {
    let layers = network.layers();
    let range = |name: &String| (name.clone(), Affine::covering(0.0, 16.0));
    let inputs = network.spec().inputs.iter().map(|input| &input.name);
    Quantization::calibrated(
        layers.iter().filter(|layer| layer.macs > 0).map(|layer| layer.name.clone()).collect(),
        inputs.chain(layers.iter().map(|layer| &layer.name)).map(range).collect(),
        Calibration::new(CalibrationMethod::MinMax, 1, 0),
    )
}

/// What a model is made of, and an input for it.
pub(crate) struct Model {
    network: &'static str,
    pub(crate) preprocess: Preprocess,
    postprocess: Postprocess,
    sample: RawInput,
}

/// 8×8 pictures with values from 0 to 16, ten classes.
pub(crate) fn digits() -> Model {
    Model {
        network: r#"
            inputs = [{ name = "input", shape = [1, 8, 8] }]
            layers = [{ type = "flatten" }, { type = "dense", units = 10 }]"#,
        preprocess: Preprocess::Image(ImagePreprocess {
            channels: 1,
            height: 8,
            width: 8,
            max_value: 16.0,
            mean: vec![0.0],
            std: vec![1.0],
            fit: Fit::DrawingCounts { grid: 32 },
        }),
        postprocess: Postprocess::new(Task::MultiClass, (0..10u8).map(|digit| digit.to_string()).collect()),
        sample: RawInput::Numbers((0..64u8).map(|i| f32::from(i % 17)).collect()),
    }
}

/// The same model, which its inputs are prepared for in another way.
pub(crate) fn digits_prepared_otherwise() -> Model {
    let mut model = digits();
    if let Preprocess::Image(image) = &mut model.preprocess {
        image.mean = vec![0.25];
    }
    model
}

/// A table with a number and a name, two classes.
pub(crate) fn flowers() -> Model {
    let header: std::sync::Arc<[String]> = ["length".to_owned(), "colour".to_owned()].into();
    let row = |length: f64, colour: &str| {
        Row::new(header.clone(), vec![Cell::Number(length), Cell::Text(colour.to_owned())]).unwrap()
    };
    let rows = [row(1.0, "red"), row(2.0, "blue"), row(3.0, "red")];
    let columns =
        [("length".to_owned(), ColumnKind::Numeric), ("colour".to_owned(), ColumnKind::Categorical)];
    let rules = TableRules { missing: network::preprocess::MissingRule::Drop, ..TableRules::default() };
    Model {
        network: r#"
            inputs = [{ name = "input", shape = [3] }]
            layers = [{ type = "dense", units = 1 }]"#,
        preprocess: Preprocess::Table(fit_table(&columns, rows.iter(), &rules)),
        postprocess: Postprocess::new(Task::Binary, vec!["tulip".to_owned(), "rose".to_owned()]),
        sample: RawInput::Row(rows[0].clone()),
    }
}

/// Three numbers in, two numbers out.
pub(crate) fn prices() -> Model {
    Model {
        network: r#"
            inputs = [{ name = "input", shape = [3] }]
            layers = [{ type = "dense", units = 2 }]"#,
        preprocess: Preprocess::Numbers { shape: vec![3] },
        postprocess: Postprocess::new(Task::Regression, vec!["low".to_owned(), "high".to_owned()]),
        sample: RawInput::Numbers(vec![1.0, 2.0, 3.0]),
    }
}

/// As [`prices`], with weights of 4 MB.
pub(crate) fn wide() -> Model {
    Model {
        network: r#"
            inputs = [{ name = "input", shape = [3] }]
            layers = [{ type = "dense", units = 1000 }, { type = "dense", units = 1000 }, { type = "dense", units = 2 }]"#,
        ..prices()
    }
}
