//! Packages with layers in int8: what is stored, what devices load, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::diff::diff;
use artifact::{Draft, FileEntry, Package, Registry, record};
use network::{Elements, Tensor, Weights};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use crate::common::{chain, copy, draft, edit_manifest, folded_draft, int8_draft};

fn published(draft: Draft) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Registry::open(directory.path()).unwrap().publish("shapes", draft).unwrap().path;
    (directory, path)
}

#[test]
fn integers_are_stored_and_floats_are_loaded() {
    let draft = int8_draft(3);
    let (_directory, path) = published(draft.clone());
    let package = Package::open(&path).unwrap();
    assert_eq!(package.weights().unwrap(), draft.weights);
    let floats = package.f32_weights().unwrap();
    record::check(&record::entries_of(&floats), package.network(), None).unwrap();
    let (scales, values) = (draft.weights["conv1.scale"].as_f32().unwrap(), floats["conv1.weight"].as_f32());
    let Elements::I8(integers) = draft.weights["conv1.weight"].elements() else { panic!("no integers") };
    let products: Vec<f32> =
        integers.iter().zip(0..).map(|(&integer, index)| f32::from(integer) * scales[index / 9]).collect();
    assert_eq!(values, Some(&products[..]));
    // What is not int8 is loaded as it is stored.
    for key in ["conv1.bias", "block1.conv.weight", "dense1.bias"] {
        assert_eq!(floats[key], draft.weights[key]);
    }
}

#[test]
fn a_package_of_floats_loads_the_same_floats() {
    let (_directory, path) = published(draft(2));
    let package = Package::open(&path).unwrap();
    assert_eq!(package.quantization(), None);
    assert_eq!(package.f32_weights().unwrap(), package.weights().unwrap());
}

#[test]
fn the_card_tells_the_precision() {
    let (_directory, path) = published(int8_draft(1));
    let card = Package::open(&path).unwrap().card().unwrap();
    let sentence = "2 of its 3 layers with weights compute in int8, which is 83.0 % of the multiply–accumulates. \
        The ranges of their values are from 480 samples of the train split (percentile 99.99, seed 7).";
    assert!(card.contains(sentence), "{card}");
    assert!(card.lines().any(|line| line.starts_with("dense1 ") && line.ends_with("int8")), "{card}");
}

#[test]
fn a_difference_in_precision_is_told_by_layer() {
    let (_a, before) = published(folded_draft(1));
    let (_b, after) = published(int8_draft(1));
    let (before, after) = (Package::open(&before).unwrap(), Package::open(&after).unwrap());
    let found = diff(&before, &after).unwrap();
    let paths: Vec<&str> = found.fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["precision.conv1", "precision.dense1", "quantization"]);
    assert_eq!((&found.fields[0].before, &found.fields[0].after), (&json!("f32"), &json!("int8")));
    // The folded weights are compared as the floats that they stand for, and have hardly moved.
    let moved: Vec<&str> = found.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!((moved, found.equal_tensors), (vec!["conv1.weight", "dense1.weight"], 3));
    assert!(found.tensors.iter().all(|tensor| tensor.max_abs_difference.is_some_and(|most| most < 0.01)));
    assert!(diff(&after, &after).unwrap().is_empty());

    let mut other = int8_draft(1);
    let plan = other.manifest.quantization.as_mut().unwrap();
    plan.activations.get_mut("relu1").unwrap().zero_point = 3;
    let (_c, other) = published(other);
    let found = diff(&after, &Package::open(&other).unwrap()).unwrap();
    let paths: Vec<&str> = found.fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["quantization.activations.relu1.zero_point"]);
}

type Edit = fn(&mut serde_json::Value);

#[test]
fn quantizations_that_lie_are_refused() {
    let (directory, good) = published(int8_draft(1));
    let cases: &[(&str, Edit, &str)] = &[
        ("no such layer", |q| q["layers"][0] = json!("conv9"), "there is no layer `conv9`"),
        (
            "a layer without weights",
            |q| q["layers"][0] = json!("relu1"),
            "`relu1` (relu) cannot compute in int8",
        ),
        ("a layer without a bias", |q| q["layers"][0] = json!("block1.conv"), "it has no bias"),
        (
            "another order",
            |q| q["layers"] = json!(["dense1", "conv1"]),
            "`conv1` is listed twice or out of order",
        ),
        (
            "a layer twice",
            |q| q["layers"] = json!(["conv1", "conv1"]),
            "`conv1` is listed twice or out of order",
        ),
        (
            "a layer less",
            |q| q["layers"] = json!(["conv1"]),
            "unknown `dense1.scale`; different: `dense1.weight` is INT8 [8, 3] and must be FP32 [8, 3]",
        ),
        (
            "a value that is not there",
            |q| q["activations"]["norm1"] = json!({"scale": 1.0, "zero_point": 0}),
            "activation `norm1` is no layer and no input",
        ),
        (
            "a scale of zero",
            |q| q["activations"]["input"]["scale"] = json!(0.0),
            "the scale of activation `input` is 0",
        ),
        (
            "a negative scale",
            |q| q["activations"]["input"]["scale"] = json!(-0.5),
            "must be a normal number above 0",
        ),
        (
            "a scale too small",
            |q| q["activations"]["input"]["scale"] = json!(1e-42),
            "must be a normal number",
        ),
        (
            "a scale too large",
            |q| q["activations"]["input"]["scale"] = json!(1e39),
            "must be a normal number",
        ),
        ("no scale", |q| q["activations"]["input"]["scale"] = json!(null), "invalid type: null"),
        ("a zero point beyond a byte", |q| q["activations"]["input"]["zero_point"] = json!(256), "256"),
        ("a zero point below zero", |q| q["activations"]["input"]["zero_point"] = json!(-1), "-1"),
        ("an unknown field", |q| q["rounding"] = json!("up"), "unknown field `rounding`"),
        ("an unknown method", |q| q["calibration"]["method"] = json!("median"), "unknown variant `median`"),
        ("no percentile", |q| q["calibration"]["percentile"] = json!(null), "needs a `percentile`"),
        ("no calibration", |q| q["calibration"] = json!(null), "nothing says where they come from"),
        (
            "a dynamic layer that is none",
            |q| q["dynamic"] = json!(["block1.conv"]),
            "is in `dynamic`, but not",
        ),
        (
            "weights twice",
            |q| q["weight_only"] = json!({"conv1": {"bits": 8, "block": 32}}),
            "it is also in `layers`",
        ),
        (
            "bits that there are not",
            |q| q["weight_only"] = json!({"block1.conv": {"bits": 3, "block": 32}}),
            "`bits` must be 4 or 8, and is 3",
        ),
        (
            "a block of nothing",
            |q| q["weight_only"] = json!({"block1.conv": {"bits": 4, "block": 0}}),
            "`block` must be at least 1",
        ),
        (
            "a record that is not that of the plan",
            |q| q["weight_only"] = json!({"block1.conv": {"bits": 4, "block": 16}}),
            "`block1.conv.scale`",
        ),
    ];
    for (index, (what, edit, message)) in cases.iter().enumerate() {
        let path = directory.path().join(format!("case{index}"));
        copy(&good, &path);
        edit_manifest(&path, |manifest| edit(&mut manifest["quantization"]));
        let refusal = chain(Package::open(&path).expect_err(what));
        assert!(refusal.contains(message), "{what}: {refusal}");
    }
    // Without the plan the integers are no weights; this is what an older program sees.
    let path = directory.path().join("older");
    copy(&good, &path);
    edit_manifest(&path, |manifest| manifest["quantization"] = json!(null));
    let refusal = chain(Package::open(&path).unwrap_err());
    assert!(
        refusal.contains("unknown `conv1.scale`, `dense1.scale`; different: `conv1.weight` is INT8"),
        "{refusal}"
    );
}

/// Puts another record into a package, with its right size and digest.
fn replace_record(path: &Path, weights: &Weights) {
    let bytes = record::encode(weights).unwrap();
    let entry = FileEntry::of("weights.bpk", &bytes);
    fs::write(path.join("weights.bpk"), bytes).unwrap();
    edit_manifest(path, |manifest| manifest["files"][0] = serde_json::to_value(entry).unwrap());
}

type Damage = fn(&mut Weights);

#[test]
fn records_that_lie_are_refused() {
    fn put(weights: &mut Weights, key: &str, shape: &[usize], elements: Elements) {
        weights.insert(key.to_owned(), Tensor::new(shape.to_vec(), elements).unwrap());
    }
    fn scale(weights: &mut Weights, scale: f32) {
        put(weights, "dense1.scale", &[3], Elements::F32(vec![1.0, scale, 1.0]));
    }
    let cases: &[(&str, Damage, &str)] = &[
        ("no scale", |w| drop(w.remove("dense1.scale")), "missing `dense1.scale` [3]"),
        ("no bias", |w| drop(w.remove("dense1.bias")), "missing `dense1.bias` [3]"),
        (
            "one scale for all",
            |w| put(w, "dense1.scale", &[1], Elements::F32(vec![1.0])),
            "FP32 [1] and must be FP32 [3]",
        ),
        (
            "scales in halves",
            |w| put(w, "dense1.scale", &[3], Elements::F64(vec![1.0; 3])),
            "FP64 [3] and must be FP32 [3]",
        ),
        (
            "an integer bias",
            |w| put(w, "dense1.bias", &[3], Elements::I32(vec![1; 3])),
            "INT32 [3] and must be FP32 [3]",
        ),
        (
            "float weights",
            |w| put(w, "dense1.weight", &[8, 3], Elements::F32(vec![1.0; 24])),
            "FP32 [8, 3] and must be INT8 [8, 3]",
        ),
        (
            "unsigned weights",
            |w| put(w, "dense1.weight", &[8, 3], Elements::U8(vec![1; 24])),
            "UINT8 [8, 3] and must be INT8 [8, 3]",
        ),
        (
            "a weight of -128",
            |w| put(w, "dense1.weight", &[8, 3], Elements::I8(vec![-128; 24])),
            "`dense1.weight` is -128 at index 0",
        ),
        ("a scale of zero", |w| scale(w, 0.0), "`dense1.scale` is 0 at index 1"),
        ("a negative scale", |w| scale(w, -1.0), "`dense1.scale` is -1 at index 1"),
        ("a scale that is no number", |w| scale(w, f32::NAN), "`dense1.scale` is NaN at index 1"),
        ("an infinite scale", |w| scale(w, f32::INFINITY), "`dense1.scale` is inf at index 1"),
        ("a scale that is not normal", |w| scale(w, 1e-40), "at index 1 and must be a normal number above 0"),
        ("a scale of infinite weights", |w| scale(w, 3e38), "127 times it finite"),
    ];
    let good = int8_draft(1);
    let (directory, path) = published(good.clone());
    let registry = Registry::open(directory.path()).unwrap();
    for (index, (what, damage, message)) in cases.iter().enumerate() {
        let mut bad = good.clone();
        damage(&mut bad.weights);
        let place = directory.path().join(format!("case{index}"));
        copy(&path, &place);
        replace_record(&place, &bad.weights);
        let refusal = chain(Package::open(&place).expect_err(what));
        assert!(refusal.contains(message), "{what}: {refusal}");
        // And no such package is made.
        let refusal = chain(registry.publish("shapes", bad).expect_err(what));
        assert!(refusal.contains(message), "{what}: {refusal}");
    }
    // The helper itself does no damage.
    let place = directory.path().join("good");
    copy(&path, &place);
    replace_record(&place, &good.weights);
    Package::open(&place).unwrap();
}

proptest! {
    #[test]
    fn scales_survive_json(bits in any::<u32>(), zero_point in any::<u8>()) {
        let scale = f32::from_bits(bits & 0x7fff_ffff);
        prop_assume!(scale.is_normal());
        let mut manifest = int8_draft(1).manifest;
        let plan = manifest.quantization.as_mut().unwrap();
        plan.activations.insert("input".to_owned(), network::Affine { scale, zero_point });
        let back = artifact::Manifest::from_json(&manifest.to_json().unwrap()).unwrap();
        prop_assert_eq!(back.quantization, manifest.quantization);
    }

    #[test]
    fn mutated_quantizations_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = int8_draft(1).manifest.to_json().unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = artifact::Manifest::from_json(&bytes);
    }
}
