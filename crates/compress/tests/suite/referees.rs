//! Those who compute the same by other means: Burn, and ONNX Runtime where it is installed.

use artifact::{Package, Registry};
use export::Model;
use model::DeviceSpec;
use network::NamedTensor;
use predict::Predictor;
use train::data::DataSet;
use train::evaluate::{data_for, packed_config};

use crate::place::{Place, QUANTIZED, data, open};
use crate::runtime::{self, Optimize};

/// How far 32-bit floats may be apart, as a share of the sample's largest output.
const FLOATS: f32 = 1e-4;
/// The share of int8 outputs that may differ because a byte somewhere inside is one step off: sums of products are
/// the same integers on both sides, but they are scaled in another order, and what lies in the middle between two
/// bytes may become either. One such byte moves every output of its sample, so there are more of these than of bytes
/// ([`crate::bytes`] counts those): seen were 1.0 % where the runtime sums up in floats what should be integers,
/// 0.3 % where it does not, and 1.6 % with the engine's scalar tier, which rounds other sums of floats.
const MOVED: f64 = 0.03;
/// How far such outputs may be apart, as a share of the sample's largest.
const A_STEP: f32 = 0.05;

/// Rows that go through at once.
const ROWS: usize = 250;

/// Outputs of two sides, compared row by row.
#[derive(Default)]
struct Apart {
    /// `max|a−b| / max|b|` of each row.
    rows: Vec<f32>,
    values: usize,
    /// Values that are not the same to within what 32-bit floats may differ.
    differ: usize,
}

impl Apart {
    /// A single number may be near zero though nothing that it is the sum of is, so there the largest of the batch
    /// stands for that of the row.
    fn add(&mut self, found: &[f32], expected: &[f32], width: usize) {
        assert_eq!(found.len(), expected.len());
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let of_all = largest(expected);
        for (found, expected) in found.chunks(width).zip(expected.chunks(width)) {
            let most = if width == 1 { of_all } else { largest(expected) };
            let share = |(a, b): (&f32, &f32)| {
                let share = (a - b).abs() / most;
                // What is not a number is infinitely far from everything.
                if share.is_nan() { f32::INFINITY } else { share }
            };
            let shares: Vec<f32> = found.iter().zip(expected).map(share).collect();
            self.differ += shares.iter().filter(|share| **share > FLOATS).count();
            self.values += shares.len();
            self.rows.push(shares.into_iter().fold(0.0, f32::max));
        }
    }

    fn worst(&self) -> f32 {
        self.rows.iter().copied().fold(0.0, f32::max)
    }

    fn share(&self) -> f64 {
        self.differ as f64 / self.values as f64
    }
}

impl std::fmt::Debug for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rows = self.rows.clone();
        rows.sort_by(f32::total_cmp);
        let at = |share: f64| rows[((rows.len() - 1) as f64 * share) as usize];
        write!(f, "{} rows, off by {:.1e} in the middle, ", rows.len(), at(0.5))?;
        write!(f, "{:.1e} in 99 of 100, {:.1e} at most; ", at(0.99), at(1.0))?;
        write!(f, "{} of {} values differ", self.differ, self.values)
    }
}

/// The test split as the network reads it, some rows at a time.
pub(crate) fn batches(predictor: &Predictor, data: &DataSet) -> Vec<NamedTensor> {
    let read = |rows: &[usize]| {
        let inputs: Vec<_> = rows.iter().map(|&row| data.source.read(row).unwrap()).collect();
        predictor.prepare(&inputs).unwrap()
    };
    data.splits.test.chunks(ROWS).map(read).collect()
}

fn outputs(predictor: &Predictor, batch: &NamedTensor) -> Vec<f32> {
    let outputs = predictor.infer(std::slice::from_ref(batch)).unwrap();
    outputs[0].tensor.as_f32().unwrap().to_vec()
}

/// The engine's outputs beside those of Burn.
fn burn(package: &Package, data: &DataSet) -> Apart {
    let (engine, burn) = (open(package, DeviceSpec::Cpu), open(package, DeviceSpec::Flex));
    let width = package.network().output_shape().iter().product();
    let mut apart = Apart::default();
    for batch in batches(&engine, data) {
        apart.add(&outputs(&engine, &batch), &outputs(&burn, &batch), width);
    }
    apart
}

/// The engine's outputs beside those of ONNX Runtime for the exported file.
fn onnxruntime(package: &Package, data: &DataSet, optimize: Optimize) -> Apart {
    let engine = open(package, DeviceSpec::Cpu);
    let file = export::onnx(&Model::open(package).unwrap()).unwrap();
    let width = package.network().output_shape().iter().product();
    let mut apart = Apart::default();
    for batch in batches(&engine, data) {
        let found = runtime::run(&file, std::slice::from_ref(&batch), optimize).remove(0).1;
        apart.add(&found, &outputs(&engine, &batch), width);
    }
    apart
}

#[test]
fn burn_gives_the_same_for_the_whole_test_split() {
    let place = Place::trained();
    for name in QUANTIZED {
        let package = place.package(&format!("{name}@1"));
        let apart = burn(&package, &data(&package));
        println!("{name}: {apart:?}");
        assert!(apart.rows.len() > 200 && apart.worst() <= FLOATS, "{name}: {apart:?}");
    }
}

#[test]
fn onnx_runtime_gives_the_same_for_the_whole_test_split() {
    if !runtime::is_here() {
        return;
    }
    let place = Place::quantized();
    for name in QUANTIZED {
        for optimize in [Optimize::Nothing, Optimize::Everything] {
            let [floats, int8] = [1, 2].map(|version| {
                let package = place.package(&format!("{name}@{version}"));
                onnxruntime(&package, &data(&package), optimize)
            });
            println!("{name}, {optimize:?}: floats {floats:?}, int8 {int8:?}");
            assert!(floats.rows.len() > 200 && floats.worst() <= FLOATS, "{name}, {optimize:?}: {floats:?}");
            let share = int8.share();
            assert!(int8.rows.len() == floats.rows.len() && share <= MOVED, "{name}, {optimize:?}: {int8:?}");
            assert!(int8.worst() < A_STEP, "{name}, {optimize:?}: {int8:?}");
        }
    }
}

/// The same for any package, whose data must be there: `BRAZIER_TEST_REGISTRY` and `BRAZIER_TEST_MODEL`, several
/// with commas. Paths of data are relative to the root of the repository.
#[test]
#[ignore = "needs BRAZIER_TEST_REGISTRY, BRAZIER_TEST_MODEL and the data of that model"]
fn the_named_packages_are_computed_alike() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let [registry, models] = ["BRAZIER_TEST_REGISTRY", "BRAZIER_TEST_MODEL"]
        .map(|name| std::env::var(name).unwrap_or_else(|_| panic!("{name} does not say what to compare")));
    let registry = Registry::open(std::path::Path::new(root).join(registry)).unwrap();
    for model in models.split(',') {
        let package = registry.package(&model.parse().unwrap()).unwrap();
        let mut config = packed_config(package.manifest()).unwrap();
        config.path = config.path.map(|path| std::path::Path::new(root).join(path));
        let data = data_for(&config, package.manifest()).unwrap();
        let int8 = package.quantization().is_some();
        let apart = burn(&package, &data);
        println!("{model}: beside Burn {apart:?}");
        println!("{model}: {:?}", open(&package, DeviceSpec::Flex).self_check());
        assert!(int8 || apart.worst() <= FLOATS, "{model}: {apart:?}");
        if !runtime::is_here() {
            continue;
        }
        for optimize in [Optimize::Nothing, Optimize::Everything] {
            let apart = onnxruntime(&package, &data, optimize);
            println!("{model}, {optimize:?}: beside ONNX Runtime {apart:?}");
            assert!(int8 || apart.worst() <= FLOATS, "{model}, {optimize:?}: {apart:?}");
            let share = apart.share();
            assert!(share <= MOVED && apart.worst() < A_STEP, "{model}, {optimize:?}: {apart:?}");
        }
    }
}
