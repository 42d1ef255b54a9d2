//! `compress compare` as a person runs it: what it measures, what it writes, and what it refuses.

use std::process::{Command, Output};

use compress::significance::mcnemar;
use serde_json::Value;

use crate::place::{DIGITS, NUMBERS, PIXELS, Place, json, text};

/// Runs `compress compare` there on one thread, each model timed once.
fn compare(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compress"));
    command.current_dir(place.path("")).env_remove("RUST_LOG");
    command.arg("compare").args(arguments);
    command.args(["--models", "models", "--threads", "1", "--turns", "1"]);
    command.output().unwrap()
}

fn compared(place: &Place, arguments: &[&str]) -> Value {
    let output = compare(place, &[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    json(&output)
}

/// The keys of a value with the types of what they hold; lists by their first element.
pub(crate) fn shape(value: &Value, path: &str, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                shape(value, &format!("{path}.{key}"), lines);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate().take(2) {
                shape(item, &format!("{path}[{index}]"), lines);
            }
        }
        Value::Null => lines.push(format!("{path} null")),
        Value::Bool(_) => lines.push(format!("{path} bool")),
        Value::Number(_) => lines.push(format!("{path} number")),
        Value::String(_) => lines.push(format!("{path} string")),
    }
}

#[test]
fn two_versions_stand_side_by_side() {
    let place = Place::quantized();
    let result = compared(&place, &["digits@1", "digits@2", "--report", "out/report.html"]);
    let names = ["digits@1", "digits@2"];
    for (model, name) in result["models"].as_array().unwrap().iter().zip(names) {
        let package = place.package(name);
        assert_eq!(model["model"], name);
        let packed = package.manifest().metrics["accuracy"];
        assert!((model["score"].as_f64().unwrap() - packed).abs() < 1e-6, "{model}");
        let weights = place.path("models").join(name.replace('@', "/")).join("weights.bpk");
        assert_eq!(model["record_bytes"], std::fs::metadata(weights).unwrap().len());
        assert_eq!(model["latency"].as_array().unwrap().len(), 2);
        let interval = [0, 1].map(|end| model["interval"][end].as_f64().unwrap());
        assert!(interval[0] <= packed && packed <= interval[1] && interval[1] - interval[0] < 0.1);
    }
    let [floats, int8] = [0, 1].map(|model| &result["models"][model]);
    assert_eq!((&floats["precision"], &int8["precision"]), (&"f32".into(), &"int8".into()));
    assert_eq!(floats["change"], Value::Null);
    let ratio = int8["record_bytes"].as_f64().unwrap() / floats["record_bytes"].as_f64().unwrap();
    assert_eq!(int8["change"]["record_bytes"].as_f64().unwrap(), ratio);
    assert!(ratio < 0.5);

    let pair = &result["pairs"][0];
    assert_eq!(result["pairs"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&pair["a"], &pair["b"], &pair["method"]),
        (&names[0].into(), &names[1].into(), &"mcnemar_exact".into())
    );
    let [only_a, only_b] = ["only_a", "only_b"].map(|side| pair[side].as_u64().unwrap());
    assert_eq!(pair["p"].as_f64().unwrap(), mcnemar(only_a, only_b));
    let samples = result["samples"].as_f64().unwrap();
    let difference = int8["score"].as_f64().unwrap() - floats["score"].as_f64().unwrap();
    assert!((difference - (only_b as f64 - only_a as f64) / samples).abs() < 1e-9, "{pair}");
    assert_eq!(result["seen_in_training"], serde_json::json!([0, 0]));

    let page = std::fs::read_to_string(place.path("out/report.html")).unwrap();
    assert_eq!(result["report"], "out/report.html");
    let verdict = pair["verdict"].as_str().unwrap();
    for part in ["<!doctype html>", "digits@1", "digits@2", "</html>", verdict] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http") && !page.contains("<script"), "the page needs a network");
}

#[test]
fn the_shape_of_the_json_stays() {
    let place = Place::quantized();
    let result = compared(&place, &["digits@1", "digits@2"]);
    let mut lines = Vec::new();
    shape(&result, "", &mut lines);
    let side = "interval[0] number|interval[1] number|kernels string|latency[0].batch number|\
        latency[0].least_us number|latency[0].median_us number|latency[1].batch number|latency[1].least_us number|\
        latency[1].median_us number|macs number|metric string|model string|nonzero number|parameters number|\
        precision string|record_bytes number|score number";
    let change = "change.latency[0] number|change.latency[1] number|change.macs number|change.nonzero number|\
        change.parameters number|change.record_bytes number|change.score number|int8_macs number";
    let pair = "a string|b string|difference number|interval[0] number|interval[1] number|method string|\
        metric string|only_a number|only_b number|p number|p_holm number|samples number|tests number|verdict string";
    let top = ".data string|.data_sha256 string|.json_version number|.metric string|.processor string|.report null|\
        .samples number|.seen_in_training[0] number|.seen_in_training[1] number|.split string|.task string|\
        .threads number|.turns number";
    let below = |prefix: &str, fields: &str| -> Vec<String> {
        fields.split('|').map(|field| format!("{prefix}{field}")).collect()
    };
    let mut expected = below("", top);
    expected.extend(below(".models[0].", &format!("{side}|change null|int8_macs number")));
    expected.extend(below(".models[1].", &format!("{side}|{change}")));
    expected.extend(below(".pairs[0].", pair));
    expected.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn people_get_a_table_and_a_sentence() {
    let place = Place::quantized();
    let models = ["digits@1", "digits@2", "pixels@1"];
    let output = compare(&place, &models);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for part in [
        "samples of digits (test)",
        "accuracy",
        "weights file",
        "smaller",
        "of them not 0",
        "MACs",
        "latency, batch 64",
        "int8",
        "1 thread",
        "points",
        "95 % interval",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(models.iter().all(|model| said.contains(model)), "{said}");
    let sentences = said.lines().filter(|line| line.contains("pixels@1") && line.contains("p ")).count();
    assert_eq!(sentences, 2, "{said}");
    assert!(!place.path("report.html").exists());
}

/// Errors are compared where there are no classes.
#[test]
fn numbers_are_compared_by_their_errors() {
    let place = Place::quantized();
    let result = compared(&place, &["numbers@1", "numbers@2"]);
    assert_eq!((&result["metric"], &result["task"]), (&"mae".into(), &"regression".into()));
    let pair = &result["pairs"][0];
    assert_eq!(pair["method"], "randomization");
    let [only_a, only_b] = ["only_a", "only_b"].map(|side| pair[side].as_u64().unwrap());
    assert!(only_a > 0 && only_b > 0 && only_a + only_b <= result["samples"].as_u64().unwrap());
    let scores = [0, 1].map(|model| result["models"][model]["score"].as_f64().unwrap());
    assert!((pair["difference"].as_f64().unwrap() - (scores[1] - scores[0])).abs() < 1e-9);
    for (model, score) in scores.iter().enumerate() {
        let interval = [0, 1].map(|end| result["models"][model]["interval"][end].as_f64().unwrap());
        assert!(interval[0] < *score && *score < interval[1], "{interval:?}");
    }
    assert_eq!(result, {
        let mut again = compared(&place, &["numbers@1", "numbers@2"]);
        // Only the clock differs.
        for model in [0, 1] {
            again["models"][model]["latency"] = result["models"][model]["latency"].clone();
            again["models"][model]["change"] = result["models"][model]["change"].clone();
        }
        again
    });
}

/// A split that another seed drew has samples that the models were trained on, and that is said.
#[test]
fn other_data_is_scored_and_what_was_seen_is_told() {
    let place = Place::quantized();
    let config = "version = 1\nname = 'x'\n[data]\nsource = 'digits'\n[data.split]\nseed = 9\n[network]\n\
        preset = 'mlp'\n[train]\nseed = 9\nepochs = 1\nbatch_size = 8\n";
    std::fs::write(place.path("other.toml"), config).unwrap();
    let output = compare(&place, &["digits@1", "pixels@1", "--config", "other.toml", "--json"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
    let result = json(&output);
    let seen = result["seen_in_training"][0].as_u64().unwrap();
    assert!(seen > 0 && seen < result["samples"].as_u64().unwrap(), "{result}");
    assert_eq!(result["seen_in_training"][0], result["seen_in_training"][1]);
    assert!(message.contains(&format!("warning: digits@1 was trained on {seen} of these")), "{message}");

    let train = compared(&place, &["digits@1", "digits@2", "--split", "train"]);
    assert_eq!((&train["split"], &train["seen_in_training"][1]), (&"train".into(), &train["samples"]));
}

#[test]
fn a_table_is_read_as_the_training_data_was() {
    let place = Place::quantized();
    second_table(&place);
    let rows: String = (0..40).map(|row| format!("{},{}\n", row % 7, row % 2)).collect();
    std::fs::write(place.path("new.csv"), format!("number,target\n{rows}")).unwrap();
    let result = compared(&place, &["table@1", "table@2", "--data", "new.csv"]);
    assert_eq!((&result["split"], &result["samples"]), (&"all".into(), &40.into()));
    assert_eq!(result["seen_in_training"], serde_json::json!([null, null]));
    let pair = &result["pairs"][0];
    assert_eq!((&pair["only_a"], &pair["only_b"], &pair["p"]), (&0.into(), &0.into(), &1.0.into()));
    assert!(pair["verdict"].as_str().unwrap().contains("there is no difference to test"));
    assert_eq!(result["models"][1]["change"]["record_bytes"], 1.0);
}

/// The same model once more, as version 2.
fn second_table(place: &Place) {
    let [from, to] = ["1", "2"].map(|version| place.path("models/table").join(version));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == "manifest.json" {
            let manifest = std::fs::read_to_string(entry.path()).unwrap();
            let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
            manifest["version"] = 2.into();
            std::fs::write(to.join("manifest.json"), manifest.to_string()).unwrap();
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn refusals_name_both_models_and_what_would_be_right() {
    let place = Place::quantized();
    second_table(&place);
    let before = place.files();
    std::fs::create_dir(place.path("folder")).unwrap();
    let rows: String = (0..60).map(|row| format!("{row},{}\n", 7 * (row % 2))).collect();
    std::fs::write(place.path("odd.csv"), format!("number,target\n{rows}")).unwrap();
    std::fs::write(place.path("few.csv"), "number,target\n1,0\n2,1\n").unwrap();
    std::fs::write(place.path("wrong.toml"), "version = 1\nnam = 'x'\n").unwrap();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["digits@1"], 2, &["2"]),
        (&["digits@1", "moon@1"], 2, &["moon", "models ls"]),
        (&["digits@1", "digits@7"], 2, &["digits", "version 7"]),
        (&["digits@1", "pixels@1", "digits@1"], 2, &["`digits@1` is digits@1", "named before"]),
        (
            &["digits@1", "numbers@1"],
            2,
            &["digits@1 and numbers@1 cannot be compared", "multi_class", "regression"],
        ),
        (
            &["digits@2", "table@1"],
            2,
            &["digits@2 and table@1 cannot be compared", "the same classes", "only digits@2 knows `2`"],
        ),
        (&["table@1", "table@2"], 3, &["table.csv"]),
        (&["table@1", "table@2", "--data", "odd.csv"], 2, &["`7`", "which the model does not know"]),
        (&["table@1", "table@2", "--data", "few.csv"], 2, &["2 samples are too few"]),
        (&["table@1", "table@2", "--data", "nowhere.csv"], 3, &["nowhere.csv"]),
        (&["digits@1", "pixels@1", "--data", "odd.txt"], 3, &["a folder with one sub-folder per class"]),
        (&["digits@1", "pixels@1", "--config", "wrong.toml"], 2, &["wrong.toml:2", "did you mean `name`?"]),
        (&["digits@1", "pixels@1", "--config", "missing.toml"], 2, &["missing.toml"]),
        (&["digits@1", "pixels@1", "--config", "wrong.toml", "--data", "x.csv"], 2, &["cannot be used with"]),
        (&["digits@1", "pixels@1", "--report", "folder"], 2, &["--report folder is a folder", "report.html"]),
    ];
    for (arguments, code, parts) in cases {
        let output = compare(&place, arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {message}");
        for part in *parts {
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    }
    assert!(place.files() == before, "a refusal wrote something");
}

/// What the registry holds is only read.
#[test]
fn nothing_changes_in_the_registry() {
    let place = Place::quantized();
    let before = place.files();
    for name in [DIGITS, PIXELS, NUMBERS] {
        compared(&place, &[&format!("{name}@2"), &format!("{name}@1")]);
    }
    assert!(place.files() == before);
}
