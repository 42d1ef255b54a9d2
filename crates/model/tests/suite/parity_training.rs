//! One training step, on every device beside the CPU.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use model::{DeviceSpec, Draws, Net, Value};
use network::{Network, Weights};

use crate::autodiff::GradientReader;
use crate::{numbers, tolerance};

const ROWS: usize = 8;
const CLASSES: usize = 4;

/// What a step gives: the loss, the gradients, and the weights with their running statistics after it.
struct Step {
    loss: f64,
    gradients: Vec<(String, Vec<f32>)>,
    weights: Weights,
}

fn step(device: DeviceSpec, network: &Network) -> Step {
    let device = device.open().unwrap().autodiff();
    let weights = model::initial_weights(network, 3);
    let net = Net::from_weights(network, &weights, &device).unwrap();
    let shape: Vec<usize> = std::iter::once(ROWS).chain(network.input_shape().iter().copied()).collect();
    let input = Value::from_vec(numbers(4, shape.iter().product()), &shape, &device).unwrap();
    let targets = TensorData::new(numbers(5, ROWS * CLASSES), [ROWS, CLASSES]);
    let draws = Draws { seed: 1, epoch: 0, step: 0 };
    let errors = net.forward_train(input, &draws) - Tensor::<2>::from_data(targets, &device);
    let loss = (errors.clone() * errors).mean();
    let mut gradients = loss.backward();
    let mut reader = GradientReader { gradients: &mut gradients, path: Vec::new(), found: Vec::new() };
    net.visit(&mut reader);
    let gradients = reader.found;
    let loss = f64::from(loss.into_scalar::<f32>());
    Step { loss, gradients, weights: net.weights().unwrap() }
}

/// `largest difference / largest value`; gradients of one tensor have one scale.
fn relative(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-6f32, |scale, value| scale.max(value.abs()));
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // A difference that is no number must not pass for a small one, and stays whatever follows.
    let larger = |a: f32, b: f32| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) };
    apart.fold(0.0, larger) / scale
}

/// The loss agrees to 1e-4 of its value, gradients and running statistics to 1e-3 of the tensor's largest
/// value: a step adds up a batch of products in whatever order the device likes, forwards and backwards. Where
/// products are TF32, both are 100 times and 20 times as much.
#[test]
fn a_training_step_of_two_presets() {
    for (name, shape) in [("mlp", &[6][..]), ("digits-cnn", &[1, 8, 8])] {
        let network = Network::new(network::preset(name, shape, CLASSES).unwrap()).unwrap();
        let expected = step(DeviceSpec::Flex, &network);
        assert!(expected.loss.is_finite() && expected.loss > 0.0);
        assert!(expected.gradients.len() >= 4);
        for device in DeviceSpec::available() {
            let found = step(device, &network);
            let difference = (found.loss - expected.loss).abs();
            assert!(
                difference <= tolerance(device, 1e-4) * expected.loss,
                "{device}: {name}: loss {} {}",
                found.loss,
                expected.loss
            );
            assert_eq!(found.gradients.len(), expected.gradients.len());
            for ((key, found), (same, expected)) in found.gradients.iter().zip(&expected.gradients) {
                assert_eq!(key, same);
                let apart = relative(found, expected);
                assert!(
                    f64::from(apart) <= 2.0 * tolerance(device, 5e-4),
                    "{device}: {name}: the gradient of {key} is {apart} apart"
                );
            }
            for (key, expected) in &expected.weights {
                let apart = relative(found.weights[key].as_f32().unwrap(), expected.as_f32().unwrap());
                assert!(
                    f64::from(apart) <= 2.0 * tolerance(device, 5e-4),
                    "{device}: {name}: {key} is {apart} apart"
                );
            }
        }
    }
}
