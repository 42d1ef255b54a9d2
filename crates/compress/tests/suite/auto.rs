//! `compress auto` as a person runs it: a budget is held or nothing is packed, and the table says why.

use serde_json::Value;

use crate::place::{Place, json, text};
use crate::training;

/// Trainings are short, and the clock is not what ends them.
const QUICK: [&str; 8] = [
    "--time",
    "10h",
    "--set",
    "finetune.epochs=2",
    "--set",
    "finetune.optimizer.learning_rate=0.002",
    "--set",
    "finetune.batch_size=32",
];

/// What was tried, and what became of it.
fn attempts(result: &Value) -> Vec<(&str, &str)> {
    let attempts = result["attempts"].as_array().unwrap().iter();
    attempts
        .map(|attempt| (attempt["what"].as_str().unwrap(), attempt["verdict"]["is"].as_str().unwrap()))
        .collect()
}

fn report(place: &Place, folder: &str) -> Value {
    let text = std::fs::read_to_string(place.path("models").join(folder).join("compression.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_small_file_within_the_budget_is_packed_with_its_story() {
    let place = Place::trained();
    let knobs = ["shares=[]", "sparsities=[0.8, 0.999]", "clusters=[32, 16]", "finetune.epochs=6"];
    let knobs = knobs.iter().flat_map(|knob| ["--set", *knob]);
    let command = ["auto", "pixels@1", "--target", "size", "--max-drop", "4", "--report", "out/page.html"];
    let command: Vec<&str> = command.into_iter().chain(QUICK).chain(knobs).collect();
    let output = place.command(&command).output().unwrap();
    let (said, message) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{message}");
    println!("{said}");

    let result = report(&place, "pixels/2");
    let attempts = attempts(&result);
    let verdict = |part: &str| attempts.iter().find(|(what, _)| what.contains(part)).unwrap().1;
    assert_eq!(verdict("80.0 % of the weights zero"), "kept", "{attempts:?}");
    assert_eq!(verdict("99.9 % of the weights zero"), "too_lossy", "{attempts:?}");
    // The one with fewer values did not begin with the other.
    assert_eq!((verdict("32 values"), verdict("16 values")), ("replaced", "kept"), "{attempts:?}");
    for line in
        ["as it was", "kept", "left out: it loses more than the budget allows", "left out: what was tried"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("package  pixels@2 in") && said.contains("weights file"), "{said}");
    assert!(message.contains("try    ") && message.contains("epoch"), "{message}");

    let package = place.package("pixels@2");
    let lineage = &package.manifest().lineage;
    let steps: Vec<&str> = lineage.steps.iter().map(|step| step.summary.as_str()).collect();
    let kept: Vec<&str> =
        attempts.iter().filter(|(_, verdict)| *verdict == "kept").map(|(what, _)| *what).collect();
    assert_eq!((steps, lineage.parent.as_deref()), (kept, Some("pixels@1")));
    let [before, after] = ["before", "after"].map(|side| result[side]["record_bytes"].as_u64().unwrap());
    assert!(8 * after < before, "{before} became {after}");
    for drop in ["drop_choosing", "drop_test"] {
        assert!(result[drop].as_f64().unwrap() <= 4.0, "{drop}: {}", result[drop]);
    }
    let page = std::fs::read_to_string(place.path("out/page.html")).unwrap();
    for part in ["<svg", "pixels@1", "as it was", "80.0 % of the weights zero", "left out"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(place.registry().verify().unwrap().is_sound());
}

/// What is faster is for the clock of this machine to say; the rest follows from it.
#[test]
fn what_the_clock_prefers_is_packed() {
    let place = Place::trained();
    let command = ["auto", "digits@1", "--target", "latency", "--max-drop", "5", "--set", "shares=[0.5]"];
    let output = place.run(&[&command[..], &QUICK].concat());
    let result = json(&output);
    let attempts = attempts(&result);
    println!("{attempts:?}");
    let (cut, verdict) = attempts[0];
    assert_eq!(cut, "channels removed: 50 % of the MACs left");
    assert!(["kept", "no_gain"].contains(&verdict), "it holds the budget: {attempts:?}");
    assert!(attempts[1].0.contains("int8"), "{attempts:?}");
    let kept: Vec<&str> = attempts.iter().filter(|(_, is)| *is == "kept").map(|(what, _)| *what).collect();
    if kept.is_empty() {
        assert_eq!((output.status.code(), &result["model"]), (Some(1), &Value::Null), "{result}");
        return;
    }
    assert_eq!((output.status.code(), &result["model"]), (Some(0), &"digits@2".into()), "{result}");
    let steps: Vec<&str> =
        result["steps"].as_array().unwrap().iter().map(|step| step["summary"].as_str().unwrap()).collect();
    assert_eq!(steps, kept);
    assert!(result["drop_test"].as_f64().unwrap() <= 5.0, "{}", result["drop_test"]);
    let [before, after] = ["before", "after"].map(|side| result[side]["macs"].as_f64().unwrap());
    assert_eq!(after <= 0.5 * before, verdict == "kept", "{before} became {after}");
    assert!(!result["sensitivity"].as_array().unwrap().is_empty());
}

/// There is no time to train, and ten weights are not faster as integers.
#[test]
fn what_holds_no_budget_is_not_packed_and_that_is_said() {
    let place = Place::trained();
    let config = "version = 1\nname = 'line'\n[data]\nsource = 'generated'\n\
                  generate = { kind = 'friedman1', samples = 1200 }\n\
                  [network]\nlayers = [{ type = 'dense', units = 1 }]\n\
                  [optimizer]\nkind = 'adamw'\nlearning_rate = 0.01\n[schedule]\nkind = 'cosine'\n\
                  [train]\nseed = 1\ndevice = 'cpu'\nepochs = 5\nbatch_size = 32\n";
    training::train(&training::request(config, &place.path(""), None), false).unwrap();
    let before = place.files();
    let command = ["auto", "line@1", "--max-drop", "0", "--time", "0.001s", "--report", "out/page.html"];
    let output = place.command(&command).output().unwrap();
    let (said, message) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{message}");
    for part in [
        "nothing is packed: no step gains and loses at most 0",
        "as it was",
        "left out: no time is left to train",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(place.path("out/page.html").exists());
    let output = place.run(&command);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let result = json(&output);
    assert_eq!((&result["model"], &result["parent"]["metric"]), (&Value::Null, &"mae".into()));
    assert!(attempts(&result).iter().all(|(_, verdict)| *verdict != "kept"), "{result}");
    assert!(place.files() == before, "something was written");
}

/// Few samples choose, and many judge: the choice holds the budget on the first alone.
#[test]
fn a_choice_that_misses_on_the_test_data_is_not_packed() {
    let place = Place::trained();
    let config = "version = 1\nname = 'few'\n[data]\nsource = 'digits'\nsplit = { validation = 0.02, test = 0.5 }\n\
                  [network]\npreset = 'lenet-300-100'\n[optimizer]\nkind = 'adamw'\nlearning_rate = 0.003\n\
                  [schedule]\nkind = 'cosine'\n[train]\nseed = 1\ndevice = 'cpu'\nepochs = 4\nbatch_size = 32\n";
    training::train(&training::request(config, &place.path(""), None), false).unwrap();
    let before = place.files();
    let command = ["auto", "few@1", "--target", "size", "--max-drop", "0.01"];
    let knobs = [
        "--set",
        "shares=[]",
        "--set",
        "sparsities=[0.8]",
        "--set",
        "clusters=[16]",
        "--set",
        "finetune.epochs=5",
    ];
    let command = [&command[..], &QUICK, &knobs].concat();
    let output = place.run(&command);
    let (said, message) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{message}");
    let result = json(&output);
    let drop = |split: &str| result[format!("drop_{split}")].as_f64().unwrap();
    assert!(drop("choosing") <= 0.01 && drop("test") > 0.01, "{result}");
    assert!(attempts(&result).iter().any(|(_, verdict)| *verdict == "kept"), "{result}");
    assert_eq!(result["model"], Value::Null, "{result}");
    let told = place.command(&command).output().unwrap();
    assert_eq!(told.status.code(), Some(1));
    let told = text(&told.stdout) + &text(&told.stderr);
    println!("{told}");
    assert!(
        told.contains("test") && told.contains("not packed") || told.contains("nothing is packed"),
        "{told}"
    );
    assert!(place.files() == before, "something was written");
}

/// A file that is small already is what must become smaller, not the floats in it.
#[test]
fn a_small_file_is_measured_as_it_lies_there() {
    let place = Place::sparse();
    let files = place.files();
    let bytes = std::fs::metadata(place.path("models/pixels/2/weights.bpk")).unwrap().len();
    let command = ["auto", "pixels@2", "--target", "size", "--max-drop", "1", "--time", "1s", "--no-pack"];
    let output = place.run(&command);
    let result = json(&output);
    println!("{result}");
    let parent = if result["parent"].is_null() { &result["before"] } else { &result["parent"] };
    assert_eq!(parent["record_bytes"], bytes, "{result}");
    for attempt in result["attempts"].as_array().unwrap() {
        let smaller = attempt["side"]["record_bytes"].as_u64().is_some_and(|after| after < bytes);
        assert!(attempt["verdict"]["is"] != "kept" || smaller, "{attempt}");
        assert_ne!(attempt["method"], "codec", "{attempt}");
    }
    assert!(place.files() == files);
}
