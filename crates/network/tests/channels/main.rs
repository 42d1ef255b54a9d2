//! Groups of channels, and networks without some of them. The judge is a forward pass in plain loops in which every
//! single value knows whether it belongs to a removed channel, and reads as zero where it does.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "../common/mod.rs"]
mod common;
mod groups;
mod masked;
mod random;
#[allow(dead_code, reason = "each operation alone is asked for here, not whole networks")]
#[path = "../common/reference.rs"]
mod reference;
mod removal;

use std::collections::BTreeMap;

use common::network;
use network::Network;
use network::channels::{Groups, Removal, remove};
use serde_json::{Value, json};

fn preset(name: &str, input: &[usize]) -> Network {
    Network::new(network::preset(name, input, 10).unwrap()).unwrap()
}

fn with(input: &[usize], layers: Value, outputs: Value) -> Network {
    network(json!({"inputs": [{"name": "input", "shape": input}], "layers": layers, "outputs": outputs}))
}

fn conv(name: &str, channels: usize) -> Value {
    json!({"name": name, "type": "conv2d", "channels": channels, "kernel": 3, "padding": 1})
}

fn dense(name: &str, units: usize) -> Value {
    json!({"name": name, "type": "dense", "units": units})
}

fn from(mut layer: Value, from: &str) -> Value {
    layer["from"] = json!([from]);
    layer
}

/// A sample of values between −1 and 1 without a pattern.
fn sample(network: &Network, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1u32 << 23) - 1.0
    };
    (0..network.input_shape().iter().product()).map(|_| number()).collect()
}

/// Removes channels and checks that the smaller network with its record answers, to the bit, what the network
/// answers whose consumers read zeros there.
fn check(network: &Network, removal: &Removal, seed: u64) -> Network {
    let weights = common::weights(network, seed);
    let (smaller, record) = remove(network, &weights, removal).unwrap();
    let expected: Vec<&str> = network.parameters().map(|parameter| parameter.key.as_str()).collect();
    let keys: Vec<&str> = smaller.parameters().map(|parameter| parameter.key.as_str()).collect();
    assert_eq!(keys, expected);
    assert_eq!(record.len(), expected.len());
    assert_eq!(smaller.signature(), network.signature());
    let sizes: BTreeMap<String, usize> = Groups::of(network)
        .groups
        .iter()
        .filter(|group| removal.contains_key(&group.name))
        .map(|group| (group.name.clone(), group.channels - removal[&group.name].len()))
        .collect();
    assert_eq!(network::channels::resize(network, &sizes).unwrap(), smaller);

    let inputs = sample(network, seed);
    let masked = masked::run(network, &weights, &inputs, removal);
    let found = masked::run(&smaller, &record, &inputs, &Removal::new());
    assert_eq!(found, masked, "{removal:?} of {}", network::summary(network));
    smaller
}
