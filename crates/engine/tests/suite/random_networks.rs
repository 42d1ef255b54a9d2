//! Random networks: every operation, odd sizes, strides, dilation, groups, one channel, any batch.

use network::Network;
use network::spec::{
    BatchNorm, Conv2d, Dense, Dropout, Empty, InputSpec, Layer, LayerNorm, LeakyRelu, NetworkSpec, Op, Pair,
    Pool2d, Residual,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::check;

fn layer(op: Op) -> Layer {
    Layer { name: String::new(), from: Vec::new(), op }
}

fn pair(low: usize, high: usize) -> impl Strategy<Value = Pair> {
    (low..=high, low..=high).prop_map(|(height, width)| Pair { height, width })
}

/// Strides, dilations, groups (depthwise among them): the direct kernels.
fn any_convolution() -> impl Strategy<Value = Op> {
    (1..12usize, 1..3usize, pair(1, 3), pair(1, 2), pair(0, 2), pair(1, 2), any::<bool>()).prop_map(
        |(multiple, groups, kernel, stride, padding, dilation, bias)| {
            Op::Conv2d(Conv2d { channels: 2 * multiple, kernel, stride, padding, dilation, groups, bias })
        },
    )
}

/// Square kernels with stride 1 and enough channels: Winograd's algorithm.
fn square_convolution() -> impl Strategy<Value = Op> {
    (4..24usize, prop_oneof![Just(3usize), Just(5)], 0..3usize, any::<bool>()).prop_map(
        |(half, kernel, padding, bias)| {
            Op::Conv2d(Conv2d {
                channels: 2 * half,
                kernel: Pair::both(kernel),
                stride: Pair::both(1),
                padding: Pair::both(padding),
                dilation: Pair::both(1),
                groups: 1,
                bias,
            })
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
        Just(Op::Gelu(Empty {})),
        Just(Op::Sigmoid(Empty {})),
        Just(Op::Tanh(Empty {})),
        Just(Op::Silu(Empty {})),
        Just(Op::Dropout(Dropout { probability: 0.5 })),
    ]
}

fn residual() -> impl Strategy<Value = Op> {
    let same = (1..3usize).prop_map(|groups| {
        let conv = Conv2d {
            channels: 12,
            kernel: Pair::both(3),
            stride: Pair::both(1),
            padding: Pair::both(1),
            dilation: Pair::both(1),
            groups,
            bias: true,
        };
        let project = Conv2d { kernel: Pair::both(1), padding: Pair::both(0), groups: 1, ..conv.clone() };
        (Op::Conv2d(conv), Op::Conv2d(project))
    });
    prop_oneof![
        proptest::collection::vec(anywhere(), 0..3).prop_map(|body| {
            Residual { body: body.into_iter().map(layer).collect(), shortcut: Vec::new() }
        }),
        (same, proptest::collection::vec(anywhere(), 0..2)).prop_map(|((conv, project), more)| {
            let body = [conv].into_iter().chain(more).map(layer).collect();
            Residual { body, shortcut: vec![layer(project)] }
        }),
    ]
    .prop_map(Op::Residual)
}

fn image_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any_convolution(),
        3 => square_convolution(),
        4 => anywhere(),
        1 => pool().prop_map(Op::MaxPool2d),
        1 => pool().prop_map(Op::AvgPool2d),
        2 => residual(),
        1 => Just(Op::Conv2d(Conv2d {
            channels: 2,
            kernel: Pair::both(3),
            stride: Pair::both(1),
            padding: Pair::both(1),
            dilation: Pair::both(1),
            groups: 2,
            bias: true,
        })),
    ]
}

fn spec() -> impl Strategy<Value = NetworkSpec> {
    let input = (1..7usize, 1..18usize, 1..18usize).prop_map(|(c, h, w)| vec![c, h, w]);
    let end = prop_oneof![
        Just(Op::Flatten(Empty {})),
        Just(Op::GlobalAvgPool(Empty {})),
        Just(Op::GlobalMaxPool(Empty {}))
    ];
    let tail = proptest::collection::vec(
        prop_oneof![
            anywhere(),
            (1..70usize, any::<bool>()).prop_map(|(units, bias)| Op::Dense(Dense { units, bias }))
        ],
        0..4,
    );
    (input, proptest::collection::vec(image_op(), 0..6), end, tail).prop_map(|(shape, images, end, tail)| {
        NetworkSpec {
            inputs: vec![InputSpec { name: "x".to_owned(), shape }],
            layers: images.into_iter().chain([end]).chain(tail).map(layer).collect(),
            outputs: Vec::new(),
        }
    })
}

proptest! {
    // Rounding grows with depth, so the networks are the same ones in every run.
    #![proptest_config(ProptestConfig {
        cases: 400, rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn random_networks_agree_with_the_definitions(spec in spec(), rows in 1..9usize) {
        // Shape inference refuses many of them; the rest must compile and run.
        let Ok(network) = Network::new(spec) else { return Ok(()) };
        check(&network, rows, 1e-4, &format!("{:?}", network.spec()));
    }
}
