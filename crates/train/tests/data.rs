//! The subcommands of `train data` as a person types them: what they print, what they refuse, and how they end.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::path::Path;
use std::process::{Command, Output};

fn train(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_train"))
        .current_dir(folder)
        .arg("data")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn inspect_tells_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &["inspect", "--source", "digits", "--quiet"]);
    let stdout = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    for expected in
        ["1,797 samples, grey images of 8×8, values 0–16", "train 1,294", "nothing that will hurt was found"]
    {
        assert!(stdout.contains(expected), "{stdout}");
    }

    let rows: String = (0..60).map(|row| format!("{row},{},{}\n", row % 7, ["no", "yes"][row % 2])).collect();
    std::fs::write(folder.path().join("t.csv"), format!("id,x,y\n{rows}")).unwrap();
    let config = "version = 1\nname = \"t\"\n[data]\nsource = \"csv\"\npath = \"t.csv\"\nlabel = \"y\"\n[train]\nseed = 7\n";
    std::fs::write(folder.path().join("t.toml"), config).unwrap();
    let output = train(folder.path(), &["inspect", "--config", "t.toml", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["json_version"], &found["split"]["seed"]), (&1.into(), &7.into()));
    assert_eq!(found["labels"][1]["label"], "yes");
    assert!(found["warnings"][0].as_str().unwrap().starts_with("row number: `id`"), "{found}");
}

#[test]
fn refusals_say_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), "x,y\n1,a\n2\n").unwrap();
    std::fs::write(folder.path().join("good.csv"), "x,y\n1,a\n").unwrap();
    let cases: [(&[&str], i32, &str); 9] = [
        (&["inspect"], 2, "--config"),
        (&["inspect", "--source", "cvs"], 2, "expected one of digits, breast-cancer"),
        (&["inspect", "--source", "mnist"], 3, "hint: `cargo xtask data fetch mnist` downloads it"),
        (&["inspect", "--source", "digits", "--set", "data.splti.test=0.5"], 2, "did you mean `split`?"),
        (
            &["inspect", "--source", "digits", "--set", "data.path=x"],
            2,
            "`data.path`: the source `digits` does not read this key",
        ),
        (&["inspect", "--source", "csv", "--set", "data.path=good.csv"], 2, "good.csv has `x`, `y`"),
        (
            &["inspect", "--source", "csv", "--set", "data.path=t.csv", "--set", "data.label=y"],
            3,
            "t.csv: line 3: 1 fields",
        ),
        (&["fetch", "mnits"], 2, "did you mean `mnist`?"),
        (&["fetch", "cifar10", "--from", "."], 3, "has no file `cifar-10-binary.tar.gz`"),
    ];
    for (arguments, code, message) in cases {
        let output = train(folder.path(), arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(message), "{arguments:?}\n{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn fetched_files_are_verified_wherever_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("train-images-idx3-ubyte.gz"), b"no gzip").unwrap();
    for (dataset, message) in
        [("mnist", "the gzip stream is damaged"), ("fashion-mnist", "is not the right file: the SHA-256")]
    {
        let output = train(folder.path(), &["fetch", dataset, "--from", ".", "--data", "kept"]);
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
        assert_eq!(std::fs::read_dir(folder.path().join("kept").join(dataset)).unwrap().count(), 0);
    }
}
