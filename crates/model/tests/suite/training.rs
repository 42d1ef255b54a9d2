//! What training asks of a network, without the training loop.

use model::{DeviceSpec, Draws, Net};
use network::{Network, Tensor};

use crate::network;

const SMALL: &str = r#"{
  "inputs": [{"name": "x", "shape": [2, 5, 5]}],
  "layers": [
    {"name": "conv", "type": "conv2d", "channels": 4, "kernel": 3, "padding": 1, "bias": false},
    {"name": "norm", "type": "batch_norm"},
    {"name": "relu", "type": "relu"},
    {"name": "pool", "type": "global_avg_pool"},
    {"name": "drop", "type": "dropout", "probability": 0.5},
    {"name": "head", "type": "dense", "units": 3}
  ]}"#;

fn batch() -> burn::tensor::TensorData {
    let values: Vec<f32> = (0..200).map(|i| ((i * 37) % 23) as f32 / 11.0 - 1.0).collect();
    burn::tensor::TensorData::new(values, [4, 2, 5, 5])
}

#[test]
fn dropout_is_a_function_of_its_draws() {
    let network = network(SMALL);
    let device = DeviceSpec::Cpu.open().unwrap();
    let net = Net::init(&network, 1, &device).unwrap();
    let x = burn::tensor::Tensor::<4>::from_data(batch(), &device);
    let run = |step| {
        let draws = Draws { seed: 7, epoch: 2, step };
        net.forward_train(x.clone(), &draws).try_into_vec_as::<f32>().unwrap()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
    let plain = net.forward(x.clone()).try_into_vec_as::<f32>().unwrap();
    assert_ne!(run(3), plain);
    // Frozen, it passes its input through.
    let frozen = net.freeze_layers(&["drop".to_owned()]).unwrap();
    let draws = Draws { seed: 7, epoch: 2, step: 3 };
    assert_eq!(frozen.forward_train(x, &draws).try_into_vec_as::<f32>().unwrap(), plain);
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let network = network(SMALL);
    let weights = model::initial_weights(&network, 5);
    assert_eq!(weights, model::initial_weights(&network, 5));
    assert_ne!(weights, model::initial_weights(&network, 6));
    // A layer's weights depend on its name, not on what stands around it.
    let alone = network.spec().layers[0].clone();
    let mut spec = network.spec().clone();
    spec.layers = vec![alone, spec.layers[2].clone()];
    spec.outputs.clear();
    let other = Network::new(spec).unwrap();
    assert_eq!(model::initial_weights(&other, 5)["conv.weight"], weights["conv.weight"]);
}

#[test]
fn initial_weights_have_the_spread_of_their_rule() {
    let network = network(
        r#"{"inputs": [{"name": "x", "shape": [400]}], "layers": [
            {"name": "a", "type": "dense", "units": 300}, {"name": "n", "type": "layer_norm"}, {"name": "r", "type": "relu"},
            {"name": "b", "type": "dense", "units": 200}, {"name": "l", "type": "leaky_relu", "slope": 0.5},
            {"name": "c", "type": "dense", "units": 100}, {"name": "t", "type": "tanh"},
            {"name": "d", "type": "dense", "units": 50}]}"#,
    );
    let weights = model::initial_weights(&network, 3);
    let deviation = |key: &str| {
        let values = weights[key].as_f32().unwrap();
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.006, "{key}: {mean}");
        (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let cases = [
        ("a.weight", (2.0f64 / 400.0).sqrt()),
        ("b.weight", (2.0f64 / (1.25 * 300.0)).sqrt()),
        // A uniform distribution in ±b has the standard deviation b / √3.
        ("c.weight", (2.0f64 / (200.0 + 100.0)).sqrt()),
        ("d.weight", (2.0f64 / (100.0 + 50.0)).sqrt()),
    ];
    for (key, expected) in cases {
        let found = deviation(key);
        assert!((found / expected - 1.0).abs() < 0.02, "{key}: {found} instead of {expected}");
    }
    assert!(weights["a.bias"].as_f32().unwrap().iter().all(|&v| v == 0.0));
    assert!(weights["n.gamma"].as_f32().unwrap().iter().all(|&v| v == 1.0));
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let network = network(SMALL);
    let device = DeviceSpec::Cpu.open().unwrap();
    let good = model::initial_weights(&network, 1);

    let mut missing = good.clone();
    missing.remove("norm.running_var");
    let message = Net::from_weights(&network, &missing, &device).unwrap_err().to_string();
    assert_eq!(
        message,
        "the record has no tensor `norm.running_var`, which the network needs with the shape [4]"
    );

    let mut wrong = good.clone();
    wrong.insert("head.weight".to_owned(), Tensor::from_f32(vec![3, 4], vec![0.0; 12]).unwrap());
    let message = Net::from_weights(&network, &wrong, &device).unwrap_err().to_string();
    assert_eq!(message, "the record's tensor `head.weight` must be FP32 [4, 3], but is FP32 [3, 4]");

    let mut over = good;
    over.insert("tail.weight".to_owned(), Tensor::from_f32(vec![1], vec![0.0]).unwrap());
    let message = Net::from_weights(&network, &over, &device).unwrap_err().to_string();
    assert_eq!(message, "the record's tensor `tail.weight` belongs to no layer of the network");
}

#[test]
fn an_unknown_layer_cannot_be_frozen() {
    let device = DeviceSpec::Cpu.open().unwrap();
    let net = Net::init(&network(SMALL), 1, &device).unwrap();
    let message = net.freeze_layers(&["haed".to_owned()]).unwrap_err().to_string();
    assert!(
        message.starts_with("the network has no layer `haed`; its layers are `conv`, `norm`"),
        "{message}"
    );
}
