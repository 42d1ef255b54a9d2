//! Files of released versions keep loading, and the committed schema is that of the program.

use std::path::{Path, PathBuf};

use artifact::{Draft, Encoding, FormatVersion, Package, Registry};
use network::Elements;

use crate::common::{copy, draft, int8_draft};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn a_package_of_format_1_0_loads() {
    let package = Package::open(fixtures().join("package-1.0")).unwrap();
    let manifest = package.manifest();
    assert_eq!(manifest.format, FormatVersion { major: 1, minor: 0 });
    assert_eq!((manifest.name.as_str(), manifest.version), ("shapes", 1));
    assert_eq!(manifest.metrics["accuracy"], 0.991_666_666_666_667);
    assert_eq!(manifest.lineage.seed, Some(u64::MAX));
    assert_eq!(package.weights().unwrap(), draft(1).weights);
    assert_eq!(package.evaluation().unwrap()["confusion"][1][1], 39);
    assert!(package.card().unwrap().starts_with("# shapes@1\n"));
    for sample in &manifest.samples {
        sample.input.to_raw().unwrap();
    }
}

#[test]
fn a_package_of_format_1_1_loads() {
    let package = Package::open(fixtures().join("package-1.1")).unwrap();
    assert_eq!(package.manifest().format, FormatVersion { major: 1, minor: 1 });
    assert_eq!(package.quantization(), int8_draft(1).manifest.quantization.as_ref());
    // What was rounded then stays, whatever is rounded now.
    let integers =
        vec![-125, 37, 7, 108, 113, -31, -36, -122, -127, 17, -127, -87, -45, -121, 61, 74, -80, 38];
    let stored = package.weights().unwrap();
    assert_eq!(*stored["conv1.weight"].elements(), Elements::I8(integers.clone()));
    let scales = [0.000_695_592_2f32, 0.000_709_258_2];
    assert_eq!(stored["conv1.scale"].as_f32(), Some(&scales[..]));
    let floats = package.f32_weights().unwrap();
    let products: Vec<f32> =
        integers.iter().zip(0..).map(|(&integer, index)| f32::from(integer) * scales[index / 9]).collect();
    assert_eq!(floats["conv1.weight"].as_f32(), Some(&products[..]));
    assert_eq!(floats.len(), stored.len() - 2);
}

#[test]
fn a_package_of_format_1_2_loads() {
    let package = Package::open(fixtures().join("package-1.2")).unwrap();
    assert_eq!(package.manifest().format, FormatVersion { major: 1, minor: 2 });
    assert_eq!(package.manifest().files[0].encoding, ["brazier-codec/1"]);
    // Whatever an encoder writes now, what was written then means the same.
    let plain = Package::open(fixtures().join("package-1.1")).unwrap();
    assert_eq!(package.weights().unwrap(), plain.weights().unwrap());
    assert_eq!(package.manifest().files[0].unwrapped_sha256, Some(plain.manifest().files[0].sha256.clone()));
}

/// A fixture is written once per released format and never again:
/// `cargo test -p artifact --test suite -- --ignored write_the_fixture` refuses to replace one.
#[test]
#[ignore = "it writes into the source tree"]
fn write_the_fixture() {
    let place = fixtures().join(format!("package-{}", FormatVersion::CURRENT));
    assert!(!place.exists(), "{} exists already", place.display());
    let directory = tempfile::tempdir().unwrap();
    let draft = Draft { encoding: Encoding::Coded, ..int8_draft(1) };
    let published = Registry::open(directory.path()).unwrap().publish("shapes", draft).unwrap();
    copy(&published.path, &place);
}

#[test]
fn the_committed_schema_is_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/schema/manifest.schema.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        committed == artifact::schema::manifest_schema(),
        "configs/schema/manifest.schema.json is stale; `cargo xtask schema` writes it again"
    );
}
