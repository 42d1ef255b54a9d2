//! Compiled programs against the definitions, on every tier that the processor has.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bf16;
mod dynamic;
mod int8;
mod presets;
mod profile;
mod random_networks;
#[path = "../../../network/tests/common/reference.rs"]
mod reference;
mod simulated;
mod threads;
mod wiring;

use engine::{Isa, Options, Program};
use network::{Network, Weights};

/// Numbers in [−1, 1) that depend on the seed alone.
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

/// Weights whose results neither vanish nor explode; running statistics that matter.
fn busy_weights(network: &Network) -> Weights {
    let tensor = |(index, parameter): (usize, &network::Parameter)| {
        let mut values = numbers(index as u64 + 100, parameter.len());
        let fan_in: usize = match parameter.shape.as_slice() {
            [inputs, _] => *inputs,
            [_, inputs, height, width] => inputs * height * width,
            _ => 1,
        };
        let scale = (3.0 / fan_in as f32).sqrt();
        values.iter_mut().for_each(|value| *value *= scale);
        match parameter.role {
            network::Role::RunningVar => values.iter_mut().for_each(|value| *value = 0.3 + value.abs()),
            network::Role::Gamma => values.iter_mut().for_each(|value| *value = 0.5 + value.abs() / 2.0),
            _ => {}
        }
        (parameter.key.clone(), network::Tensor::from_f32(parameter.shape.clone(), values).unwrap())
    };
    network.parameters().enumerate().map(tensor).collect()
}

/// Every tier that the processor has.
fn tiers() -> impl Iterator<Item = Isa> {
    Isa::ALL.iter().copied().filter(|isa| isa.is_available())
}

/// Those that differ in f32.
fn float_tiers() -> impl Iterator<Item = Isa> {
    tiers().filter(|isa| *isa <= Isa::Avx512)
}

fn run(program: &Program, input: &[f32], rows: usize) -> Vec<f32> {
    let mut output = vec![f32::NAN; rows * program.outputs()[0].values];
    program.run(&mut program.scratch(), input, rows, &mut output).unwrap();
    output
}

/// `max|a − b| ≤ tolerance · max|b|` for each sample.
fn assert_close(found: &[f32], expected: &[f64], per_row: usize, tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (row, (found, expected)) in found.chunks(per_row).zip(expected.chunks(per_row)).enumerate() {
        let most = expected.iter().fold(1e-3f64, |most, value| most.max(value.abs()));
        for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let difference = (f64::from(found) - expected).abs();
            assert!(
                difference <= tolerance * most,
                "{what}, row {row}, value {index}: {found} instead of {expected}, off by {:e} of {most}",
                difference / most
            );
        }
    }
}

/// Compiles for every tier, runs `rows` random samples and compares with the definitions.
fn check(network: &Network, rows: usize, tolerance: f64, what: &str) {
    let weights = busy_weights(network);
    let size: usize = network.input_shape().iter().product();
    let batch = numbers(rows as u64, rows * size);
    let expected: Vec<f64> =
        batch.chunks(size).flat_map(|sample| reference::run(network, &weights, sample)).collect();
    let per_row = expected.len() / rows;
    for isa in float_tiers() {
        for direct in [false, true] {
            let options = Options::default().with_isa(isa).with_direct(direct);
            let program = Program::compile(network, &weights, options).unwrap();
            let found = run(&program, &batch, rows);
            assert_close(&found, &expected, per_row, tolerance, &format!("{what} ({isa}, direct {direct})"));
        }
    }
}
