//! Training behaviour, on a device with autodiff.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use model::{DeviceSpec, Draws, Net, ParameterState};

use crate::{assert_close, network, numbers};

const NETWORK: &str = r#"{
  "inputs": [{"name": "x", "shape": [2, 3, 3]}],
  "layers": [
    {"name": "conv", "type": "conv2d", "channels": 3, "kernel": 2, "bias": false},
    {"name": "norm", "type": "batch_norm", "momentum": 0.25, "epsilon": 0.001},
    {"name": "act", "type": "silu"},
    {"name": "block", "type": "residual",
     "body": [{"name": "inner", "type": "conv2d", "channels": 3, "kernel": 1}],
     "shortcut": []},
    {"name": "flat", "type": "flatten"},
    {"name": "drop", "type": "dropout", "probability": 0.25},
    {"name": "head", "type": "dense", "units": 2}
  ]}"#;

const ROWS: usize = 4;

fn training_device() -> Device {
    DeviceSpec::Cpu.open().unwrap().autodiff()
}

fn batch(device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(numbers(2, ROWS * 18), [ROWS, 2, 3, 3]), device)
}

const DRAWS: Draws = Draws { seed: 1, epoch: 0, step: 0 };

/// Gradients from autodiff beside central differences of the loss, for every parameter.
#[test]
fn gradients_are_those_of_the_loss() {
    let network = network(NETWORK);
    let device = training_device();
    let weights = crate::busy_weights(&network);
    let loss = |net: &Net, device: &Device| {
        let scale = Tensor::<2>::from_data(TensorData::new(numbers(5, ROWS * 2), [ROWS, 2]), device);
        (net.forward_train(batch(device), &DRAWS) * scale).sum()
    };
    let net = Net::from_weights(&network, &weights, &device).unwrap();
    let mut gradients = loss(&net, &device).backward();
    let mut found = GradientReader { gradients: &mut gradients, path: Vec::new(), found: Vec::new() };
    net.visit(&mut found);
    let found = found.found;
    assert_eq!(found.len(), network.parameters().filter(|p| p.role.is_trained()).count());

    for (key, values) in found {
        for index in [0, values.len() / 2, values.len() - 1] {
            let moved = |step: f32| {
                let mut weights = weights.clone();
                let (shape, elements) = weights.remove(&key).unwrap().into_parts();
                let network::Elements::F32(mut elements) = elements else { panic!("not FP32") };
                elements[index] += step;
                weights.insert(key.clone(), network::Tensor::from_f32(shape, elements).unwrap());
                let net = Net::from_weights(&network, &weights, &device).unwrap();
                f64::from(loss(&net, &device).into_scalar::<f32>())
            };
            const STEP: f32 = 1e-2;
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
            let difference = (f64::from(values[index]) - expected).abs();
            assert!(
                difference < 2e-2 * expected.abs().max(1.0),
                "{key}[{index}]: {} and {expected}",
                values[index]
            );
        }
    }
}

/// Collects the gradients of a network's parameters, by key.
pub(crate) struct GradientReader<'a> {
    pub(crate) gradients: &'a mut burn::tensor::Gradients,
    pub(crate) path: Vec<String>,
    pub(crate) found: Vec<(String, Vec<f32>)>,
}

impl burn::module::ModuleVisitor for GradientReader<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            self.found.push((self.path.join("."), gradient.try_into_vec_as::<f32>().unwrap()));
        }
    }
}

/// Training normalises with the batch's statistics and moves the running ones; inference uses those.
#[test]
fn batch_normalisation_keeps_running_statistics() {
    let json = r#"{"inputs": [{"name": "x", "shape": [2]}], "layers": [{"name": "norm", "type": "batch_norm", "momentum": 0.25}]}"#;
    let network = network(json);
    let device = training_device();
    let net = Net::init(&network, 0, &device).unwrap();
    // Columns 1, 3 and −2, 4: means 2 and 1, variances (of the population) 1 and 9, of the sample 2 and 18.
    let x = Tensor::<2>::from_data(TensorData::new(vec![1.0f32, -2.0, 3.0, 4.0], [2, 2]), &device);
    let out = net.forward_train(x.clone(), &DRAWS).try_into_vec_as::<f32>().unwrap();
    assert_close(&out, &[-1.0, -1.0, 1.0, 1.0], 1e-4, "normalised");

    let weights = net.weights().unwrap();
    assert_close(weights["norm.running_mean"].as_f32().unwrap(), &[0.5, 0.25], 1e-6, "running mean");
    let var = weights["norm.running_var"].as_f32().unwrap();
    // 0.75 · 1 + 0.25 · variance, whichever of both Burn takes.
    let (population, sample) = ([1.0f32, 3.0], [1.25f32, 5.25]);
    let near = |expected: [f32; 2]| var.iter().zip(expected).all(|(v, e)| (v - e).abs() < 1e-5);
    assert!(near(population) || near(sample), "{var:?}");

    let valid = net.valid();
    let inner = x.without_autodiff();
    let found = valid.forward(inner.clone()).try_into_vec_as::<f32>().unwrap();
    let expected: Vec<f64> = [(1.0, 0), (-2.0, 1), (3.0, 0), (4.0, 1)]
        .map(|(x, c)| (x - [0.5, 0.25][c]) / (f64::from(var[c]) + 1e-5).sqrt())
        .to_vec();
    assert_close(&found, &expected, 1e-5, "inference");
    // Inference moves nothing, and going on training does not reach into the copy.
    let _ = net.forward_train(Tensor::<2>::ones([2, 2], &device) * 100.0, &DRAWS);
    assert_eq!(valid.weights().unwrap(), weights);
    assert_ne!(net.weights().unwrap(), weights);
}

#[test]
fn frozen_layers_do_not_train() {
    let network = network(NETWORK);
    let device = training_device();
    let names = ["conv", "norm", "block"].map(str::to_owned);
    let net = Net::init(&network, 0, &device).unwrap().freeze_layers(&names).unwrap();
    let trained: Vec<String> = net
        .parameters()
        .into_iter()
        .filter(|state: &ParameterState| state.is_trained)
        .map(|state| state.key)
        .collect();
    assert_eq!(trained, ["head.weight", "head.bias"]);

    // A frozen normalisation neither uses nor moves with the batch's statistics.
    let before = net.weights().unwrap();
    let _ = net.forward_train(batch(&device), &DRAWS);
    assert_eq!(net.weights().unwrap(), before);
    // It stays frozen through a pause for validation.
    let back = net.valid().train();
    assert_eq!(back.parameters().iter().filter(|state| state.is_trained).count(), 2);
}

#[test]
fn the_l1_norm_counts_trained_weights_only() {
    let network = network(NETWORK);
    let device = training_device();
    let weights = crate::busy_weights(&network);
    let sum = |keys: &[&str]| -> f64 {
        let values = keys.iter().flat_map(|key| weights[*key].as_f32().unwrap());
        values.map(|value| f64::from(value.abs())).sum()
    };
    let net = Net::from_weights(&network, &weights, &device).unwrap();
    let found = net.l1_norm().unwrap().into_scalar::<f32>();
    assert_close(&[found], &[sum(&["conv.weight", "inner.weight", "head.weight"])], 1e-6, "all");

    let net = net.freeze_layers(&["conv".to_owned()]).unwrap();
    let found = net.l1_norm().unwrap().into_scalar::<f32>();
    assert_close(&[found], &[sum(&["inner.weight", "head.weight"])], 1e-6, "without the frozen layer");

    let all: Vec<String> = network.layers().iter().map(|layer| layer.name.clone()).collect();
    assert!(net.freeze_layers(&all).unwrap().l1_norm().is_none());
}
