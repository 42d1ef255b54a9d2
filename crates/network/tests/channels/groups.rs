//! Which channels are tied together, and which cannot go.

use network::channels::{FixedReason, Groups};
use network::{Network, Role};
use serde_json::json;

use crate::{conv, dense, from, preset, with};

/// Names and channels of the groups.
fn sizes(network: &Network) -> Vec<(String, usize)> {
    let groups = Groups::of(network).groups;
    groups.into_iter().map(|group| (group.name, group.channels)).collect()
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn presets_have_the_groups_that_their_papers_draw() {
    let chain = |name: &str, input: &[usize], expected: &[(&str, usize)]| {
        let network = preset(name, input);
        let expected: Vec<(String, usize)> =
            expected.iter().map(|&(name, channels)| (name.to_owned(), channels)).collect();
        assert_eq!(sizes(&network), expected, "{name}");
        let fixed = Groups::of(&network).fixed;
        assert_eq!(fixed.len(), 1, "{name}");
        assert_eq!(fixed[0].reason, FixedReason::Output { output: "logits".to_owned() });
    };
    chain("mlp", &[5], &[("fc1", 64), ("fc2", 64)]);
    chain("lenet-300-100", &[1, 28, 28], &[("fc1", 300), ("fc2", 100)]);
    chain("lenet5", &[1, 28, 28], &[("conv1", 20), ("conv2", 50), ("fc1", 500)]);
    chain("digits-cnn", &[1, 8, 8], &[("conv1", 32), ("conv2", 64), ("conv3", 128), ("fc1", 128)]);
    chain("keras-cnn", &[3, 32, 32], &[("conv1", 32), ("conv2", 64), ("fc1", 64)]);
    let vgg = [32, 32, 64, 64, 128, 128].into_iter().enumerate();
    let vgg: Vec<(String, usize)> = vgg.map(|(i, c)| (format!("conv{}", i + 1), c)).collect();
    let found = sizes(&preset("vgg-small", &[3, 32, 32]));
    assert_eq!(found[..6], vgg);
    assert_eq!(found[6], ("fc1".to_owned(), 256));
}

#[test]
fn a_stage_of_a_residual_network_is_one_group() {
    let network = preset("resnet20", &[3, 32, 32]);
    let groups = Groups::of(&network);
    // One for the stream of each stage, one inside each of its three blocks.
    assert_eq!(groups.groups.len(), 3 + 9);
    let stream = groups.get("stage2.block1.conv2").unwrap();
    assert_eq!(stream.channels, 32);
    let producers =
        ["stage2.block1.conv2", "stage2.block1.projection", "stage2.block2.conv2", "stage2.block3.conv2"];
    assert_eq!(stream.producers, named(&producers));
    let consumers =
        ["stage2.block2.conv1", "stage2.block3.conv1", "stage3.block1.conv1", "stage3.block1.projection"];
    assert_eq!(stream.consumers, named(&consumers));
    for carrier in ["stage2.block1", "stage2.block1.norm2", "stage2.block1.relu2", "stage2.block3.norm2"] {
        assert!(stream.carriers.contains(&carrier.to_owned()), "{carrier}: {:?}", stream.carriers);
    }
    let inner = groups.get("stage2.block2.conv1").unwrap();
    assert_eq!(inner.carriers, named(&["stage2.block2.norm1", "stage2.block2.relu1"]));
    assert_eq!(inner.consumers, named(&["stage2.block2.conv2"]));
    // 32 filters of 32·9 on 16×16, and as many inputs of the next layer.
    assert_eq!(inner.macs_per_channel, 2 * 32 * 9 * 256);
    assert_eq!(inner.parameters_per_channel, 2 * 32 * 9 + 2);
    assert_eq!(groups.get("conv1").unwrap().producers.len(), 4);
    assert_eq!(groups.groups.iter().map(|group| group.channels).sum::<usize>(), 4 * (16 + 32 + 64));
}

#[test]
fn flatten_makes_a_plane_of_each_channel() {
    let network = preset("lenet5", &[1, 28, 28]);
    let groups = Groups::of(&network);
    let group = groups.get("conv2").unwrap();
    let slice = group.slices.iter().find(|slice| slice.key == "fc1.weight").unwrap();
    assert_eq!((slice.dimension, slice.block, slice.role), (0, 16, Role::Weight));
    assert_eq!(group.macs_per_channel, 20 * 25 * 64 + 16 * 500);
    // What a channel costs is what the network without it lacks.
    for group in &groups.groups {
        let one_less = [(group.name.clone(), group.channels - 1)].into();
        let smaller = network::channels::resize(&network, &one_less).unwrap();
        assert_eq!(network.macs() - smaller.macs(), group.macs_per_channel, "{}", group.name);
        assert_eq!(network.parameter_count() - smaller.parameter_count(), group.parameters_per_channel);
    }
}

#[test]
fn what_is_tied_to_inputs_and_outputs_stays_and_says_why() {
    let reason = |network: &Network, name: &str| {
        let fixed = Groups::of(network).fixed;
        fixed.into_iter().find(|fixed| fixed.name == name).map(|fixed| fixed.reason.to_string())
    };
    let input = "its channels are tied to those of the input `input`".to_owned();
    // An identity shortcut adds the input to what the block makes.
    let layers = json!([{"type": "residual", "name": "r", "body": [conv("a", 3), conv("b", 3)]},
        conv("c", 5), {"type": "flatten"}, dense("d", 2)]);
    let network = with(&[3, 4, 4], layers, json!([]));
    assert_eq!(sizes(&network), [("a".to_owned(), 3), ("c".to_owned(), 5)]);
    assert_eq!(reason(&network, "b"), Some(input.clone()));
    assert_eq!(reason(&network, "d"), Some("its channels are the output `logits`".to_owned()));
    // A projection unties it.
    let layers = json!([{"type": "residual", "name": "r", "body": [conv("a", 3), conv("b", 3)],
        "shortcut": [conv("p", 3)]}, {"type": "flatten"}, dense("d", 2)]);
    let network = with(&[3, 4, 4], layers, json!([]));
    assert_eq!(Groups::of(&network).get("b").unwrap().producers, named(&["b", "p"]));
    // A depthwise convolution on the input has the input's channels.
    let layers = json!([{"type": "conv2d", "name": "w", "channels": 6, "kernel": 1, "groups": 3},
        {"type": "flatten"}, dense("d", 2)]);
    assert_eq!(reason(&with(&[3, 4, 4], layers, json!([])), "w"), Some(input));
    // An output in the middle fixes what it shows, by whichever name.
    let layers = json!([conv("a", 4), {"type": "relu", "name": "r"}, conv("b", 5), {"type": "flatten"},
        dense("d", 2)]);
    let outputs = json!([{"name": "logits", "from": "d"}, {"name": "features", "from": "r"}]);
    let network = with(&[3, 4, 4], layers, outputs);
    assert_eq!(sizes(&network), [("b".to_owned(), 5)]);
    assert_eq!(reason(&network, "a"), Some("its channels are the output `features`".to_owned()));
    // One channel cannot go.
    let layers = json!([conv("a", 1), {"type": "flatten"}, dense("d", 2)]);
    let network = with(&[3, 4, 4], layers, json!([]));
    assert_eq!(Groups::of(&network).fixed[0].reason, FixedReason::Single);
    assert!(sizes(&network).is_empty());
}

#[test]
fn grouped_convolutions_tie_runs_of_channels() {
    // 12 filters are read in 4 groups of 3, which give 2 each; the depthwise one behind doubles them.
    let layers = json!([conv("a", 12),
        {"type": "conv2d", "name": "g", "channels": 8, "kernel": 1, "groups": 4},
        {"type": "conv2d", "name": "w", "channels": 16, "kernel": 1, "groups": 8},
        conv("b", 6), {"type": "global_avg_pool"}, dense("d", 2)]);
    let network = with(&[3, 4, 4], layers, json!([]));
    let groups = Groups::of(&network);
    let group = groups.get("a").unwrap();
    assert_eq!((group.channels, group.width), (4, 3));
    assert_eq!((group.producers.clone(), group.carriers.clone()), (named(&["a"]), named(&["g", "w"])));
    let block = |key: &str| group.slices.iter().find(|slice| slice.key == key).unwrap().block;
    assert_eq!((block("a.weight"), block("g.weight"), block("w.weight"), block("b.weight")), (3, 2, 4, 4));
    let smaller = network::channels::resize(&network, &[("a".to_owned(), 3)].into()).unwrap();
    let kernels = ["a", "g", "w", "b"].map(|layer| {
        let key = format!("{layer}.weight");
        smaller.parameters().find(|parameter| parameter.key == key).unwrap().shape.clone()
    });
    assert_eq!(kernels, [vec![9, 3, 3, 3], vec![6, 3, 1, 1], vec![12, 1, 1, 1], vec![6, 12, 3, 3]]);
}

#[test]
fn every_reader_of_a_value_shrinks() {
    let layers = json!([conv("a", 4), {"type": "relu", "name": "r"}, conv("b", 5), {"type": "global_avg_pool"},
        dense("d", 2), from(json!({"type": "flatten", "name": "f"}), "r"), dense("e", 3),
        from(conv("c", 2), "a"), {"type": "flatten"}, dense("h", 2)]);
    let outputs = json!([{"name": "x", "from": "d"}, {"name": "y", "from": "e"}, {"name": "z", "from": "h"}]);
    let groups = Groups::of(&with(&[3, 4, 4], layers, outputs));
    let group = groups.get("a").unwrap();
    assert_eq!(group.consumers, named(&["b", "e", "c"]));
    let block = |key: &str| group.slices.iter().find(|slice| slice.key == key).unwrap().block;
    assert_eq!((block("b.weight"), block("e.weight"), block("c.weight")), (1, 16, 1));
}

#[test]
fn layer_normalisation_carries_features_but_no_channels_of_images() {
    let layers = json!([conv("a", 4), {"type": "layer_norm", "name": "l"}, {"type": "flatten"},
        {"type": "layer_norm", "name": "m"}, dense("d", 2)]);
    let groups = Groups::of(&with(&[3, 5, 6], layers, json!([])));
    let group = groups.get("a").unwrap();
    let keys: Vec<&str> = group.slices.iter().map(|slice| slice.key.as_str()).collect();
    assert_eq!(keys, ["a.weight", "a.bias", "m.gamma", "m.beta", "d.weight"]);
    assert!(group.carriers.contains(&"l".to_owned()));
}
