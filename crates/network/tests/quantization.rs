//! Integers and back, and every plan or record that cannot be computed.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::collections::BTreeMap;

use common::{network, weights};
use network::quantization::{
    Granularity, dequantize, quantize_weights, quantize_weights_only, quantize_weights_with,
};
use network::{
    Affine, Calibration, CalibrationMethod, Elements, Network, Quantization, Tensor, WeightOnly, Weights,
};
use proptest::prelude::*;
use serde_json::json;

fn small() -> Network {
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

fn plan() -> Quantization {
    Quantization {
        layers: ["conv1", "inner", "fc"].map(str::to_owned).to_vec(),
        activations: ["input", "relu1", "flat"]
            .map(|name| (name.to_owned(), Affine { scale: 0.05, zero_point: 128 }))
            .into(),
        calibration: Some(Calibration {
            method: CalibrationMethod::Percentile,
            percentile: Some(99.99),
            chosen: BTreeMap::new(),
            samples: 512,
            split: "train".to_owned(),
            seed: 7,
        }),
        ..Quantization::default()
    }
}

fn i8s(tensor: &Tensor) -> &[i8] {
    match tensor.elements() {
        Elements::I8(values) => values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn scales_are_per_output_and_ties_go_to_even() {
    let network = network(json!({
        "inputs": [{"name": "input", "shape": [3]}],
        "layers": [{"name": "fc", "type": "dense", "units": 3}],
    }));
    // Column by column: the first has the scale 1, the second 2, the third no weights at all.
    let weight = [127.0, -254.0, 0.0, 0.5, 3.0, 0.0, 1.5, 5.0, -0.0];
    let weights = Weights::from([
        ("fc.weight".to_owned(), Tensor::from_f32(vec![3, 3], weight.to_vec()).unwrap()),
        ("fc.bias".to_owned(), Tensor::from_f32(vec![3], vec![0.25; 3]).unwrap()),
    ]);
    let plan = Quantization { layers: vec!["fc".to_owned()], ..plan() };
    let quantized = quantize_weights(&network, &plan.layers, &weights).unwrap();
    assert_eq!(quantized["fc.scale"].as_f32(), Some(&[1.0, 2.0, 1.0][..]));
    assert_eq!(i8s(&quantized["fc.weight"]), [127, -127, 0, 0, 2, 0, 2, 2, 0]);
    assert_eq!(quantized["fc.bias"], weights["fc.bias"]);
    let back = dequantize(&network, &plan, &quantized).unwrap();
    assert_eq!(back["fc.weight"].as_f32(), Some(&[127.0, -254.0, 0.0, 0.0, 4.0, 0.0, 2.0, 4.0, 0.0][..]));
    assert_eq!(back.keys().collect::<Vec<_>>(), weights.keys().collect::<Vec<_>>());
}

#[test]
fn a_convolution_has_a_scale_per_channel() {
    let (network, plan) = (small(), plan());
    let quantized = quantize_weights(&network, &plan.layers, &weights(&network, 1)).unwrap();
    for key in ["conv1", "inner", "fc"] {
        assert_eq!(quantized[&format!("{key}.scale")].shape(), quantized[&format!("{key}.bias")].shape());
    }
    // Each channel uses the whole range.
    for channel in i8s(&quantized["conv1.weight"]).chunks(2 * 9) {
        assert_eq!(channel.iter().map(|integer| integer.unsigned_abs()).max(), Some(127));
    }
    assert!(quantized["grouped.weight"].as_f32().is_some() && !quantized.contains_key("grouped.scale"));
}

proptest! {
    #[test]
    fn half_a_step_is_the_most_that_is_lost(seed in 0u64..1000, size in -20i32..20) {
        let (network, plan) = (small(), plan());
        let mut weights = weights(&network, seed);
        let values = weights["conv1.weight"].as_f32().unwrap();
        let values: Vec<f32> = values.iter().map(|value| value * 2f32.powi(size)).collect();
        weights.insert("conv1.weight".to_owned(), Tensor::from_f32(vec![3, 2, 3, 3], values.clone()).unwrap());
        let quantized = quantize_weights(&network, &plan.layers, &weights).unwrap();
        plan.check_weights(&network, &quantized).unwrap();
        let back = dequantize(&network, &plan, &quantized).unwrap();
        let (after, scales) = (back["conv1.weight"].as_f32().unwrap(), quantized["conv1.scale"].as_f32().unwrap());
        for (index, (before, after)) in values.iter().zip(after).enumerate() {
            let scale = scales[index / 18];
            prop_assert!((before - after).abs() <= scale * 0.500_001);
            // What an engine does that is given the floats and the scales.
            let integer = (f64::from(*after) / f64::from(scale)).round_ties_even();
            prop_assert_eq!(integer, f64::from(i8s(&quantized["conv1.weight"])[index]));
        }
        // Twice is once.
        let again = dequantize(&network, &plan, &quantize_weights(&network, &plan.layers, &back).unwrap()).unwrap();
        for (a, b) in again["conv1.weight"].as_f32().unwrap().iter().zip(after) {
            prop_assert!((a - b).abs() <= b.abs() * 1e-6);
        }
    }

    #[test]
    fn zero_is_a_byte_of_every_range(a in -1e6f32..1e6, b in -1e6f32..1e6) {
        let (least, most) = (a.min(b), a.max(b));
        let affine = Affine::covering(least, most);
        let value = |byte: u8| (f64::from(byte) - f64::from(affine.zero_point)) * f64::from(affine.scale);
        prop_assert!(affine.scale > 0.0);
        // The zero point is rounded, so either end may be half a step off.
        prop_assert!(value(0) <= f64::from(least.min(0.0)) + 0.501 * f64::from(affine.scale));
        prop_assert!(value(255) >= f64::from(most.max(0.0)) - 0.501 * f64::from(affine.scale));
    }
}

#[test]
fn ranges_without_a_scale_get_one() {
    let cases =
        [(0.0, 0.0), (f32::NAN, f32::NAN), (f32::NEG_INFINITY, 1.0), (0.0, f32::INFINITY), (0.0, 1e-44)];
    for (least, most) in cases {
        assert_eq!(Affine::covering(least, most), Affine { scale: 1.0, zero_point: 0 }, "{least} {most}");
    }
    assert_eq!(Affine::covering(-1.0, -0.5), Affine { scale: 1.0 / 255.0, zero_point: 255 });
}

/// What a case does to a good plan or a good record.
type EditPlan = fn(&mut Quantization);
type EditRecord = fn(&mut Weights);

fn calibration(plan: &mut Quantization) -> &mut Calibration {
    plan.calibration.as_mut().unwrap()
}

fn only(plan: &mut Quantization, layer: &str, bits: u8, block: usize) {
    plan.weight_only.insert(layer.to_owned(), WeightOnly { bits, block });
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let cases: &[(EditPlan, &str)] = &[
        (
            |p| p.layers[0] = "conv9".to_owned(),
            "there is no layer `conv9` to compute in int8; those with weights are `conv1`, `inner`, `grouped`, `bare`, `fc`",
        ),
        (
            |p| p.layers[1] = "relu1".to_owned(),
            "layer `relu1` (relu) cannot compute in int8: only dense and conv2d layers can",
        ),
        (
            |p| p.layers[1] = "grouped".to_owned(),
            "layer `grouped` (conv2d) cannot compute in int8: it has more than one group",
        ),
        (|p| p.layers[1] = "bare".to_owned(), "layer `bare` (conv2d) cannot compute in int8: it has no bias"),
        (|p| p.layers.swap(0, 1), "layer `conv1` is listed twice or out of order"),
        (|p| p.layers[1] = "conv1".to_owned(), "layer `conv1` is listed twice or out of order"),
        (
            |p| p.activations.extend([("logits".to_owned(), Affine { scale: 1.0, zero_point: 0 })]),
            "activation `logits` is no layer and no input of the network",
        ),
        (|p| calibration(p).percentile = None, "calibration: the method percentile needs a `percentile`"),
        (|p| calibration(p).percentile = Some(50.0), "calibration: `percentile` must be above 50"),
        (|p| calibration(p).percentile = Some(f64::NAN), "calibration: `percentile` must be above 50"),
        (
            |p| calibration(p).method = CalibrationMethod::MinMax,
            "calibration: the method min-max has no percentile",
        ),
        (|p| calibration(p).samples = 0, "calibration: `samples` must be at least 1"),
        (
            |p| calibration(p).chosen.extend([("relu1".to_owned(), CalibrationMethod::Mse)]),
            "calibration: the method percentile chooses nothing, but `relu1` has mse",
        ),
        (
            |p| {
                calibration(p).method = CalibrationMethod::Auto;
                calibration(p).chosen.insert("conv1".to_owned(), CalibrationMethod::Mse);
            },
            "calibration: a method was chosen for `conv1`, which has no range",
        ),
        (|p| p.calibration = None, "calibration: there are ranges in `activations`"),
        (
            |p| p.dynamic = vec!["grouped".to_owned()],
            "layer `grouped` is in `dynamic`, but not at that place",
        ),
        (
            |p| p.dynamic = ["fc", "conv1"].map(str::to_owned).to_vec(),
            "layer `conv1` is in `dynamic`, but not at that place in `layers`",
        ),
        (
            |p| only(p, "conv9", 8, 32),
            "layer `conv9` in `weight_only`: there is no such layer; those with weights",
        ),
        (
            |p| only(p, "relu1", 8, 32),
            "layer `relu1` in `weight_only`: only dense and conv2d layers have such",
        ),
        (|p| only(p, "grouped", 5, 32), "layer `grouped` in `weight_only`: `bits` must be 4 or 8, and is 5"),
        (|p| only(p, "grouped", 4, 0), "layer `grouped` in `weight_only`: `block` must be at least 1"),
        (|p| only(p, "fc", 4, 32), "layer `fc` in `weight_only`: it is also in `layers`"),
    ];
    plan().check(&small()).unwrap();
    for (edit, message) in cases {
        let mut plan = plan();
        edit(&mut plan);
        let refusal = plan.check(&small()).unwrap_err().to_string();
        assert!(refusal.starts_with(message), "{refusal}");
    }
    for scale in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        let mut plan = plan();
        plan.activations.insert("relu1".to_owned(), Affine { scale, zero_point: 0 });
        let refusal = plan.check(&small()).unwrap_err().to_string();
        assert!(refusal.starts_with("the scale of activation `relu1` is"), "{scale}: {refusal}");
    }
}

#[test]
fn records_that_lie_are_refused() {
    fn put(weights: &mut Weights, key: &str, shape: &[usize], elements: Elements) {
        weights.insert(key.to_owned(), Tensor::new(shape.to_vec(), elements).unwrap());
    }
    let cases: &[(EditRecord, &str)] = &[
        (|w| drop(w.remove("fc.scale")), "`fc.scale` is missing; it must be FP32 [5]"),
        (|w| drop(w.remove("fc.bias")), "`fc.bias` is missing; it must be FP32 [5]"),
        (|w| drop(w.remove("fc.weight")), "`fc.weight` is missing; it must be INT8 [12, 5]"),
        (
            |w| put(w, "fc.weight", &[12, 5], Elements::F32(vec![1.0; 60])),
            "`fc.weight` is FP32 [12, 5] and must be INT8 [12, 5]",
        ),
        (
            |w| put(w, "fc.weight", &[5, 12], Elements::I8(vec![1; 60])),
            "`fc.weight` is INT8 [5, 12] and must be INT8 [12, 5]",
        ),
        (
            |w| put(w, "inner.weight", &[3, 3, 1, 1], Elements::I8(vec![0, 0, 0, 0, -128, 0, 0, 0, 0])),
            "`inner.weight` is -128 at index 4; int8 weights are from -127 to 127",
        ),
        (
            |w| put(w, "inner.scale", &[1], Elements::F32(vec![1.0])),
            "`inner.scale` is FP32 [1] and must be FP32 [3]",
        ),
        (
            |w| put(w, "inner.scale", &[3], Elements::F64(vec![1.0; 3])),
            "`inner.scale` is FP64 [3] and must be FP32 [3]",
        ),
    ];
    let (network, plan) = (small(), plan());
    let good = quantize_weights(&network, &plan.layers, &weights(&network, 1)).unwrap();
    for (edit, message) in cases {
        let mut record = good.clone();
        edit(&mut record);
        assert_eq!(dequantize(&network, &plan, &record).unwrap_err().to_string(), *message);
    }
    for scale in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40, 3e38] {
        let mut record = good.clone();
        put(&mut record, "inner.scale", &[3], Elements::F32(vec![1.0, scale, 1.0]));
        let refusal = dequantize(&network, &plan, &record).unwrap_err().to_string();
        assert!(refusal.contains("at index 1 and must be a normal number above 0"), "{scale}: {refusal}");
    }
}

#[test]
fn the_greatest_and_the_least_weights_come_back_finite() {
    let (network, plan) = (small(), plan());
    for value in [f32::MAX, f32::MAX / 127.0, f32::MIN_POSITIVE * 127.0, f32::MIN_POSITIVE, f32::from_bits(1)]
    {
        let mut record = weights(&network, 1);
        let values = vec![value, -value, 0.0, value, -value, 0.0, value, -value, 0.0];
        record.insert("inner.weight".to_owned(), Tensor::from_f32(vec![3, 3, 1, 1], values.clone()).unwrap());
        let quantized = quantize_weights(&network, &plan.layers, &record).unwrap();
        let floats = dequantize(&network, &plan, &quantized).unwrap();
        for (before, after) in values.iter().zip(floats["inner.weight"].as_f32().unwrap()) {
            // What is too small for a scale is zero.
            let expected = if value < f32::MIN_POSITIVE * 127.0 { 0.0 } else { *before };
            assert!((after - expected).abs() <= expected.abs() * 1e-6, "{before} {after}");
        }
    }
}

#[test]
fn weights_that_are_no_numbers_are_not_quantized() {
    let network = small();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut record = weights(&network, 1);
        record.insert(
            "inner.weight".to_owned(),
            Tensor::from_f32(vec![3, 3, 1, 1], [[0.5; 8].as_slice(), &[value]].concat()).unwrap(),
        );
        let refusal = quantize_weights(&network, &plan().layers, &record).unwrap_err().to_string();
        assert!(refusal.starts_with("`inner.weight` is") && refusal.contains("at index 8"), "{refusal}");
    }
}

#[test]
fn a_plan_survives_json_and_unknown_fields_do_not() {
    let text = serde_json::to_string(&plan()).unwrap();
    assert_eq!(serde_json::from_str::<Quantization>(&text).unwrap(), plan());
    for place in ["/", "/calibration", "/activations/relu1"] {
        let mut value = serde_json::to_value(plan()).unwrap();
        let object = if place == "/" { &mut value } else { value.pointer_mut(place).unwrap() };
        object["rounding"] = json!("up");
        assert!(serde_json::from_value::<Quantization>(value).is_err(), "{place}");
    }
}

#[test]
fn the_table_tells_the_precision() {
    insta::assert_snapshot!(network::summary_with_precision(&small(), Some(&plan())), @r"
    layer      type      output  parameters  MACs  precision
    input      input     2×4×4
    conv1      conv2d    3×2×2           57   216  int8
    relu1      relu      3×2×2
    block      residual  3×2×2
      inner    conv2d    3×2×2           12    36  int8
      grouped  conv2d    3×2×2            6    12  f32
      bare     conv2d    3×2×2            9    36  f32
    flat       flatten   12
    fc         dense     5               65    60  int8
    total                               149   360
    ");
}

#[test]
fn one_scale_for_a_whole_layer() {
    let (network, plan) = (small(), plan());
    let floats = weights(&network, 3);
    let each = quantize_weights(&network, &plan.layers, &floats).unwrap();
    let one = quantize_weights_with(&network, &plan.layers, &floats, Granularity::PerTensor).unwrap();
    plan.check_weights(&network, &one).unwrap();
    for layer in &plan.layers {
        let key = format!("{layer}.scale");
        let (one, each) = (one[&key].as_f32().unwrap(), each[&key].as_f32().unwrap());
        let greatest = each.iter().copied().fold(0.0, f32::max);
        assert!(each.len() > 1 && one.iter().all(|scale| *scale == greatest), "{layer}: {one:?} {each:?}");
    }
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

#[test]
fn the_steps_of_a_sample_cover_it() {
    for (least, most) in [(0.0, 3.0), (-1.0, 3.0), (-3.0, 1.0), (-1e-3, 0.0), (0.0, 1e30), (-2.0, 2.0)] {
        let affine = Affine::of_sample(least, most);
        assert_eq!(affine.zero_point, if least < 0.0 { 128 } else { 0 });
        let value = |byte: f32| (byte - f32::from(affine.zero_point)) * affine.scale;
        assert!(
            value(0.0) <= least * 0.999_999 && value(255.0) >= most * 0.999_999,
            "{least} {most}: {affine:?}"
        );
        // No coarser than needed: one of the two ends is reached.
        let reached = |end: f32, value: f32| (end - value).abs() <= end.abs() * 1e-6;
        assert!(reached(least, value(0.0)) || reached(most, value(255.0)), "{least} {most}: {affine:?}");
    }
    for (least, most) in [(0.0, 0.0), (0.0, 1e-44), (f32::NAN, f32::NAN)] {
        assert_eq!(Affine::of_sample(least, most), Affine { scale: 1.0, zero_point: 0 });
    }
}

#[test]
fn each_kind_of_layer_has_a_word() {
    let mut plan = plan();
    plan.dynamic = vec!["inner".to_owned()];
    only(&mut plan, "grouped", 8, 32);
    only(&mut plan, "bare", 4, 32);
    plan.check(&small()).unwrap();
    let words = ["conv1", "inner", "grouped", "bare", "relu1"].map(|layer| plan.precision(layer));
    assert_eq!(words, ["int8", "int8 dynamic", "int8 weights", "int4 weights", "f32"]);
    assert!(plan.computes_int8() && !only_weights(4, 32).computes_int8());
}
