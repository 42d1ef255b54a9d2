//! Weights of few bits in blocks: integers and back, and every record that cannot be.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{i8s, network, small, weights};
use network::quantization::{dequantize, quantize_weights_only};
use network::{Elements, Quantization, Tensor, WeightOnly, Weights};
use proptest::prelude::*;
use serde_json::json;

type EditRecord = fn(&mut Weights);

fn only(plan: &mut Quantization, layer: &str, bits: u8, block: usize) {
    plan.weight_only.insert(layer.to_owned(), WeightOnly { bits, block });
}

/// Every layer with weights as integers in blocks; what has groups or no bias too.
fn only_weights(bits: u8, block: usize) -> Quantization {
    let mut plan = Quantization::default();
    for layer in ["conv1", "inner", "grouped", "bare", "fc"] {
        only(&mut plan, layer, bits, block);
    }
    plan
}

#[test]
fn scales_of_blocks_run_along_the_inputs_of_an_output() {
    let network = network(json!({
        "inputs": [{"name": "input", "shape": [3]}],
        "layers": [{"name": "fc", "type": "dense", "units": 2, "bias": false}],
    }));
    // The first output has 4, 14 | 0, the second 0.5, −1 | 21: the second block is what is left.
    let weight = Tensor::from_f32(vec![3, 2], vec![4.0, 0.5, 14.0, -1.0, 0.0, 21.0]).unwrap();
    let floats = Weights::from([("fc.weight".to_owned(), weight)]);
    let mut plan = Quantization::default();
    only(&mut plan, "fc", 4, 2);
    let record = quantize_weights_only(&network, &plan.weight_only, &floats).unwrap();
    assert_eq!((record["fc.scale"].shape(), record["fc.weight"].shape()), (&[2, 2][..], &[3, 2][..]));
    let scales = record["fc.scale"].as_f32().unwrap();
    assert_eq!((scales[0], scales[1], scales[3]), (2.0, 1.0, 3.0));
    assert_eq!(i8s(&record["fc.weight"])[4..], [0, 7]);
    let back = dequantize(&network, &plan, &record).unwrap();
    let back = back["fc.weight"].as_f32().unwrap();
    assert_eq!((back[4], back[5]), (0.0, 21.0));
    let shapes = plan.scale_shapes(&network);
    assert_eq!(shapes.into_iter().collect::<Vec<_>>(), [("fc", vec![2, 2])]);
}

proptest! {
    #[test]
    fn integers_in_blocks_come_back_near(seed in 0u64..200, block in 1usize..40, four in any::<bool>()) {
        let (network, bits) = (small(), if four { 4 } else { 8 });
        let plan = only_weights(bits, block);
        plan.check(&network).unwrap();
        let floats = weights(&network, seed);
        let record = quantize_weights_only(&network, &plan.weight_only, &floats).unwrap();
        plan.check_weights(&network, &record).unwrap();
        let back = dequantize(&network, &plan, &record).unwrap();
        prop_assert_eq!(back.keys().collect::<Vec<_>>(), floats.keys().collect::<Vec<_>>());
        let most = if four { 7 } else { 127 };
        for layer in plan.weight_only.keys() {
            let key = format!("{layer}.weight");
            prop_assert!(i8s(&record[&key]).iter().all(|integer| (-most..=most).contains(integer)));
            let (before, after) = (floats[&key].as_f32().unwrap(), back[&key].as_f32().unwrap());
            let error = |after: &[f32]| -> f64 {
                before.iter().zip(after).map(|(a, b)| f64::from(a - b).powi(2)).sum()
            };
            // No more than rounding to the nearest of steps that reach the greatest weight.
            let greatest = before.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let step = f64::from(greatest) / f64::from(most);
            prop_assert!(error(after) <= before.len() as f64 * (step / 2.0).powi(2) * 1.001, "{}", layer);
        }
    }
}

#[test]
fn records_in_blocks_that_lie_are_refused() {
    fn put(weights: &mut Weights, key: &str, shape: &[usize], elements: Elements) {
        weights.insert(key.to_owned(), Tensor::new(shape.to_vec(), elements).unwrap());
    }
    let cases: &[(EditRecord, &str)] = &[
        (|w| drop(w.remove("bare.scale")), "`bare.scale` is missing; it must be FP32 [3, 1]"),
        (
            |w| put(w, "conv1.scale", &[3], Elements::F32(vec![1.0; 3])),
            "`conv1.scale` is FP32 [3] and must be FP32 [3, 3]",
        ),
        (
            |w| put(w, "grouped.weight", &[3, 1, 1, 1], Elements::I8(vec![7, -8, 0])),
            "`grouped.weight` is -8 at index 1; int4 weights are from -7 to 7",
        ),
        (
            |w| put(w, "grouped.weight", &[3, 1, 1, 1], Elements::F32(vec![7.0; 3])),
            "`grouped.weight` is FP32 [3, 1, 1, 1] and must be INT8 [3, 1, 1, 1]",
        ),
        (|w| drop(w.remove("fc.bias")), "`fc.bias` is missing; it must be FP32 [5]"),
    ];
    let (network, plan) = (small(), only_weights(4, 8));
    let good = quantize_weights_only(&network, &plan.weight_only, &weights(&network, 1)).unwrap();
    dequantize(&network, &plan, &good).unwrap();
    for (edit, message) in cases {
        let mut record = good.clone();
        edit(&mut record);
        assert_eq!(dequantize(&network, &plan, &record).unwrap_err().to_string(), *message);
    }
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40, 1e38] {
        let mut record = good.clone();
        put(&mut record, "bare.scale", &[3, 1], Elements::F32(vec![1.0, 1.0, scale]));
        let refusal = dequantize(&network, &plan, &record).unwrap_err().to_string();
        assert!(refusal.contains("`bare.scale`") && refusal.contains("at index 2"), "{scale}: {refusal}");
    }
    let mut record = weights(&network, 1);
    put(&mut record, "bare.weight", &[3, 3, 1, 1], Elements::F32(vec![f32::NAN; 9]));
    let refusal = quantize_weights_only(&network, &plan.weight_only, &record).unwrap_err().to_string();
    assert!(refusal.starts_with("`bare.weight` is NaN at index 0"), "{refusal}");
}

/// What packages of format 1.2 say must mean the same for ever.
#[test]
fn a_plan_is_read_as_it_was_written() {
    let text = r#"{
        "layers": ["conv1", "fc"], "activations": {}, "dynamic": ["conv1", "fc"],
        "weight_only": {"bare": {"bits": 4, "block": 32}, "grouped": {"bits": 8, "block": 16}}
    }"#;
    let mut plan =
        Quantization { layers: ["conv1", "fc"].map(str::to_owned).to_vec(), ..Quantization::default() };
    plan.dynamic.clone_from(&plan.layers);
    only(&mut plan, "bare", 4, 32);
    only(&mut plan, "grouped", 8, 16);
    plan.check(&small()).unwrap();
    assert_eq!(serde_json::from_str::<Quantization>(text).unwrap(), plan);
    assert_eq!(
        serde_json::to_value(&plan).unwrap(),
        serde_json::from_str::<serde_json::Value>(text).unwrap()
    );
    // A program that does not know such a field refuses it, and this one refuses what it does not know.
    let more = text.replace("\"bits\": 4", "\"bits\": 4, \"zero\": 1");
    assert!(serde_json::from_str::<Quantization>(&more).is_err());
}
