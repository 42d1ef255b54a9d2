//! Files of released versions keep loading, and the committed schema is that of the program.

use std::path::{Path, PathBuf};

use artifact::{Draft, Encoding, FormatVersion, Manifest, Package, Registry};
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

#[test]
fn a_package_of_format_1_3_loads() {
    let package = Package::open(fixtures().join("package-1.3")).unwrap();
    let manifest = package.manifest();
    assert_eq!(manifest.format, FormatVersion { major: 1, minor: 3 });
    let observed = manifest.reference.observed.as_ref().unwrap();
    assert_eq!(observed.inputs[0].name, "brightness");
    assert_eq!(observed.inputs[0].edges.len() + 1, observed.inputs[0].counts.len());
    assert_eq!(observed.outputs[0].categories, ["cross", "ring", "bar"]);
    assert_eq!((observed.outputs[0].total(), observed.outputs_split.as_str()), (480, "validation"));
    // Before, there was nothing to watch.
    let before = Package::open(fixtures().join("package-1.2")).unwrap();
    assert_eq!(before.manifest().reference.observed, None);
    assert!(!before.manifest().reference.features.is_empty());
}

#[test]
fn a_damaged_reference_is_refused_by_name() {
    let path = fixtures().join("package-1.3/manifest.json");
    let good: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let read = |manifest: &serde_json::Value| Manifest::from_json(manifest.to_string().as_bytes());
    let back = read(&good).unwrap();
    assert_eq!(Manifest::from_json(&back.to_json().unwrap()).unwrap(), back);
    let fault = |place: &str, value: serde_json::Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        read(&bad).unwrap_err().to_string()
    };
    let inputs = "/reference/observed/inputs/0";
    assert_eq!(
        fault(&format!("{inputs}/edges"), serde_json::json!([])),
        "reference.observed: inputs: `brightness`: 0 edges need 1 counts, but there are 5"
    );
    assert!(fault(&format!("{inputs}/edges/0"), 1e9.into()).contains("`brightness`: its edges must be"));
    assert!(fault(&format!("{inputs}/name"), "".into()).contains("it has no name"));
    assert!(fault(&format!("{inputs}/counts/0"), (-1).into()).contains("no valid JSON of a manifest"));
    let names = serde_json::json!(["cross"]);
    let fault = fault("/reference/observed/outputs/0/categories", names);
    assert!(fault.contains("outputs: `class`: 1 categories need 1 counts"), "{fault}");
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
