//! What is believed of a package, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{chain, copy, draft, edit_manifest};
use artifact::{Limits, Manifest, ModelRef, Package, Registry};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

/// What the cases of the tables below do to a good package.
type Damage = fn(&Path);
type Edit = fn(&mut serde_json::Value);
type Change = fn(&mut Limits);

fn published() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path()).unwrap();
    let path = registry.publish("shapes", draft(1)).unwrap().path;
    (directory, path)
}

fn refusal(path: &Path) -> String {
    chain(Package::open(path).expect_err("the package must be refused"))
}

#[test]
fn everything_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path()).unwrap();
    let draft = draft(1);
    let published = registry.publish("shapes", draft.clone()).unwrap();
    assert_eq!((published.name.as_str(), published.version), ("shapes", 1));

    let package = registry.package(&"shapes@1".parse().unwrap()).unwrap();
    assert_eq!(package.weights().unwrap(), draft.weights);
    assert_eq!(package.evaluation().unwrap(), draft.evaluation);
    assert!(package.card().unwrap().starts_with("# shapes@1\n"));
    assert_eq!(package.path(), published.path);
    let manifest = package.manifest();
    assert_eq!((manifest.name.as_str(), manifest.version), ("shapes", 1));
    let names: Vec<&str> = manifest.files.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(names, ["weights.bpk", "evaluation.json", "card.md"]);
    // Everything else is what went in; a metric keeps 15 digits, so that it survives JSON exactly.
    let mut expected = draft.manifest;
    expected.files.clone_from(&manifest.files);
    expected.metrics.insert("accuracy".to_owned(), 0.991_666_666_666_667);
    expected.metrics.insert("loss".to_owned(), 0.3);
    assert_eq!(*manifest, expected);
}

#[test]
fn the_same_draft_gives_the_same_bytes() {
    let (a, b) = (published(), published());
    for file in ["manifest.json", "weights.bpk", "evaluation.json", "card.md"] {
        assert_eq!(fs::read(a.1.join(file)).unwrap(), fs::read(b.1.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn damaged_files_are_named() {
    let (directory, good) = published();
    let cases: &[(&str, Damage, &str)] = &[
        ("a flipped bit", |p| flip(&p.join("weights.bpk"), 700), "`weights.bpk` has the SHA-256"),
        ("a cut record", |p| cut(&p.join("weights.bpk")), "`weights.bpk` has 1000 bytes instead of"),
        ("another card", |p| flip(&p.join("card.md"), 3), "`card.md` has the SHA-256"),
        (
            "no evaluation",
            |p| fs::remove_file(p.join("evaluation.json")).unwrap(),
            "`evaluation.json` is missing",
        ),
        ("one file more", |p| fs::write(p.join("run.sh"), "x").unwrap(), "`run.sh` is not in the manifest"),
        ("no manifest", |p| fs::remove_file(p.join("manifest.json")).unwrap(), "it has no `manifest.json`"),
        ("no JSON", |p| fs::write(p.join("manifest.json"), "{").unwrap(), "no valid JSON of a manifest"),
        ("no package", |p| fs::remove_dir_all(p).unwrap(), "it has no `manifest.json`"),
        ("a directory", |p| become_directory(&p.join("card.md")), "`card.md` is a directory instead of"),
    ];
    for (index, (what, damage, message)) in cases.iter().enumerate() {
        let path = directory.path().join(format!("case{index}"));
        copy(&good, &path);
        damage(&path);
        let refusal = refusal(&path);
        assert!(refusal.contains(message), "{what}: {refusal}");
    }
}

#[test]
fn all_damage_is_listed_at_once() {
    let (_directory, path) = published();
    flip(&path.join("evaluation.json"), 2);
    fs::remove_file(path.join("card.md")).unwrap();
    fs::write(path.join("stray"), "").unwrap();
    let refusal = refusal(&path);
    for part in
        ["`evaluation.json` has the SHA-256", "`card.md` is missing", "`stray` is not in the manifest"]
    {
        assert!(refusal.contains(part), "{refusal}");
    }
}

#[test]
fn manifests_that_lie_are_refused() {
    let (directory, good) = published();
    let cases: &[(&str, Edit, &str)] = &[
        (
            "major 2",
            |m| m["format"] = json!("2.0"),
            "its format is 2.0, and this program reads 1.x: a newer Brazier",
        ),
        ("no format", |m| m["format"] = json!("one"), "a format version is `major.minor`"),
        ("version 0", |m| m["version"] = json!(0), "the version must be at least 1"),
        ("a name with a path", |m| m["name"] = json!("../x"), "`../x` is no name for a model"),
        (
            "an unknown layer",
            |m| m["network"]["layers"][0]["type"] = json!("quantum"),
            "unknown variant `quantum`",
        ),
        (
            "an unknown field of a layer",
            |m| m["network"]["layers"][0]["twist"] = json!(1),
            "unknown field `twist`",
        ),
        ("an impossible layer", |m| m["network"]["layers"][0]["kernel"] = json!(99), "conv1"),
        (
            "another signature",
            |m| m["signature"]["inputs"][0]["dims"] = json!(["batch", 7]),
            "the signature is not the network's",
        ),
        (
            "another input",
            |m| m["preprocess"]["width"] = json!(5),
            "the preprocessing gives [1, 4, 5] and the network takes [1, 4, 4]",
        ),
        (
            "one label less",
            |m| m["postprocess"]["labels"] = json!(["a", "b"]),
            "the postprocessing does not fit",
        ),
        (
            "a path out",
            |m| m["files"][0]["path"] = json!("../weights.bpk"),
            "`../weights.bpk` is not a plain file name",
        ),
        (
            "an absolute path",
            |m| m["files"][0]["path"] = json!("/etc/passwd"),
            "`/etc/passwd` is not a plain file name",
        ),
        ("a hidden file", |m| m["files"][0]["path"] = json!(".x"), "`.x` is not a plain file name"),
        (
            "the manifest itself",
            |m| m["files"][1]["path"] = json!("Manifest.JSON"),
            "`Manifest.JSON` cannot be listed",
        ),
        ("a file twice", |m| m["files"][1]["path"] = json!("weights.bpk"), "`weights.bpk` is listed twice"),
        ("no record", |m| m["files"][0]["path"] = json!("weights"), "`weights.bpk` is not listed"),
        ("no files", |m| m["files"] = json!([]), "`weights.bpk` is not listed"),
        (
            "another digest",
            |m| m["files"][0]["sha256"] = json!("0".repeat(64)),
            "`weights.bpk` has the SHA-256",
        ),
        ("no digest", |m| m["files"][0]["sha256"] = json!(""), "is not 64 lower-case hexadecimal digits"),
        ("another size", |m| m["files"][2]["size_bytes"] = json!(1), "`card.md` has"),
        ("a wrapper", |m| m["files"][0]["encoding"] = json!(["zstd"]), "`weights.bpk` is wrapped in `zstd`"),
        (
            "a renamed layer",
            |m| m["network"]["layers"][0]["name"] = json!("conv9"),
            "missing `conv9.weight` [2, 1, 3, 3], `conv9.bias` [2]; unknown `conv1.bias`, `conv1.weight`",
        ),
        (
            "a wider layer",
            |m| m["network"]["layers"][3]["body"][0]["bias"] = json!(true),
            "missing `block1.conv.bias` [2]",
        ),
        (
            "a logit less",
            |m| m["samples"][0]["logits"] = json!([1, 2]),
            "sample 0: it has 2 logits, and the network gives 3",
        ),
        (
            "too many samples",
            |m| m["samples"] = json!(vec![m["samples"][0].clone(); 17]),
            "there are 17 samples",
        ),
        ("a metric without a number", |m| m["metrics"]["accuracy"] = json!(null), "invalid type: null"),
    ];
    for (index, (what, edit, message)) in cases.iter().enumerate() {
        let path = directory.path().join(format!("case{index}"));
        copy(&good, &path);
        edit_manifest(&path, edit);
        let refusal = refusal(&path);
        assert!(refusal.contains(message), "{what}: {refusal}");
    }
}

#[test]
fn a_newer_minor_with_new_fields_is_read() {
    let (_directory, path) = published();
    edit_manifest(&path, |manifest| {
        manifest["format"] = json!("1.7");
        manifest["precision_plan"] = json!({"conv1": "int8"});
        manifest["lineage"]["cluster"] = json!("a");
        manifest["files"][0]["compressed"] = json!(false);
    });
    let package = Package::open(&path).unwrap();
    assert_eq!(package.manifest().format.to_string(), "1.7");
    package.weights().unwrap();
}

#[cfg(unix)]
#[test]
fn symbolic_links_are_refused() {
    use std::os::unix::fs::symlink;
    let (directory, good) = published();
    for (index, file) in ["manifest.json", "weights.bpk", "card.md"].into_iter().enumerate() {
        let path = directory.path().join(format!("case{index}"));
        copy(&good, &path);
        fs::remove_file(path.join(file)).unwrap();
        symlink(good.join(file), path.join(file)).unwrap();
        let refusal = refusal(&path);
        assert!(refusal.contains(file) && refusal.contains("a symbolic link"), "{refusal}");
    }
}

#[test]
fn limits_are_kept() {
    let (_directory, path) = published();
    let cases: &[(Change, &str)] = &[
        (|limits| limits.manifest_bytes = 100, "manifest.json` has"),
        (|limits| limits.file_bytes = 10, "`card.md` has"),
        (|limits| limits.record_bytes = 10, "`weights.bpk` has"),
        (|limits| limits.tensors = 2, "number of tensors"),
        (|limits| limits.files = 2, "it has more than 2 files"),
    ];
    for (change, message) in cases {
        let mut limits = Limits::default();
        change(&mut limits);
        let refusal = chain(Package::open_with(&path, &limits).unwrap_err());
        assert!(refusal.contains(message), "{refusal}");
    }
}

#[test]
fn a_record_that_changes_after_opening_is_not_believed() {
    let (_directory, path) = published();
    let package = Package::open(&path).unwrap();
    flip(&path.join("weights.bpk"), 700);
    assert!(chain(package.weights().unwrap_err()).contains("`weights.bpk` has the SHA-256"));
    // The file may also be exchanged for a link.
    fs::remove_file(path.join("weights.bpk")).unwrap();
    assert!(package.weights().is_err());
}

#[test]
fn a_package_in_another_place_is_not_served_under_its_name() {
    let (directory, path) = published();
    copy(&path, &directory.path().join("other/1"));
    let registry = Registry::open(directory.path()).unwrap();
    let reference: ModelRef = "other@1".parse().unwrap();
    for error in
        [chain(registry.package(&reference).unwrap_err()), chain(registry.manifest(&reference).unwrap_err())]
    {
        assert!(error.contains("it belongs to `shapes@1`, and here is the place of `other@1`"), "{error}");
    }
}

fn flip(path: &Path, position: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..1000]).unwrap();
}

fn become_directory(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

fn manifest_bytes() -> Vec<u8> {
    draft(1).manifest.to_json().unwrap()
}

proptest! {
    #[test]
    fn mutated_manifests_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = manifest_bytes();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = Manifest::from_json(&bytes);
    }

    #[test]
    fn huge_numbers_never_panic(position in any::<prop::sample::Index>(), number in prop_oneof![Just(0u64), Just(u64::MAX), any::<u64>()]) {
        // One number after another is replaced: a kernel, a stride, the units of a layer, a shape.
        let text = String::from_utf8(manifest_bytes()).unwrap();
        let digits: Vec<(usize, usize)> = numbers(&text);
        let (start, end) = digits[position.index(digits.len())];
        let changed = format!("{}{number}{}", &text[..start], &text[end..]);
        let _ = Manifest::from_json(changed.as_bytes());
    }

    #[test]
    fn thirty_two_bit_floats_survive(bits in any::<u32>()) {
        let value = f32::from_bits(bits);
        prop_assume!(value.is_finite());
        let mut manifest = draft(1).manifest;
        manifest.samples[0].logits[0] = value;
        let back = Manifest::from_json(&manifest.to_json().unwrap()).unwrap();
        prop_assert_eq!(back.samples[0].logits[0].to_bits(), bits);
    }

    #[test]
    fn rounded_metrics_survive(value in -1e7f64..1e7, shift in 0i32..7) {
        let value = value / 10f64.powi(shift);
        let mut manifest = draft(1).manifest;
        let rounded = Manifest::round_metric(value);
        manifest.metrics.insert("loss".to_owned(), rounded);
        let back = Manifest::from_json(&manifest.to_json().unwrap()).unwrap();
        prop_assert_eq!(back.metrics["loss"], rounded);
    }
}

fn numbers(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for (index, byte) in text.bytes().enumerate() {
        match (start, byte.is_ascii_digit()) {
            (None, true) => start = Some(index),
            (Some(begin), false) => {
                found.push((begin, index));
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// It must end within the patience of a test: naming layers was cubic once.
#[test]
fn many_layers_are_no_burden() {
    for layer in [json!({"type": "relu"}), json!({"type": "residual", "body": [{"type": "relu"}]})] {
        let mut manifest: serde_json::Value = serde_json::from_slice(&manifest_bytes()).unwrap();
        manifest["network"]["layers"] = json!(vec![layer; 5_000]);
        Manifest::from_json(manifest.to_string().as_bytes()).unwrap_err();
    }
}
