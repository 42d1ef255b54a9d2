//! What is in an int8 package, and that it is as good as its parent.

use artifact::manifest::{COMPRESSION_FILE, WEIGHTS_FILE};
use compress::config::QuantizeConfig;
use compress::finish::drop_between;
use compress::quantize::{Stage, quantize};
use network::spec::Op;
use network::{DType, Quantization};
use predict::{DeviceSpec, Kernels};
use train::evaluate::evaluate;

use crate::place::{DIGITS, PIXELS, Place, QUANTIZED, data, open, parts};

#[test]
fn an_int8_package_holds_integers_scales_and_where_it_came_from() {
    let place = Place::quantized();
    for (name, layers) in [
        (DIGITS, &["conv1", "conv2", "conv3", "fc1", "fc2"][..]),
        (PIXELS, &["fc1", "fc2", "fc3"]),
        ("numbers", &["fc1", "fc2", "fc3"]),
    ] {
        let parent = place.package(&format!("{name}@1"));
        let package = place.package(&format!("{name}@2"));
        let manifest = package.manifest();
        assert_eq!(manifest.lineage.parent.as_deref(), Some(format!("{name}@1").as_str()));
        assert_eq!(manifest.lineage.precision.as_deref(), Some("int8"));
        assert_eq!(manifest.lineage.data_sha256, parent.manifest().lineage.data_sha256);
        assert_eq!((&manifest.preprocess, &manifest.postprocess), {
            let parent = parent.manifest();
            (&parent.preprocess, &parent.postprocess)
        });

        let plan = package.quantization().unwrap();
        assert_eq!(plan.layers, layers, "{name}");
        let calibration = plan.calibration.as_ref().unwrap();
        assert_eq!((calibration.samples, calibration.split.as_str()), (512, "train"));
        let norms = package
            .network()
            .spec()
            .all_layers()
            .into_iter()
            .filter(|layer| matches!(layer.op, Op::BatchNorm(_)));
        assert_eq!(norms.count(), 0, "{name}: batch normalisation is part of the weights");

        let weights = package.weights().unwrap();
        for layer in layers {
            let tensor = |parameter: &str| &weights[&format!("{layer}.{parameter}")];
            let outputs = tensor("scale").shape()[0];
            assert_eq!(tensor("weight").dtype(), DType::I8, "{name}: {layer}");
            assert_eq!((tensor("scale").dtype(), tensor("bias").dtype()), (DType::F32, DType::F32));
            assert_eq!((tensor("scale").shape(), tensor("bias").shape()), (&[outputs][..], &[outputs][..]));
            assert!(tensor("weight").shape().contains(&outputs), "{name}: {layer}");
        }
        assert_eq!(weights.len(), 3 * layers.len(), "{name}: nothing else has weights");
        let record = |package: &artifact::Package| {
            let files = &package.manifest().files;
            files.iter().find(|file| file.path == WEIGHTS_FILE).unwrap().size_bytes
        };
        assert!(record(&package) * 2 < record(&parent), "{name}");
    }
    assert!(place.registry().verify().unwrap().is_sound());
}

#[test]
fn the_parent_is_left_as_it_was() {
    let (before, after) = (Place::trained().files(), Place::quantized().files());
    for (path, bytes) in before.iter().filter(|(path, _)| path.iter().count() > 2) {
        assert!(after[path] == *bytes, "{} changed", path.display());
    }
    assert!(before.len() > 12 && after.len() > before.len());
}

#[test]
fn the_report_in_the_package_tells_both_sides() {
    let place = Place::quantized();
    for name in QUANTIZED {
        let package = place.package(&format!("{name}@2"));
        let report = package.report(COMPRESSION_FILE).unwrap().unwrap();
        let parent = place.package(&format!("{name}@1"));
        assert_eq!(report["before"]["model"], format!("{name}@1"));
        for (side, package) in [("before", &parent), ("after", &package)] {
            let side = &report[side];
            let metric = side["metric"].as_str().unwrap();
            let packed = package.manifest().metrics[metric];
            assert!(
                (side["score"].as_f64().unwrap() - packed).abs() < 1e-6,
                "{name}: {side} is not {packed}"
            );
            let record = package.manifest().files.iter().find(|file| file.path == WEIGHTS_FILE).unwrap();
            assert_eq!(side["record_bytes"], record.size_bytes, "{name}: {side}");
            let latency = side["latency"].as_array().unwrap();
            assert!(latency.iter().all(|latency| latency["median_us"].as_f64().unwrap() > 0.0));
            assert_eq!(
                latency.iter().map(|latency| latency["batch"].as_u64()).collect::<Vec<_>>(),
                [Some(1), Some(64)]
            );
        }
        let layers = report["layers"].as_array().unwrap();
        assert_eq!(layers.len(), package.quantization().unwrap().layers.len());
        assert!(
            layers.iter().all(|layer| layer["precision"] == "int8" && layer["sqnr_db"].as_f64() > Some(10.0))
        );
    }
}

/// The samples of the parent come along with the answers that the new version gives.
#[test]
fn samples_are_answered_again_and_every_device_agrees() {
    let place = Place::quantized();
    for name in QUANTIZED {
        let [parent, package] = [1, 2].map(|version| place.package(&format!("{name}@{version}")));
        let (old, new) = (&parent.manifest().samples, &package.manifest().samples);
        assert_eq!((old.len(), new.len()), (16, 16));
        assert!(old.iter().zip(new).all(|(old, new)| old.input == new.input));
        assert!(
            old.iter().zip(new).any(|(old, new)| old.logits != new.logits),
            "{name}: nothing was rounded"
        );
        let cpu = open(&package, DeviceSpec::Cpu);
        assert!(matches!(cpu.kernels(), Kernels::Engine { .. }), "{name}: {:?}", cpu.kernels());
        let check = cpu.self_check().unwrap();
        assert_eq!((check.samples, check.largest_difference), (16, 0.0), "{name}");
        let flex = open(&package, DeviceSpec::Flex);
        assert_eq!(flex.kernels(), &Kernels::Burn { reason: None });
        let check = flex.self_check().unwrap();
        // Floats are measured by floats.
        assert_eq!((check.samples, check.made_up), (0, 4), "{name}: {check:?}");
    }
}

#[test]
fn the_scores_are_those_of_the_parent() {
    let place = Place::quantized();
    for name in QUANTIZED {
        let [parent, package] = [1, 2].map(|version| place.package(&format!("{name}@{version}")));
        let data = data(&package);
        let score = |package, device| {
            evaluate(&open(package, device), &data, "test", &data.splits.test, &mut |_| ()).unwrap()
        };
        let floats = score(&parent, DeviceSpec::Cpu);
        let engine = score(&package, DeviceSpec::Cpu);
        let packed = &package.manifest().metrics;
        for (metric, value) in &engine.metrics {
            assert!((value - packed[metric]).abs() < 1e-6, "{name}: {metric} is {value}, packed {packed:?}");
        }
        for (device, scored) in [("cpu", &engine), ("flex", &score(&package, DeviceSpec::Flex))] {
            let drop = drop_between(&floats, scored);
            println!("{name} on {device}: {drop:.3} lost of {:?}", floats.headline());
            assert!(drop <= 0.5, "{name} on {device}: {drop} is lost");
        }
    }
}

/// What decides is in the configuration and the package, not in the machine or the moment.
#[test]
fn the_library_comes_to_the_plan_of_the_package() {
    let place = Place::quantized();
    let mut config = QuantizeConfig::default();
    config.layers.faster_only = false;
    for name in QUANTIZED {
        let [parent, package] = [1, 2].map(|version| place.package(&format!("{name}@{version}")));
        let mut stages = Vec::new();
        crate::training::one_thread();
        let mut hear = |stage: Stage<'_>| stages.push(format!("{stage:?}"));
        let quantized = quantize(&parts(&parent), &data(&parent), &config, &mut hear).unwrap();
        assert_eq!(quantized.parts.quantization.as_ref(), package.quantization(), "{name}");
        assert!(quantized.parts.weights == package.weights().unwrap(), "{name}");
        let layers = quantized.layers.len();
        // One for the calibration and one for the score; each layer is corrected, and tried alone.
        assert_eq!(stages.len(), 2 * layers + 2, "{stages:?}");
        assert_eq!(stages[2 * layers + 1], format!("Score {{ int8: {layers}, part: \"validation\" }}"));
    }
}

/// A layer that stays in floats keeps its weights as they are, and ranges that nobody reads are left out.
#[test]
fn a_layer_in_floats_stays_in_floats() {
    let place = Place::trained();
    let keep = ["--set", "layers.float=['fc*']", "--set", "layers.faster_only=false"];
    let output = place.quantize("digits@1", &keep);
    assert_eq!(output.status.code(), Some(0), "{}", crate::place::text(&output.stderr));
    let package = place.package("digits@2");
    let plan: &Quantization = package.quantization().unwrap();
    assert_eq!(plan.layers, ["conv1", "conv2", "conv3"]);
    let ranges: Vec<&str> = plan.activations.keys().map(String::as_str).collect();
    assert_eq!(ranges, ["input", "pool1", "relu1"]);
    let (weights, parent) = (package.weights().unwrap(), place.package("digits@1").weights().unwrap());
    assert!(weights["fc1.weight"] == parent["fc1.weight"] && weights["fc2.bias"] == parent["fc2.bias"]);
    assert!(!weights.contains_key("fc1.scale"));
    let report = package.report(COMPRESSION_FILE).unwrap().unwrap();
    assert_eq!(report["after"]["precision"], "int8 (3 of 5 layers)");
    assert_eq!(report["layers"][3]["reason"], "the configuration says so");
    open(&package, DeviceSpec::Flex).self_check().unwrap();
}
