//! Dynamic int8: a range for each sample, the same answer alone and in any batch, on every tier, to the last bit.

use std::collections::BTreeMap;

use engine::{Affine, Isa, Options, Plan, Pool, Program};
use network::spec::Op;
use network::{Network, Weights, preset};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::simulated::{Bytes, byte, greatest, sums};
use crate::{busy_weights, int8, numbers, run, simulated};

/// Every layer with weights, without a range.
fn plan(network: &Network) -> Plan {
    let with_weights = network.layers().iter().filter(|info| matches!(info.type_name, "dense" | "conv2d"));
    let layers: BTreeMap<String, Vec<f32>> =
        with_weights.map(|info| (info.name.clone(), Vec::new())).collect();
    Plan { dynamic: layers.keys().cloned().collect(), layers, ..Plan::default() }
}

fn every_tier() -> impl Iterator<Item = Isa> {
    Isa::ALL.iter().copied().filter(|isa| isa.is_available())
}

fn compile(network: &Network, weights: &Weights, plan: &Plan, isa: Isa) -> Program {
    Program::compile_int8(network, weights, plan, Options::default().with_isa(isa)).unwrap()
}

/// Runs a chain of products, each with rectifiers and 2×2 maxima behind it, on floats in between.
fn simulate(network: &Network, weights: &Weights, sample: &[f32]) -> Vec<f32> {
    let mut size: [usize; 3] = network.input_shape().to_vec().try_into().unwrap();
    let mut values = sample.to_vec();
    let mut layers = network.spec().layers.iter().peekable();
    while let Some(layer) = layers.next() {
        if matches!(layer.op, Op::Flatten(_)) {
            continue;
        }
        let get = |parameter: &str| weights[&format!("{}.{parameter}", layer.name)].as_f32().unwrap();
        let least = values.iter().copied().fold(0.0, f32::min);
        let affine = Affine::of_sample(least, values.iter().copied().fold(0.0, f32::max));
        let bytes = values.iter().map(|value| byte(value * (1.0 / affine.scale), affine)).collect();
        let input = Bytes { size, values: bytes, affine };
        let (bias, weight) = (get("bias"), get("weight"));
        let (output, whole, _) = sums(&layer.op, weight, &vec![0.0; bias.len()], &input);
        let plane = output[1] * output[2];
        let scale = |channel: usize| -> f32 {
            let own: Vec<f32> = match layer.op {
                Op::Dense(_) => weight.iter().skip(channel).step_by(bias.len()).copied().collect(),
                _ => weight.chunks(weight.len() / bias.len()).nth(channel).unwrap().to_vec(),
            };
            let most = own.iter().fold(0.0f64, |most, weight| most.max(f64::from(weight.abs())));
            (most / 127.0) as f32
        };
        let scales: Vec<f32> = (0..bias.len()).map(scale).collect();
        let value =
            |(at, &sum): (usize, &i64)| sum as f32 * (affine.scale * scales[at / plane]) + bias[at / plane];
        (size, values) = (output, whole.iter().enumerate().map(value).collect());
        while let Some(next) = layers.next_if(|next| matches!(next.op, Op::Relu(_) | Op::MaxPool2d(_))) {
            match next.op {
                Op::Relu(_) => values.iter_mut().for_each(|value| *value = value.max(0.0)),
                _ => (size, values) = greatest(size, &values),
            }
        }
    }
    values
}

/// Samples of very different sizes, some of them without a negative value, so that zero points differ too.
fn batch(seed: u64, rows: usize, size: usize) -> Vec<f32> {
    let mut values = numbers(seed, rows * size);
    for (row, sample) in values.chunks_mut(size).enumerate() {
        let factor = 10f32.powi(row as i32 % 5 - 2);
        sample.iter_mut().for_each(|value| *value *= factor);
        if row % 3 == 1 {
            sample.iter_mut().for_each(|value| *value = value.abs());
        }
    }
    values
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, rng_seed: RngSeed::Fixed(23), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn every_tier_gives_what_the_definition_says(spec in simulated::spec(), rows in 1..7usize) {
        let Ok(network) = Network::new(spec) else { return Ok(()) };
        let weights = busy_weights(&network);
        let size: usize = network.input_shape().iter().product();
        let batch = batch(29, rows, size);
        let expected: Vec<f32> =
            batch.chunks(size).flat_map(|sample| simulate(&network, &weights, sample)).collect();
        for isa in every_tier() {
            let found = run(&compile(&network, &weights, &plan(&network), isa), &batch, rows);
            prop_assert_eq!(&found, &expected, "{}: {:?}", isa, network.spec());
        }
    }

    /// Blocks with additions, and layers in between that stay floats or have fixed ranges. An activation that is no
    /// straight line is as exact as a tier's floats, so there is none.
    #[test]
    fn a_sample_is_answered_alike_alone_and_in_any_batch(spec in int8::spec(), rows in 2..9usize, mix in 0..3usize) {
        let Ok(network) = Network::new(spec) else { return Ok(()) };
        let weights = busy_weights(&network);
        let size: usize = network.input_shape().iter().product();
        let batch = batch(31, rows, size);
        let mut plan = plan(&network);
        let fixed = int8::plan(&network, &weights, &batch, rows);
        plan.values = fixed.values;
        let mut number = 0;
        plan.dynamic.retain(|_| { number += 1; mix == 0 || number % 2 == mix % 2 });
        let mut first: Option<Vec<f32>> = None;
        for isa in every_tier() {
            let program = compile(&network, &weights, &plan, isa);
            let found = run(&program, &batch, rows);
            let alone: Vec<f32> = batch.chunks(size).flat_map(|sample| run(&program, sample, 1)).collect();
            prop_assert_eq!(&found, &alone, "{}: {:?}", isa, network.spec());
            prop_assert_eq!(&found, first.get_or_insert_with(|| found.clone()), "{}: {:?}", isa, network.spec());
        }
    }
}

#[test]
fn threads_that_share_a_step_agree() {
    let pool = Pool::new(3);
    for name in ["keras-cnn", "lenet-300-100"] {
        let input: &[usize] = if name == "keras-cnn" { &[3, 32, 32] } else { &[1, 28, 28] };
        let network = Network::new(preset(name, input, 10).unwrap()).unwrap();
        let (weights, plan) = (busy_weights(&network), plan(&network));
        let program = Program::compile_int8(&network, &weights, &plan, Options::default()).unwrap();
        let size: usize = input.iter().product();
        for rows in [1, 2, 40] {
            let batch = batch(5, rows, size);
            let mut found = vec![f32::NAN; rows * 10];
            let mut scratch = program.scratch_for(3);
            program.run_all(Some(&pool), &mut scratch, &[&batch], rows, &mut [&mut found]).unwrap();
            assert_eq!(found, run(&program, &batch, rows), "{name}, {rows} rows");
        }
    }
}

#[test]
fn it_stays_close_to_floats_whatever_the_size_of_the_samples() {
    let network = Network::new(preset("digits-cnn", &[1, 8, 8], 10).unwrap()).unwrap();
    let weights = busy_weights(&network);
    let batch = batch(7, 40, 64);
    let exact = run(&Program::compile(&network, &weights, Options::default()).unwrap(), &batch, 40);
    // Normalisation belongs to the weights whose scales are not given.
    let program = Program::compile_int8(&network, &weights, &plan(&network), Options::default()).unwrap();
    let methods: Vec<String> = program.steps().into_iter().map(|step| step.method).collect();
    assert!(methods.iter().any(|method| method == "direct dynamic int8"), "{methods:?}");
    for (exact, found) in exact.chunks(10).zip(run(&program, &batch, 40).chunks(10)) {
        let most = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let off = exact.iter().zip(found).fold(0.0f32, |off, (a, b)| off.max((a - b).abs()));
        assert!(off > 0.0 && off < 0.1 * most, "off by {off} of {most}");
    }
}

#[test]
fn a_sample_that_is_no_number_has_no_answer_and_harms_no_other() {
    let network = Network::new(preset("lenet-300-100", &[1, 28, 28], 10).unwrap()).unwrap();
    let weights = busy_weights(&network);
    for isa in every_tier() {
        let program = compile(&network, &weights, &plan(&network), isa);
        let mut batch = numbers(3, 4 * 784);
        let good = run(&program, &batch, 4);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [784, 784 + 391, 2 * 784 - 1] {
                let kept = std::mem::replace(&mut batch[at], wrong);
                let found = run(&program, &batch, 4);
                assert!(found[10..20].iter().all(|value| value.is_nan()), "{isa}: {found:?}");
                assert_eq!((&found[..10], &found[20..]), (&good[..10], &good[20..]), "{isa}");
                batch[at] = kept;
            }
        }
        // Nothing but zeros has no range, and that is none's fault.
        assert!(run(&program, &[0.0; 784], 1).iter().all(|value| value.is_finite()));
    }
}
