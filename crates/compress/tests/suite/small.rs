//! Packages with zeros and shared values: small files that open everywhere and answer the same.

use network::Weights;
use predict::DeviceSpec;
use serde_json::Value;

use crate::place::{Place, data, open};

fn size(place: &Place, version: &str) -> u64 {
    std::fs::metadata(place.path("models/pixels").join(version).join("weights.bpk")).unwrap().len()
}

fn weights(place: &Place, name: &str) -> Weights {
    place.package(name).weights().unwrap()
}

/// Where the weights of the dense layers are 0.
fn zeros(weights: &Weights) -> Vec<bool> {
    let of = |layer: &str| {
        let tensor = &weights[&format!("{layer}.weight")];
        match tensor.as_f32() {
            Some(values) => values.iter().map(|value| *value == 0.0).collect::<Vec<bool>>(),
            None => match tensor.elements() {
                network::Elements::I8(values) => values.iter().map(|value| *value == 0).collect(),
                _ => Vec::new(),
            },
        }
    };
    ["fc1", "fc2", "fc3"].iter().flat_map(|layer| of(layer)).collect()
}

fn holds(before: &[bool], after: &[bool]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(before, after)| !before || *after)
}

#[test]
fn files_are_small_and_answer_the_same() {
    let place = Place::sparse();
    let sizes = ["1", "2", "3"].map(|version| size(&place, version));
    println!("{sizes:?} bytes");
    // A tenth of the weights is left, then each is an index of a few bits.
    assert!(sizes[0] > 200_000 && 6 * sizes[1] < sizes[0] && 2 * sizes[2] < sizes[1], "{sizes:?}");
    for name in ["pixels@2", "pixels@3"] {
        let package = place.package(name);
        let file = package.manifest().files.iter().find(|file| file.path == "weights.bpk").unwrap();
        assert_eq!(file.encoding.len(), 1, "{file:?}");
        assert!(file.unwrapped_size_bytes.unwrap() > 200_000, "{file:?}");
        let own = data(&package);
        for device in [DeviceSpec::Cpu, DeviceSpec::Flex] {
            let predictor = open(&package, device);
            predictor.self_check().unwrap();
            let split = &own.splits.test;
            let found = train::evaluate::evaluate(&predictor, &own, "test", split, &mut |_| ()).unwrap();
            let packed = package.manifest().metrics["accuracy"];
            assert!((found.metrics["accuracy"] - packed).abs() < 1e-9, "{name}");
        }
    }
    // Beside one another they score as they were packed, in the bytes that lie there.
    let compare = ["compare", "pixels@1", "pixels@2", "pixels@3", "--turns", "1"];
    let result = place.made(&compare);
    for (model, size) in result["models"].as_array().unwrap().iter().zip(sizes) {
        let name = model["model"].as_str().unwrap();
        let packed = place.package(name).manifest().metrics["accuracy"];
        assert!((model["score"].as_f64().unwrap() - packed).abs() < 1e-9, "{name}");
        assert_eq!(model["record_bytes"], size, "{name}");
        let zero =
            |tensor: &network::Tensor| tensor.as_f32().unwrap().iter().filter(|value| **value == 0.0).count();
        let zeros = weights(&place, name).values().map(zero).sum::<usize>() as u64;
        let left = model["parameters"].as_u64().unwrap() - model["nonzero"].as_u64().unwrap();
        assert_eq!(left, zeros, "{name}");
    }
    assert!(place.registry().verify().unwrap().is_sound());
}

#[test]
fn zeros_survive_what_comes_after() {
    let place = Place::sparse();
    let pruned = zeros(&weights(&place, "pixels@2"));
    let share = pruned.iter().filter(|zero| **zero).count() as f64 / pruned.len() as f64;
    assert!((share - 0.9).abs() < 1e-3, "{share}");
    let clustered = weights(&place, "pixels@3");
    assert!(holds(&pruned, &zeros(&clustered)));
    for (layer, most) in [("fc1", 16), ("fc2", 16), ("fc3", 32)] {
        let mut values = clustered[&format!("{layer}.weight")].as_f32().unwrap().to_vec();
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert!(values.len() <= most && values.contains(&0.0), "{layer}: {values:?}");
    }
    let quick = ["--set", "finetune.epochs=1", "--set", "gate.max_drop=5"];
    place.made(&[&["quantize", "pixels@2", "--method", "qat"], &quick[..]].concat());
    assert!(holds(&pruned, &zeros(&weights(&place, "pixels@4"))));
    place.made(&["quantize", "pixels@2", "--set", "layers.faster_only=false", "--set", "gate.max_drop=5"]);
    assert!(holds(&pruned, &zeros(&weights(&place, "pixels@5"))));
    // Integers of a small file are a small file.
    for version in ["4", "5"] {
        let name = format!("pixels@{version}");
        assert!(place.package(&name).quantization().is_some());
        assert!(size(&place, version) < size(&place, "2"), "{name}: {} bytes", size(&place, version));
        open(&place.package(&name), DeviceSpec::Flex).self_check().unwrap();
    }
    let package = place.package("pixels@4");
    let lineage = &package.manifest().lineage;
    let (parent, steps) = (&lineage.parent, serde_json::to_value(&lineage.steps).unwrap());
    assert_eq!((parent.as_deref(), &steps[0]["method"]), (Some("pixels@2"), &Value::from("quantize")));
}
