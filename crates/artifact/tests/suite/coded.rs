//! Packages whose record is wrapped in the codec: the same model for everybody who opens it.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::diff::diff;
use artifact::{Draft, Encoding, FileEntry, Limits, Package, Registry, codec, record};
use network::{Tensor, Weights};
use serde_json::json;
use tempfile::TempDir;

use crate::common::{chain, copy, draft, edit_manifest, int8_draft};

fn published(draft: Draft) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Registry::open(directory.path()).unwrap().publish("shapes", draft).unwrap().path;
    (directory, path)
}

fn coded(draft: Draft) -> Draft {
    Draft { encoding: Encoding::Coded, ..draft }
}

#[test]
fn a_coded_package_is_the_plain_one() {
    for plain in [draft(1), int8_draft(1)] {
        let (_a, before) = published(plain.clone());
        let (directory, after) = published(coded(plain.clone()));
        let (before, after) = (Package::open(&before).unwrap(), Package::open(&after).unwrap());
        assert_eq!(after.weights().unwrap(), plain.weights);
        assert_eq!(after.f32_weights().unwrap(), before.f32_weights().unwrap());
        // The manifest tells the size and the digest of both, and is the same in everything else.
        let [was, is] = [&before, &after].map(|package| package.manifest().files[0].clone());
        assert_eq!((was.encoding.len(), is.encoding), (0, vec![codec::ENCODING.to_owned()]));
        assert_eq!(is.unwrapped_size_bytes, Some(was.size_bytes));
        assert_eq!(is.unwrapped_sha256, Some(was.sha256));
        assert!(is.size_bytes < was.size_bytes / 2, "{} of {}", is.size_bytes, was.size_bytes);
        assert_eq!(fs::metadata(after.path().join("weights.bpk")).unwrap().len(), is.size_bytes);
        assert!(after.size_bytes() < before.size_bytes());
        let difference = diff(&before, &after).unwrap();
        assert!(difference.fields.is_empty() && difference.tensors.is_empty(), "{difference:?}");
        let changed: Vec<&str> = difference.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(changed, ["weights.bpk"]);
        let verification = Registry::open(directory.path()).unwrap().verify().unwrap();
        assert!(verification.is_sound() && verification.packages.len() == 1, "{verification:?}");
    }
}

#[test]
fn the_same_draft_gives_the_same_coded_bytes() {
    let (a, b) = (published(coded(draft(5))), published(coded(draft(5))));
    for file in ["manifest.json", "weights.bpk"] {
        assert_eq!(fs::read(a.1.join(file)).unwrap(), fs::read(b.1.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn nothing_that_is_not_finite_is_coded() {
    let mut bad = coded(draft(1));
    bad.weights
        .insert("dense1.bias".to_owned(), Tensor::from_f32(vec![3], vec![0.0, f32::NAN, 1.0]).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let refusal = chain(Registry::open(directory.path()).unwrap().publish("shapes", bad).unwrap_err());
    assert!(refusal.contains("`dense1.bias` holds a number that is not finite at index 1"), "{refusal}");
}

/// Puts another file in the place of the record, with its right size and digest on the disk.
fn replace(path: &Path, bytes: &[u8]) {
    fs::write(path.join("weights.bpk"), bytes).unwrap();
    let FileEntry { size_bytes, sha256, .. } = FileEntry::of("weights.bpk", bytes);
    edit_manifest(path, |manifest| {
        manifest["files"][0]["size_bytes"] = json!(size_bytes);
        manifest["files"][0]["sha256"] = json!(sha256);
    });
}

type Damage = fn(&Path);

#[test]
fn coded_packages_that_lie_are_refused() {
    fn entry(path: &Path, field: &str, value: serde_json::Value) {
        edit_manifest(path, |manifest| manifest["files"][0][field] = value);
    }
    fn other(change: fn(&mut Weights)) -> Vec<u8> {
        let mut weights = draft(1).weights;
        change(&mut weights);
        codec::encode(&weights).unwrap()
    }
    let cases: &[(&str, Damage, &str)] = &[
        (
            "another wrapper",
            |p| entry(p, "encoding", json!(["zstd"])),
            "wrapped in `zstd`, which this version",
        ),
        (
            "a newer codec",
            |p| entry(p, "encoding", json!(["brazier-codec/2"])),
            "wrapped in `brazier-codec/2`, which this version of Brazier cannot open",
        ),
        (
            "one wrapper more",
            |p| entry(p, "encoding", json!([codec::ENCODING, "aes"])),
            "wrapped in `aes`, which this version",
        ),
        (
            "another file wrapped",
            |p| edit_manifest(p, |m| m["files"][1]["encoding"] = json!([codec::ENCODING])),
            "`evaluation.json` is wrapped in `brazier-codec/1`, which this version",
        ),
        ("no wrapper", |p| entry(p, "encoding", json!([])), "not a Burn record"),
        (
            "no digest inside",
            |p| entry(p, "unwrapped_sha256", json!(null)),
            "lacks size or digest of what is inside",
        ),
        ("a bad digest inside", |p| entry(p, "unwrapped_sha256", json!("x")), "lacks size or digest"),
        ("no size inside", |p| entry(p, "unwrapped_size_bytes", json!(null)), "lacks size or digest"),
        (
            "another digest inside",
            |p| entry(p, "unwrapped_sha256", json!("0".repeat(64))),
            "what is wrapped in `weights.bpk` has 2824 bytes and the SHA-256",
        ),
        (
            "another size inside",
            |p| entry(p, "unwrapped_size_bytes", json!(2825)),
            "instead of 2825 bytes and the SHA-256",
        ),
        (
            "a size inside beyond the limit",
            |p| entry(p, "unwrapped_size_bytes", json!(1u64 << 40)),
            "has 1099511627776 bytes, and the limit is 8589934592",
        ),
        (
            "more tensors than the size inside",
            |p| entry(p, "unwrapped_size_bytes", json!(10)),
            "sum of all tensors in bytes is",
        ),
        (
            "a flipped bit",
            |p| {
                let mut bytes = fs::read(p.join("weights.bpk")).unwrap();
                bytes[20] ^= 1;
                fs::write(p.join("weights.bpk"), bytes).unwrap();
            },
            "`weights.bpk` has the SHA-256",
        ),
        ("a plain record", |p| replace(p, &record::encode(&draft(1).weights).unwrap()), "not a coded record"),
        ("nothing", |p| replace(p, &[]), "not a coded record"),
        ("no tensors", |p| replace(p, &other(Weights::clear)), "instead of 2824 bytes"),
        (
            "another tensor",
            |p| {
                replace(
                    p,
                    &other(|w| {
                        w.insert("dense1.bias".to_owned(), Tensor::from_f32(vec![3], vec![0.0; 3]).unwrap())
                            .map_or((), drop)
                    }),
                )
            },
            "what is wrapped in `weights.bpk` has 2824 bytes and the SHA-256",
        ),
    ];
    let (directory, good) = published(coded(draft(1)));
    for (index, (what, damage, message)) in cases.iter().enumerate() {
        let path = directory.path().join(format!("case{index}"));
        copy(&good, &path);
        damage(&path);
        let refusal = chain(Package::open(&path).expect_err(what));
        assert!(refusal.contains(message), "{what}: {refusal}");
    }
    // The helper itself does no damage.
    let path = directory.path().join("good");
    copy(&good, &path);
    replace(&path, &codec::encode(&draft(1).weights).unwrap());
    Package::open(&path).unwrap();
}

#[test]
fn a_right_record_of_another_network_is_refused() {
    let (directory, path) = published(coded(draft(1)));
    let mut weights = draft(1).weights;
    let bias = weights.remove("dense1.bias").unwrap();
    weights.insert("dense9.bias".to_owned(), bias);
    let place = directory.path().join("other");
    copy(&path, &place);
    let (coded, record) = (codec::encode(&weights).unwrap(), record::encode(&weights).unwrap());
    fs::write(place.join("weights.bpk"), &coded).unwrap();
    let entry = FileEntry::wrapped("weights.bpk", codec::ENCODING, &coded, &record);
    edit_manifest(&place, |manifest| manifest["files"][0] = serde_json::to_value(entry).unwrap());
    let refusal = chain(Package::open(&place).unwrap_err());
    assert!(refusal.contains("missing `dense1.bias` [3]; unknown `dense9.bias`"), "{refusal}");
}

#[test]
fn limits_hold_inside_the_wrapper() {
    let (_directory, path) = published(coded(draft(1)));
    type Change = fn(&mut Limits);
    let cases: [(Change, &str); 4] = [
        (|limits| limits.record_bytes = 2000, "has 2824 bytes, and the limit is 2000"),
        (|limits| limits.tensors = 3, "number of tensors is 9, and the limit is 3"),
        (|limits| limits.tensor_bytes = 90, "tensor `dense1.weight` in bytes is 96, and the limit is 90"),
        (|limits| limits.name_bytes = 11, "longest name in bytes is"),
    ];
    for (change, message) in cases {
        let mut limits = Limits::default();
        change(&mut limits);
        let refusal = chain(Package::open_with(&path, &limits).unwrap_err());
        assert!(refusal.contains(message), "{refusal}");
    }
}
