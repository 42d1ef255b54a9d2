//! bf16: weights and inputs of products rounded, sums in f32.

use engine::{Isa, Options, Program};
use network::spec::{Conv2d, Dense, Empty, InputSpec, Layer, NetworkSpec, Op, Pair, Pool2d};
use network::{Network, PRESETS, Weights, preset};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::reference::{Sample, apply};
use crate::{assert_close, busy_weights, numbers, run, tiers};

/// The nearest bf16, ties to even.
fn to_bf16(value: f64) -> f64 {
    // Eight bits: the first is worth as much as the value's exponent says.
    let narrow = f64::from(value as f32);
    if narrow == 0.0 {
        return 0.0;
    }
    let step = 2.0f64.powi(narrow.abs().log2().floor() as i32 - 7);
    (narrow / step).round_ties_even() * step
}

/// One sample through a chain of layers, with weights and inputs of dense layers and convolutions of one group rounded to bf16.
fn run_in_bf16(network: &Network, weights: &Weights, values: &[f32]) -> Vec<f64> {
    let values = values.iter().map(|&value| f64::from(value)).collect();
    let mut sample = Sample { shape: network.input_shape().to_vec(), values };
    for layer in &network.spec().layers {
        let rounds = match &layer.op {
            Op::Dense(_) => true,
            Op::Conv2d(conv) => conv.groups == 1,
            _ => false,
        };
        if !rounds {
            sample = apply(&layer.name, &layer.op, weights, sample);
            continue;
        }
        let mut rounded = Weights::new();
        for (key, tensor) in weights.iter().filter(|(key, _)| key.starts_with(&format!("{}.", layer.name))) {
            let values = tensor.as_f32().unwrap().iter();
            let values: Vec<f32> = if key.ends_with("weight") {
                values.map(|&value| to_bf16(f64::from(value)) as f32).collect()
            } else {
                values.copied().collect()
            };
            rounded.insert(key.clone(), network::Tensor::from_f32(tensor.shape().to_vec(), values).unwrap());
        }
        sample.values.iter_mut().for_each(|value| *value = to_bf16(*value));
        sample = apply(&layer.name, &layer.op, &rounded, sample);
    }
    sample.values
}

fn layer(op: Op) -> Layer {
    Layer { name: String::new(), from: Vec::new(), op }
}

fn spec() -> impl Strategy<Value = NetworkSpec> {
    let pair =
        |low: usize, high: usize| (low..=high, low..=high).prop_map(|(height, width)| Pair { height, width });
    let convolution = (1..20usize, 1..3usize, pair(1, 4), pair(1, 2), pair(0, 2), pair(1, 2)).prop_map(
        |(half, groups, kernel, stride, padding, dilation)| {
            let channels = 2 * half;
            Op::Conv2d(Conv2d { channels, kernel, stride, padding, dilation, groups, bias: true })
        },
    );
    let pool = Pool2d { kernel: Pair::both(2), stride: None, padding: Pair::both(0) };
    let image = prop_oneof![
        4 => convolution,
        2 => Just(Op::Relu(Empty {})),
        1 => Just(Op::Tanh(Empty {})),
        1 => Just(Op::MaxPool2d(pool)),
    ];
    let input = (1..5usize, 1..14usize, 1..14usize).prop_map(|(c, h, w)| vec![c, h, w]);
    let tail = proptest::collection::vec((1..60usize, any::<bool>()), 1..3);
    (input, proptest::collection::vec(image, 0..4), tail).prop_map(|(shape, images, tail)| {
        let mut layers: Vec<Layer> = images.into_iter().chain([Op::Flatten(Empty {})]).map(layer).collect();
        for (units, relu) in tail {
            layers.push(layer(Op::Dense(Dense { units, bias: true })));
            layers.extend(relu.then(|| layer(Op::Relu(Empty {}))));
        }
        NetworkSpec { inputs: vec![InputSpec { name: "x".to_owned(), shape }], layers, outputs: Vec::new() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Sums in another order may round an input of the next layer the other way, by one part in 256; without
    /// the rounding, results are off by several times the tolerance.
    #[test]
    fn random_networks_agree_with_rounding_by_the_definition(spec in spec(), rows in 1..6usize) {
        let Ok(network) = Network::new(spec) else { return Ok(()) };
        let weights = busy_weights(&network);
        let size: usize = network.input_shape().iter().product();
        let batch = numbers(3, rows * size);
        let expected: Vec<f64> = batch
            .chunks(size)
            .flat_map(|sample| run_in_bf16(&network, &weights, sample))
            .collect();
        for isa in tiers().filter(|isa| *isa != Isa::Avx512Vnni) {
            let options = Options::default().with_isa(isa).with_bf16(true);
            let program = Program::compile(&network, &weights, options).unwrap();
            let found = run(&program, &batch, rows);
            let what = format!("{:?} ({isa})", network.spec());
            assert_close(&found, &expected, expected.len() / rows, 1e-3, &what);
        }
    }
}

#[test]
fn presets_stay_close_and_take_half_the_memory() {
    for name in PRESETS.iter().filter(|name| !matches!(**name, "resnet32" | "resnet56")) {
        let input: &[usize] = match *name {
            "mlp" => &[64],
            "lenet-300-100" | "lenet5" => &[1, 28, 28],
            "digits-cnn" => &[1, 8, 8],
            _ => &[3, 32, 32],
        };
        let network = Network::new(preset(name, input, 10).unwrap()).unwrap();
        let weights = busy_weights(&network);
        let batch = numbers(2, 2 * input.iter().product::<usize>());
        let exact = Program::compile(&network, &weights, Options::default().with_direct(true)).unwrap();
        let program = Program::compile(&network, &weights, Options::default().with_bf16(true)).unwrap();
        let expected: Vec<f64> = run(&exact, &batch, 2).into_iter().map(f64::from).collect();
        assert_close(&run(&program, &batch, 2), &expected, 10, 0.03, name);
        let share = program.weight_bytes() as f64 / exact.weight_bytes() as f64;
        assert!((0.49..0.6).contains(&share), "{name}: {share}");
        assert!(
            program
                .steps()
                .iter()
                .any(|step| step.method.starts_with("dense") && step.method.ends_with("bf16")),
            "{name}"
        );
    }
}
