//! The trials of the server, short: that they run, and that the server passes them. Figures are for longer ones.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn run(arguments: &[&str]) -> Value {
    let load = Path::new(env!("CARGO_BIN_EXE_load"));
    assert!(load.with_file_name("serve").is_file(), "serve is not built; run `cargo test --workspace`");
    let mut command = Command::new(load);
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("BRAZIER_")) {
        command.env_remove(key);
    }
    let output = command.args(arguments).args(["--json", "--quiet"]).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}\n{told}");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn a_short_soak_is_passed() {
    let board = run(&["soak", "--time", "4", "--clients", "3", "--reload-every", "500"]);
    for figure in ["right", "malformed", "left", "reloads"] {
        assert!(board[figure].as_u64().unwrap() > 0, "{figure}: {board}");
    }
}

#[test]
fn a_short_chaos_is_passed() {
    let board = run(&["chaos", "--rounds", "1", "--clients", "3"]);
    assert_eq!(board["trials"].as_array().map(Vec::len), Some(4), "{board}");
}

#[test]
fn a_cold_start_is_measured() {
    let board = run(&["cold", "--network", "digits-cnn", "--starts", "2"]);
    let (least, most) =
        (board["ready_ms"]["least"].as_f64().unwrap(), board["ready_ms"]["most"].as_f64().unwrap());
    assert!(0.0 < least && least <= most, "{board}");
    assert!(board["resident_mb"]["median"].as_f64().unwrap() > 1.0, "{board}");
}
