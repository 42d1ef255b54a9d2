//! Equalization changes the weights, not what the network computes. The judge is the reference in plain loops.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;
#[path = "common/reference.rs"]
mod reference;

use common::{network, weights};
use network::equalize::equalize;
use network::fold::fold_batch_norm;
use network::{Network, Tensor, Weights, preset};
use proptest::prelude::*;
use serde_json::json;

/// Weights whose channels differ by orders of magnitude.
fn uneven(network: &Network, seed: u64) -> Weights {
    let mut record = weights(network, seed);
    for info in network.layers().iter().filter(|info| matches!(info.type_name, "dense" | "conv2d")) {
        let (weight, bias) = (format!("{}.weight", info.name), format!("{}.bias", info.name));
        let tensor = record[&weight].clone();
        let outputs = info.output[0];
        let per_output = tensor.as_f32().unwrap().len() / outputs;
        let output =
            |index: usize| if info.type_name == "dense" { index % outputs } else { index / per_output };
        let factor = |output: usize| 4f32.powi((output as i32 * 7 + seed as i32) % 5 - 2);
        let values = tensor.as_f32().unwrap().iter().enumerate();
        let values = values.map(|(index, value)| value * factor(output(index))).collect();
        record.insert(weight, Tensor::from_f32(tensor.shape().to_vec(), values).unwrap());
        if let Some(bias_tensor) = record.get(&bias).cloned() {
            let values = bias_tensor.as_f32().unwrap().iter().enumerate();
            let values = values.map(|(output, value)| value * factor(output)).collect();
            record.insert(bias, Tensor::from_f32(vec![outputs], values).unwrap());
        }
    }
    record
}

fn sample(network: &Network, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..network.input_shape().iter().product()).map(|_| next()).collect()
}

fn same(network: &Network, before: &Weights, after: &Weights, seed: u64) {
    let sample = sample(network, seed);
    let [a, b] = [before, after].map(|weights| reference::run(network, weights, &sample));
    let most = a.iter().fold(1e-6f64, |most, value| most.max(value.abs()));
    // The weights are rounded to 32 bits once more, and the sums inside may be much larger than what comes out.
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 2e-4 * most, "{a} became {b}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_answers_stay(seed in 0u64..1000, slope in 0.0f64..0.5, kernel in 1usize..4, units in 1usize..9) {
        let network = network(json!({
            "inputs": [{"name": "input", "shape": [2, 8, 8]}],
            "layers": [
                {"name": "conv1", "type": "conv2d", "channels": 5, "kernel": kernel, "padding": 1},
                {"name": "relu1", "type": "relu"},
                {"name": "pool1", "type": "max_pool2d", "kernel": 2},
                {"name": "conv2", "type": "conv2d", "channels": 4, "kernel": 2, "bias": false},
                {"name": "leaky", "type": "leaky_relu", "slope": slope},
                {"name": "pool2", "type": "avg_pool2d", "kernel": 2, "padding": 1},
                {"name": "flat", "type": "flatten"},
                {"name": "drop", "type": "dropout", "probability": 0.5},
                {"name": "fc1", "type": "dense", "units": units},
                {"name": "relu2", "type": "relu"},
                {"name": "fc2", "type": "dense", "units": 3},
            ],
        }));
        let before = uneven(&network, seed);
        let (after, pairs) = equalize(&network, &before).unwrap();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        prop_assert_eq!(pairs, [("conv1", "conv2"), ("conv2", "fc1"), ("fc1", "fc2")]);
        same(&network, &before, &after, seed);
        // Each channel is as large where it is written as where it is read.
        let greatest = |values: &mut dyn Iterator<Item = &f32>| values.fold(0.0f32, |m, v| m.max(v.abs()));
        let (first, second) = (after["fc1.weight"].as_f32().unwrap(), after["fc2.weight"].as_f32().unwrap());
        for channel in 0..units {
            let written = greatest(&mut first.iter().skip(channel).step_by(units));
            let read = greatest(&mut second[3 * channel..3 * channel + 3].iter());
            prop_assert!((written / read - 1.0).abs() < 0.02, "{} {}", written, read);
        }
    }
}

#[test]
fn what_others_read_or_what_bends_is_left_alone() {
    let network = network(json!({
        "inputs": [{"name": "input", "shape": [2, 6, 6]}],
        "layers": [
            {"name": "a", "type": "conv2d", "channels": 3, "kernel": 1},
            {"name": "bent", "type": "sigmoid"},
            {"name": "b", "type": "conv2d", "channels": 3, "kernel": 1},
            {"name": "norm", "type": "batch_norm"},
            {"name": "c", "type": "conv2d", "channels": 3, "kernel": 1, "groups": 3},
            {"name": "d", "type": "conv2d", "channels": 3, "kernel": 1},
            {"name": "block", "type": "residual", "body": [
                {"name": "e", "type": "conv2d", "channels": 4, "kernel": 1},
                {"name": "inner", "type": "relu"},
                {"name": "f", "type": "conv2d", "channels": 3, "kernel": 1},
            ]},
            {"name": "g", "type": "conv2d", "channels": 3, "kernel": 1},
            {"name": "seen", "type": "relu"},
            {"name": "h", "type": "conv2d", "channels": 3, "kernel": 1},
            {"name": "end", "type": "global_avg_pool"},
        ],
        "outputs": [{"name": "logits", "from": "end"}, {"name": "middle", "from": "seen"}],
    }));
    let before = uneven(&network, 5);
    let (after, pairs) = equalize(&network, &before).unwrap();
    assert_eq!(pairs, [("e".to_owned(), "f".to_owned())]);
    for (key, tensor) in &before {
        assert_eq!(key.starts_with("e.") || key == "f.weight", after[key] != *tensor, "{key}");
    }
    same(&network, &before, &after, 9);
}

#[test]
fn dead_channels_are_left_and_presets_answer_as_before() {
    for name in ["lenet5", "resnet20", "mlp"] {
        let input: &[usize] = match name {
            "lenet5" => &[1, 28, 28],
            "mlp" => &[5],
            _ => &[3, 16, 16],
        };
        let network = Network::new(preset(name, input, 4).unwrap()).unwrap();
        let (network, mut before) = fold_batch_norm(&network, &weights(&network, 2)).unwrap();
        let key = network.parameters().find(|p| p.key.ends_with("weight")).unwrap().key.clone();
        let shape = before[&key].shape().to_vec();
        let mut values = before[&key].as_f32().unwrap().to_vec();
        // Nothing reaches the first output.
        let outputs = if shape.len() == 2 { shape[1] } else { shape[0] };
        let dense = shape.len() == 2;
        let per_output = values.len() / outputs;
        for (index, value) in values.iter_mut().enumerate() {
            if (if dense { index % outputs } else { index / per_output }) == 0 {
                *value = 0.0;
            }
        }
        before.insert(key, Tensor::from_f32(shape, values).unwrap());
        let (after, pairs) = equalize(&network, &before).unwrap();
        assert!(pairs.len() > 1, "{name}: {pairs:?}");
        assert!(after.values().all(|tensor| tensor.as_f32().unwrap().iter().all(|v| v.is_finite())));
        same(&network, &before, &after, 3);
    }
}
