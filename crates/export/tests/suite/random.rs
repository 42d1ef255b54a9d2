//! Random networks: every operation, odd sizes, strides, dilation, groups, residual blocks.

use network::spec::{
    BatchNorm, Conv2d, Dense, Dropout, Empty, InputSpec, Layer, LayerNorm, LeakyRelu, NetworkSpec, Op, Pair,
    Pool2d, Residual,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A layer that is named after its type.
fn layer(op: Op) -> Layer {
    Layer { name: String::new(), from: Vec::new(), op }
}

fn pair(low: usize, high: usize) -> impl Strategy<Value = Pair> {
    (low..=high, low..=high).prop_map(|(height, width)| Pair { height, width })
}

fn convolution(groups: usize) -> impl Strategy<Value = Op> {
    (1..12usize, 1..=groups, pair(1, 4), pair(1, 2), pair(0, 2), pair(1, 2), any::<bool>()).prop_map(
        |(multiple, groups, kernel, stride, padding, dilation, bias)| {
            Op::Conv2d(Conv2d { channels: 2 * multiple, kernel, stride, padding, dilation, groups, bias })
        },
    )
}

fn pool() -> impl Strategy<Value = Pool2d> {
    prop_oneof![
        Just(Pool2d { kernel: Pair::both(2), stride: None, padding: Pair::both(0) }),
        (pair(1, 3), pair(1, 2), pair(0, 1)).prop_map(|(kernel, stride, padding)| Pool2d {
            kernel,
            stride: Some(stride),
            padding,
        })
    ]
}

fn anywhere() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::BatchNorm(BatchNorm { epsilon: 1e-3, momentum: 0.1 })),
        Just(Op::LayerNorm(LayerNorm { epsilon: 1e-1 })),
        Just(Op::Relu(Empty {})),
        Just(Op::LeakyRelu(LeakyRelu { slope: 0.1 })),
        Just(Op::LeakyRelu(LeakyRelu { slope: -0.5 })),
        Just(Op::LeakyRelu(LeakyRelu { slope: 0.0 })),
        Just(Op::Gelu(Empty {})),
        Just(Op::Sigmoid(Empty {})),
        Just(Op::Tanh(Empty {})),
        Just(Op::Silu(Empty {})),
        Just(Op::Dropout(Dropout { probability: 0.5 })),
    ]
}

fn residual() -> impl Strategy<Value = Op> {
    let conv = |kernel: usize, padding: usize, channels: usize| {
        let [kernel, padding] = [kernel, padding].map(Pair::both);
        let (stride, dilation) = (Pair::both(1), Pair::both(1));
        Op::Conv2d(Conv2d { channels, kernel, stride, padding, dilation, groups: 1, bias: true })
    };
    prop_oneof![
        vec(anywhere(), 0..3)
            .prop_map(|body| Residual { body: body.into_iter().map(layer).collect(), shortcut: Vec::new() }),
        (1..14usize, vec(anywhere(), 0..3), vec(anywhere(), 0..2), any::<bool>()).prop_map(
            move |(channels, more, also, halved)| {
                let pool = Pool2d { kernel: Pair::both(2), stride: None, padding: Pair::both(0) };
                let pool = halved.then_some(Op::MaxPool2d(pool));
                let list = |first: Op, more: Vec<Op>| {
                    [first].into_iter().chain(pool.clone()).chain(more).map(layer).collect()
                };
                Residual {
                    body: list(conv(3, 1, channels), more),
                    shortcut: list(conv(1, 0, channels), also),
                }
            }
        ),
    ]
    .prop_map(Op::Residual)
}

fn image(groups: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => convolution(groups),
        4 => anywhere(),
        1 => pool().prop_map(Op::MaxPool2d),
        1 => pool().prop_map(Op::AvgPool2d),
        2 => residual(),
    ]
}

/// Layers on images of up to `groups` groups, then on rows of values. Some do not fit together.
pub(crate) fn specs(groups: usize) -> impl Strategy<Value = NetworkSpec> {
    let input = (1..7usize, 1..14usize, 1..14usize).prop_map(|(c, h, w)| vec![c, h, w]);
    let middle = prop_oneof![
        2 => Just(Op::Flatten(Empty {})),
        1 => Just(Op::GlobalAvgPool(Empty {})),
        1 => Just(Op::GlobalMaxPool(Empty {})),
    ];
    let dense = (1..30usize, any::<bool>()).prop_map(|(units, bias)| Op::Dense(Dense { units, bias }));
    let row = prop_oneof![dense, anywhere()];
    (input, vec(image(groups), 0..5), middle, vec(row, 0..4)).prop_map(|(shape, images, middle, rows)| {
        let layers = images.into_iter().chain([middle]).chain(rows).map(layer).collect();
        NetworkSpec { inputs: vec![InputSpec { name: "x".to_owned(), shape }], layers, outputs: Vec::new() }
    })
}
