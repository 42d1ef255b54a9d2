//! `cargo xtask models …` from outside: what it prints, what it refuses, and its exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A registry with `shapes@1`, the package of the released format, and `shapes@2`, a variant of it.
struct Models {
    directory: TempDir,
}

struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl Models {
    fn new() -> Self {
        let models = Self { directory: tempfile::tempdir().unwrap() };
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/artifact/tests/fixtures/package-1.0");
        for version in [1, 2] {
            let place = models.version(version);
            fs::create_dir_all(&place).unwrap();
            for entry in fs::read_dir(&fixture).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), place.join(entry.file_name())).unwrap();
            }
        }
        let path = models.version(2).join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest["version"] = json!(2);
        manifest["metrics"]["accuracy"] = json!(0.985);
        manifest["postprocess"]["temperature"] = json!(1.5);
        fs::write(path, manifest.to_string()).unwrap();
        models
    }

    fn version(&self, version: u64) -> PathBuf {
        self.directory.path().join(format!("shapes/{version}"))
    }

    fn run(&self, line: &str) -> Answer {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("models")
            .args(line.split_whitespace())
            .arg("--models")
            .arg(self.directory.path())
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        Answer {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[test]
fn listing() {
    let models = Models::new();
    models.run("promote shapes@1 production");
    let answer = models.run("ls");
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", answer.stdout);
    assert!(lines[2].starts_with("shapes@1  production  multi_class  accuracy 0.99167"), "{}", lines[2]);
    let json = models.run("ls shapes --json").json();
    assert_eq!(json["models"][0]["aliases"], json!(["production"]));
    assert_eq!(json["models"][1]["metrics"]["accuracy"], 0.985);

    // One package that cannot be read does not hide the others.
    fs::write(models.version(2).join("manifest.json"), "{").unwrap();
    fs::create_dir(models.directory.path().join("shapes/draft")).unwrap();
    let answer = models.run("ls");
    assert_eq!(answer.code, 0);
    assert!(answer.stdout.contains("shapes@1") && answer.stdout.contains("unreadable"), "{}", answer.stdout);
    assert!(
        answer.stderr.contains("warning: ignored") && answer.stderr.contains("draft"),
        "{}",
        answer.stderr
    );
}

#[test]
fn an_empty_registry_says_how_to_fill_it() {
    let models = Models { directory: tempfile::tempdir().unwrap() };
    let answer = models.run("ls");
    assert_eq!(answer.code, 0);
    assert!(answer.stdout.contains("`cargo xtask quickstart` makes a first one"), "{}", answer.stdout);
    assert_eq!(models.run("verify").code, 0);
    assert_eq!(models.run("ls --json").json()["models"], json!([]));
}

#[test]
fn showing() {
    let models = Models::new();
    let answer = models.run("show shapes@1");
    assert_eq!(answer.code, 0);
    for part in ["shapes@1\n", "drawn for the tests, CC0", "accuracy  0.99167", "block1.conv", "weights.bpk"]
    {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    // A bare name is the newest while none is in production.
    let json = models.run("show shapes --json").json();
    assert_eq!((&json["manifest"]["version"], &json["json_version"]), (&json!(2), &json!(1)));
}

#[test]
fn promoting_and_rolling_back() {
    let models = Models::new();
    let expected = [
        ("promote shapes@1 production", "shapes@production is now shapes@1\n"),
        ("promote shapes@latest production", "shapes@production is now shapes@2, before shapes@1\n"),
        ("promote shapes@2 production", "shapes@production is shapes@2 already\n"),
        ("rollback shapes", "shapes@production is now shapes@1, before shapes@2\n"),
        ("promote shapes@production candidate", "shapes@candidate is now shapes@1\n"),
    ];
    for (line, stdout) in expected {
        let answer = models.run(line);
        assert_eq!((answer.code, answer.stdout.as_str()), (0, stdout), "{line}: {}", answer.stderr);
    }
    let json = models.run("promote shapes@2 candidate --json").json();
    let expected = json!({"json_version": 1, "name": "shapes", "alias": "candidate", "from": 1, "to": 2});
    assert_eq!(json, expected);
}

#[test]
fn removing() {
    let models = Models::new();
    models.run("promote shapes@1 production");
    assert_eq!(models.run("rm shapes@1").code, 2);
    let answer = models.run("rm shapes@2");
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "removed shapes@2\n"));
    assert!(!models.version(2).exists() && models.version(1).exists());
}

#[test]
fn refusals_name_what_is_there() {
    let models = Models::new();
    models.run("promote shapes@1 production");
    let cases = [
        ("show shape", "there is no model `shape`", "hint: did you mean `shapes`?"),
        ("show shapes@7", "`shapes` has no version 7; it has 1, 2", "models ls shapes"),
        ("show shapes@canary", "`shapes` has no alias `canary`; it has `production`", "models ls shapes"),
        ("show Shapes", "`Shapes` is no name for a model", "--help"),
        ("show shapes@01", "`01` is no version", "--help"),
        ("ls other", "there is no model `other`", "`cargo xtask models ls` lists them"),
        ("promote shapes production", "`shapes` does not say which version to promote", "`shapes@latest`"),
        ("promote shapes@2 latest", "the alias `latest` always means the newest version", ""),
        ("promote shapes@2 3", "`3` is no name for an alias", ""),
        ("rollback shapes", "has no earlier version that still exists", "models ls shapes"),
        ("rollback shapes canary", "`shapes` has no alias `canary`", "models ls shapes"),
        ("rm shapes@production", "does not name a version by its number", "write `shapes@1`"),
        ("rm shapes@1", "cannot be removed while `production` points at it", ""),
        ("verify other", "there is no model `other`", ""),
        ("diff shapes@1 shapes@9", "`shapes` has no version 9", ""),
        ("frobnicate", "unrecognized subcommand", "--help"),
    ];
    for (line, error, hint) in cases {
        let answer = models.run(line);
        assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{line}: {}", answer.stderr);
        assert!(answer.stderr.starts_with("error: "), "{line}: {}", answer.stderr);
        assert!(answer.stderr.contains(error) && answer.stderr.contains(hint), "{line}: {}", answer.stderr);
    }
}

#[test]
fn verifying_tells_what_is_wrong() {
    let models = Models::new();
    let answer = models.run("verify");
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "ok      shapes@1\nok      shapes@2\n"));

    fs::write(models.version(1).join("card.md"), "forged").unwrap();
    let answer = models.run("verify");
    assert_eq!(answer.code, 1);
    assert!(answer.stdout.contains("FAILED  shapes@1: the package"), "{}", answer.stdout);
    assert!(answer.stdout.contains("`card.md` has 6 bytes instead of"), "{}", answer.stdout);
    assert!(answer.stdout.contains("ok      shapes@2"), "{}", answer.stdout);
    assert_eq!(models.run("verify shapes@2").code, 0);
    assert_eq!(models.run("verify shapes@1").code, 1);
    assert_eq!(models.run("verify shapes").code, 1);
    let answer = models.run("verify --json");
    assert_eq!((answer.code, &answer.json()["sound"]), (1, &json!(false)));
    assert_eq!(answer.json()["packages"][1]["error"], json!(null));

    // An alias that leads nowhere is a fault of the registry.
    let models = Models::new();
    models.run("promote shapes@2 production");
    fs::remove_dir_all(models.version(2)).unwrap();
    let answer = models.run("verify");
    assert_eq!(answer.code, 1);
    assert!(answer.stdout.contains("points at version 2, which does not exist"), "{}", answer.stdout);
}

#[test]
fn comparing() {
    let models = Models::new();
    let answer = models.run("diff shapes@1 shapes@2");
    assert_eq!(answer.code, 0);
    for part in ["-0.00667", "postprocess.temperature", "1.5", "9 tensors are equal"] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    assert_eq!(models.run("diff shapes@1 shapes@1").stdout, "shapes@1 and shapes@1 are the same model\n");
    let json = models.run("diff shapes@2 shapes@1 --json").json();
    assert_eq!(json["diff"]["fields"][0]["path"], "postprocess.temperature");
    assert_eq!((&json["diff"]["equal_tensors"], &json["before"]), (&json!(9), &json!("shapes@2")));
    // A damaged package is not compared.
    fs::write(models.version(1).join("weights.bpk"), "").unwrap();
    let answer = models.run("diff shapes@1 shapes@2");
    assert_eq!(answer.code, 3);
    assert!(answer.stderr.contains("`weights.bpk` has 0 bytes instead of"), "{}", answer.stderr);
}

/// A registry in which `shapes@1` is a package of integers.
fn int8() -> Models {
    let models = Models { directory: tempfile::tempdir().unwrap() };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/artifact/tests/fixtures/package-1.1");
    fs::create_dir_all(models.version(1)).unwrap();
    for entry in fs::read_dir(&fixture).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), models.version(1).join(entry.file_name())).unwrap();
    }
    models
}

#[test]
fn profiling() {
    let models = Models::new();
    let answer = models.run("profile shapes@1");
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    for part in ["shapes@1 on one thread with ", "conv1", "total", "compiled in ", "packed weights"] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    let json = models.run("profile shapes@1 --json").json();
    assert_eq!((&json["packed"], &json["runs_on_burn"]), (&json!(false), &json!(null)));
    let precisions = |json: &Value| -> Vec<(String, Value)> {
        let steps = json["profile"]["steps"].as_array().unwrap().iter();
        let layer = |step: &Value| step["layers"][0].as_str().unwrap().to_owned();
        steps
            .filter(|step| step["macs"].as_u64() > Some(0))
            .map(|step| (layer(step), step["precision"].clone()))
            .collect()
    };
    let told = |layers: [(&str, &str); 3]| layers.map(|(layer, kind)| (layer.to_owned(), json!(kind)));
    let floats = [("conv1", "f32"), ("block1.conv", "f32"), ("dense1", "f32")];
    assert_eq!(precisions(&json), told(floats));

    let json = int8().run("profile shapes@1 --json").json();
    let plan = [("conv1", "int8"), ("block1.conv", "f32"), ("dense1", "int8")];
    assert_eq!(precisions(&json), told(plan));

    // The package of an older version keeps none; a name that is wrong is said to be.
    let answer = models.run("profile shapes@1 --packed");
    assert_eq!(answer.code, 2);
    assert!(answer.stderr.contains("shapes@1 keeps no profile"), "{}", answer.stderr);
    assert_eq!(models.run("profile shapes@9").code, 2);
}

#[test]
fn a_profile_is_kept_in_a_package() {
    let models = Models::new();
    let json = models.run("profile shapes@1 --json").json();
    let mut kept = json["profile"].clone();
    kept["processor"] = json!("a machine far away");
    let registry = artifact::Registry::open(models.directory.path()).unwrap();
    let package = registry.package(&"shapes@1".parse().unwrap()).unwrap();
    let draft = artifact::Draft {
        reports: [("profile.json".to_owned(), kept.clone())].into(),
        ..artifact::Draft::new(package.manifest().clone(), package.weights().unwrap())
    };
    registry.publish("shapes", draft).unwrap();
    let answer = models.run("profile shapes@3 --packed");
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    assert!(answer.stdout.contains("a machine far away"), "{}", answer.stdout);
    let json = models.run("profile shapes@3 --packed --json").json();
    assert_eq!((&json["profile"], &json["packed"]), (&kept, &json!(true)));
}

/// The engine has an end: a sample of more values than its offsets reach.
#[test]
fn what_cannot_be_compiled_is_told() {
    let models = Models::new();
    let spec = json!({
        "inputs": [{"name": "input", "shape": [1, 8192, 8192]}],
        "layers": [
            {"name": "pool", "type": "global_avg_pool"},
            {"name": "dense", "type": "dense", "units": 3},
        ],
    });
    let network = network::Network::new(serde_json::from_value(spec).unwrap()).unwrap();
    let registry = artifact::Registry::open(models.directory.path()).unwrap();
    let package = registry.package(&"shapes@1".parse().unwrap()).unwrap();
    let mut preprocess = serde_json::to_value(&package.manifest().preprocess).unwrap();
    (preprocess["height"], preprocess["width"]) = (json!(8192), json!(8192));
    let preprocess = serde_json::from_value(preprocess).unwrap();
    let postprocess = package.manifest().postprocess.clone();
    let weight = |parameter: &network::Parameter| {
        let values = vec![0.5; parameter.len()];
        let tensor = network::Tensor::from_f32(parameter.shape.clone(), values).unwrap();
        (parameter.key.clone(), tensor)
    };
    let manifest = artifact::Manifest::new("shapes", &network, preprocess, postprocess);
    let draft = artifact::Draft::new(manifest, network.parameters().map(weight).collect());
    registry.publish("shapes", draft).unwrap();
    let answer = models.run("profile shapes@3");
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    assert!(
        answer.stdout.contains("shapes@3 runs on Burn as a whole") && answer.stdout.contains("layer `pool`"),
        "{}",
        answer.stdout
    );
    let json = models.run("profile shapes@3 --json").json();
    assert!(json["profile"].is_null() && json["runs_on_burn"].is_string(), "{json}");
}

#[test]
fn exporting() {
    let models = Models::new();
    let directory = tempfile::tempdir().unwrap();
    for format in ["onnx", "safetensors"] {
        let path = directory.path().join(format!("deep/er/shapes.{format}"));
        let line = format!("export shapes@1 --format {format} --out {}", path.display());
        let answer = models.run(&line);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
        let bytes = fs::read(&path).unwrap();
        let sha256 = artifact::digest::sha256_hex(&bytes);
        let start = format!("wrote {} (", path.display());
        assert!(answer.stdout.starts_with(&start) && answer.stdout.contains(&sha256), "{}", answer.stdout);

        // What is there is kept, unless it is said otherwise.
        fs::write(&path, "precious").unwrap();
        let answer = models.run(&line);
        assert_eq!(answer.code, 2);
        assert!(
            answer.stderr.contains("exists already") && answer.stderr.contains("--force"),
            "{}",
            answer.stderr
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let json = models.run(&format!("{line} --force --json")).json();
        let expected = json!({
            "json_version": 1,
            "model": "shapes@1",
            "format": format,
            "path": path,
            "size_bytes": bytes.len(),
            "sha256": sha256,
        });
        assert_eq!(json, expected);
        assert_eq!(fs::read(&path).unwrap(), bytes, "{format}: other bytes the second time");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::remove_file(&path).unwrap();
    }

    let out = directory.path().display();
    let answer = models.run(&format!("export shapes@1 --format onnx --out {out}"));
    assert!(answer.code == 2 && answer.stderr.contains("is a directory"), "{}", answer.stderr);
    let answer = models.run(&format!("export shapes@9 --format onnx --out {out}/x.onnx"));
    assert!(answer.code == 2 && answer.stderr.contains("models ls shapes"), "{}", answer.stderr);
    assert_eq!(models.run("export shapes@1").code, 2);
    assert_eq!(models.run("export shapes@1 --format pickle").code, 2);
}
