//! `compress quantize` as a person runs it: what it refuses, what it writes, and its exit codes.

use crate::place::{ALL_LAYERS, NUMBERS, Place, json, text};

#[test]
fn refusals_name_the_place_and_what_would_be_right() {
    let place = Place::quantized();
    let before = place.files();
    std::fs::write(place.path("wrong.toml"), "[calibration]\nmethod = 'max'\n").unwrap();
    let cases: &[(&str, &[&str], i32, &[&str])] = &[
        (
            "digits@2",
            &[],
            2,
            &["digits@2 is quantized already", "the package that it was made from, digits@1"],
        ),
        ("digits@3", &[], 2, &["digits", "version 3"]),
        ("moon@1", &[], 2, &["moon", "models ls"]),
        (
            "digits@1",
            &["--set", "layers.float=['conv9']"],
            2,
            &["`conv9`", "`layers.float`", "`conv1`, `conv2`"],
        ),
        ("digits@1", &["--set", "calibration.sample=9"], 2, &["unknown key", "did you mean `samples`?"]),
        (
            "digits@1",
            &["--set", "calibration.samples=0"],
            2,
            &["`calibration.samples` from `--set", "from 1 to"],
        ),
        ("digits@1", &["--set", "calibration.percentile=20"], 2, &["`calibration.percentile`", "above 50"]),
        ("digits@1", &["--set", "gate.max_drop=-1"], 2, &["`gate.max_drop`", "from 0 to 100"]),
        (
            "digits@1",
            &["--config", "wrong.toml"],
            2,
            &["wrong.toml:2", "\"max\", which does not exist", "`percentile`"],
        ),
        ("digits@1", &["--config", "missing.toml"], 2, &["missing.toml"]),
        ("digits@1", &["--set", "layers.float=['*']"], 2, &["no layer", "the configuration says so"]),
    ];
    for (model, arguments, code, parts) in cases {
        let output = place.quantize(model, arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{model} {arguments:?}: {message}");
        for part in *parts {
            assert!(message.contains(part), "{model} {arguments:?}: {message}");
        }
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    }
    assert!(place.files() == before, "a refusal wrote something");
}

/// Ranges that hold half of the values are useless; a gate that allows nothing finds that out.
#[test]
fn what_loses_too_much_is_not_packed() {
    let place = Place::trained();
    let before = place.files();
    let lossy = [
        "calibration.method=percentile",
        "calibration.percentile=50.5",
        "bias_correction=false",
        "gate.max_drop=0",
    ];
    let lossy: Vec<&str> = lossy.iter().flat_map(|value| ["--set", *value]).collect();
    let output = place.quantize("digits@1", &[&ALL_LAYERS[..], &lossy].concat());
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("headline metric falls by") && message.contains("0 is allowed"), "{message}");
    assert!(place.files() == before, "a failed gate wrote something");
}

#[test]
fn no_pack_shows_the_result_and_writes_nothing() {
    let place = Place::trained();
    let before = place.files();
    let output = place.quantize("digits@1", &[&ALL_LAYERS[..], &["--no-pack"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let result = json(&output);
    assert_eq!((&result["model"], &result["package"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(result["after"]["precision"], "int8");
    assert_eq!(result["before"]["metric"], "accuracy");
    assert!(place.files() == before);
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 1, "only the registry is there");
}

#[test]
fn the_next_version_is_named_and_the_file_and_the_flags_are_heard() {
    let place = Place::trained();
    std::fs::write(place.path("int8.toml"), "version = 1\n[calibration]\nmethod = 'min-max'\nsamples = 64\n")
        .unwrap();
    // Of 32 samples the mean error of an output is chance.
    let flags =
        ["--config", "int8.toml", "--set", "calibration.samples=32", "--set", "bias_correction=false"];
    let output = place.quantize(&format!("{NUMBERS}@1"), &[&ALL_LAYERS[..], &flags].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let result = json(&output);
    assert_eq!((&result["model"], &result["before"]["metric"]), (&"numbers@2".into(), &"mae".into()));
    let package = place.package("numbers@2");
    let calibration = serde_json::to_value(&package.quantization().unwrap().calibration).unwrap();
    assert_eq!((&calibration["method"], &calibration["samples"]), (&"min-max".into(), &32.into()));
    assert!(calibration.get("percentile").is_none_or(serde_json::Value::is_null), "{calibration}");
}

#[test]
fn a_damaged_package_is_not_quantized() {
    let place = Place::trained();
    let record = place.path("models/digits/1/weights.bpk");
    let mut bytes = std::fs::read(&record).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&record, bytes).unwrap();
    let output = place.quantize("digits@1", &[]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("weights.bpk"), "{message}");
    assert!(!place.path("models/digits/2").exists());
}

#[test]
fn data_that_is_gone_or_another_is_named() {
    let place = Place::trained();
    let output = place.quantize("table@1", &[]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("table.csv"), "{message}");

    // The same name with other rows.
    let package = place.package("table@1");
    let path = package.manifest().evaluation.as_ref().unwrap().data["path"].as_str().unwrap().to_owned();
    let manifest = place.path("models/table/1/manifest.json");
    let moved = std::fs::read_to_string(&manifest).unwrap().replace(&path, "table.csv");
    std::fs::write(&manifest, moved).unwrap();
    let rows: String = (0..120).map(|row| format!("{},{}\n", row % 5, row % 2)).collect();
    std::fs::write(place.path("table.csv"), format!("number,target\n{rows}")).unwrap();
    let output = place.quantize("table@1", &[]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("the data is not that of the package"), "{message}");
    assert!(!place.path("models/table/2").exists());
}
