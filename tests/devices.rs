//! Devices and precisions as a person asks for them: what there is, what is not and why, and what a lower
//! precision changes.

use crate::support::{Place, Said, run, trained};

/// The programs with a `--device`, as far as the name of the model.
fn calls(models: &str) -> Vec<(&'static str, Vec<String>)> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    vec![
        ("train", words("train --config configs/train/quickstart.toml --dry-run")),
        ("train", words(&format!("evaluate digits@1 --models {models}"))),
        ("train", words("bench train --preset mlp")),
        ("train", words("devices")),
        ("predict", words(&format!("digits@1 - --models {models}"))),
        ("serve", words(&format!("--port 0 --models {models}"))),
    ]
}

fn call(name: &str, arguments: &[String], more: &[&str]) -> Said {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    run(name, &arguments)
}

#[test]
fn devices_are_listed_with_what_is_missing() {
    let said = run("train", &["devices"]).ok().out;
    let listed = run("train", &["devices", "--json"]).ok().json();
    let kinds = listed["devices"].as_array().expect("a list");
    let names: Vec<&str> = kinds.iter().filter_map(|kind| kind["name"].as_str()).collect();
    assert_eq!(names, ["cpu", "flex", "ndarray", "vulkan", "wgpu", "cuda"]);
    for kind in kinds {
        let name = kind["name"].as_str().expect("a name");
        assert!(said.contains(name), "{name} is not in {said}");
        let found = kind["found"].as_array().expect("a list");
        assert_eq!(found.is_empty(), kind["missing"].is_string(), "{kind}");
        if kind["compiled_in"] == false {
            let how = format!("cargo xtask … --device {name}");
            assert!(kind["missing"].as_str().is_some_and(|reason| reason.contains(&how)), "{kind}");
        }
    }
    let cpu = &kinds[0]["found"][0];
    assert_eq!((&cpu["device"], &cpu["precisions"][0]), (&"cpu".into(), &"f32".into()), "{cpu}");
    assert!(cpu["name"].as_str().is_some_and(|name| !name.is_empty()), "{cpu}");
    assert!(said.contains(&format!("auto: takes {}", listed["auto"].as_str().expect("a device"))), "{said}");
}

#[test]
fn a_device_that_is_not_compiled_in_is_refused_with_the_build_that_has_it() {
    let listed = run("train", &["devices", "--json"]).ok().json();
    let kinds = listed["devices"].as_array().expect("a list").clone();
    let missing = kinds.iter().filter(|kind| kind["compiled_in"] == false);
    let models = trained().path("models");
    for kind in missing.filter_map(|kind| kind["name"].as_str()) {
        for (name, arguments) in calls(&models) {
            let error = call(name, &arguments, &["--device", kind]).refused(2);
            for expected in [
                format!("the device `{kind}` is not compiled into this program"),
                format!("cargo xtask … --device {kind}"),
                format!("cargo build --release --features {kind}"),
            ] {
                assert!(error.contains(&expected), "{name} {arguments:?} {kind}: {error}");
            }
        }
    }
}

#[test]
fn every_help_names_every_device() {
    for (name, arguments) in calls("models") {
        let help = call(name, &arguments, &["--help"]).ok().out;
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let devices = help.find("--device").map(|start| &help[start..]).expect("there is a --device");
        let devices = &devices[..devices.len().min(400)];
        for device in ["cpu", "flex", "ndarray", "vulkan[:INDEX]", "wgpu[:INDEX]", "cuda[:INDEX]", "auto"] {
            assert!(
                devices.contains(device),
                "{device} is not in the help of {name} {arguments:?}: {devices}"
            );
        }
    }
}

#[test]
fn auto_says_what_it_took_and_the_run_remembers() {
    let listed = run("train", &["devices", "--json"]).ok().json();
    let best = listed["auto"].as_str().expect("a device");
    let place = Place::new();
    let said = place.train(&[
        "--config",
        "configs/train/breast-cancer.toml",
        "--device",
        "auto",
        "--set",
        "train.epochs=1",
        "--name",
        "cancer",
    ]);
    assert!(said.err.contains(&format!("device {best}")), "{said:?}");
    said.ok();
    let read = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(place.path(path)).expect("it was written")).expect("JSON")
    };
    assert_eq!(read("runs/cancer-1/run.json")["device"], best);
    assert_eq!(read("models/cancer/1/manifest.json")["lineage"]["device"], best);
    let models = place.path("models");
    let evaluated = ["evaluate", "cancer@1", "--models", &models, "--device", "auto", "--json"];
    assert_eq!(run("train", &evaluated).ok().json()["device"], best);
}

#[test]
fn evaluate_tells_what_a_lower_precision_changes() {
    let models = trained().path("models");
    for precision in ["f16", "bf16"] {
        let arguments = ["evaluate", "digits@1", "--models", &models, "--precision", precision];
        let said = run("train", &arguments).ok().out;
        let header = format!("metric {:>17} {:>9}  difference", "f32", precision);
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat(&said).contains(&flat(&header)), "{said}");
        for part in
            ["the same as packed", "samples with another answer: ", "largest difference of an output: "]
        {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let json = run("train", &[&arguments[..], &["--json"]].concat()).ok().json();
        let report = &json["precision"];
        assert_eq!((&report["precision"], &report["reference"]), (&precision.into(), &"f32".into()));
        let accuracy = &report["metrics"]["accuracy"];
        assert_eq!(accuracy["reference"], json["evaluation"]["metrics"]["accuracy"]);
        assert_eq!(accuracy["found"], report["evaluation"]["metrics"]["accuracy"]);
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
        assert!(number(&report["changed_share"]) < 0.05, "{report}");
        let largest = number(&report["largest_difference"]);
        assert!(largest > 0.0 && largest < 1.0, "half precision is not the same as f32: {largest}");
    }
    let error = run("train", &["evaluate", "digits@1", "--models", &models, "--precision", "f8"]).refused(2);
    assert!(error.contains("f32, f16 and bf16"), "{error}");
}
