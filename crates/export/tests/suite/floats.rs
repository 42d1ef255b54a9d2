//! 32-bit floats: ONNX Runtime and the engine give the same.

use engine::Plan;
use export::Model;
use network::{Network, PRESETS};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::common::{distance, engine, inputs, network, preset_network, weights};
use crate::random::specs;
use crate::runtime::{self, Optimize};

/// `max|a − b| ≤ 1e-4 · max|b|` for every output, both with and without the runtime's own optimisation.
fn agree(network: &Network, rows: usize, seed: u64) -> f32 {
    let weights = weights(network, seed);
    let inputs = inputs(network, rows, seed + 1000);
    let expected = engine(network, &weights, &Plan::default(), &inputs);
    let model = Model::new("test", 1, network.clone(), weights, None);
    let file = export::onnx(&model).unwrap();
    let mut worst = 0.0f32;
    for optimize in [Optimize::Nothing, Optimize::Everything] {
        let found = runtime::run(&file, &inputs, optimize);
        assert_eq!(found.len(), expected.len());
        for ((name, found), expected) in found.iter().zip(&expected) {
            let (off, most) = distance(found, expected);
            let limit = 1e-4 * most.max(1e-3);
            assert!(off <= limit, "{name}, {optimize:?}: off by {off} of {most}: {:?}", network.spec());
            worst = worst.max(off / most.max(1e-3));
        }
    }
    worst
}

#[test]
fn every_preset_is_computed_alike() {
    if !runtime::is_here() {
        return;
    }
    for name in PRESETS {
        let network = preset_network(name);
        let worst = [1, 5].map(|rows| agree(&network, rows, 7)).into_iter().fold(0.0, f32::max);
        println!("{name}: off by {worst:.1e} of the greatest value at most");
    }
}

/// Several inputs and outputs, an output that is an input, two that are one value, a value that is read twice,
/// layers that no output depends on, and names that are keys of the record.
#[test]
fn branches_inputs_and_outputs_find_each_other() {
    if !runtime::is_here() {
        return;
    }
    let network = network(
        r#"
        inputs = [{ name = "a", shape = [5] }, { name = "b", shape = [3, 4, 2] }, { name = "c", shape = [2, 3] }]
        outputs = [
            { name = "x", from = "two.bias" },
            { name = "again", from = "two.bias" },
            { name = "two", from = "four" },
            { name = "raw", from = "b" },
            { name = "flat", from = "flat" },
            { name = "normal", from = "normal" },
        ]
        layers = [
            { name = "one", type = "dense", units = 7 },
            { name = "two.bias", type = "gelu" },
            { name = "two", type = "dense", units = 3 },
            { name = "unread", type = "dense", units = 3 },
            { name = "flat", type = "flatten", from = ["b"] },
            { name = "four", type = "relu", from = ["two"] },
            { name = "normal", type = "layer_norm", from = ["c"] },
        ]
        "#,
    );
    for rows in [1, 4] {
        agree(&network, rows, 3);
    }
}

/// Windows that reach over the edge, uneven strides and dilation, where each side could count differently.
#[test]
fn padding_is_counted_alike() {
    if !runtime::is_here() {
        return;
    }
    let layers = [
        r#"{ type = "avg_pool2d", kernel = 3, stride = 2, padding = 1 }"#,
        r#"{ type = "avg_pool2d", kernel = [2, 3], stride = [3, 1], padding = [1, 0] }"#,
        r#"{ type = "max_pool2d", kernel = 3, stride = [1, 2], padding = 1 }"#,
        r#"{ type = "conv2d", channels = 6, kernel = [3, 2], stride = [2, 1], padding = [2, 1], dilation = [1, 3] }"#,
        r#"{ type = "conv2d", channels = 6, kernel = 3, padding = 1, groups = 3, bias = false }"#,
        r#"{ type = "conv2d", channels = 3, kernel = 3, groups = 3 }"#,
    ];
    for layer in layers {
        let text = format!("inputs = [{{ name = \"x\", shape = [3, 7, 10] }}]\nlayers = [{layer}]");
        agree(&network(&text), 2, 11);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150, rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn random_networks_are_computed_alike(spec in specs(2), rows in 1..6usize, seed in 0..1000u64) {
        if runtime::is_here() && let Ok(network) = Network::new(spec) {
            agree(&network, rows, seed);
        }
    }
}
