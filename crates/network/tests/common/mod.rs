//! What the tests of records share: networks from JSON and weights that depend on a seed alone.

#![allow(dead_code, reason = "each test takes what it needs")]

use network::{Elements, Network, NetworkSpec, Role, Tensor, Weights};
use serde_json::json;

pub(crate) fn network(json: serde_json::Value) -> Network {
    Network::new(serde_json::from_value::<NetworkSpec>(json).expect("the case is a specification"))
        .expect("the case is a network")
}

/// Weights of a network between −0.5 and 0.5; variances and factors of normalisations between 0.5 and 1.5.
pub(crate) fn weights(network: &Network, seed: u64) -> Weights {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let tensor = |parameter: &network::Parameter| {
        let around = if matches!(parameter.role, Role::RunningVar | Role::Gamma) { 1.0 } else { 0.0 };
        let values = (0..parameter.len()).map(|_| around + next()).collect();
        (parameter.key.clone(), Tensor::from_f32(parameter.shape.clone(), values).expect("the shape fits"))
    };
    network.parameters().map(tensor).collect()
}

/// A network with every kind of layer that has weights, and some that have none.
pub(crate) fn small() -> Network {
    network(json!({
        "inputs": [{"name": "input", "shape": [2, 4, 4]}],
        "layers": [
            {"name": "conv1", "type": "conv2d", "channels": 3, "kernel": 3},
            {"name": "relu1", "type": "relu"},
            {"name": "block", "type": "residual", "body": [
                {"name": "inner", "type": "conv2d", "channels": 3, "kernel": 1},
                {"name": "grouped", "type": "conv2d", "channels": 3, "kernel": 1, "groups": 3},
                {"name": "bare", "type": "conv2d", "channels": 3, "kernel": 1, "bias": false},
            ]},
            {"name": "flat", "type": "flatten"},
            {"name": "fc", "type": "dense", "units": 5},
        ],
    }))
}

/// The integers of a tensor.
pub(crate) fn i8s(tensor: &Tensor) -> &[i8] {
    match tensor.elements() {
        Elements::I8(values) => values,
        other => panic!("{other:?}"),
    }
}
