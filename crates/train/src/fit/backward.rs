//! Gradients without an optimizer: how the loss would move with each weight of a trained network.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use model::{Net, Value};
use network::Weights;
use network::spec::Op;
use predict::Parts;

use super::objective::Purpose;
use super::step::read_all;
use super::{FitError, Objective};
use crate::data::{DataSet, Loader};

/// Shows `each`, batch by batch, the mean loss of the samples `indices` and its gradients by the keys of the record.
///
/// The network is the one that predicts: dropout is off, and batch normalisation uses its running statistics, which
/// are constants here, so its own parameters have no gradients. The loss is the plain one of the task, without class
/// weights and smoothing. `device` is one without autodiff.
///
/// # Errors
/// When there is no sample, one cannot be read or prepared, the weights are not those of the network in 32-bit
/// floats, or the device fails.
pub fn gradients_of(
    parts: &Parts,
    data: &DataSet,
    indices: &[usize],
    batch_size: usize,
    device: &Device,
    each: &mut dyn FnMut(f64, &Weights),
) -> Result<(), FitError> {
    if indices.is_empty() {
        return Err(FitError::Empty);
    }
    let device = device.clone().autodiff();
    let layers = parts.network.spec().all_layers();
    let norms = layers.iter().filter(|layer| matches!(layer.op, Op::BatchNorm(_)));
    let frozen: Vec<String> = norms.map(|layer| layer.name.clone()).collect();
    let net = Net::from_weights(&parts.network, &parts.weights, &device)?.freeze_layers(&frozen)?;
    let states = net.parameters();
    let keys: HashMap<ParamId, (String, Vec<usize>)> =
        states.into_iter().map(|state| (state.id, (state.key, state.shape))).collect();
    let objective = Objective::new(parts.postprocess.clone(), 0.0, Vec::new());
    let loader = Loader::new(data.clone(), parts.preprocess.clone(), 0);
    for indices in indices.chunks(batch_size.max(1)) {
        let (values, targets) = loader.batch(indices)?;
        let mut shape = vec![indices.len()];
        shape.extend_from_slice(loader.shape());
        let Some(input) = Value::from_vec(values, &shape, &device) else {
            return Err(FitError::Device(format!("it cannot hold samples of shape {:?}", loader.shape())));
        };
        let loss = objective.loss(net.forward(input), &targets, Purpose::Watch, &device);
        let found = GradientsParams::from_grads(loss.clone().backward(), &net);
        let mut collect =
            Collect { gradients: &found, ids: Vec::new(), tensors: vec![loss.detach().inner()] };
        net.visit(&mut collect);
        let ids = collect.ids;
        // The device is waited for once.
        let mut values = read_all(collect.tensors)?.into_iter();
        let loss = values.next().and_then(|loss| loss.first().copied()).map_or(f64::NAN, f64::from);
        let mut gradients = Weights::new();
        for (id, values) in ids.into_iter().zip(values) {
            if let Some((key, shape)) = keys.get(&id) {
                let tensor = network::Tensor::from_f32(shape.clone(), values);
                let tensor = tensor.map_err(|error| FitError::Device(error.to_string()))?;
                gradients.insert(key.clone(), tensor);
            }
        }
        each(loss, &gradients);
    }
    Ok(())
}

/// The gradients of all parameters that have one, as rows, still on the device.
struct Collect<'a> {
    gradients: &'a GradientsParams,
    ids: Vec<ParamId>,
    tensors: Vec<Tensor<1>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let count = gradient.dims().iter().product::<usize>();
            self.ids.push(param.id);
            self.tensors.push(gradient.reshape([count]));
        }
    }
}

#[cfg(test)]
mod tests {
    use network::{Network, NetworkSpec, Role};
    use serde_json::json;

    use super::*;
    use crate::data::{DataConfig, SourceKind, fit_preprocess, load};

    /// A small network for the digits with everything that behaves otherwise in training.
    fn parts() -> (Parts, DataSet) {
        let config = DataConfig::new(SourceKind::Digits);
        let data = load(&config, 1).unwrap();
        let spec: NetworkSpec = serde_json::from_value(json!({
            "inputs": [{"name": "input", "shape": [1, 8, 8]}],
            "layers": [
                {"type": "conv2d", "name": "c", "channels": 3, "kernel": 3},
                {"type": "batch_norm", "name": "n"},
                {"type": "tanh"},
                {"type": "dropout", "probability": 0.5},
                {"type": "flatten"},
                {"type": "dense", "name": "d", "units": 10}
            ]
        }))
        .unwrap();
        let network = Network::new(spec).unwrap();
        let mut weights = model::initial_weights(&network, 3);
        for parameter in network.parameters().filter(|parameter| parameter.role == Role::RunningVar) {
            let values = (0..parameter.len()).map(|index| 0.5 + index as f32).collect();
            let tensor = network::Tensor::from_f32(parameter.shape.clone(), values).unwrap();
            weights.insert(parameter.key.clone(), tensor);
        }
        let preprocess = fit_preprocess(&data, &config).unwrap();
        let postprocess = network::Postprocess::new(data.task, data.labels.clone());
        (Parts { network, preprocess, postprocess, weights, quantization: None }, data)
    }

    fn batches(parts: &Parts, data: &DataSet, indices: &[usize], size: usize) -> Vec<(f64, Weights)> {
        let mut seen = Vec::new();
        let device = Device::flex();
        gradients_of(parts, data, indices, size, &device, &mut |loss, gradients| {
            seen.push((loss, gradients.clone()));
        })
        .unwrap();
        seen
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        let (parts, data) = parts();
        let indices = &data.splits.train[..12];
        let [(_, gradients)] = &batches(&parts, &data, indices, 64)[..] else { panic!("one batch") };
        let keys: Vec<&str> = gradients.keys().map(String::as_str).collect();
        assert_eq!(keys, ["c.bias", "c.weight", "d.bias", "d.weight"], "running statistics are constants");
        for (key, at) in [("c.bias", 1), ("c.weight", 4), ("c.weight", 20), ("d.bias", 3), ("d.weight", 77)] {
            let moved = |by: f32| {
                let mut parts = parts.clone();
                let (shape, _) = parts.weights[key].clone().into_parts();
                let mut values = parts.weights[key].as_f32().unwrap().to_vec();
                values[at] += by;
                let tensor = network::Tensor::from_f32(shape, values).unwrap();
                parts.weights.insert(key.to_owned(), tensor);
                batches(&parts, &data, indices, 64)[0].0
            };
            let slope = (moved(0.01) - moved(-0.01)) / 0.02;
            let found = f64::from(gradients[key].as_f32().unwrap()[at]);
            assert!((slope - found).abs() < 1e-3 + 0.02 * slope.abs(), "{key} {at}: {found}, not {slope}");
        }
    }

    #[test]
    fn batches_are_cut_and_nothing_depends_on_their_neighbours() {
        let (parts, data) = parts();
        let indices = &data.splits.train[..5];
        let two = batches(&parts, &data, indices, 3);
        assert_eq!(two.len(), 2);
        let alone = batches(&parts, &data, &indices[3..], 3);
        assert_eq!(two[1].1, alone[0].1);
        let none = gradients_of(&parts, &data, &[], 3, &Device::flex(), &mut |_, _| ());
        assert!(matches!(none, Err(FitError::Empty)));
    }
}
