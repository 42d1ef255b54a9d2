//! bf16: weights and inputs of products rounded, sums in f32.

use engine::{Options, Program};
use network::spec::{Conv2d, Dense, Empty, InputSpec, Layer, NetworkSpec, Op, Pair, Pool2d};
use network::{Network, PRESETS, preset};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::{assert_close, busy_weights, numbers, reference, run, tiers};

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
            .flat_map(|sample| reference::run_in_bf16(&network, &weights, sample))
            .collect();
        for isa in tiers() {
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
        assert!(program.steps().iter().any(|step| step.method == "dense bf16"), "{name}");
    }
}
