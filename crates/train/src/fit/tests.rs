//! Burn's optimizers keep their state through a checkpoint, and gradients are clipped together.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use model::Net;
use network::Network;

use super::*;
use crate::config::OptimizerConfig;

fn net() -> (Net, Device) {
    let network = Network::new(network::preset("mlp", &[3], 2).unwrap()).unwrap();
    let device = Device::flex().autodiff();
    (Net::init(&network, 1, &device).unwrap(), device)
}

fn gradients(net: &Net, device: &Device) -> GradientsParams {
    let input = Tensor::<2>::from_floats([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], device);
    GradientsParams::from_grads((net.forward(input) * 100.0).sum().backward(), net)
}

#[test]
fn clipping_scales_all_gradients_by_one_factor() {
    let (net, device) = net();
    let norm = |gradients: &GradientsParams| {
        let mut squares = 0.0f64;
        for parameter in net.parameters() {
            if parameter.shape.len() == 2 {
                let gradient = gradients.get::<2>(parameter.id).unwrap();
                squares += f64::from((gradient.clone() * gradient).sum().into_scalar::<f32>());
            } else {
                let gradient = gradients.get::<1>(parameter.id).unwrap();
                squares += f64::from((gradient.clone() * gradient).sum().into_scalar::<f32>());
            }
        }
        squares.sqrt()
    };
    let before = gradients(&net, &device);
    let mut after = gradients(&net, &device);
    gradients::clip(&mut after, &net, 0.5).unwrap();
    assert!(norm(&before) > 1.0);
    assert!((norm(&after) - 0.5).abs() < 1e-4, "{}", norm(&after));
    // The direction stays: every entry is the same share of its old value.
    let id = net.parameters()[0].id;
    let (old, new) = (before.get::<2>(id).unwrap(), after.get::<2>(id).unwrap());
    let factor = 0.5 / norm(&before);
    let difference = (old * factor - new).abs().max().into_scalar::<f32>();
    assert!(difference < 1e-6, "{difference}");
    // Below the limit nothing changes.
    let mut small = gradients(&net, &device);
    gradients::clip(&mut small, &net, 1e9).unwrap();
    assert_eq!(norm(&small), norm(&before));
}

#[test]
fn weight_decay_pulls_at_weights_only() {
    for kind in ["sgd", "adam", "adamw", "adagrad", "rmsprop"] {
        let text = format!("kind = '{kind}'\nlearning_rate = 0.1\nweight_decay = 0.5");
        let config = toml::from_str::<OptimizerConfig>(&text).unwrap().check().unwrap();
        let (net, device) = net();
        let mut optimizer = optimizer::build(&config, &net.parameters());
        // A bias is moved away from zero so that decay would show.
        let mut weights = net.weights().unwrap();
        let bias = network::Tensor::from_f32(vec![64], vec![1.0; 64]).unwrap();
        weights.insert("fc1.bias".to_owned(), bias);
        let network = Network::new(network::preset("mlp", &[3], 2).unwrap()).unwrap();
        let net = Net::from_weights(&network, &weights, &device).unwrap();
        let zero = Tensor::<2>::zeros([1, 3], &device);
        let none = GradientsParams::from_grads((net.forward(zero) * 0.0).sum().backward(), &net);
        let moved = optimizer.step(0.1, net, none).weights().unwrap();
        assert_eq!(moved["fc1.bias"], weights["fc1.bias"], "{kind}");
        assert_ne!(moved["fc1.weight"], weights["fc1.weight"], "{kind}");
    }
}
