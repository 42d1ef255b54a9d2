//! int8: every tier gives the same bytes, and they are what the definition says.

use std::collections::BTreeMap;

use engine::{Affine, CompileError, Options, Plan, Program};
use network::spec::{Conv2d, Dense, Empty, InputSpec, Layer, NetworkSpec, Op, Pair, Pool2d, Residual};
use network::{Network, PRESETS, Weights, preset};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::{busy_weights, numbers, run, tiers};

/// The greatest and least value of everything that the f32 program gives, and every layer with weights.
pub(crate) fn plan(network: &Network, weights: &Weights, batch: &[f32], rows: usize) -> Plan {
    let program = Program::compile(network, weights, Options::default()).unwrap();
    let mut ranges: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    let mut widen = |name: &str, values: &[f32]| {
        let range = ranges.entry(name.to_owned()).or_insert((0.0, 0.0));
        for &value in values {
            *range = (range.0.min(value), range.1.max(value));
        }
    };
    program.observe(&[batch], rows, &mut widen).unwrap();
    let with_weights = network.layers().iter().filter(|info| matches!(info.type_name, "dense" | "conv2d"));
    Plan {
        layers: with_weights.map(|info| (info.name.clone(), Vec::new())).collect(),
        values: ranges
            .iter()
            .map(|(name, &(low, high))| (name.clone(), Affine::covering(low, high)))
            .collect(),
        ..Plan::default()
    }
}

fn all_tiers_agree(network: &Network, rows: usize, tolerance: f32) {
    let weights = busy_weights(network);
    let size: usize = network.input_shape().iter().product();
    let batch = numbers(9, rows * size);
    let plan = plan(network, &weights, &batch, rows);
    let exact = run(&Program::compile(network, &weights, Options::default()).unwrap(), &batch, rows);
    let mut first: Option<Vec<f32>> = None;
    for isa in tiers() {
        let options = Options::default().with_isa(isa);
        let program = Program::compile_int8(network, &weights, &plan, options).unwrap();
        let found = run(&program, &batch, rows);
        let expected = first.get_or_insert_with(|| found.clone());
        assert_eq!(&found, expected, "{isa}: {:?}", network.spec());
    }
    let most = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let off = exact.iter().zip(first.unwrap()).fold(0.0f32, |off, (a, b)| off.max((a - b).abs()));
    assert!(off <= tolerance * most, "off by {off} of {most}: {:?}", network.spec());
}

#[test]
fn a_weight_that_is_no_number_is_refused() {
    let network = Network::new(preset("mlp", &[5], 3).unwrap()).unwrap();
    let batch = numbers(1, 2 * 5);
    let plan = plan(&network, &busy_weights(&network), &batch, 2);
    for (key, value) in [("fc1.weight", f32::NAN), ("fc2.bias", f32::INFINITY)] {
        let mut weights = busy_weights(&network);
        let mut values = weights[key].as_f32().unwrap().to_vec();
        values[1] = value;
        let tensor = network::Tensor::from_f32(weights[key].shape().to_vec(), values).unwrap();
        weights.insert(key.to_owned(), tensor);
        let error = Program::compile_int8(&network, &weights, &plan, Options::default()).unwrap_err();
        let layer = key.split('.').next().unwrap().to_owned();
        assert_eq!(error, CompileError::NotFinite { layer });
    }
}

/// Weights that are whole multiples of given scales are not changed by a normalisation that follows them, here one
/// that would make them ten times as large as the scales reach.
#[test]
fn normalisation_after_weights_with_scales_stays_an_operation() {
    let json = r#"{"inputs": [{"name": "input", "shape": [3, 9, 9]}], "layers": [
        {"name": "conv", "type": "conv2d", "channels": 5, "kernel": 3}, {"type": "dropout", "probability": 0.5},
        {"name": "norm", "type": "batch_norm"}, {"type": "relu"}, {"type": "flatten"},
        {"name": "head", "type": "dense", "units": 4}]}"#;
    let network = Network::new(serde_json::from_str(json).unwrap()).unwrap();
    let mut weights = busy_weights(&network);
    let gamma = network::Tensor::from_f32(vec![5], vec![10.0, 9.0, -8.0, 12.0, 10.0]).unwrap();
    weights.insert("norm.gamma".to_owned(), gamma);
    let batch = numbers(3, 4 * 243);
    let exact = run(&Program::compile(&network, &weights, Options::default()).unwrap(), &batch, 4);
    let mut plan = plan(&network, &weights, &batch, 4);
    let kernel = weights["conv.weight"].as_f32().unwrap();
    let scale = |kernel: &[f32]| kernel.iter().fold(0.0f32, |most, weight| most.max(weight.abs())) / 127.0;
    plan.layers = BTreeMap::from([("conv".to_owned(), kernel.chunks(27).map(scale).collect())]);
    let program = Program::compile_int8(&network, &weights, &plan, Options::default()).unwrap();
    let found = run(&program, &batch, 4);
    let most = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let off = exact.iter().zip(&found).fold(0.0f32, |off, (a, b)| off.max((a - b).abs()));
    assert!(off > 0.0 && off < 0.03 * most, "off by {off} of {most}");
}

#[test]
fn every_preset_runs_in_int8_and_stays_close() {
    for name in PRESETS {
        let input: &[usize] = match *name {
            "mlp" => &[13],
            "lenet-300-100" | "lenet5" => &[1, 28, 28],
            "digits-cnn" => &[1, 8, 8],
            "resnet32" | "resnet56" => continue,
            _ => &[3, 32, 32],
        };
        let network = Network::new(preset(name, input, 10).unwrap()).unwrap();
        all_tiers_agree(&network, 3, 0.15);
    }
}

fn layer(op: Op) -> Layer {
    Layer { name: String::new(), from: Vec::new(), op }
}

fn conv(channels: usize, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Op {
    Op::Conv2d(Conv2d { channels, kernel, stride, padding, dilation, groups: 1, bias: true })
}

pub(crate) fn spec() -> impl Strategy<Value = NetworkSpec> {
    let pair =
        |low: usize, high: usize| (low..=high, low..=high).prop_map(|(height, width)| Pair { height, width });
    let convolution = (1..40usize, pair(1, 5), pair(1, 2), pair(0, 2), pair(1, 2)).prop_map(
        |(channels, kernel, stride, padding, dilation)| conv(channels, kernel, stride, padding, dilation),
    );
    let block = (1..24usize).prop_map(|channels| {
        let three = conv(channels, Pair::both(3), Pair::both(1), Pair::both(1), Pair::both(1));
        let one = conv(channels, Pair::both(1), Pair::both(1), Pair::both(0), Pair::both(1));
        Op::Residual(Residual { body: vec![layer(three)], shortcut: vec![layer(one)] })
    });
    let pool = Pool2d { kernel: Pair::both(2), stride: None, padding: Pair::both(0) };
    let image = prop_oneof![
        4 => convolution,
        2 => block,
        2 => Just(Op::Relu(Empty {})),
        1 => Just(Op::Residual(Residual { body: vec![layer(Op::Relu(Empty {}))], shortcut: Vec::new() })),
        1 => Just(Op::MaxPool2d(pool)),
    ];
    let input = (1..7usize, 1..14usize, 1..14usize).prop_map(|(c, h, w)| vec![c, h, w]);
    let tail = proptest::collection::vec((1..60usize, any::<bool>()), 1..3);
    (input, proptest::collection::vec(image, 0..5), tail).prop_map(|(shape, images, tail)| {
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
        cases: 200, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn random_networks_give_the_same_bytes_on_every_tier(spec in spec(), rows in 1..10usize) {
        let Ok(network) = Network::new(spec) else { return Ok(()) };
        all_tiers_agree(&network, rows, 0.5);
    }
}

/// Products deep and wide enough for tiles, of more rows than one of them holds.
#[test]
fn large_products_give_the_same_bytes_on_every_tier() {
    for (json, rows) in [
        (
            r#"{"inputs": [{"name": "x", "shape": [3, 32, 32]}], "layers": [
                {"type": "conv2d", "channels": 16, "kernel": 3, "padding": 1}, {"type": "relu"},
                {"type": "residual", "body": [{"type": "conv2d", "channels": 16, "kernel": 3, "padding": 1}],
                 "shortcut": []},
                {"type": "relu"}, {"type": "conv2d", "channels": 70, "kernel": 3, "stride": 2},
                {"type": "relu"}, {"type": "max_pool2d", "kernel": 2},
                {"type": "conv2d", "channels": 33, "kernel": 3, "padding": 2, "dilation": 2},
                {"type": "flatten"}, {"type": "dense", "units": 10}]}"#,
            2,
        ),
        (
            r#"{"inputs": [{"name": "x", "shape": [784]}], "layers": [{"type": "dense", "units": 300},
                {"type": "relu"}, {"type": "dense", "units": 100}, {"type": "tanh"},
                {"type": "dense", "units": 10}]}"#,
            41,
        ),
    ] {
        all_tiers_agree(&Network::new(serde_json::from_str(json).unwrap()).unwrap(), rows, 0.2);
    }
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let network = Network::new(preset("mlp", &[4], 2).unwrap()).unwrap();
    let weights = busy_weights(&network);
    let whole = plan(&network, &weights, &numbers(1, 4), 1);
    let compile = |plan: &Plan| Program::compile_int8(&network, &weights, plan, Options::default());
    let mut unknown = whole.clone();
    unknown.layers.insert("fc9".to_owned(), Vec::new());
    assert!(matches!(compile(&unknown), Err(CompileError::Plan { layer, .. }) if layer == "fc9"));
    let mut missing = whole.clone();
    missing.values.remove("relu1");
    assert!(matches!(compile(&missing), Err(CompileError::Range { value, .. }) if value == "relu1"));
    let mut short = whole.clone();
    short.layers.insert("fc1".to_owned(), vec![1.0; 3]);
    assert!(matches!(compile(&short), Err(CompileError::Scales { expected: 64, found: 3, .. })));
}
