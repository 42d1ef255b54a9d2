//! Many writers at once, in one process and in several.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use artifact::{Package, Registry};

use crate::common::draft;

const DIRECTORY: &str = "BRAZIER_TEST_REGISTRY";
const EACH: u64 = 4;

/// Publishes, moves an alias and reads, as fast as it can.
fn work(registry: &Registry, seed: u64) -> Vec<u64> {
    let publish = |index| {
        let version = registry.publish("shapes", draft(seed * 100 + index)).unwrap().version;
        registry.promote("shapes", version, "production").unwrap();
        // Whatever a reader sees at any moment is whole.
        let package = registry.package(&"shapes@production".parse().unwrap()).unwrap();
        package.weights().unwrap();
        version
    };
    (0..EACH).map(publish).collect()
}

fn check(registry: &Registry, writers: u64) {
    let expected: Vec<u64> = (1..=writers * EACH).collect();
    assert_eq!(registry.versions("shapes").unwrap(), expected);
    let scan = registry.scan().unwrap();
    assert_eq!(scan.warnings, []);
    // Every draft is there once, and every move of the alias was kept.
    let mut records = BTreeSet::new();
    for version in expected {
        let package = Package::open(registry.root().join("shapes").join(version.to_string())).unwrap();
        assert_eq!(package.manifest().version, version);
        records.insert(package.manifest().files[0].sha256.clone());
    }
    assert_eq!(records.len() as u64, writers * EACH);
    let history = registry.alias_states("shapes").unwrap()["production"].history.len() as u64;
    assert_eq!(history, writers * EACH - 1);
}

#[test]
fn threads_get_different_versions() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path()).unwrap();
    let versions: BTreeSet<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                scope.spawn({
                    let registry = &registry;
                    move || work(registry, seed)
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(versions.len() as u64, 4 * EACH);
    check(&registry, 4);
}

#[test]
fn processes_get_different_versions() {
    let directory = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let child = |seed: u64| {
        Command::new(&test)
            .args(["--exact", "concurrency::child_process", "--ignored"])
            .env(DIRECTORY, format!("{seed}:{}", directory.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..3).map(child).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    check(&Registry::open(directory.path()).unwrap(), 3);
}

#[test]
#[ignore = "the other test starts it in a process of its own"]
fn child_process() {
    let Ok(variable) = std::env::var(DIRECTORY) else { return };
    let (seed, directory) = variable.split_once(':').unwrap();
    work(&Registry::open(directory).unwrap(), seed.parse().unwrap());
}

#[test]
fn a_writer_that_was_killed_does_not_stop_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path()).unwrap();
    registry.publish("shapes", draft(1)).unwrap();
    // What a killed writer leaves: an unlocked lock file, a part of a package, a number that was taken.
    let model = directory.path().join("shapes");
    std::fs::create_dir(model.join(".tmp-killed")).unwrap();
    std::fs::write(model.join(".tmp-killed/weights.bpk"), "half").unwrap();
    std::fs::write(model.join("registry.json"), r#"{"format": "1.0", "last_version": 2}"#).unwrap();
    assert_eq!(registry.publish("shapes", draft(2)).unwrap().version, 3);
}
