//! Tests of the built networks, from outside.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod autodiff;
mod parity;
mod parity_training;
mod random_networks;
mod record;
#[path = "../../../network/tests/common/reference.rs"]
mod reference;
mod training;

use model::{DeviceSpec, Net};
use network::{Network, NetworkSpec, Weights};

fn network(json: &str) -> Network {
    let spec: NetworkSpec = serde_json::from_str(json).unwrap();
    Network::new(spec).unwrap()
}

/// Runs a batch of the first input on the CPU: `[rows, outputs]`, row after row.
fn run(network: &Network, weights: &Weights, batch: &[f32]) -> Vec<f32> {
    run_on(DeviceSpec::Cpu, network, weights, batch)
}

fn run_on(device: DeviceSpec, network: &Network, weights: &Weights, batch: &[f32]) -> Vec<f32> {
    let device = device.open().unwrap();
    let net = Net::from_weights(network, weights, &device).unwrap();
    let size: usize = network.input_shape().iter().product();
    let shape: Vec<usize> =
        std::iter::once(batch.len() / size).chain(network.input_shape().iter().copied()).collect();
    let value = model::Value::from_vec(batch.to_vec(), &shape, &device).unwrap();
    net.forward(value).try_into_vec_as::<f32>().unwrap()
}

/// Numbers without a pattern, in about ±1.5, and different for every call's `seed`.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 * 3.0 - 1.5
    };
    (0..count).map(|_| next()).collect()
}

/// Weights without a pattern: none of them 0 or 1, variances above 0.
fn busy_weights(network: &Network) -> Weights {
    let parameters = network.parameters().enumerate();
    let tensor = |(index, parameter): (usize, &network::Parameter)| {
        let mut values = numbers(index as u64 + 100, parameter.len());
        if parameter.role == network::Role::RunningVar {
            values.iter_mut().for_each(|value| *value = 0.3 + value.abs());
        }
        (parameter.key.clone(), network::Tensor::from_f32(parameter.shape.clone(), values).unwrap())
    };
    parameters.map(tensor).collect()
}

/// How far a device may be from a reference that calculates in 64 bits, where a CPU may be `exact` apart. CUDA
/// may take the tensor cores for products, which round 32-bit factors to TF32: 11 significant bits.
fn tolerance(device: DeviceSpec, exact: f64) -> f64 {
    if matches!(device, DeviceSpec::Cuda(_)) { exact.max(1e-2) } else { exact }
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(found) - expected).abs();
        assert!(
            difference <= tolerance * expected.abs().max(1.0),
            "{what}[{index}]: {found} instead of {expected}"
        );
    }
}
