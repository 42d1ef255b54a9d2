//! Well-known networks as specifications. A preset is nothing but a [`NetworkSpec`].

use crate::spec::{
    BatchNorm, Conv2d, Dense, Dropout, Empty, InputSpec, Layer, NetworkSpec, Op, Pair, Pool2d, Residual,
};

/// The names that [`preset`] knows.
pub const PRESETS: &[&str] = &[
    "mlp",
    "lenet-300-100",
    "lenet5",
    "digits-cnn",
    "keras-cnn",
    "resnet20",
    "resnet32",
    "resnet56",
    "vgg-small",
];

/// A preset that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset `{name}`; there are {}", PRESETS.join(", "))]
pub struct PresetError {
    /// What was asked for.
    pub name: String,
}

/// The preset `name` for samples of shape `input` and `outputs` logits.
///
/// - `mlp`: two hidden layers of 64, relu; any input.
/// - `lenet-300-100`, `lenet5`: LeCun et al. 1998; the second as in Caffe, 20-50-500.
/// - `digits-cnn`: for 8×8 pictures; 3×3 convolutions with batch norm at 32, 64 and 128 channels.
/// - `keras-cnn`: the convolutional network of Keras' first example, 32-64-64.
/// - `resnet20`, `resnet32`, `resnet56`: He et al. 2015, section 4.2, with projection shortcuts.
/// - `vgg-small`: Simonyan & Zisserman 2014 in small: 32-32-64-64-128-128 with batch norm.
///
/// # Errors
/// When there is no such preset. Whether the input's shape fits is found by [`crate::Network::new`].
pub fn preset(name: &str, input: &[usize], outputs: usize) -> Result<NetworkSpec, PresetError> {
    let layers = match name {
        "mlp" => dense_stack(input, &[64, 64], outputs),
        "lenet-300-100" => dense_stack(input, &[300, 100], outputs),
        "lenet5" => vec![
            conv("conv1", 20, 5, 0, 1, true),
            pool("pool1"),
            conv("conv2", 50, 5, 0, 1, true),
            pool("pool2"),
            plain("flatten", Op::Flatten(Empty {})),
            dense("fc1", 500),
            relu("relu1"),
            dense("fc2", outputs),
        ],
        "digits-cnn" => digits_cnn(outputs),
        "keras-cnn" => vec![
            conv("conv1", 32, 3, 0, 1, true),
            relu("relu1"),
            pool("pool1"),
            conv("conv2", 64, 3, 0, 1, true),
            relu("relu2"),
            pool("pool2"),
            plain("flatten", Op::Flatten(Empty {})),
            dense("fc1", 64),
            relu("relu3"),
            dropout("dropout", 0.2),
            dense("fc2", outputs),
        ],
        "resnet20" => resnet(3, outputs),
        "resnet32" => resnet(5, outputs),
        "resnet56" => resnet(9, outputs),
        "vgg-small" => vgg_small(outputs),
        _ => return Err(PresetError { name: name.to_owned() }),
    };
    let inputs = vec![InputSpec { name: "input".to_owned(), shape: input.to_vec() }];
    Ok(NetworkSpec { inputs, layers, outputs: Vec::new() })
}

fn plain(name: impl Into<String>, op: Op) -> Layer {
    Layer { name: name.into(), from: Vec::new(), op }
}

fn dense(name: &str, units: usize) -> Layer {
    plain(name, Op::Dense(Dense { units, bias: true }))
}

fn relu(name: impl Into<String>) -> Layer {
    plain(name, Op::Relu(Empty {}))
}

fn dropout(name: &str, probability: f64) -> Layer {
    plain(name, Op::Dropout(Dropout { probability }))
}

fn pool(name: impl Into<String>) -> Layer {
    let pool = Pool2d { kernel: Pair::both(2), stride: None, padding: Pair::both(0) };
    plain(name, Op::MaxPool2d(pool))
}

fn norm(name: impl Into<String>) -> Layer {
    plain(name, Op::BatchNorm(BatchNorm { epsilon: 1e-5, momentum: 0.1 }))
}

fn conv(
    name: impl Into<String>,
    channels: usize,
    kernel: usize,
    padding: usize,
    stride: usize,
    bias: bool,
) -> Layer {
    let conv = Conv2d {
        channels,
        kernel: Pair::both(kernel),
        stride: Pair::both(stride),
        padding: Pair::both(padding),
        dilation: Pair::both(1),
        groups: 1,
        bias,
    };
    plain(name, Op::Conv2d(conv))
}

/// A convolution with batch norm and relu. It has no bias: the normalisation would subtract it.
fn conv_norm_relu(index: usize, channels: usize) -> [Layer; 3] {
    [
        conv(format!("conv{index}"), channels, 3, 1, 1, false),
        norm(format!("norm{index}")),
        relu(format!("relu{index}")),
    ]
}

fn dense_stack(input: &[usize], hidden: &[usize], outputs: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    if input.len() > 1 {
        layers.push(plain("flatten", Op::Flatten(Empty {})));
    }
    for (index, &units) in hidden.iter().enumerate() {
        layers.push(dense(&format!("fc{}", index + 1), units));
        layers.push(relu(format!("relu{}", index + 1)));
    }
    layers.push(dense(&format!("fc{}", hidden.len() + 1), outputs));
    layers
}

fn digits_cnn(outputs: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    layers.extend(conv_norm_relu(1, 32));
    layers.extend(conv_norm_relu(2, 64));
    layers.push(pool("pool1"));
    layers.extend(conv_norm_relu(3, 128));
    layers.push(plain("flatten", Op::Flatten(Empty {})));
    layers.push(dropout("dropout", 0.3));
    layers.push(dense("fc1", 128));
    layers.push(relu("relu4"));
    layers.push(dense("fc2", outputs));
    layers
}

fn vgg_small(outputs: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (stage, channels) in [32, 64, 128].into_iter().enumerate() {
        layers.extend(conv_norm_relu(2 * stage + 1, channels));
        layers.extend(conv_norm_relu(2 * stage + 2, channels));
        layers.push(pool(format!("pool{}", stage + 1)));
    }
    layers.push(plain("flatten", Op::Flatten(Empty {})));
    layers.push(dense("fc1", 256));
    layers.push(relu("relu7"));
    layers.push(dropout("dropout", 0.5));
    layers.push(dense("fc2", outputs));
    layers
}

/// Three stages of `blocks` blocks at 16, 32 and 64 channels; 6 · blocks + 2 weighted layers.
fn resnet(blocks: usize, outputs: usize) -> Vec<Layer> {
    let mut layers = vec![conv("conv1", 16, 3, 1, 1, false), norm("norm1"), relu("relu1")];
    let mut before = 16;
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for index in 0..blocks {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("stage{}.block{}", stage + 1, index + 1);
            let body = vec![
                conv(format!("{name}.conv1"), channels, 3, 1, stride, false),
                norm(format!("{name}.norm1")),
                relu(format!("{name}.relu1")),
                conv(format!("{name}.conv2"), channels, 3, 1, 1, false),
                norm(format!("{name}.norm2")),
            ];
            let projection = stride != 1 || before != channels;
            let shortcut = if projection {
                vec![
                    conv(format!("{name}.projection"), channels, 1, 0, stride, false),
                    norm(format!("{name}.projection_norm")),
                ]
            } else {
                Vec::new()
            };
            layers.push(plain(name.clone(), Op::Residual(Residual { body, shortcut })));
            layers.push(relu(format!("{name}.relu2")));
            before = channels;
        }
    }
    layers.push(plain("pool", Op::GlobalAvgPool(Empty {})));
    layers.push(dense("fc", outputs));
    layers
}
