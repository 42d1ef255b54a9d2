//! The invariants of `ARCHITECTURE.md` that the compiler does not hold: who may depend on whom, what is linked
//! into the server, and that a file stays readable in one sitting.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The names of everything that a package links, itself included, without what only builds or tests it.
fn linked(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--package",
            package,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_server_links_no_training() {
    let linked = linked("serve");
    assert!(
        linked.contains("burn-flex"),
        "the server does not link Burn: this test looks at the wrong thing"
    );
    for forbidden in
        ["burn-autodiff", "burn-train", "burn-dataset", "burn-optim", "train", "ratatui", "crossterm"]
    {
        assert!(!linked.contains(forbidden), "the server links {forbidden}");
    }
}

#[test]
fn what_needs_no_tensors_links_none() {
    for package in ["network", "artifact", "engine", "export", "cli", "xtask"] {
        let linked = linked(package);
        for forbidden in ["burn", "burn-core", "burn-tensor", "burn-backend", "burn-flex", "cubecl-core"] {
            assert!(!linked.contains(forbidden), "{package} links {forbidden}");
        }
    }
}

#[test]
fn dependencies_between_our_crates_run_one_way() {
    let allowed: &[(&str, &[&str])] = &[
        ("network", &[]),
        ("cli", &[]),
        ("artifact", &["network"]),
        ("engine", &["network"]),
        ("export", &["network", "artifact"]),
        ("model", &["network", "artifact"]),
        ("predict", &["network", "artifact", "engine", "model", "cli"]),
        ("train", &["network", "artifact", "model", "predict", "cli"]),
        ("compress", &["network", "artifact", "engine", "export", "model", "predict", "train", "cli"]),
        ("serve", &["network", "artifact", "model", "predict", "cli"]),
        ("load", &["network", "artifact", "export", "model", "predict", "cli"]),
        ("xtask", &["network", "artifact", "engine", "export", "cli"]),
    ];
    let ours: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
    let mut seen = 0;
    for manifest in manifests() {
        let text = fs::read_to_string(&manifest).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        let name = table["package"]["name"].as_str().unwrap();
        let Some((_, allowed)) = allowed.iter().find(|(known, _)| *known == name) else {
            panic!("{name} is not in the list of this test: say what it may depend on");
        };
        seen += 1;
        let dependencies = table.get("dependencies").and_then(|table| table.as_table());
        for dependency in dependencies.into_iter().flat_map(|table| table.keys()) {
            let forbidden = ours.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str());
            assert!(!forbidden, "{name} may not depend on {dependency}");
        }
    }
    assert_eq!(seen, allowed.len());
}

fn manifests() -> Vec<PathBuf> {
    let mut manifests = vec![root().join("xtask/Cargo.toml")];
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        if manifest.is_file() {
            manifests.push(manifest);
        }
    }
    manifests
}

#[test]
fn no_file_is_too_long_and_every_file_says_what_it_is() {
    const LINES: usize = 450;
    let mut files = Vec::new();
    for directory in ["crates", "xtask", "tests"] {
        collect(&root().join(directory), &mut files);
    }
    assert!(files.len() > 50, "only {} files were found", files.len());
    let mut faults = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        if lines > LINES {
            faults.push(format!("{} has {lines} lines; {LINES} are the most", file.display()));
        }
        if !text.starts_with("//!") {
            faults.push(format!("{} does not begin with what it is for", file.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != "generated") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
