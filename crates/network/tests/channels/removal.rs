//! Removing channels from known networks, and what cannot be removed.

use network::channels::{Groups, Removal, remove, resize};
use network::{Elements, Tensor};
use serde_json::json;

use crate::{check, common, conv, dense, from, preset, with};

/// Every second channel of each group, and never all.
fn halves(network: &network::Network) -> Removal {
    let groups = Groups::of(network).groups;
    groups.into_iter().map(|group| (group.name, (0..group.channels).step_by(2).collect())).collect()
}

#[test]
fn presets_without_half_of_their_channels_compute_the_same() {
    let cases: &[(&str, &[usize])] = &[
        ("mlp", &[5]),
        ("lenet-300-100", &[1, 6, 6]),
        ("lenet5", &[1, 16, 16]),
        ("digits-cnn", &[1, 8, 8]),
        ("keras-cnn", &[3, 12, 12]),
        ("resnet20", &[3, 8, 8]),
        ("vgg-small", &[3, 8, 8]),
    ];
    for (name, input) in cases {
        let network = preset(name, input);
        let smaller = check(&network, &halves(&network), 7);
        // Half of the inputs times half of the outputs, but for the ends.
        let share = smaller.macs() as f64 / network.macs() as f64;
        assert!((0.24..0.5).contains(&share), "{name}: {share}");
    }
}

#[test]
fn wiring_by_name_survives() {
    let layers = json!([conv("a", 6), {"type": "relu", "name": "r"}, conv("b", 4), {"type": "batch_norm"},
        {"type": "residual", "name": "s", "body": [conv("c", 4), from(conv("e", 3), "c"),
            from(conv("g", 4), "e")]},
        {"type": "global_max_pool"}, dense("d", 2), from(json!({"type": "flatten"}), "r"), dense("f", 3)]);
    let network = with(&[2, 5, 4], layers, json!([{"name": "x", "from": "d"}, {"name": "y", "from": "f"}]));
    check(&network, &[("a".to_owned(), vec![0, 2, 5])].into(), 1);
    check(&network, &[("b".to_owned(), vec![1, 2, 3]), ("e".to_owned(), vec![0])].into(), 2);
    check(&network, &halves(&network), 3);
}

#[test]
fn nothing_removed_is_the_same_network() {
    let network = preset("digits-cnn", &[1, 8, 8]);
    let weights = common::weights(&network, 1);
    let none = [("conv1".to_owned(), Vec::new())].into();
    assert_eq!(remove(&network, &weights, &none).unwrap(), (network.clone(), weights.clone()));
    assert_eq!(remove(&network, &weights, &Removal::new()).unwrap(), (network, weights));
}

#[test]
fn other_tensors_of_the_record_stay() {
    let network = preset("mlp", &[4]);
    let mut weights = common::weights(&network, 1);
    let extra = Tensor::from_f32(vec![3], vec![1.0, 2.0, 3.0]).unwrap();
    weights.insert("elsewhere.bias".to_owned(), extra.clone());
    let (_, record) = remove(&network, &weights, &[("fc1".to_owned(), vec![5])].into()).unwrap();
    assert_eq!(record["elsewhere.bias"], extra);
    assert_eq!(record["fc1.bias"].shape(), [63]);
}

#[test]
fn what_cannot_be_removed_is_named() {
    let network = preset("lenet5", &[1, 28, 28]);
    let weights = common::weights(&network, 1);
    let refusal = |group: &str, channels: Vec<usize>| {
        remove(&network, &weights, &[(group.to_owned(), channels)].into()).unwrap_err().to_string()
    };
    assert_eq!(
        refusal("conv9", vec![0]),
        "there is no group of channels `conv9`; there are `conv1`, `conv2`, `fc1`"
    );
    assert_eq!(
        refusal("fc2", vec![0]),
        "the channels of `fc2` cannot be removed: its channels are the output `logits`"
    );
    assert_eq!(
        refusal("conv1", vec![3, 20]),
        "group `conv1` has 20 channels, 0 to 19, and 20 is none of them"
    );
    assert_eq!(
        refusal("conv1", (0..20).collect()),
        "group `conv1` would have 0 channels; it has 20 and must keep at least 1"
    );
    for wrong in [vec![2, 1], vec![1, 1]] {
        assert_eq!(
            refusal("conv1", wrong),
            "the channels to remove from group `conv1` must be ascending, each named once"
        );
    }
    let sized = |kept: usize| resize(&network, &[("conv1".to_owned(), kept)].into());
    assert!(sized(20).is_ok() && sized(1).is_ok());
    assert!(sized(0).is_err() && sized(21).is_err());
    // A record of integers is not one of floats.
    let mut quantized = weights.clone();
    let integers = Tensor::new(vec![20, 1, 5, 5], Elements::I8(vec![1; 500])).unwrap();
    quantized.insert("conv1.weight".to_owned(), integers);
    let error = remove(&network, &quantized, &Removal::new()).unwrap_err().to_string();
    assert_eq!(error, "`conv1.weight` is INT8 [20, 1, 5, 5] and must be FP32 [20, 1, 5, 5]");
}
