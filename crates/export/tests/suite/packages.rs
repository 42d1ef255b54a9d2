//! Packages of the released formats, exported as they lie there.

use std::path::Path;

use artifact::Package;
use export::Model;
use network::{NamedTensor, Tensor};
use safetensors::SafeTensors;

use crate::common::{distance, engine, plan};
use crate::runtime::{self, Optimize};

fn fixture(version: &str) -> Package {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../artifact/tests/fixtures");
    Package::open(fixtures.join(format!("package-{version}"))).unwrap()
}

/// The packed samples as the network reads them.
fn samples(package: &Package) -> Vec<NamedTensor> {
    let manifest = package.manifest();
    let mut values = Vec::new();
    for sample in &manifest.samples {
        manifest.preprocess.prepare_into(&sample.input.to_raw().unwrap(), &mut values).unwrap();
    }
    let mut shape = vec![manifest.samples.len()];
    shape.extend(package.network().input_shape());
    let name = manifest.signature.inputs[0].name.clone();
    vec![NamedTensor { name, tensor: Tensor::from_f32(shape, values).unwrap() }]
}

#[test]
fn what_a_package_computes_is_computed_by_the_runtime() {
    if !runtime::is_here() {
        return;
    }
    // The older fixture has variances below 0: it is there to be read, not to be run.
    let package = fixture("1.1");
    let (model, inputs) = (Model::open(&package).unwrap(), samples(&package));
    let (file, floats) = (export::onnx(&model).unwrap(), package.f32_weights().unwrap());
    let plan = plan(model.quantization().unwrap(), model.weights());
    let expected = engine(package.network(), &floats, &plan, &inputs).concat();
    for optimize in [Optimize::Nothing, Optimize::Everything] {
        let (name, found) = runtime::run(&file, &inputs, optimize).remove(0);
        assert_eq!(name, "logits");
        let (off, most) = distance(&found, &expected);
        assert!(most > 0.0 && off <= 1e-4 * most, "{optimize:?}: off by {off} of {most}");
    }
}

#[test]
fn a_package_of_the_first_format_is_written() {
    let model = Model::open(&fixture("1.0")).unwrap();
    assert_eq!(model.quantization(), None);
    assert!(export::onnx(&model).is_ok());
    let file = export::safetensors(&model).unwrap();
    assert_eq!(SafeTensors::deserialize(&file).unwrap().len(), model.weights().len());
}

#[test]
fn a_coded_package_is_written_as_the_plain_one() {
    let [plain, coded] = ["1.1", "1.2"].map(|version| Model::open(&fixture(version)).unwrap());
    assert!(fixture("1.2").manifest().files[0].unwrapped_sha256.is_some());
    assert_eq!(export::onnx(&coded).unwrap(), export::onnx(&plain).unwrap());
    assert_eq!(export::safetensors(&coded).unwrap(), export::safetensors(&plain).unwrap());
}

#[test]
fn a_reader_finds_the_labels_and_the_integers() {
    let package = fixture("1.1");
    let model = Model::open(&package).unwrap();
    let keys: Vec<&str> = model.metadata().keys().map(String::as_str).collect();
    assert_eq!(keys, ["labels", "name", "postprocess", "preprocess", "task", "version"]);
    assert_eq!(model.metadata()["labels"], r#"["cross","ring","bar"]"#);
    assert_eq!(model.description(), package.manifest().description);

    let file = export::safetensors(&model).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("conv1.weight").unwrap().dtype(), safetensors::Dtype::I8);
    assert_eq!(tensors.tensor("conv1.scale").unwrap().shape(), [2]);
    let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
    let quantization = &metadata.metadata().as_ref().unwrap()["quantization"];
    assert_eq!(
        &serde_json::from_str::<network::Quantization>(quantization).unwrap(),
        model.quantization().unwrap()
    );
}
