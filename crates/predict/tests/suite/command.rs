//! The `predict` command as a person runs it: what it prints, what it refuses, and its exit codes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use artifact::Registry;
use network::{Cell, Postprocess, Task};
use serde_json::Value;
use tempfile::TempDir;

use crate::{image_input, image_parts, labels, parts, publish, row_input, table, table_parts};

/// A registry with `animals` (images), `cells` (a table) and `prices` (the same table, without layers that squash).
fn registry() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path().join("models")).unwrap();
    publish(&registry, "animals", image_parts(), &[image_input(0), image_input(1)]);
    let row = row_input(Cell::Number(50.0), Cell::Number(80.0), Cell::Text("red".to_owned()));
    publish(&registry, "cells", table_parts(), std::slice::from_ref(&row));
    let postprocess = Postprocess::new(Task::Regression, labels(&["price"]));
    let prices = parts(table(), postprocess, r#"{"type": "dense", "units": 1}"#);
    publish(&registry, "prices", prices, &[row]);
    directory
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn run(directory: &Path, arguments: &[&str], stdin: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_predict"))
        .args(arguments)
        .args(["--models", "models"])
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn json(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

fn pixels(seed: usize) -> String {
    let network::RawInput::Numbers(values) = image_input(seed) else { unreachable!() };
    serde_json::to_string(&values).unwrap()
}

#[test]
fn an_image_a_json_file_and_the_standard_input() {
    let directory = registry();
    let path = directory.path();
    image::GrayImage::from_fn(6, 4, |x, y| image::Luma([(x * 40 + y) as u8]))
        .save(path.join("cat.png"))
        .unwrap();
    let shown = run(path, &["animals@1", "cat.png"], b"");
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.out.starts_with("animals@1: cat.png is "), "{}", shown.out);
    assert_eq!(shown.out.matches(" %").count(), 3, "{}", shown.out);

    std::fs::write(path.join("cat.json"), pixels(0)).unwrap();
    let from_file = json(&run(path, &["animals", "cat.json", "--json", "--top", "2"], b""));
    assert_eq!(from_file["model"], "animals");
    assert_eq!(from_file["version"], 1);
    let first = &from_file["predictions"][0];
    assert_eq!(first["input"], "cat.json");
    assert_eq!(first["top"].as_array().unwrap().len(), 2);
    assert_eq!(first["top"][0]["label"], first["class"]);
    assert_eq!(first["probabilities"].as_array().unwrap().len(), 3);

    // The same numbers, read from elsewhere, in other forms.
    let row = pixels(0).replace(['[', ']'], "");
    for text in [pixels(0), format!("  \n{}", pixels(0)), row] {
        let from_stdin = json(&run(path, &["animals", "-", "--json"], text.as_bytes()));
        assert_eq!(from_stdin["predictions"][0]["logits"], first["logits"], "{text}");
    }
    let png = std::fs::read(path.join("cat.png")).unwrap();
    assert_eq!(
        json(&run(path, &["animals", "-", "--json"], &png))["predictions"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn rows_of_a_table() {
    let directory = registry();
    let path = directory.path();
    std::fs::write(path.join("rows.csv"), "age,weight,colour\n50,80,red\n,70,blue\n61,91,red\n").unwrap();
    let shown = run(path, &["cells", "rows.csv", "--top", "2"], b"");
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.out.starts_with("cells@1\n"), "{}", shown.out);
    for part in ["input", "class", "probability", "rows.csv, row 1", "rows.csv, row 3"] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    let csv = json(&run(path, &["cells", "rows.csv", "--json"], b""));
    let rows =
        br#"[{"age": 50, "weight": 80, "colour": "red"}, {"age": null, "weight": 70, "colour": "blue"},
                    {"weight": 91, "colour": "red", "age": 61}]"#;
    let objects = json(&run(path, &["cells", "-", "--json"], rows));
    for index in 0..3 {
        assert_eq!(csv["predictions"][index]["logits"], objects["predictions"][index]["logits"]);
    }
    // As the server takes it.
    for body in [r#"{"input": {"age": 50, "weight": 80, "colour": "red"}}"#, r#"{"input": [50, 80, "red"]}"#]
    {
        let wrapped = json(&run(path, &["cells", "-", "--json"], body.as_bytes()));
        assert_eq!(wrapped["predictions"][0]["logits"], csv["predictions"][0]["logits"], "{body}");
    }
    let one = json(&run(path, &["cells@latest", "-", "--json"], b"[50, 80, \"red\"]"));
    assert_eq!(one["predictions"][0]["logits"], csv["predictions"][0]["logits"]);
}

#[test]
fn refusals_name_what_was_wrong() {
    /// Arguments, standard input, exit code, and what the message says.
    type Case = (&'static [&'static str], &'static [u8], i32, &'static [&'static str]);
    let directory = registry();
    let path = directory.path();
    std::fs::write(path.join("broken.png"), b"no image").unwrap();
    std::fs::write(path.join("ragged.json"), b"[[1, 2], [3]]").unwrap();
    std::fs::write(path.join("half.json"), b"[1, 2").unwrap();
    std::fs::write(path.join("bad.csv"), "age,weight,colour\n50,80,red\n50,80,green\n").unwrap();
    std::fs::write(path.join("typo.csv"), "age,wieght,colour\n50,80,red\n").unwrap();
    let cases: &[Case] = &[
        (&["animals"], b"", 2, &["<INPUT>"]),
        (&["Animals", "-"], b"", 2, &["`Animals` is no name for a model", "hint: write NAME@VERSION"]),
        (
            &["plants", "-"],
            b"",
            2,
            &["there is no model `plants`", "`animals`, `cells`, `prices`", "quickstart"],
        ),
        (&["animals@7", "-"], b"", 2, &["`animals` has no version 7; it has 1", "models ls"]),
        (&["animals@production", "-"], b"", 2, &["no alias `production`"]),
        (
            &["animals", "-", "--device", "gpu"],
            b"",
            2,
            &["`gpu` is not a device; known are cpu, flex, ndarray"],
        ),
        (&["animals", "-", "--device", "cuda:77"], b"", 2, &["the device `cuda:77` is not"]),
        (
            &["animals", "-", "--precision", "fp16"],
            b"",
            2,
            &["`fp16` is not a precision; known are f32, f16 and bf16"],
        ),
        (&["animals", "-", "--top", "0"], b"", 2, &["--top"]),
        (&["animals", "-", "-"], b"", 2, &["can be given once"]),
        (&["animals", "missing.png"], b"", 2, &["cannot read `missing.png`"]),
        (
            &["animals", "broken.png"],
            b"",
            3,
            &["broken.png cannot be predicted", "expected a PNG or JPEG file"],
        ),
        (
            &["animals", "ragged.json"],
            b"",
            3,
            &["cannot read `ragged.json`", "the array has 2 elements; expected 4"],
        ),
        (&["animals", "half.json"], b"", 3, &["it is not valid JSON", "line 1 column 5"]),
        (&["animals", "-"], b"", 3, &["cannot read the standard input", "it is empty"]),
        (&["animals", "-"], b"GIF89a\xff\xff", 3, &["neither a PNG or JPEG image nor text"]),
        (&["animals", "-"], b"[1, 2, 3]", 3, &["the array has 3 elements; expected 24"]),
        (&["animals", "-"], b"1,2,3\n", 3, &["4 × 6 = 24", "3 were given"]),
        (
            &["cells", "bad.csv"],
            b"",
            3,
            &["bad.csv, row 2 cannot be predicted", "must be one of blue, red, but is `green`"],
        ),
        (&["cells", "typo.csv"], b"", 3, &["there is no column `wieght`"]),
        (&["cells", "-"], b"{\"age\": 1}", 3, &["column `weight` is missing"]),
    ];
    for (arguments, stdin, code, parts) in cases {
        let ran = run(path, arguments, stdin);
        assert_eq!(ran.code, *code, "{arguments:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{arguments:?}");
        for part in *parts {
            // Long lines of clap's own messages are wrapped.
            assert!(ran.err.contains(part), "{arguments:?} should say {part:?}: {}", ran.err);
        }
    }
}

#[test]
fn devices_and_precisions() {
    let directory = registry();
    let path = directory.path();
    let pixels = pixels(0);
    let exact = json(&run(path, &["animals", "-", "--json"], pixels.as_bytes()));
    assert_eq!((&exact["device"], &exact["precision"]), (&"cpu".into(), &"f32".into()));
    let half = json(&run(path, &["animals", "-", "--json", "--precision", "bf16"], pixels.as_bytes()));
    assert_eq!(half["precision"], "bf16");
    assert_eq!(half["predictions"][0]["class"], exact["predictions"][0]["class"]);
    assert_ne!(half["predictions"][0]["logits"], exact["predictions"][0]["logits"]);
    // What `auto` takes depends on the machine; that it says so does not.
    let taken = run(path, &["animals", "-", "--device", "auto"], pixels.as_bytes());
    assert_eq!(taken.code, 0, "{}", taken.err);
    assert!(taken.err.contains("auto takes "), "{}", taken.err);
}

/// The input is named as the person knows it, and what would hold its numbers.
#[test]
fn numbers_that_overflow_in_half_precision_are_named() {
    let directory = registry();
    let path = directory.path();
    let mut table = String::from("age,weight,colour\n");
    for row in 1..=300 {
        table += if row == 299 { "1e30,80,red\n" } else { "50,80,red\n" };
    }
    std::fs::write(path.join("rows.csv"), table).unwrap();
    let exact = run(path, &["prices", "rows.csv"], b"");
    assert_eq!(exact.code, 0, "{}", exact.err);
    let refused = run(path, &["prices", "rows.csv", "--precision", "f16"], b"");
    assert_eq!((refused.code, refused.out.as_str()), (3, ""), "{}", refused.err);
    for part in ["rows.csv, row 299 cannot be predicted", "too large for f16", "hint: ", "bf16", "f32"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
}

#[test]
fn a_damaged_package_is_refused() {
    let directory = registry();
    let path = directory.path();
    let weights = path.join("models/animals/1/weights.bpk");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let ran = run(path, &["animals", "-"], pixels(0).as_bytes());
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("cannot open `animals`") && ran.err.contains("SHA-256"), "{}", ran.err);
}

#[test]
fn help_shows_examples() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["--help"], b"");
    assert_eq!(ran.code, 0);
    for part in [
        "Examples:",
        "predict digits@production seven.png",
        "BRAZIER_PREDICT_DEVICE",
        "BRAZIER_PREDICT_PRECISION",
    ] {
        assert!(ran.out.contains(part), "{}", ran.out);
    }
}

#[test]
fn a_tier_of_instructions_that_there_is_not_is_refused() {
    let directory = registry();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_predict"));
    command
        .args(["cells", "-", "--models", "models"])
        .current_dir(directory.path())
        .env("BRAZIER_ISA", "mmx");
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("no instruction tier `mmx`") && said.contains("`avx2`"), "{said}");
}

#[test]
fn the_help_says_where_kernels_are_kept() {
    let help = run(tempfile::tempdir().unwrap().path(), &["--help"], b"");
    assert!(help.code == 0 && help.out.contains("BRAZIER_KERNEL_CACHE"), "{}", help.out);
}
