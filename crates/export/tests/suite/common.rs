//! Networks, weights and inputs for the comparisons.

use engine::{Options, Plan, Program};
use network::spec::NetworkSpec;
use network::{NamedTensor, Network, Parameter, Quantization, Role, Tensor, Weights, preset};

/// Numbers in [−1, 1) that depend on the seed alone.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| number()).collect()
}

/// Weights whose results neither vanish nor explode; running statistics that matter.
pub(crate) fn weights(network: &Network, seed: u64) -> Weights {
    let tensor = |(index, parameter): (usize, &Parameter)| {
        let mut values = numbers(seed + index as u64, parameter.len());
        let fan_in: usize = match parameter.shape.as_slice() {
            [inputs, _] => *inputs,
            [_, inputs, height, width] => inputs * height * width,
            _ => 1,
        };
        let scale = (3.0 / fan_in as f32).sqrt();
        for value in &mut values {
            *value = match parameter.role {
                Role::RunningVar => 0.3 + value.abs(),
                Role::Gamma => 0.5 + value.abs() / 2.0,
                _ => *value * scale,
            };
        }
        (parameter.key.clone(), Tensor::from_f32(parameter.shape.clone(), values).unwrap())
    };
    network.parameters().enumerate().map(tensor).collect()
}

/// A batch of random samples for every input.
pub(crate) fn inputs(network: &Network, rows: usize, seed: u64) -> Vec<NamedTensor> {
    let input = |(index, input): (usize, &network::spec::InputSpec)| {
        let shape: Vec<usize> = std::iter::once(rows).chain(input.shape.iter().copied()).collect();
        let values = numbers(seed + index as u64, shape.iter().product());
        NamedTensor { name: input.name.clone(), tensor: Tensor::from_f32(shape, values).unwrap() }
    };
    network.spec().inputs.iter().enumerate().map(input).collect()
}

pub(crate) fn slices(inputs: &[NamedTensor]) -> Vec<&[f32]> {
    inputs.iter().map(|input| input.tensor.as_f32().unwrap()).collect()
}

/// What the engine gives for all outputs.
pub(crate) fn engine(
    network: &Network,
    weights: &Weights,
    plan: &Plan,
    inputs: &[NamedTensor],
) -> Vec<Vec<f32>> {
    let program = Program::compile_int8(network, weights, plan, Options::default()).unwrap();
    let rows = inputs[0].tensor.shape()[0];
    let mut outputs: Vec<Vec<f32>> =
        program.outputs().iter().map(|port| vec![f32::NAN; rows * port.values]).collect();
    let mut targets: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    program.run_all(None, &mut program.scratch(), &slices(inputs), rows, &mut targets).unwrap();
    outputs
}

/// The engine's form of a plan. The scales of the weights are those of the record.
pub(crate) fn plan(quantization: &Quantization, weights: &Weights) -> Plan {
    let scales = |layer: &String| {
        let scales = weights[&format!("{layer}.scale")].as_f32().unwrap().to_vec();
        (layer.clone(), scales)
    };
    Plan {
        layers: quantization.layers.iter().map(scales).collect(),
        values: quantization.activations.clone(),
        dynamic: quantization.dynamic.iter().cloned().collect(),
    }
}

/// A preset with the smallest usual samples.
pub(crate) fn preset_network(name: &str) -> Network {
    let input: &[usize] = match name {
        "mlp" => &[13],
        "lenet-300-100" | "lenet5" => &[1, 28, 28],
        "digits-cnn" => &[1, 8, 8],
        _ => &[3, 32, 32],
    };
    Network::new(preset(name, input, 10).unwrap()).unwrap()
}

/// A network from TOML.
pub(crate) fn network(text: &str) -> Network {
    let spec: NetworkSpec = toml::from_str(text).unwrap();
    Network::new(spec).unwrap()
}

/// `max|a − b|` and `max|b|`.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> (f32, f32) {
    assert_eq!(found.len(), expected.len());
    let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let off = found.iter().zip(expected).fold(0.0f32, |off, (a, b)| {
        let off_here = (a - b).abs();
        // What is not a number is infinitely far from everything.
        if off_here.is_nan() { f32::INFINITY } else { off.max(off_here) }
    });
    (off, most)
}
