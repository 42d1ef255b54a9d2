//! Structured pruning as a whole, on the digits and on presets with fresh weights.

mod budgets;
mod criteria;
mod refusals;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use network::channels::Groups;
use network::{NamedTensor, Network, NetworkSpec, Postprocess, Preprocess, Task, Tensor};
use predict::{DeviceSpec, Parts, Predictor};
use train::data::{DataConfig, DataSet, SourceKind, fit_preprocess, load};

use super::*;

/// The digits, read once.
fn digits() -> &'static (DataSet, Preprocess) {
    static DIGITS: OnceLock<(DataSet, Preprocess)> = OnceLock::new();
    DIGITS.get_or_init(|| {
        let config = DataConfig::new(SourceKind::Digits);
        let data = load(&config, 1).unwrap();
        let preprocess = fit_preprocess(&data, &config).unwrap();
        (data, preprocess)
    })
}

/// A network with fresh weights for inputs that need no preparation.
fn parts_of(network: Network) -> Parts {
    let labels = (0..10).map(|class| class.to_string()).collect();
    Parts {
        preprocess: Preprocess::Numbers { shape: network.input_shape().to_vec() },
        postprocess: Postprocess::new(Task::MultiClass, labels),
        weights: model::initial_weights(&network, 7),
        network,
        quantization: None,
    }
}

fn preset(name: &str, input: &[usize]) -> Parts {
    parts_of(Network::new(network::preset(name, input, 10).unwrap()).unwrap())
}

fn network(json: serde_json::Value) -> Network {
    Network::new(serde_json::from_value::<NetworkSpec>(json).unwrap()).unwrap()
}

/// A network for the digits, with fresh weights.
fn for_digits(network: Network) -> Parts {
    Parts { preprocess: digits().1.clone(), ..parts_of(network) }
}

/// The configuration in TOML; no curves unless it asks for them.
fn config(text: &str) -> StructuredConfig {
    let curves = if text.contains("curves") { "" } else { "\n[sensitivity]\ncurves = false" };
    toml::from_str(&format!("{text}{curves}")).unwrap()
}

fn pruned(parts: &Parts, config: &StructuredConfig) -> Pruned {
    prune(parts, &digits().0, config, &mut |_| ()).unwrap()
}

/// What a network answers on the engine.
fn answers(parts: &Parts, rows: usize) -> Vec<f32> {
    let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu).unwrap();
    assert!(predictor.kernels().is_engine());
    let mut shape = vec![rows];
    shape.extend_from_slice(parts.network.input_shape());
    let count: usize = shape.iter().product();
    let values = (0..count).map(|at| ((at * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let name = parts.network.spec().inputs[0].name.clone();
    let tensor = Tensor::from_f32(shape, values).unwrap();
    let outputs = predictor.infer(&[NamedTensor { name, tensor }]).unwrap();
    outputs[0].tensor.as_f32().unwrap().to_vec()
}

/// How many filters each group has left.
fn left(pruned: &Pruned) -> BTreeMap<&str, usize> {
    pruned.groups.iter().map(|group| (group.name.as_str(), group.after)).collect()
}

/// The share of the multiply–accumulates that is left with some groups at other sizes.
fn share_of_macs(whole: &Network, sizes: &BTreeMap<String, usize>) -> f64 {
    let smaller = network::channels::resize(whole, sizes).unwrap();
    smaller.macs() as f64 / whole.macs() as f64
}

fn groups_of(parts: &Parts) -> Groups {
    Groups::of(&parts.network)
}
