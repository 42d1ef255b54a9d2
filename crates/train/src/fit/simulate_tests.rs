//! Rounding by hand, its gradients, and what learns the ranges.

use network::Quantization;
use network::quantization::{dequantize, quantize_weights};

use super::*;

fn row(values: &[f32], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), device)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

fn simulation(rule: RangeRule, affine: Affine) -> Simulation {
    let activations = [("a".to_owned(), affine)].into();
    Simulation::new(&FakeQuantization {
        layers: BTreeSet::from(["fc".to_owned()]),
        activations,
        ranges: rule,
        freeze_after: 1.0,
    })
}

const BYTES: Affine = Affine { scale: 0.5, zero_point: 10 };

#[test]
fn values_become_whole_steps_and_those_beyond_get_no_gradient() {
    let device = Device::flex().autodiff();
    // From (0 − 10) / 2 to (255 − 10) / 2; ties go to the even byte.
    let values = row(&[-7.0, -5.0, 0.2, 0.25, 0.75, 3.3, 122.5, 130.0], &device).require_grad();
    let simulation = simulation(RangeRule::MovingAverage { momentum: 0.5 }, BYTES);
    let steps = Steps::new();
    let rounding = simulation.train(&steps);
    let rounded = rounding.value("a", values.clone().into()).flatten();
    assert_eq!(read(rounded.clone()), [-5.0, -5.0, 0.0, 0.0, 1.0, 3.5, 122.5, 122.5]);
    let gradients = (rounded * row(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &device)).sum().backward();
    let gradient = read(values.grad(&gradients).unwrap());
    assert_eq!(gradient, [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.0]);
    // Without gradients it is the same, and what has no range stays as it is.
    let plain = row(&[-7.0, 3.3], &Device::flex());
    assert_eq!(read(simulation.look().value("a", plain.clone().into()).flatten()), [-5.0, 3.5]);
    assert_eq!(read(simulation.look().value("b", plain.into()).flatten()), [-7.0, 3.3]);
}

#[test]
fn ranges_follow_the_batches_until_they_are_frozen() {
    let simulation =
        simulation(RangeRule::MovingAverage { momentum: 0.75 }, Affine { scale: 0.1, zero_point: 0 });
    let device = Device::flex();
    let steps = Steps::new();
    let see = |values: &[f32]| {
        let rounding = simulation.train(&steps);
        rounding.value("a", row(values, &device).into());
        let seen: Vec<(usize, [f32; 2])> = rounding
            .seen()
            .into_iter()
            .map(Seen::parts)
            .map(|(place, ends)| (place, read(ends).try_into().unwrap()))
            .collect();
        simulation.follow(&seen);
        seen
    };
    // 0.75 · 25.5 + 0.25 · 51 = 31.875, of which a byte is 0.125; 0.75 · 0 − 0.25 · 0 stays.
    assert_eq!(see(&[0.0, 51.0, 3.0]), [(0, [0.0, 51.0])]);
    assert_eq!(simulation.activations()["a"], Affine { scale: 0.125, zero_point: 0 });
    see(&[f32::NAN, 1.0]);
    assert_eq!(
        simulation.activations()["a"],
        Affine { scale: 0.125, zero_point: 0 },
        "no number is no range"
    );
    simulation.freeze(&steps).unwrap();
    assert!(see(&[0.0, 1000.0]).is_empty());
    assert_eq!(simulation.activations()["a"], Affine { scale: 0.125, zero_point: 0 });
}

/// LSQ, equation 3: the derivative by the step is `round(x / s) − x / s` inside and the bound outside; by its
/// logarithm `s` times that.
#[test]
fn a_learned_step_has_the_gradient_of_the_paper() {
    let device = Device::flex().autodiff();
    let simulation = simulation(RangeRule::Learned, BYTES);
    let steps = simulation.steps(&device);
    let inputs = [-7.0f32, 0.6, 3.3, 130.0];
    let values = row(&inputs, &device).require_grad();
    let rounded = simulation.train(&steps).value("a", values.clone().into()).flatten();
    let close = |a: &[f32], b: &[f32]| {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
    };
    close(&read(rounded.clone()), &[-5.0, 0.5, 3.5, 122.5]);
    let gradients = rounded.sum().backward();
    close(&read(values.grad(&gradients).unwrap()), &[0.0, 1.0, 1.0, 0.0]);
    let by_step = -10.0 + (1.0 - 1.2) + (7.0 - 6.6) + 245.0;
    let share = 1.0 / (4.0f32 * 255.0).sqrt();
    let found = read(steps[0].val().grad(&gradients).unwrap());
    assert!((found[0] - 0.5 * share * by_step).abs() < 1e-3, "{found:?}");
    // What looks afterwards sees the learned step.
    simulation.take(&steps).unwrap();
    assert!((simulation.activations()["a"].scale - 0.5).abs() < 1e-6);
}

#[test]
fn weights_are_rounded_as_they_will_be_packed() {
    let network = Network::new(network::preset("digits-cnn", &[1, 8, 8], 10).unwrap()).unwrap();
    let (network, weights) =
        network::fold::fold_batch_norm(&network, &model::initial_weights(&network, 5)).unwrap();
    let layers: Vec<String> = ["conv1", "conv2", "conv3", "fc1", "fc2"].map(str::to_owned).to_vec();
    let (network, weights) = network::fold::with_biases(&network, &weights).unwrap();
    let quantized = quantize_weights(&network, &layers, &weights).unwrap();
    let plan = Quantization {
        layers: layers.clone(),
        activations: BTreeMap::new(),
        calibration: None,
        dynamic: Vec::new(),
        weight_only: BTreeMap::new(),
    };
    let packed = dequantize(&network, &plan, &quantized).unwrap();
    let simulation = Simulation::new(&FakeQuantization {
        layers: layers.into_iter().collect(),
        activations: BTreeMap::new(),
        ranges: RangeRule::Learned,
        freeze_after: 0.0,
    });
    let rounding = simulation.look();
    let device = Device::flex().autodiff();
    for (key, tensor) in weights.iter().filter(|(key, _)| key.ends_with(".weight")) {
        let layer = key.trim_end_matches(".weight");
        let values = TensorData::new(tensor.as_f32().unwrap().to_vec(), tensor.shape().to_vec());
        let found = match tensor.shape().len() {
            2 => read(rounding.dense_weight(layer, Tensor::from_data(values, &device))),
            _ => read(rounding.conv_weight(layer, Tensor::from_data(values, &device))),
        };
        let expected = packed[key].as_f32().unwrap();
        let apart = found.iter().zip(expected).filter(|(a, b)| (**a - **b).abs() > 1e-6 * b.abs()).count();
        assert_eq!(apart, 0, "{key}");
    }
    // An output without weights stays without.
    let zeros = Tensor::<2>::zeros([3, 2], &device);
    assert_eq!(read(rounding.dense_weight("fc1", zeros)), [0.0; 6]);
}
