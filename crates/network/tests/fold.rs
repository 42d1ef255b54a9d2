//! Folding changes the network, not what it computes. The judge is a second forward pass, slow and in 64 bits,
//! that knows nothing of folding.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::collections::BTreeMap;

use common::{network, weights};
use network::fold::{fold_batch_norm, with_biases};
use network::spec::{Conv2d, Layer, Op};
use network::{Network, Tensor, Weights, preset};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A value of the reference: shape and numbers of one sample.
#[derive(Clone)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

/// One sample through the network; gives the first output.
fn forward(network: &Network, weights: &Weights, input: Vec<f64>) -> Vec<f64> {
    let spec = network.spec();
    let input = Array { shape: spec.inputs[0].shape.clone(), values: input };
    let mut scope = BTreeMap::from([(spec.inputs[0].name.clone(), input.clone())]);
    list(&spec.layers, weights, input, &mut scope);
    scope[&spec.outputs[0].from].values.clone()
}

fn list(layers: &[Layer], weights: &Weights, first: Array, scope: &mut BTreeMap<String, Array>) -> Array {
    let mut value = first;
    for layer in layers {
        let input = layer.from.first().map_or(&value, |from| &scope[from]).clone();
        value = apply(layer, weights, input);
        scope.insert(layer.name.clone(), value.clone());
    }
    value
}

fn apply(layer: &Layer, weights: &Weights, input: Array) -> Array {
    let read = |parameter: &str| -> Vec<f64> {
        let tensor = weights.get(&format!("{}.{parameter}", layer.name)).and_then(Tensor::as_f32);
        tensor.unwrap_or_default().iter().map(|&value| f64::from(value)).collect()
    };
    let bias = |output: usize| read("bias").get(output).copied().unwrap_or(0.0);
    match &layer.op {
        Op::Dense(dense) => {
            let weight = read("weight");
            let unit = |unit: usize| {
                let product = |(row, x): (usize, &f64)| x * weight[row * dense.units + unit];
                bias(unit) + input.values.iter().enumerate().map(product).sum::<f64>()
            };
            Array { shape: vec![dense.units], values: (0..dense.units).map(unit).collect() }
        }
        Op::Conv2d(conv) => {
            let mut output = convolve(conv, &read("weight"), &input);
            let pixels = output.values.len() / conv.channels;
            let biased = output.values.chunks_mut(pixels).enumerate();
            biased.for_each(|(channel, values)| values.iter_mut().for_each(|value| *value += bias(channel)));
            output
        }
        Op::BatchNorm(norm) => {
            let [gamma, beta] = ["gamma", "beta"].map(read);
            let [mean, variance] = ["running_mean", "running_var"].map(read);
            let run = input.values.len() / gamma.len();
            let normed = |(index, x): (usize, &f64)| {
                let c = index / run;
                (x - mean[c]) / (variance[c] + norm.epsilon).sqrt() * gamma[c] + beta[c]
            };
            Array { values: input.values.iter().enumerate().map(normed).collect(), shape: input.shape }
        }
        Op::Relu(_) => Array { values: input.values.iter().map(|x| x.max(0.0)).collect(), ..input },
        Op::Dropout(_) => input,
        Op::Flatten(_) => Array { shape: vec![input.values.len()], values: input.values },
        Op::GlobalAvgPool(_) => {
            let pixels = input.values.len() / input.shape[0];
            let mean = |channel: &[f64]| channel.iter().sum::<f64>() / pixels as f64;
            Array { shape: vec![input.shape[0]], values: input.values.chunks(pixels).map(mean).collect() }
        }
        Op::Residual(block) => {
            let body = list(&block.body, weights, input.clone(), &mut BTreeMap::new());
            let shortcut = list(&block.shortcut, weights, input, &mut BTreeMap::new());
            let sum = body.values.iter().zip(&shortcut.values).map(|(a, b)| a + b).collect();
            Array { shape: body.shape, values: sum }
        }
        other => panic!("the reference does not know {}", other.type_name()),
    }
}

fn convolve(conv: &Conv2d, weight: &[f64], input: &Array) -> Array {
    let [_, height, width] = input.shape[..] else { panic!("no image") };
    let size = |size: usize, kernel: usize, stride: usize, padding: usize, dilation: usize| {
        (size + 2 * padding - (kernel - 1) * dilation - 1) / stride + 1
    };
    let (k, s, p, d) = (conv.kernel, conv.stride, conv.padding, conv.dilation);
    let (rows, columns) = (
        size(height, k.height, s.height, p.height, d.height),
        size(width, k.width, s.width, p.width, d.width),
    );
    let per_group = input.shape[0] / conv.groups;
    let mut values = Vec::new();
    for (out, row, column) in
        (0..conv.channels).flat_map(|o| (0..rows).flat_map(move |r| (0..columns).map(move |c| (o, r, c))))
    {
        let group = out / (conv.channels / conv.groups);
        let mut sum = 0.0;
        for index in 0..per_group * k.height * k.width {
            let (channel, y, x) = (index / (k.height * k.width), index / k.width % k.height, index % k.width);
            let y = (row * s.height + y * d.height).checked_sub(p.height).filter(|&y| y < height);
            let x = (column * s.width + x * d.width).checked_sub(p.width).filter(|&x| x < width);
            if let (Some(y), Some(x)) = (y, x) {
                let pixel = ((group * per_group + channel) * height + y) * width + x;
                sum += input.values[pixel] * weight[out * per_group * k.height * k.width + index];
            }
        }
        values.push(sum);
    }
    Array { shape: vec![conv.channels, rows, columns], values }
}

fn sample(network: &Network, seed: u64) -> Vec<f64> {
    let size = network.input_shape().iter().product::<usize>() as u64;
    (0..size).map(|index| ((index * 31 + seed * 17) % 23) as f64 / 11.5 - 1.0).collect()
}

/// Folds, and checks that the result is a network with its record that computes the same.
fn folded(network: &Network, seed: u64) -> Network {
    let before = weights(network, seed);
    let (after, record) = fold_batch_norm(network, &before).unwrap();
    let keys: Vec<&String> = record.keys().collect();
    let mut expected: Vec<&String> = after.parameters().map(|parameter| &parameter.key).collect();
    expected.sort();
    assert_eq!(keys, expected);
    for parameter in after.parameters() {
        assert_eq!(record[&parameter.key].shape(), parameter.shape);
    }
    assert_eq!((after.signature(), after.macs()), (network.signature(), network.macs()));
    let a = forward(network, &before, sample(network, seed));
    let b = forward(&after, &record, sample(network, seed));
    let most = a.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 1e-6 * most, "{a} and {b}, of at most {most}");
    }
    after
}

fn types(network: &Network) -> Vec<&str> {
    network.layers().iter().map(|layer| layer.type_name).collect()
}

#[test]
fn presets_lose_their_normalisations() {
    let norms = |network: &Network| types(network).iter().filter(|kind| **kind == "batch_norm").count();
    for (name, input) in [("resnet20", [3, 8, 8]), ("digits-cnn", [1, 8, 8]), ("vgg-small", [3, 8, 8])] {
        let network = Network::new(preset(name, &input, 10).unwrap()).unwrap();
        // The reference knows no pooling by maxima, and folding does not touch it.
        let after = match name {
            "resnet20" => folded(&network, 1),
            _ => fold_batch_norm(&network, &weights(&network, 1)).unwrap().0,
        };
        assert!(norms(&network) > 0 && norms(&after) == 0, "{name}");
        // Four tensors go with each, and a bias comes.
        assert_eq!(after.parameters().count(), network.parameters().count() - 3 * norms(&network), "{name}");
    }
}

fn norm(name: &str) -> Value {
    json!({"name": name, "type": "batch_norm", "epsilon": 0.001})
}

fn conv(name: &str) -> Value {
    json!({"name": name, "type": "conv2d", "channels": 2, "kernel": 3, "padding": 1, "bias": false})
}

fn with(layers: Value, outputs: Value) -> Network {
    network(json!({"inputs": [{"name": "input", "shape": [2, 5, 4]}], "layers": layers, "outputs": outputs}))
}

#[test]
fn what_follows_directly_goes_and_everything_else_stays() {
    let relu = |name: &str| json!({"name": name, "type": "relu"});
    let from = |mut layer: Value, from: &str| {
        layer["from"] = json!([from]);
        layer
    };
    let cases: &[(&str, Value, &[&str])] = &[
        ("directly", json!([conv("c"), norm("n"), relu("r")]), &["conv2d", "relu"]),
        ("by name", json!([conv("c"), from(norm("n"), "c"), from(relu("r"), "n")]), &["conv2d", "relu"]),
        ("twice", json!([conv("c"), norm("n"), norm("m"), from(relu("r"), "m")]), &["conv2d", "relu"]),
        (
            "dense",
            json!([{"type": "flatten"}, {"type": "dense", "units": 3}, norm("n")]),
            &["flatten", "dense"],
        ),
        (
            "groups, strides and dilation",
            json!([{"type": "conv2d", "channels": 4, "kernel": [2, 1], "stride": [1, 2], "padding": 1,
                "dilation": [2, 1], "groups": 2}, norm("n")]),
            &["conv2d"],
        ),
        ("first", json!([norm("n"), conv("c")]), &["batch_norm", "conv2d"]),
        ("after relu", json!([conv("c"), relu("r"), norm("n")]), &["conv2d", "relu", "batch_norm"]),
        (
            "of an earlier layer",
            json!([conv("c"), from(conv("d"), "input"), from(norm("n"), "c")]),
            &["conv2d", "conv2d", "batch_norm"],
        ),
        (
            "with another reader",
            json!([conv("c"), norm("n"), {"type": "residual", "body": [norm("m")]}, from(relu("r"), "c")]),
            &["conv2d", "batch_norm", "residual", "batch_norm", "relu"],
        ),
        (
            "in both branches",
            json!([{"type": "residual", "body": [conv("c"), norm("n"), relu("r"), conv("d"), norm("m")],
                "shortcut": [conv("e"), norm("o")]}, norm("p")]),
            &["residual", "conv2d", "relu", "conv2d", "conv2d", "batch_norm"],
        ),
    ];
    for (what, layers, expected) in cases {
        let network = with(layers.clone(), json!([]));
        assert_eq!(types(&folded(&network, 3)), *expected, "{what}");
    }
}

#[test]
fn outputs_are_readers_and_follow() {
    let output = |from: &str| json!([{"name": "a", "from": from}]);
    let two = json!([{"name": "a", "from": "n"}, {"name": "b", "from": "c"}]);
    let layers = json!([conv("c"), norm("n"), {"type": "relu", "name": "r"}]);
    let from = |network: &Network| network.spec().outputs[0].from.clone();
    let after = folded(&with(layers.clone(), output("n")), 5);
    assert_eq!((types(&after), from(&after)), (vec!["conv2d", "relu"], "c".to_owned()));
    let after = folded(&with(layers.clone(), two), 5);
    assert_eq!((types(&after), from(&after)), (vec!["conv2d", "batch_norm", "relu"], "n".to_owned()));
}

#[test]
fn what_would_not_be_finite_stays() {
    let network = with(json!([conv("c"), norm("n")]), json!([]));
    for (key, value) in [("n.running_var", -1.0), ("n.gamma", f32::INFINITY), ("n.running_var", f32::NAN)] {
        let mut record = weights(&network, 1);
        record.insert(key.to_owned(), Tensor::from_f32(vec![2], vec![1.0, value]).unwrap());
        let (after, same) = fold_batch_norm(&network, &record).unwrap();
        assert_eq!(after, network, "{key} {value}");
        // Compared as text: what is no number is not equal to itself.
        assert_eq!(format!("{same:?}"), format!("{record:?}"));
    }
}

#[test]
fn a_record_of_another_network_is_refused() {
    let network = with(json!([conv("c"), norm("n")]), json!([]));
    let mut record = weights(&network, 1);
    record.insert("n.beta".to_owned(), Tensor::from_f32(vec![3], vec![0.0; 3]).unwrap());
    let refusal = |record: &Weights| fold_batch_norm(&network, record).unwrap_err().to_string();
    assert_eq!(refusal(&record), "`n.beta` is FP32 [3] and must be FP32 [2]");
    record.remove("n.beta");
    assert_eq!(refusal(&record), "`n.beta` is missing; it must be FP32 [2]");
}

#[test]
fn biases_of_zeros_change_nothing() {
    let layers = json!([{"type": "residual", "body": [conv("c")], "shortcut": [conv("d"), norm("n")]},
        {"type": "flatten"}, {"type": "dense", "units": 3, "name": "f", "bias": false}]);
    let before = with(layers, json!([]));
    let record = weights(&before, 9);
    let (after, filled) = with_biases(&before, &record).unwrap();
    assert_eq!(after.parameters().count(), before.parameters().count() + 3);
    assert_eq!(filled["f.bias"].as_f32(), Some(&[0.0; 3][..]));
    let input = sample(&before, 2);
    assert_eq!(forward(&after, &filled, input.clone()), forward(&before, &record, input));
}

/// A layer that keeps the shape of an image, and may be followed by anything.
fn image_layer() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => (1usize..3, any::<bool>(), prop::sample::select(vec![1, 2])).prop_map(|(kernel, bias, groups)| {
            json!({"type": "conv2d", "channels": 2, "kernel": 2 * kernel - 1, "padding": kernel - 1,
                "bias": bias, "groups": groups})
        }),
        4 => Just(json!({"type": "batch_norm"})),
        1 => Just(json!({"type": "relu"})),
        1 => Just(json!({"type": "dropout", "probability": 0.5})),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        let branch = |layers| prop::collection::vec(layers, 0..4);
        (branch(inner.clone().boxed()), branch(inner.boxed()))
            .prop_map(|(body, shortcut)| json!({"type": "residual", "body": body, "shortcut": shortcut}))
    })
}

proptest! {
    #[test]
    fn any_network_computes_the_same(
        layers in prop::collection::vec(image_layer(), 1..6),
        dense in prop::collection::vec(any::<bool>(), 0..3),
        seed in 0u64..1000,
    ) {
        let mut layers = layers;
        layers.push(json!({"type": "flatten"}));
        for normed in dense {
            layers.push(json!({"type": "dense", "units": 3}));
            layers.extend(normed.then(|| json!({"type": "batch_norm"})));
        }
        folded(&with(json!(layers), json!([])), seed);
    }
}
