//! The command `train` as a person runs it: what it does, what it refuses, and Ctrl-C.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CONFIG: &str = "version = 1\nname = 'digits'\n[data]\nsource = 'digits'\n[network]\npreset = 'mlp'\n\
    [optimizer]\nkind = 'adamw'\n[train]\nepochs = 2\nbatch_size = 64\nthreads = 1\n";

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("config.toml"), CONFIG).unwrap();
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command.current_dir(self.root.path()).args(arguments).env_remove("RUST_LOG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn train_then_evaluate() {
    let place = Place::new();
    let output = place.run(&["train", "--config", "config.toml", "--json", "--seed", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let result = json(&output);
    assert_eq!((result["run"].as_str(), result["model"].as_str()), (Some("digits-1"), Some("digits@1")));
    let epochs: Vec<serde_json::Value> =
        text(&output.stderr).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(epochs.iter().filter(|event| event["event"] == "epoch").count(), 2);
    let resolved =
        std::fs::read_to_string(place.path("artifacts/runs/digits-1/config.resolved.toml")).unwrap();
    assert!(resolved.contains("--seed") && resolved.contains("config.toml:"), "{resolved}");

    let output = place.run(&["evaluate", "digits@1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("the same as packed, to the last digit"));
    let output = place.run(&["evaluate", "digits", "--device", "flex", "--json"]);
    assert_eq!(json(&output)["comparison"]["exact"], false);
    assert_eq!(json(&output)["comparison"]["differences"].as_array().map(Vec::len), Some(0));
    let output = place.run(&["evaluate", "digits@1", "--split", "validation", "--json"]);
    assert!(json(&output)["comparison"].is_null());
}

/// Weights that 32 bits hold and 16 bits of f16 do not: what was asked is then answered with no.
#[test]
fn a_model_that_overflows_in_half_precision_fails_the_gate() {
    let place = Place::new();
    assert_eq!(place.run(&["train", "--config", "config.toml", "--quiet"]).status.code(), Some(0));
    let registry = artifact::Registry::open(place.path("artifacts/models")).unwrap();
    let package = registry.package(&"digits@1".parse().unwrap()).unwrap();
    let mut manifest = package.manifest().clone();
    manifest.samples.clear();
    let mut weights = package.weights().unwrap();
    for (key, tensor) in &mut weights {
        if key.ends_with(".weight") {
            let values = tensor.as_f32().unwrap().iter().map(|value| value * 2000.0).collect();
            *tensor = network::Tensor::from_f32(tensor.shape().to_vec(), values).unwrap();
        }
    }
    registry.publish("digits", artifact::Draft::new(manifest, weights)).unwrap();

    let command = ["evaluate", "digits@2", "--config", "config.toml", "--precision", "f16"];
    let output = place.run(&command);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}{}", text(&output.stderr));
    assert!(shown.contains("cannot be used in f16: sample ") && shown.contains("bf16"), "{shown}");
    let output = place.run(&[&command[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(json(&output)["precision"]["overflow_at_sample"].is_u64());
    // The same numbers fit into bf16, whose scores are reported.
    let output =
        place.run(&["evaluate", "digits@2", "--config", "config.toml", "--precision", "bf16", "--json"]);
    assert!(json(&output)["precision"]["metrics"]["accuracy"]["found"].is_f64(), "{}", text(&output.stderr));
}

#[test]
fn the_environment_sets_values_below_flags() {
    let place = Place::new();
    let output = place
        .command(&["train", "--config", "config.toml", "--set", "train.epochs=1", "--no-pack", "--quiet"])
        .env("BRAZIER_TRAIN_TRAIN__EPOCHS", "9")
        .env("BRAZIER_TRAIN_OPTIMIZER__LEARNING_RATE", "0.004")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let resolved =
        std::fs::read_to_string(place.path("artifacts/runs/digits-1/config.resolved.toml")).unwrap();
    assert!(resolved.contains("epochs = 1") && resolved.contains("0.004"), "{resolved}");
    assert!(!place.path("artifacts/models").exists());
}

#[test]
fn refusals_name_the_place_and_what_would_be_right() {
    let place = Place::new();
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["--set", "optimizer.momentum=0.9"],
            &["`optimizer.momentum` from `--set", "does not apply to `adamw`"],
        ),
        (&["--set", "optimizer.leraning_rate=1"], &["unknown key", "did you mean `learning_rate`?"]),
        (&["--set", "train.epochs=0"], &["`train.epochs` from `--set", "must be 1 or more"]),
        (&["--set", "network.preset=lenet6"], &["`network.preset` from `--set", "one of mlp"]),
        (
            &["--set", "train.early_stopping={patience=2,metric='mae'}"],
            &["early_stopping.metric", "`loss` or `accuracy`"],
        ),
        (&["--set", "schedule.gamma=0.5"], &["`schedule.gamma`", "does not apply to `cosine`"]),
        (&["--set", "freeze=['fc1']"], &["`freeze`", "does not apply to a training without `init`"]),
        (&["--set", "init=none@1"], &["none"]),
        (&["--set", "data.source=moon"], &["moon"]),
        (&["--device", "abacus"], &["`abacus` is not a device"]),
        (&["--name", "Big Digits"], &["`name` from `--name`", "a-z, 0-9"]),
        (&["--threads", "100000"], &["`train.threads` from `--threads", "must be at most 1024", "100000"]),
        // Where no package can be made nothing is trained.
        (&["--models", "config.toml/models"], &["config.toml/models", "--no-pack"]),
    ];
    for (arguments, expected) in cases {
        let mut all = vec!["train", "--config", "config.toml"];
        all.extend_from_slice(arguments);
        let output = place.run(&all);
        let message = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(2 | 3)), "{arguments:?}: {message}");
        for part in *expected {
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
        assert!(!place.path("artifacts/runs").exists(), "{arguments:?} left a run behind");
    }
    for arguments in [
        &["train"][..],
        &["train", "--config", "missing.toml"],
        &["train", "--resume", "digits-9"],
        &["evaluate", "digits@1"],
        &["evaluate", "digits@1", "--threads", "100000"],
    ] {
        let output = place.run(arguments);
        assert!(matches!(output.status.code(), Some(2 | 3)), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    #[cfg(not(feature = "tui"))]
    {
        let output = place.run(&["train", "--config", "config.toml", "--progress", "tui"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("--features tui"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_dry_run_leaves_nothing_and_the_network_can_be_copied() {
    let place = Place::new();
    let output = place.run(&["train", "--config", "config.toml", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("dry run:"));
    let names: Vec<_> =
        std::fs::read_dir(place.root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["config.toml"]);

    let output = place.run(&["train", "--config", "config.toml", "--print-network"]);
    let printed = text(&output.stdout);
    assert!(printed.contains("[[network.layers]]"), "{printed}");
    let copied = CONFIG.replace("[network]\npreset = 'mlp'\n", "") + &printed;
    std::fs::write(place.path("copied.toml"), copied).unwrap();
    let output = place.run(&["train", "--config", "copied.toml", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn ctrl_c_checkpoints_and_the_run_goes_on() {
    let place = Place::new();
    let long = ["--set", "train.epochs=2000", "--set", "schedule.kind=constant", "--no-pack"];
    let mut child = place
        .command(&[&["train", "--config", "config.toml"], &long[..]].concat())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().starts_with("epoch") {}
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    std::thread::spawn(move || lines.for_each(drop));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = text(&output.stdout);
    assert!(said.contains("go on with: cargo xtask train --resume digits-1"), "{said}");
    assert!(has_checkpoint(&place.path("artifacts/runs/digits-1")));

    let output = place.run(&["train", "--resume", "digits-1", "--set", "train.epochs=3"]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("`train.epochs`") && message.contains("was 2000"), "{message}");
}

#[cfg(unix)]
fn has_checkpoint(run: &Path) -> bool {
    std::fs::read_dir(run.join("checkpoint"))
        .unwrap()
        .any(|entry| entry.unwrap().path().join("state.json").is_file())
}

#[test]
fn a_run_on_the_automatic_device_goes_on_where_it_began() {
    let place = Place::new();
    let output = place.run(&["train", "--config", "config.toml", "--device", "auto", "--no-pack", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let taken = json(&output)["device"].as_str().unwrap().to_owned();
    assert_ne!(taken, "auto");
    let run = place.path("artifacts/runs/digits-1");
    let resolved = std::fs::read_to_string(run.join("config.resolved.toml")).unwrap();
    assert!(resolved.contains("device = \"auto\""), "{resolved}");
    // The run was begun on a device that `auto` would not take.
    let record = std::fs::read_to_string(run.join("run.json")).unwrap();
    assert!(record.contains(&format!("\"device\": \"{taken}\"")), "{record}");
    let record = record.replace(&format!("\"device\": \"{taken}\""), "\"device\": \"flex\"");
    std::fs::write(run.join("run.json"), record).unwrap();
    let output = place.run(&["train", "--resume", "digits-1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(json(&output)["device"], "flex");
    // A device that is asked for by name is another device.
    let output = place.run(&["train", "--resume", "digits-1", "--device", "cpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("train.device"), "{}", text(&output.stderr));
}
