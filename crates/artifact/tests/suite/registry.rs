//! Versions, references, aliases, removal, and what does not belong into a registry.

use std::fs;
use std::path::Path;

use artifact::{ModelRef, Registry};
use network::Tensor;
use tempfile::TempDir;

use crate::common::{chain, draft};

fn registry() -> (TempDir, Registry) {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path().join("models")).unwrap();
    (directory, registry)
}

/// A registry with versions 1 to `count` of `shapes`.
fn filled(count: u64) -> (TempDir, Registry) {
    let (directory, registry) = registry();
    for version in 1..=count {
        assert_eq!(registry.publish("shapes", draft(version)).unwrap().version, version);
    }
    (directory, registry)
}

fn version_of(registry: &Registry, reference: &str) -> Result<u64, String> {
    let reference: ModelRef = reference.parse().unwrap();
    registry.resolve(&reference).map(|resolved| resolved.version).map_err(chain)
}

#[test]
fn an_empty_registry() {
    let (directory, registry) = registry();
    assert_eq!(registry.models().unwrap(), Vec::<String>::new());
    assert_eq!(registry.versions("shapes").unwrap(), Vec::<u64>::new());
    assert!(version_of(&registry, "shapes").unwrap_err().contains("it has none"));
    assert!(!registry.root().exists(), "looking must not make anything");
    fs::write(directory.path().join("file"), "").unwrap();
    let error = Registry::open(directory.path().join("file")).unwrap_err();
    assert!(error.to_string().ends_with("file` is no directory"), "{error}");
}

#[test]
fn references() {
    let (_directory, registry) = filled(10);
    // Versions are numbers: 10 is newer than 9.
    assert_eq!(version_of(&registry, "shapes"), Ok(10));
    assert_eq!(version_of(&registry, "shapes@latest"), Ok(10));
    assert_eq!(version_of(&registry, "shapes@2"), Ok(2));
    registry.promote("shapes", 3, "production").unwrap();
    registry.promote("shapes", 4, "candidate").unwrap();
    assert_eq!(version_of(&registry, "shapes"), Ok(3));
    assert_eq!(version_of(&registry, "shapes@production"), Ok(3));
    assert_eq!(version_of(&registry, "shapes@candidate"), Ok(4));
    assert_eq!(version_of(&registry, "shapes@latest"), Ok(10));
    let unknown_version = version_of(&registry, "shapes@11").unwrap_err();
    assert_eq!(unknown_version, "`shapes` has no version 11; it has 1, 2, 3, 4, 5, 6, 7, 8, 9, 10");
    let unknown_alias = version_of(&registry, "shapes@canary").unwrap_err();
    assert_eq!(unknown_alias, "`shapes` has no alias `canary`; it has `candidate`, `production`");
    assert!(version_of(&registry, "digits").unwrap_err().contains("it has `shapes`"));
}

#[test]
fn aliases_move_and_roll_back() {
    let (_directory, registry) = filled(3);
    let moved = registry.promote("shapes", 1, "production").unwrap();
    assert_eq!((moved.from, moved.to), (None, 1));
    // The same version again is no step of its history.
    registry.promote("shapes", 1, "production").unwrap();
    registry.promote("shapes", 2, "production").unwrap();
    let moved = registry.promote("shapes", 3, "production").unwrap();
    assert_eq!((moved.from, moved.to), (Some(2), 3));
    assert_eq!(registry.alias_states("shapes").unwrap()["production"].history, [1, 2]);

    let moved = registry.rollback("shapes", "production").unwrap();
    assert_eq!((moved.from, moved.to), (Some(3), 2));
    let moved = registry.rollback("shapes", "production").unwrap();
    assert_eq!((moved.from, moved.to), (Some(2), 1));
    let error = registry.rollback("shapes", "production").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the alias `production` of `shapes` has no earlier version that still exists"
    );

    let error = registry.rollback("shapes", "canary").unwrap_err();
    assert_eq!(error.to_string(), "`shapes` has no alias `canary`; it has `production`");
    for (alias, message) in [
        ("latest", "the alias `latest` always means the newest version and cannot be set"),
        ("7", "`7` is no name for an alias"),
        ("../x", "`../x` is no name for an alias"),
    ] {
        assert!(registry.promote("shapes", 1, alias).unwrap_err().to_string().starts_with(message));
    }
    let error = registry.promote("shapes", 4, "production").unwrap_err();
    assert_eq!(error.to_string(), "`shapes` has no version 4; it has 1, 2, 3");
}

#[test]
fn a_version_number_is_never_given_twice() {
    let (_directory, registry) = filled(3);
    registry.remove("shapes", 3).unwrap();
    assert_eq!(registry.versions("shapes").unwrap(), [1, 2]);
    assert_eq!(registry.publish("shapes", draft(4)).unwrap().version, 4);
    // Even when all of them are gone, and one was removed by hand.
    for version in [1, 2] {
        registry.remove("shapes", version).unwrap();
    }
    fs::remove_dir_all(registry.root().join("shapes/4")).unwrap();
    assert_eq!(registry.models().unwrap(), Vec::<String>::new());
    assert_eq!(registry.publish("shapes", draft(5)).unwrap().version, 5);
    // And when the file that remembers it is lost, what is there still counts.
    fs::remove_file(registry.root().join("shapes/registry.json")).unwrap();
    assert_eq!(registry.publish("shapes", draft(6)).unwrap().version, 6);
}

#[test]
fn a_version_in_use_stays() {
    let (_directory, registry) = filled(2);
    registry.promote("shapes", 1, "production").unwrap();
    registry.promote("shapes", 1, "blue").unwrap();
    let error = registry.remove("shapes", 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`shapes@1` cannot be removed while `blue`, `production` point at it; promote another version first"
    );
    registry.promote("shapes", 2, "production").unwrap();
    registry.promote("shapes", 2, "blue").unwrap();
    registry.remove("shapes", 1).unwrap();
    // Its place in the history is passed over.
    assert!(
        registry.rollback("shapes", "production").unwrap_err().to_string().contains("no earlier version")
    );
    assert_eq!(registry.remove("shapes", 1).unwrap_err().to_string(), "`shapes` has no version 1; it has 2");
}

#[test]
fn an_alias_whose_version_was_deleted_by_hand() {
    let (_directory, registry) = filled(2);
    registry.promote("shapes", 1, "production").unwrap();
    fs::remove_dir_all(registry.root().join("shapes/1")).unwrap();
    for reference in ["shapes@production", "shapes"] {
        let error = version_of(&registry, reference).unwrap_err();
        assert!(error.contains("points at version 1, which does not exist any more; it has 2"), "{error}");
    }
    assert_eq!(version_of(&registry, "shapes@latest"), Ok(2));
    let verification = registry.verify().unwrap();
    assert!(!verification.is_sound());
    let reason = &verification.problems[0].reason;
    assert_eq!(reason, "the alias `production` points at version 1, which does not exist");
}

#[test]
fn verification_names_every_damaged_package() {
    let (_directory, registry) = filled(3);
    registry.promote("shapes", 2, "production").unwrap();
    assert!(registry.verify().unwrap().is_sound());
    fs::write(registry.root().join("shapes/1/card.md"), "forged").unwrap();
    fs::remove_file(registry.root().join("shapes/3/weights.bpk")).unwrap();
    let verification = registry.verify().unwrap();
    assert!(!verification.is_sound());
    let damaged: Vec<u64> = verification
        .packages
        .iter()
        .filter(|package| package.error.is_some())
        .map(|package| package.version)
        .collect();
    assert_eq!((damaged, verification.packages.len()), (vec![1, 3], 3));
    fs::write(registry.root().join("shapes/registry.json"), "[]").unwrap();
    assert_eq!(registry.verify().unwrap().problems.len(), 1);
}

#[test]
fn what_does_not_belong_there_is_ignored_with_a_warning() {
    let (_directory, registry) = filled(1);
    let root = registry.root().to_owned();
    let make = |path: &str| fs::create_dir_all(root.join(path)).unwrap();
    for path in ["shapes/01", "shapes/draft", "shapes/7", "shapes/.tmp-abc", "Shapes/1", "empty", ".git"] {
        make(path);
    }
    fs::write(root.join("shapes/2"), "a file").unwrap();
    fs::write(root.join("README.md"), "a file").unwrap();
    fs::write(root.join(".DS_Store"), "a file").unwrap();

    let scan = registry.scan().unwrap();
    assert_eq!(scan.models.len(), 1);
    assert_eq!(scan.models[0].versions, [1]);
    let warnings: Vec<String> = scan
        .warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.path.strip_prefix(&root).unwrap().display(), warning.reason))
        .collect();
    let number = "versions are named by whole numbers from 1, without leading zeros";
    let expected = [
        ".git: `.git` is no name for a model: at most 64 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit".to_owned(),
        "README.md: it is no directory".to_owned(),
        "Shapes: `Shapes` is no name for a model: at most 64 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit".to_owned(),
        "shapes/.tmp-abc: it is unfinished: a writer is at work, or was stopped and left it behind".to_owned(),
        format!("shapes/01: {number}"),
        "shapes/2: it is no directory".to_owned(),
        "shapes/7: it has no `manifest.json`".to_owned(),
        format!("shapes/draft: {number}"),
    ];
    assert_eq!(warnings, expected);
    assert!(scan.warnings.iter().all(|warning| !warning.damage));
    assert!(registry.verify().unwrap().is_sound());
    // A half-written directory is never overwritten and never becomes a version.
    assert_eq!(registry.publish("shapes", draft(2)).unwrap().version, 8);
    assert_eq!(registry.versions("shapes").unwrap(), [1, 8]);
}

#[cfg(unix)]
#[test]
fn links_are_no_models_and_no_versions() {
    use std::os::unix::fs::symlink;
    let (_directory, registry) = filled(1);
    let root = registry.root();
    symlink(root.join("shapes"), root.join("other")).unwrap();
    symlink(root.join("shapes/1"), root.join("shapes/2")).unwrap();
    let scan = registry.scan().unwrap();
    assert_eq!((scan.models.len(), scan.models[0].versions.as_slice()), (1, &[1][..]));
    assert_eq!(scan.warnings.len(), 2);
}

#[test]
fn drafts_that_cannot_be_packed_leave_nothing_behind() {
    let (_directory, registry) = registry();
    let mut missing = draft(1);
    missing.weights.remove("dense1.bias");
    let mut infinite = draft(1);
    infinite
        .weights
        .insert("dense1.bias".to_owned(), Tensor::from_f32(vec![3], vec![0.0, f32::INFINITY, 0.0]).unwrap());
    let mut metric = draft(1);
    metric.manifest.metrics.insert("loss".to_owned(), f64::NAN);
    let mut labels = draft(1);
    labels.manifest.postprocess.labels.pop();
    let cases = [
        (
            missing,
            "the weights of `shapes` cannot be packed: the record does not fit the network: missing `dense1.bias` [3]",
        ),
        (
            infinite,
            "the weights of `shapes` cannot be packed: tensor `dense1.bias` holds a number that is not finite at index 1",
        ),
        (metric, "the manifest of `shapes` is not valid: `metrics.loss` is not a finite number"),
        (
            labels,
            "the manifest of `shapes` is not valid: the postprocessing does not fit the network: multi_class with 2 labels needs 2 outputs, but the network gives 3",
        ),
    ];
    for (draft, message) in cases {
        assert_eq!(chain(registry.publish("shapes", draft).unwrap_err()), message);
    }
    assert!(registry.publish("../shapes", draft(1)).is_err());
    assert!(!registry.root().exists());
}

#[test]
fn a_state_file_of_a_newer_version() {
    let (_directory, registry) = filled(2);
    let path = registry.root().join("shapes/registry.json");
    registry.promote("shapes", 1, "production").unwrap();
    let read = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let mut state = read(&path);
    state["format"] = "1.3".into();
    state["pinned"] = serde_json::json!([1]);
    state["aliases"]["LATEST/.."] = serde_json::json!({"version": 1});
    fs::write(&path, state.to_string()).unwrap();
    // A newer minor is read, and what it added survives a move.
    registry.promote("shapes", 2, "production").unwrap();
    assert_eq!(read(&path)["pinned"], serde_json::json!([1]));
    assert_eq!(
        registry.aliases("shapes").unwrap().into_iter().collect::<Vec<_>>(),
        [("production".to_owned(), 2)]
    );

    let mut state = read(&path);
    state["format"] = "2.0".into();
    fs::write(&path, state.to_string()).unwrap();
    let error = chain(registry.promote("shapes", 1, "production").unwrap_err());
    assert!(error.contains("registry.json` has the format 2.0, and this program reads 1.x"), "{error}");
    // A server that lists the models goes on with the others.
    let scan = registry.scan().unwrap();
    assert_eq!((scan.models.len(), scan.warnings.len()), (1, 1));
    fs::write(&path, "{").unwrap();
    assert!(version_of(&registry, "shapes@production").unwrap_err().contains("registry.json` is not valid"));
    assert_eq!(version_of(&registry, "shapes@2"), Ok(2));
}
