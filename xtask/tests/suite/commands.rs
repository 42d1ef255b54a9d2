//! The xtask executable as a person calls it, beside programs that only tell how they were called.

use std::fs;

use crate::support::{Stage, text};

#[test]
fn arguments_reach_the_right_program_word_for_word() {
    let stage =
        Stage::new(r#"echo "$(basename "$0"):" "$@"; test -f ARCHITECTURE.md && echo in the workspace"#);
    let cases: &[(&[&str], &str)] = &[
        (&["train", "--config", "a b.toml", "--set", "x=1"], "train: train --config a b.toml --set x=1"),
        (&["train", "--help"], "train: train --help"),
        (&["evaluate", "digits@1", "-q"], "train: evaluate digits@1 -q"),
        (&["data", "inspect", "--json"], "train: data inspect --json"),
        (&["bench", "train"], "train: bench train"),
        (&["bench", "engine", "--threads", "1"], "compress: bench engine --threads 1"),
        (&["compare", "digits@1", "digits@2", "--json"], "compress: compare digits@1 digits@2 --json"),
        (&["devices", "--device", "vulkan", "--json"], "train: devices --device vulkan --json"),
        (&["train", "--device", "cuda:1"], "train: train --device cuda:1"),
        (&["predict", "digits@1", "-"], "predict: digits@1 -"),
        (&["serve", "--port", "0"], "serve: --port 0"),
        (&["predict", "--no-build"], "predict: --no-build"),
    ];
    for (arguments, expected) in cases {
        let output = stage.run(&[&["--no-build"], *arguments].concat());
        assert_eq!(text(&output.stdout), format!("{expected}\nin the workspace\n"), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("running in "), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn exit_code_and_error_are_the_programs_own() {
    let stage = Stage::new("echo 'error: no' >&2; exit 2");
    let output = stage.run(&["--no-build", "train"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("error").count(), 1, "{stderr}");
}

#[test]
fn refusals_say_what_would_be_right() {
    let stage = Stage::new("echo not reached");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["trian"], 2, "tip: a similar subcommand exists: 'train'"),
        (&["quickstart", "--port", "70000"], 2, "70000 is not in 0..=65535"),
        (&["--no-build", "models", "show", "a/b"], 2, "error: invalid value 'a/b'"),
    ];
    for (arguments, code, expected) in cases {
        let output = stage.run(arguments);
        let stderr = text(&output.stderr);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {stderr}");
        assert_eq!(text(&output.stdout), "");
    }
    fs::remove_file(stage.path("serve")).unwrap();
    let stderr = text(&stage.run(&["--no-build", "serve"]).stderr);
    assert!(stderr.contains("/serve is not built\n\nhint: leave out --no-build\n"), "{stderr}");
}

/// What xtask asks Cargo for, with a Cargo that only tells it.
#[test]
fn the_build_has_the_features_of_the_device() {
    let stage = Stage::new(r#"echo "$(basename "$0") $*""#);
    let cargo = stage.write_script("cargo", r#"echo "cargo $*" >&2; exit "${CARGO_EXIT:-0}""#);
    let config = stage.path("gpu.toml");
    fs::write(&config, "[train]\ndevice = 'vulkan'\n").unwrap();
    let config = config.to_str().unwrap();
    let of = |feature: &str| format!("--features train/{feature},predict/{feature},serve/{feature}");
    let config = format!("train --config {config}");
    // The line, a variable of the environment, the feature.
    let cases = [
        ("train --device vulkan:1".to_owned(), "", "vulkan"),
        (config.clone(), "", "vulkan"),
        (config.clone(), "BRAZIER_TRAIN_TRAIN__DEVICE=wgpu", "wgpu"),
        (format!("{config} --set train.device=cuda"), "", "cuda"),
        ("predict x".to_owned(), "BRAZIER_PREDICT_DEVICE=cuda", "cuda"),
        ("serve".to_owned(), "BRAZIER_SERVE_DEVICE=vulkan", "vulkan"),
        ("devices --device wgpu".to_owned(), "", "wgpu"),
    ];
    for (line, variable, feature) in cases {
        let mut command = stage.command(&line.split(' ').collect::<Vec<_>>());
        command.env("CARGO", &cargo).envs(variable.split_once('='));
        let output = stage.finish(command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains(&of(feature)), "{line}: {stderr}");
    }
    let mut command = stage.command(&["train", "--device", "cuda"]);
    command.env("CARGO", &cargo).env("CARGO_EXIT", "101");
    let output = stage.finish(command);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("error: the build with cuda failed"), "{stderr}");
    assert!(stderr.contains("hint: ") && stderr.contains("docs/devices.md"), "{stderr}");
}

#[test]
fn a_busy_port_is_found_before_any_work() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let stage = Stage::new("echo not reached");
    let output = stage.run(&["--no-build", "quickstart", "--port", &port]);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains(&format!("error: port {port} on 127.0.0.1 is in use by another program\n")),
        "{stderr}"
    );
    assert!(stderr.contains("hint: choose another with --port"), "{stderr}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_failing_step_ends_the_tour_with_its_own_words() {
    let stage = Stage::new("echo 'error: no data' >&2; exit 3");
    let models = stage.path("models");
    let output = stage.run(&["--no-build", "quickstart", "--no-serve", "--models", models.to_str().unwrap()]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("[2/6] train"), "{stderr}");
    assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
    assert!(!stderr.contains("[3/6]"), "{stderr}");
}

#[test]
fn help_lists_the_commands_and_exit_codes() {
    let stage = Stage::new("echo not reached");
    let help = text(&stage.run(&["--help"]).stdout);
    for word in [
        "quickstart",
        "train",
        "evaluate",
        "predict",
        "data",
        "bench",
        "devices",
        "serve",
        "models",
        "ci",
        "schema",
        "130 interrupted",
    ] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}
