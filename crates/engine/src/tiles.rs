//! Programs for tiles, on processors that lack them too: what plans, gathers, and finishes is then the same, and
//! plain loops stand in for the products ([`crate::kernel::amx::multiply`]). Needs AVX-512, whose vectors tiles
//! are made of; elsewhere nothing is compared.

use std::collections::BTreeMap;

use network::{Affine, Network, Role, Tensor, Weights};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::isa::Isa;
use crate::program::{Options, Program};
use crate::quantize::Plan;

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| number()).collect()
}

fn weights(network: &Network) -> Weights {
    let tensor = |(index, parameter): (usize, &network::Parameter)| {
        let fan_in: usize = match parameter.shape.as_slice() {
            [inputs, _] => *inputs,
            [_, kernel @ ..] => kernel.iter().product(),
            [] => 1,
        };
        let scale = (3.0 / fan_in as f32).sqrt();
        let value = |value: f32| match parameter.role {
            Role::RunningVar | Role::Gamma => 0.5 + value.abs(),
            _ => value * scale,
        };
        let values = numbers(index as u64 + 1, parameter.len()).into_iter().map(value).collect();
        Tensor::from_f32(parameter.shape.clone(), values).map(|tensor| (parameter.key.clone(), tensor))
    };
    network.parameters().enumerate().map(tensor).collect::<Result<_, _>>().expect("shapes that fit")
}

fn run(program: &Program, batch: &[f32], rows: usize) -> Vec<f32> {
    let mut output = vec![f32::NAN; rows * program.outputs()[0].values];
    program.run(&mut program.scratch(), batch, rows, &mut output).expect("buffers that fit");
    output
}

/// The same network with and without tiles.
fn both(network: &Network, weights: &Weights, plan: &Plan, options: Options) -> [Program; 2] {
    [false, true].map(|tiles| {
        let options = Options { isa: Some(Isa::Avx512Vnni), tiles: Some(tiles), ..options };
        Program::compile_int8(network, weights, plan, options).expect("a network that compiles")
    })
}

fn tiled(program: &Program) -> usize {
    program.steps().iter().filter(|step| step.method.contains("tiles")).count()
}

fn network(json: &str) -> Network {
    Network::new(serde_json::from_str(json).expect("a specification")).expect("shapes that fit")
}

/// Whole tiles and parts of them in every direction, in places (rows of an image that are as wide as a tile) and
/// gathered; pooled, with an addend, with strides and dilation; outputs in one vector, in two and in five.
fn networks() -> Vec<(Network, usize)> {
    [
        (
            r#"{"inputs": [{"name": "x", "shape": [784]}], "layers": [
            {"type": "dense", "units": 300}, {"type": "relu"}, {"type": "dense", "units": 100},
            {"type": "tanh"}, {"type": "dense", "units": 10}]}"#,
            3,
        ),
        (
            r#"{"inputs": [{"name": "x", "shape": [3, 32, 32]}], "layers": [
            {"type": "conv2d", "channels": 16, "kernel": 3, "padding": 1}, {"type": "relu"},
            {"type": "residual", "body": [{"type": "conv2d", "channels": 16, "kernel": 3, "padding": 1},
                {"type": "relu"}, {"type": "conv2d", "channels": 16, "kernel": 3, "padding": 1}],
                "shortcut": []}, {"type": "leaky_relu", "slope": 0.1},
            {"type": "conv2d", "channels": 64, "kernel": 3, "stride": 2, "padding": 1}, {"type": "relu"},
            {"type": "conv2d", "channels": 40, "kernel": 1}, {"type": "flatten"},
            {"type": "dense", "units": 10}]}"#,
            5,
        ),
        (
            r#"{"inputs": [{"name": "x", "shape": [20, 13, 11]}], "layers": [
            {"type": "conv2d", "channels": 70, "kernel": 5, "padding": 2}, {"type": "relu"},
            {"type": "max_pool2d", "kernel": 2},
            {"type": "conv2d", "channels": 17, "kernel": 3, "dilation": 2, "padding": 2},
            {"type": "sigmoid"}, {"type": "flatten"}, {"type": "dense", "units": 33}]}"#,
            3,
        ),
    ]
    .map(|(json, most)| (network(json), most))
    .to_vec()
}

/// Ranges of everything, and every layer that has weights.
fn plan(network: &Network, weights: &Weights, batch: &[f32], rows: usize) -> Plan {
    let options = Options::default().with_isa(Isa::Avx512Vnni);
    let program = Program::compile(network, weights, options).expect("a network that compiles");
    let mut ranges: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    let mut widen = |name: &str, values: &[f32]| {
        let range = ranges.entry(name.to_owned()).or_insert((0.0, 0.0));
        values.iter().for_each(|&value| *range = (range.0.min(value), range.1.max(value)));
    };
    program.observe(&[batch], rows, &mut widen).expect("buffers that fit");
    let products = network.layers().iter().filter(|info| matches!(info.type_name, "dense" | "conv2d"));
    Plan {
        layers: products.map(|info| (info.name.clone(), Vec::new())).collect(),
        values: ranges.into_iter().map(|(name, (low, high))| (name, Affine::covering(low, high))).collect(),
        ..Plan::default()
    }
}

#[test]
fn in_bytes_tiles_change_nothing() {
    if !Isa::Avx512Vnni.is_available() {
        return;
    }
    for (network, least) in networks() {
        let weights = weights(&network);
        let size: usize = network.input_shape().iter().product();
        let batch = numbers(5, 37 * size);
        let plan = plan(&network, &weights, &batch[..2 * size], 2);
        let [vectors, tiles] = both(&network, &weights, &plan, Options::default());
        assert!(tiled(&vectors) == 0 && tiled(&tiles) >= least, "{:?}", tiles.steps());
        for rows in [1, 7, 8, 16, 17, 37] {
            let batch = &batch[..rows * size];
            assert_eq!(run(&tiles, batch, rows), run(&vectors, batch, rows), "{rows}: {:?}", network.spec());
        }
    }
}

/// Sums in another order differ in the last bits of an f32, and may round an input of the next layer the other
/// way, by one part in 256.
#[test]
fn in_bf16_tiles_are_close_and_a_row_is_the_same_in_any_batch() {
    if !Isa::Avx512Vnni.is_available() {
        return;
    }
    for (network, least) in networks() {
        let weights = weights(&network);
        let size: usize = network.input_shape().iter().product();
        let batch = numbers(6, 37 * size);
        let options = Options::default().with_bf16(true);
        let [vectors, tiles] = both(&network, &weights, &Plan::default(), options);
        assert!(tiled(&vectors) == 0 && tiled(&tiles) >= least, "{:?}", tiles.steps());
        let (expected, found) = (run(&vectors, &batch, 37), run(&tiles, &batch, 37));
        let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let off = found.iter().zip(&expected).fold(0.0f32, |off, (a, b)| off.max((a - b).abs()));
        assert!(off <= 2e-3 * most, "{off} of {most}: {:?}", network.spec());
        let outputs = found.len() / 37;
        for (rows, block) in [(1, 32), (5, 3), (16, 32), (37, 17)] {
            let options = Options { tiles: Some(true), ..options.with_block_rows(block) };
            let [_, program] = both(&network, &weights, &Plan::default(), options);
            let part = run(&program, &batch[..rows * size], rows);
            assert_eq!(
                part,
                found[..rows * outputs],
                "{rows} rows in blocks of {block}: {:?}",
                network.spec()
            );
        }
    }
}

/// What is no number or infinite stays in its own row.
#[test]
fn in_bf16_rows_keep_to_themselves() {
    if !Isa::Avx512Vnni.is_available() {
        return;
    }
    let network =
        network(r#"{"inputs": [{"name": "x", "shape": [50]}], "layers": [{"type": "dense", "units": 40}]}"#);
    let weights = weights(&network);
    let [_, program] = both(&network, &weights, &Plan::default(), Options::default().with_bf16(true));
    assert_eq!(tiled(&program), 1);
    let mut batch = numbers(8, 3 * 50);
    let expected = run(&program, &batch, 3);
    batch[50] = f32::NAN;
    batch[51] = f32::INFINITY;
    let found = run(&program, &batch, 3);
    assert_eq!((&found[..40], &found[80..]), (&expected[..40], &expected[80..]));
    assert!(found[40..80].iter().all(|value| value.is_nan()));
    assert!(expected.iter().all(|value| value.is_finite()));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40, rng_seed: RngSeed::Fixed(23), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn in_bytes_random_convolutions_by_tiles_change_nothing(
        (channels, height, width) in (1..40usize, 4..20usize, 4..36usize),
        (outputs, kernel, stride, dilation, padding) in (1..90usize, 1..4usize, 1..3usize, 1..3usize, 0..3usize),
        pooled in any::<bool>(),
        rows in 1..4usize,
    ) {
        let pool = if pooled { r#"{"type": "max_pool2d", "kernel": 2},"# } else { "" };
        let json = format!(
            r#"{{"inputs": [{{"name": "x", "shape": [{channels}, {height}, {width}]}}], "layers": [
                {{"type": "conv2d", "channels": {outputs}, "kernel": {kernel}, "stride": {stride},
                  "dilation": {dilation}, "padding": {padding}}}, {pool}
                {{"type": "conv2d", "channels": 19, "kernel": 2}}, {{"type": "flatten"}}]}}"#
        );
        let spec = serde_json::from_str(&json).expect("a specification");
        let Ok(network) = Network::new(spec) else { return Ok(()) };
        if !Isa::Avx512Vnni.is_available() {
            return Ok(());
        }
        let weights = weights(&network);
        let batch = numbers(9, rows * channels * height * width);
        let plan = plan(&network, &weights, &batch, rows);
        let [vectors, tiles] = both(&network, &weights, &plan, Options::default());
        prop_assert_eq!(run(&tiles, &batch, rows), run(&vectors, &batch, rows), "{}", json);
    }
}
