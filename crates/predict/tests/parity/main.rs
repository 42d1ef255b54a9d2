//! One package, the same answers everywhere: devices × precisions × presets, through packages and predictors.
//!
//! Packages are made on the CPU in 32 bits and opened on every device of the build that this machine has:
//! `cargo test -p predict --features wgpu --test parity` adds one. A processor that pretends to be a GPU gets
//! two small presets and one size, since it compiles every kernel on the machine's own cores.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod parity;

use std::collections::BTreeMap;

use artifact::{Draft, Manifest, Registry, Sample, SampleInput};
use model::DeviceSpec;
use network::fold::{fold_batch_norm, with_biases};
use network::quantization::{
    Affine, Calibration, CalibrationMethod, Quantization, dequantize, quantize_weights,
};
use network::spec::{Layer, Op};
use network::{Network, Postprocess, Preprocess, RawInput, Role, Task, Tensor, Weights};
use predict::{Parts, Placement, Precision, Predictor};
use tempfile::TempDir;

/// How far outputs may be from those of the CPU in 32 bits, as a share of the row's largest output (at least 1).
/// The worst that was seen over all presets below stands beside it: on the CPU with six seeds each, on lavapipe (Mesa's
/// software Vulkan, as `wgpu`) with one.
fn allowed(placement: Placement) -> f32 {
    match (placement.device, placement.precision) {
        // TF32: Burn's kernels for tensor cores round the factors of 32-bit products to 11 significant bits. Not run.
        (DeviceSpec::Cuda(_), Precision::F32) => 1e-2,
        // 32 bits, sums in another order: 1.5e-6 on lavapipe (keras-cnn).
        (_, Precision::F32) => 1e-4,
        // 11 significant bits: 2.2e-3 on the CPU, 3.6e-3 on lavapipe (keras-cnn on both).
        (_, Precision::F16) => 2e-2,
        // 8 significant bits: 1.1e-2 on the CPU (keras-cnn, mlp).
        (_, Precision::Bf16) => 5e-2,
        other => panic!("no tolerance for {other:?}"),
    }
}

/// A preset and the shape of its input.
type Case = (&'static str, &'static [usize]);

const CASES: [Case; 9] = [
    ("mlp", &[30]),
    ("lenet-300-100", &[1, 28, 28]),
    ("lenet5", &[1, 28, 28]),
    ("digits-cnn", &[1, 8, 8]),
    ("keras-cnn", &[3, 32, 32]),
    ("resnet20", &[3, 32, 32]),
    ("resnet32", &[3, 32, 32]),
    ("resnet56", &[3, 32, 32]),
    ("vgg-small", &[3, 32, 32]),
];

/// A device, and whether a processor plays it.
#[derive(Clone, Copy)]
struct Place {
    device: DeviceSpec,
    software: bool,
}

impl Place {
    /// The devices of this build and machine.
    fn all() -> Vec<Self> {
        let found = model::device::inventory().into_iter().flat_map(|kind| kind.found);
        found.map(|found| Self { device: found.device, software: found.software }).collect()
    }

    fn takes(self, (preset, _): Case) -> bool {
        !self.software || ["mlp", "digits-cnn"].contains(&preset)
    }
}

/// Numbers without a pattern, in about ±1.5.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 * 3.0 - 1.5
    };
    (0..count).map(|_| next()).collect()
}

fn input((_, shape): Case, seed: usize) -> RawInput {
    RawInput::Numbers(numbers(seed, shape.iter().product()))
}

/// An untrained network whose activations stay small through any number of residual blocks, as training would
/// keep them: every block adds half of what it could.
fn parts((preset, shape): Case) -> Parts {
    let network = Network::new(network::preset(preset, shape, 10).unwrap()).unwrap();
    let drawn = model::initial_weights(&network, 3);
    let weights: Weights = network
        .parameters()
        .map(|parameter| {
            let tensor = drawn.get(&parameter.key).unwrap();
            let factor = if parameter.role == Role::Gamma { 0.5 } else { 1.0 };
            let values = tensor.as_f32().unwrap().iter().map(|value| value * factor).collect();
            (parameter.key.clone(), Tensor::from_f32(parameter.shape.clone(), values).unwrap())
        })
        .collect();
    Parts {
        network,
        preprocess: Preprocess::Numbers { shape: shape.to_vec() },
        postprocess: Postprocess::new(Task::MultiClass, (0..10u8).map(|class| class.to_string()).collect()),
        weights,
        quantization: None,
    }
}

/// The same network in int8, every layer that can be, with ranges from a few inputs; and what it is in floats.
fn quantized(case: Case) -> [Parts; 2] {
    let parts = parts(case);
    let (network, weights) = fold_batch_norm(&parts.network, &parts.weights).unwrap();
    let (network, weights) = with_biases(&network, &weights).unwrap();
    let rows: Vec<f32> = (100..116).flat_map(|seed| numbers(seed, case.1.iter().product())).collect();
    let mut ranges: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    let mut widen = |name: &str, values: &[f32]| {
        let range = ranges.entry(name.to_owned()).or_insert((0.0, 0.0));
        for &value in values {
            *range = (range.0.min(value), range.1.max(value));
        }
    };
    let program = engine::Program::compile(&network, &weights, engine::Options::default()).unwrap();
    program.observe(&[&rows], 16, &mut widen).unwrap();
    let has_products = |layer: &&Layer| matches!(layer.op, Op::Dense(_) | Op::Conv2d(_));
    let layers = network.spec().all_layers().into_iter().filter(has_products);
    let layers: Vec<String> = layers.map(|layer| layer.name.clone()).collect();
    let affine = |(name, (least, most)): (String, (f32, f32))| (name, Affine::covering(least, most));
    let calibration = Calibration::new(CalibrationMethod::MinMax, 16, 0);
    let weights = quantize_weights(&network, &layers, &weights).unwrap();
    let activations = ranges.into_iter().map(affine).collect();
    let quantization = Quantization::calibrated(layers, activations, calibration);
    let floats = dequantize(&network, &quantization, &weights).unwrap();
    let floats = Parts { network: network.clone(), weights: floats, ..parts.clone() };
    [Parts { network, weights, quantization: Some(quantization), ..parts }, floats]
}

/// A registry with one package, made on the CPU, with `samples` samples.
struct Packed {
    _directory: TempDir,
    registry: Registry,
}

impl Packed {
    /// `spoil` may change the logits that are packed.
    fn new(case: Case, samples: usize, spoil: impl Fn(&mut [f32])) -> Self {
        Self::of(parts(case), case, samples, spoil)
    }

    fn of(parts: Parts, case: Case, samples: usize, spoil: impl Fn(&mut [f32])) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::open(directory.path()).unwrap();
        let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu).unwrap();
        let Parts { network, preprocess, postprocess, weights, quantization } = parts;
        let mut manifest = Manifest::new("model", &network, preprocess, postprocess);
        manifest.quantization = quantization;
        for seed in 0..samples {
            let input = input(case, seed);
            let mut logits = logits(&predictor, std::slice::from_ref(&input));
            spoil(&mut logits);
            manifest.samples.push(Sample { input: SampleInput::from_raw(&input).unwrap(), logits });
        }
        registry.publish("model", Draft::new(manifest, weights)).unwrap();
        Self { _directory: directory, registry }
    }

    fn open(&self, placement: impl Into<Placement>) -> Predictor {
        Predictor::open(&self.registry, &"model@1".parse().unwrap(), placement).unwrap()
    }
}

/// The network's outputs, row after row.
fn logits(predictor: &Predictor, inputs: &[RawInput]) -> Vec<f32> {
    let prepared = predictor.prepare(inputs).unwrap();
    predictor.infer(&[prepared]).unwrap().remove(0).tensor.as_f32().unwrap().to_vec()
}

/// A difference that is no number must not pass for a small one, and stays whatever follows.
fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// Compares rows of ten logits and returns the largest difference, as a share of the row's largest.
fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let row = |(found, expected): (&[f32], &[f32])| {
        let largest = expected.iter().fold(1.0f32, |largest, logit| largest.max(logit.abs()));
        let difference = |(a, b): (&f32, &f32)| (a - b).abs() / largest;
        found.iter().zip(expected).map(difference).fold(0.0f32, larger)
    };
    found.chunks(10).zip(expected.chunks(10)).map(row).fold(0.0f32, larger)
}
