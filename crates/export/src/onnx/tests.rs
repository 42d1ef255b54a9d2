//! What every ONNX file must be, without a runtime to read it.

use std::collections::BTreeSet;

use network::quantization::quantize_weights;
use network::{
    Affine, Calibration, CalibrationMethod, Network, NetworkSpec, PRESETS, Quantization, Tensor, Weights,
    WeightsError, preset,
};
use prost::Message as _;

use super::proto::ModelProto;
use crate::{ExportError, Model, onnx};

fn network(text: &str) -> Network {
    Network::new(toml::from_str::<NetworkSpec>(text).unwrap()).unwrap()
}

fn weights(network: &Network) -> Weights {
    let tensor = |parameter: &network::Parameter| {
        let values = (0..parameter.len()).map(|index| 0.5 + index as f32 / 64.0).collect();
        (parameter.key.clone(), Tensor::from_f32(parameter.shape.clone(), values).unwrap())
    };
    network.parameters().map(tensor).collect()
}

fn model(network: &Network) -> Model {
    Model::new("digits", 3, network.clone(), weights(network), None)
}

fn read(file: &[u8]) -> ModelProto {
    ModelProto::decode(file).unwrap()
}

/// A graph's rules: each value is made once and before it is read, and all outputs are made.
fn check(proto: &ModelProto) {
    let graph = proto.graph.as_ref().unwrap();
    let mut known = BTreeSet::new();
    for tensor in &graph.initializer {
        assert!(known.insert(tensor.name.clone()), "`{}` is given twice", tensor.name);
        let count: i64 = tensor.dims.iter().product();
        let size = match tensor.data_type {
            1 | 6 => 4,
            2 | 3 => 1,
            other => panic!("type {other}"),
        };
        assert_eq!(tensor.raw_data.as_ref().unwrap().len() as i64, count * size, "{}", tensor.name);
    }
    for input in &graph.input {
        assert!(known.insert(input.name.clone()), "`{}` is given twice", input.name);
    }
    let mut names = BTreeSet::new();
    for node in &graph.node {
        assert!(names.insert(&node.name), "two nodes are called `{}`", node.name);
        assert!(node.input.iter().all(|input| known.contains(input)), "{node:?}");
        for output in &node.output {
            assert!(known.insert(output.clone()), "`{output}` is made twice");
        }
    }
    for output in &graph.output {
        assert!(known.contains(&output.name), "nobody makes `{}`", output.name);
    }
}

fn quantized(network: &Network, layers: &[&str], ranges: &[&str]) -> Model {
    let layers: Vec<String> = layers.iter().map(|&layer| layer.to_owned()).collect();
    let affine = |&name: &&str| (name.to_owned(), Affine { scale: 0.05, zero_point: 3 });
    let calibration = Calibration::new(CalibrationMethod::MinMax, 1, 0);
    let weights = quantize_weights(network, &layers, &weights(network)).unwrap();
    let quantization = Quantization::calibrated(layers, ranges.iter().map(affine).collect(), calibration);
    Model::new("digits", 4, network.clone(), weights, Some(quantization))
}

fn operators(proto: &ModelProto) -> Vec<String> {
    let nodes = &proto.graph.as_ref().unwrap().node;
    nodes.iter().map(|node| format!("{} {}", node.op_type, node.name)).collect()
}

#[test]
fn every_preset_is_a_graph() {
    for name in PRESETS {
        let network = Network::new(preset(name, &[3, 32, 32], 10).unwrap()).unwrap();
        let file = onnx(&model(&network)).unwrap();
        assert_eq!(file, onnx(&model(&network)).unwrap(), "{name}: other bytes the second time");
        let proto = read(&file);
        check(&proto);
        let graph = proto.graph.unwrap();
        let keys: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let expected: BTreeSet<&str> = network.parameters().map(|parameter| parameter.key.as_str()).collect();
        assert_eq!(keys, expected, "{name}");
        let dims = |port: &super::proto::ValueInfoProto| {
            let shape = port.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
            let dim = |dim: &super::proto::Dimension| {
                dim.dim_param.clone().unwrap_or_else(|| dim.dim_value.unwrap().to_string())
            };
            shape.dim.iter().map(dim).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(dims(&graph.input[0]), "batch 3 32 32");
        assert_eq!(
            (graph.output[0].name.as_str(), dims(&graph.output[0])),
            ("logits", "batch 10".to_owned())
        );
    }
}

#[test]
fn the_file_says_what_it_is() {
    let network =
        network("inputs = [{ name = \"x\", shape = [2] }]\nlayers = [{ type = \"dense\", units = 1 }]");
    let model = model(&network).with_metadata("labels", r#"["a"]"#.to_owned());
    let proto = read(&onnx(&model).unwrap());
    assert_eq!((proto.ir_version, proto.opset_import[0].version), (8, 17));
    assert_eq!((proto.producer_name.as_str(), proto.model_version), ("brazier", 3));
    let entries: Vec<String> =
        proto.metadata_props.iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect();
    assert_eq!(entries, [r#"labels=["a"]"#, "name=digits", "version=3"]);
    assert_eq!(proto.graph.unwrap().name, "digits");
}

/// A layer may be called as a key of the record, an output as a layer, and a part as either.
#[test]
fn names_that_are_taken_are_given_to_the_more_important() {
    let network = network(
        r#"
        inputs = [{ name = "g.half", shape = [2] }]
        outputs = [{ name = "one", from = "g" }, { name = "g", from = "one.bias" }, { name = "same", from = "g" }]
        layers = [
            { name = "one.weight", type = "relu" },
            { name = "one", type = "dense", units = 3 },
            { name = "one.bias", type = "tanh" },
            { name = "g.erf", type = "dense", units = 2 },
            { name = "g", type = "gelu" },
        ]
        "#,
    );
    let proto = read(&onnx(&model(&network)).unwrap());
    check(&proto);
    let graph = proto.graph.unwrap();
    let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["one", "g", "same"]);
    let constants: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(&constants[..4], ["one.weight", "one.bias", "g.erf.weight", "g.erf.bias"]);
}

#[test]
fn int8_layers_read_bytes_and_no_one_else_does() {
    let network = network(
        r#"
        inputs = [{ name = "x", shape = [1, 4, 4] }]
        layers = [
            { name = "a", type = "conv2d", channels = 2, kernel = 3, padding = 1 },
            { name = "r", type = "relu" },
            { name = "block", type = "residual", body = [
                { name = "b", type = "conv2d", channels = 2, kernel = 3, padding = 1 },
            ] },
            { name = "flat", type = "flatten" },
            { name = "c", type = "dense", units = 2 },
            { name = "d", type = "dense", units = 2 },
        ]
        "#,
    );
    // `a` and `d` are f32. `b` takes the addition up and reads its addend as bytes too.
    let proto = read(&onnx(&quantized(&network, &["b", "c"], &["r", "block"])).unwrap());
    check(&proto);
    let expected = [
        "Conv a",
        "Relu r",
        "QuantizeLinear r.quantized",
        "DequantizeLinear r.dequantized",
        "DequantizeLinear b.weight.dequantized",
        "DequantizeLinear b.bias.dequantized",
        "Conv b",
        "Add block",
        "QuantizeLinear block.quantized",
        "DequantizeLinear block.dequantized",
        "Flatten flat",
        "QuantizeLinear flat.quantized",
        "DequantizeLinear flat.dequantized",
        "DequantizeLinear c.weight.dequantized",
        "DequantizeLinear c.bias.dequantized",
        "Gemm c",
        "Gemm d",
    ];
    assert_eq!(operators(&proto), expected);
    let add = proto.graph.as_ref().unwrap().node.iter().find(|node| node.op_type == "Add").unwrap();
    assert_eq!(add.input, ["b", "r.dequantized"]);

    // With `a` alone in int8 the addition is one of floats.
    let proto = read(&onnx(&quantized(&network, &["a"], &["x"])).unwrap());
    let add = proto.graph.as_ref().unwrap().node.iter().find(|node| node.op_type == "Add").unwrap();
    assert_eq!(add.input, ["b", "r"]);
}

#[test]
fn models_that_contradict_themselves_are_refused() {
    let text = |output: &str| {
        format!(
            "inputs = [{{ name = \"x\", shape = [2] }}]\noutputs = [{{ name = \"{output}\", from = \"a\" }}]\n\
             layers = [{{ name = \"a\", type = \"dense\", units = 1 }}]"
        )
    };
    let network_x = network(&text("x"));
    let error = onnx(&model(&network_x)).unwrap_err();
    assert!(matches!(&error, ExportError::OutputName { name } if name == "x"), "{error}");

    let network = network(&text("y"));
    let with = |change: &dyn Fn(&mut Weights)| {
        let mut weights = weights(&network);
        change(&mut weights);
        onnx(&Model::new("digits", 1, network.clone(), weights, None)).unwrap_err()
    };
    let error = with(&|weights| drop(weights.remove("a.bias")));
    assert!(
        matches!(&error, ExportError::Weights(WeightsError::Missing { key, .. }) if key == "a.bias"),
        "{error}"
    );
    let short = Tensor::from_f32(vec![1], vec![1.0]).unwrap();
    let error = with(&|weights| drop(weights.insert("a.weight".to_owned(), short.clone())));
    assert!(matches!(&error, ExportError::Weights(WeightsError::Mismatch { .. })), "{error}");
    let error = with(&|weights| drop(weights.insert("b.weight".to_owned(), short.clone())));
    assert!(matches!(&error, ExportError::Unused { key } if key == "b.weight"), "{error}");

    let error = onnx(&quantized(&network, &["a"], &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layer `a` computes in int8, but there is no range for `x`, which it reads; there are none"
    );
    let int8 = quantized(&network, &["a"], &["x"]);
    let mut weights = int8.weights().clone();
    weights.insert("a.bias".to_owned(), Tensor::from_f32(vec![1], vec![1e9]).unwrap());
    let plan = int8.quantization().cloned();
    let error = onnx(&Model::new("digits", 1, network.clone(), weights, plan)).unwrap_err();
    assert!(matches!(&error, ExportError::Bias { key, .. } if key == "a.bias"), "{error}");
}
