//! What the examples measure: presets with random weights, samples, and int8 plans for them.

use std::collections::BTreeMap;

use engine::{Affine, Plan, Program};
use network::{Network, Tensor, Weights};

/// Numbers in [−1, 1) without a pattern.
pub(crate) fn numbers(mut state: u64, count: usize) -> Vec<f32> {
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| number()).collect()
}

/// Weights whose results neither vanish nor explode.
pub(crate) fn weights(network: &Network) -> Weights {
    let tensor = |(index, parameter): (usize, &network::Parameter)| {
        let mut values = numbers(index as u64 + 1, parameter.len());
        let fan_in = (parameter.len() / parameter.shape[0]).max(1);
        let scale = (3.0 / fan_in as f32).sqrt();
        let positive = parameter.role == network::Role::RunningVar;
        values.iter_mut().for_each(|v| *v = if positive { 0.5 + v.abs() } else { *v * scale });
        let tensor = Tensor::from_f32(parameter.shape.clone(), values).ok()?;
        Some((parameter.key.clone(), tensor))
    };
    network.parameters().enumerate().filter_map(tensor).collect()
}

/// Everything that has weights in int8, with the ranges of these samples.
pub(crate) fn plan(
    network: &Network,
    program: &Program,
    batch: &[f32],
    rows: usize,
) -> Result<Plan, engine::RunError> {
    let mut ranges: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    let mut widen = |name: &str, values: &[f32]| {
        let range = ranges.entry(name.to_owned()).or_insert((0.0, 0.0));
        values.iter().for_each(|&value| *range = (range.0.min(value), range.1.max(value)));
    };
    program.observe(&[batch], rows, &mut widen)?;
    let with_weights = network.layers().iter().filter(|info| matches!(info.type_name, "dense" | "conv2d"));
    let affine = |(name, (low, high)): (&String, &(f32, f32))| (name.clone(), Affine::covering(*low, *high));
    Ok(Plan {
        layers: with_weights.map(|info| (info.name.clone(), Vec::new())).collect(),
        values: ranges.iter().map(affine).collect(),
        ..Plan::default()
    })
}
