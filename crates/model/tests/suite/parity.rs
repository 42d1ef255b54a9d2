//! Every operation beside a reference in plain loops.

use model::DeviceSpec;

use crate::{assert_close, busy_weights, network, numbers, reference, run_on, tolerance};

/// The input's shape and one layer (or several) as JSON.
fn check(shape: &[usize], layers: &str) {
    let network =
        network(&format!(r#"{{"inputs": [{{"name": "x", "shape": {shape:?}}}], "layers": [{layers}]}}"#));
    let weights = busy_weights(&network);
    let size: usize = shape.iter().product();
    const ROWS: usize = 3;
    let batch = numbers(7, ROWS * size);
    let expected: Vec<f64> =
        batch.chunks(size).flat_map(|sample| reference::run(&network, &weights, sample)).collect();
    // Whatever devices this build has: `cargo test -p model --features ndarray` adds one.
    for device in DeviceSpec::available() {
        let found = run_on(device, &network, &weights, &batch);
        assert_close(&found, &expected, tolerance(device, 2e-5), &format!("{device}: {shape:?} {layers}"));
    }
}

/// A test on a device that is not there would test nothing, so whoever runs this suite for a device says so:
/// `BRAZIER_REQUIRE_DEVICE=wgpu` (or several, with commas) makes its absence a failure.
#[test]
fn the_required_devices_are_here() {
    let required = std::env::var("BRAZIER_REQUIRE_DEVICE").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        let device: DeviceSpec = name.parse().unwrap();
        assert!(DeviceSpec::available().contains(&device), "{:?}", device.open());
    }
}

#[test]
fn dense() {
    check(&[1], r#"{"type": "dense", "units": 1}"#);
    check(&[7], r#"{"type": "dense", "units": 5}"#);
    check(&[33], r#"{"type": "dense", "units": 17, "bias": false}"#);
    check(&[130], r#"{"type": "dense", "units": 70}"#);
}

#[test]
fn convolution() {
    let cases: &[(&[usize], &str)] = &[
        (&[1, 1, 1], r#""channels": 1, "kernel": 1"#),
        (&[3, 5, 5], r#""channels": 4, "kernel": 1, "bias": false"#),
        (&[1, 8, 8], r#""channels": 8, "kernel": 3, "padding": 1"#),
        (&[2, 7, 9], r#""channels": 3, "kernel": [3, 5]"#),
        (&[2, 7, 9], r#""channels": 3, "kernel": [2, 4], "stride": [2, 3], "padding": [1, 2]"#),
        (&[3, 11, 10], r#""channels": 5, "kernel": 3, "stride": 2, "padding": 1, "bias": false"#),
        (&[3, 11, 11], r#""channels": 4, "kernel": 3, "dilation": 2"#),
        (
            &[2, 13, 9],
            r#""channels": 4, "kernel": [3, 2], "dilation": [3, 4], "padding": [2, 1], "stride": 2"#,
        ),
        // Groups: depthwise, depthwise with a multiplier, and in between.
        (&[4, 6, 6], r#""channels": 4, "kernel": 3, "padding": 1, "groups": 4"#),
        (&[3, 6, 7], r#""channels": 6, "kernel": 3, "groups": 3"#),
        (
            &[6, 7, 5],
            r#""channels": 4, "kernel": [3, 2], "groups": 2, "stride": 2, "dilation": [2, 1], "padding": 1"#,
        ),
        (&[8, 5, 5], r#""channels": 8, "kernel": 1, "groups": 2"#),
        // A kernel as large as the image, and a stride past its end.
        (&[2, 5, 4], r#""channels": 3, "kernel": [5, 4]"#),
        (&[1, 5, 5], r#""channels": 2, "kernel": 1, "stride": 7"#),
        (&[16, 9, 9], r#""channels": 32, "kernel": 3, "padding": 1"#),
    ];
    for (shape, hyper) in cases {
        check(shape, &format!(r#"{{"type": "conv2d", {hyper}}}"#));
    }
}

#[test]
fn normalisation() {
    check(&[6], r#"{"type": "batch_norm"}"#);
    check(&[3, 4, 5], r#"{"type": "batch_norm", "epsilon": 0.01}"#);
    check(&[1, 1, 1], r#"{"type": "batch_norm"}"#);
    check(&[9], r#"{"type": "layer_norm"}"#);
    check(&[4, 7], r#"{"type": "layer_norm", "epsilon": 0.1}"#);
    check(&[3, 4, 5], r#"{"type": "layer_norm"}"#);
}

#[test]
fn activations() {
    for shape in [&[5][..], &[3, 4], &[2, 3, 5], &[2, 2, 3, 2]] {
        for name in ["relu", "gelu", "sigmoid", "tanh", "silu", "leaky_relu"] {
            check(shape, &format!(r#"{{"type": "{name}"}}"#));
        }
        check(shape, r#"{"type": "leaky_relu", "slope": 0.3}"#);
        check(shape, r#"{"type": "leaky_relu", "slope": -0.5}"#);
        check(shape, r#"{"type": "dropout", "probability": 0.4}"#);
    }
}

#[test]
fn pooling() {
    for kind in ["max_pool2d", "avg_pool2d"] {
        let cases: &[(&[usize], &str)] = &[
            (&[1, 4, 4], r#""kernel": 2"#),
            (&[2, 7, 5], r#""kernel": 2"#),
            (&[2, 7, 6], r#""kernel": 3, "stride": 2, "padding": 1"#),
            (&[3, 6, 9], r#""kernel": [2, 3], "stride": [1, 2], "padding": [1, 1]"#),
            (&[2, 5, 5], r#""kernel": 5"#),
            (&[2, 5, 5], r#""kernel": 1, "stride": 3"#),
        ];
        for (shape, hyper) in cases {
            check(shape, &format!(r#"{{"type": "{kind}", {hyper}}}"#));
        }
    }
    for kind in ["global_avg_pool", "global_max_pool"] {
        check(&[3, 4, 5], &format!(r#"{{"type": "{kind}"}}"#));
        check(&[1, 1, 1], &format!(r#"{{"type": "{kind}"}}"#));
    }
}

#[test]
fn flatten_and_the_identity() {
    check(&[2, 3, 4], r#"{"type": "flatten"}, {"type": "dense", "units": 3}"#);
    check(&[4, 5], r#"{"type": "flatten"}"#);
    for shape in [&[3][..], &[2, 3], &[2, 3, 4], &[2, 3, 2, 2]] {
        check(shape, "");
    }
}

#[test]
fn residual_blocks() {
    let identity = r#"{"type": "residual", "body": [
        {"type": "conv2d", "channels": 3, "kernel": 3, "padding": 1, "bias": false}, {"type": "batch_norm"},
        {"type": "relu"}, {"type": "conv2d", "channels": 3, "kernel": 3, "padding": 1}]}, {"type": "relu"}"#;
    check(&[3, 5, 6], identity);
    let projection = r#"{"type": "residual",
        "body": [{"type": "conv2d", "channels": 6, "kernel": 3, "padding": 1, "stride": 2}, {"type": "tanh"}],
        "shortcut": [{"type": "conv2d", "channels": 6, "kernel": 1, "stride": 2, "bias": false}, {"type": "batch_norm"}]},
        {"type": "global_avg_pool"}, {"type": "dense", "units": 4}"#;
    check(&[3, 7, 8], projection);
    let nested = r#"{"type": "residual", "body": [{"type": "residual", "body": [{"type": "dense", "units": 5}]},
        {"type": "relu"}], "shortcut": [{"type": "dense", "units": 5}]}"#;
    check(&[5], nested);
    // Both branches empty: twice the input.
    check(&[5], r#"{"type": "residual", "body": []}"#);
}

/// The presets, on every device. All of them give logits of about 1, and 32-bit sums in another order differ
/// from the reference's 64-bit ones in the sixth digit; 20 layers in a row make that the fourth.
#[test]
fn presets() {
    let cases: &[(&str, &[usize])] = &[
        ("mlp", &[6]),
        ("lenet-300-100", &[1, 8, 8]),
        ("lenet5", &[1, 28, 28]),
        ("digits-cnn", &[1, 8, 8]),
        ("keras-cnn", &[3, 16, 16]),
        ("resnet20", &[3, 8, 8]),
        ("vgg-small", &[3, 8, 8]),
    ];
    for (name, shape) in cases {
        let network = network::Network::new(network::preset(name, shape, 4).unwrap()).unwrap();
        let weights = model::initial_weights(&network, 3);
        let size: usize = shape.iter().product();
        let batch = numbers(3, 2 * size);
        let expected: Vec<f64> =
            batch.chunks(size).flat_map(|sample| reference::run(&network, &weights, sample)).collect();
        for device in DeviceSpec::available() {
            let found = run_on(device, &network, &weights, &batch);
            assert_close(&found, &expected, tolerance(device, 1e-4), &format!("{device}: {name}"));
        }
        assert!(expected.iter().all(|logit| logit.abs() < 100.0), "{name}: {expected:?}");
    }
}

/// `from` reaches back over other layers, to inputs too, and outputs may be taken from anywhere.
#[test]
fn references_by_name() {
    use model::{Net, Value};

    let network = network(
        r#"{"inputs": [{"name": "a", "shape": [2]}, {"name": "b", "shape": [3]}],
            "layers": [
                {"name": "one", "type": "relu"},
                {"name": "two", "type": "tanh", "from": ["one"]},
                {"name": "three", "type": "sigmoid", "from": ["one"]},
                {"name": "four", "type": "relu", "from": ["b"]},
                {"name": "five", "type": "leaky_relu", "slope": 2.0}],
            "outputs": [{"name": "p", "from": "three"}, {"name": "q", "from": "five"}, {"name": "r", "from": "two"},
                {"name": "s", "from": "a"}]}"#,
    );
    let device = DeviceSpec::Cpu.open().unwrap();
    let net = Net::init(&network, 0, &device).unwrap();
    let a = Value::from_vec(vec![-1.0, 2.0], &[1, 2], &device).unwrap();
    let b = Value::from_vec(vec![-3.0, 0.5, 4.0], &[1, 3], &device).unwrap();
    let outputs = net.run(vec![a, b], None);
    let expected: [&[f64]; 4] = [&[0.5, 0.880_797], &[0.0, 0.5, 4.0], &[0.0, 0.964_028], &[-1.0, 2.0]];
    assert_eq!(outputs.len(), 4);
    for (output, expected) in outputs.into_iter().zip(expected) {
        assert_close(&output.into_vec().unwrap(), expected, 1e-6, "output");
    }
}
