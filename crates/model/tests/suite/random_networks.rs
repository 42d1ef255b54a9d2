//! Random small networks: weights travel without a change, and each network agrees with the reference.

use model::{DeviceSpec, Net};
use network::Network;
use network::spec::{
    BatchNorm, Conv2d, Dense, Dropout, Empty, InputSpec, Layer, LayerNorm, LeakyRelu, NetworkSpec, Op, Pair,
    Pool2d, Residual,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::{assert_close, busy_weights, numbers, reference, run};

fn layer(op: Op) -> Layer {
    Layer { name: String::new(), from: Vec::new(), op }
}

fn pair(low: usize, high: usize) -> impl Strategy<Value = Pair> {
    (low..=high, low..=high).prop_map(|(height, width)| Pair { height, width })
}

fn convolution() -> impl Strategy<Value = Op> {
    (1..4usize, 1..3usize, pair(1, 3), pair(1, 2), pair(0, 2), pair(1, 2), any::<bool>()).prop_map(
        |(multiple, groups, kernel, stride, padding, dilation, bias)| {
            Op::Conv2d(Conv2d { channels: 2 * multiple, kernel, stride, padding, dilation, groups, bias })
        },
    )
}

fn pool() -> impl Strategy<Value = Pool2d> {
    (pair(1, 3), pair(1, 2), pair(0, 1)).prop_map(|(kernel, stride, padding)| Pool2d {
        kernel,
        stride: Some(stride),
        padding,
    })
}

fn anywhere() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::BatchNorm(BatchNorm { epsilon: 1e-3, momentum: 0.1 })),
        Just(Op::LayerNorm(LayerNorm { epsilon: 1e-2 })),
        Just(Op::Relu(Empty {})),
        Just(Op::LeakyRelu(LeakyRelu { slope: 0.1 })),
        Just(Op::Gelu(Empty {})),
        Just(Op::Sigmoid(Empty {})),
        Just(Op::Tanh(Empty {})),
        Just(Op::Silu(Empty {})),
        Just(Op::Dropout(Dropout { probability: 0.5 })),
    ]
}

fn image_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => convolution(),
        3 => anywhere(),
        1 => pool().prop_map(Op::MaxPool2d),
        1 => pool().prop_map(Op::AvgPool2d),
        1 => proptest::collection::vec(anywhere(), 0..3).prop_map(|body| {
            Op::Residual(Residual { body: body.into_iter().map(layer).collect(), shortcut: Vec::new() })
        }),
    ]
}

fn spec() -> impl Strategy<Value = NetworkSpec> {
    let input = (1..3usize, 1..8usize, 1..8usize).prop_map(|(c, h, w)| vec![2 * c, h, w]);
    let end = prop_oneof![
        Just(Op::Flatten(Empty {})),
        Just(Op::GlobalAvgPool(Empty {})),
        Just(Op::GlobalMaxPool(Empty {}))
    ];
    let tail = proptest::collection::vec(
        prop_oneof![
            anywhere(),
            (1..6usize, any::<bool>()).prop_map(|(units, bias)| Op::Dense(Dense { units, bias }))
        ],
        0..4,
    );
    (input, proptest::collection::vec(image_op(), 0..5), end, tail).prop_map(|(shape, images, end, tail)| {
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
        cases: 96, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn weights_travel_and_networks_agree_with_the_reference(spec in spec(), seed in any::<u64>()) {
        // Shape inference refuses many of them; the rest must run.
        let Ok(network) = Network::new(spec) else { return Ok(()) };
        let device = DeviceSpec::Cpu.open().unwrap();
        let size: usize = network.input_shape().iter().product();
        let batch = numbers(seed, 2 * size);

        let drawn = model::initial_weights(&network, seed);
        let net = Net::init(&network, seed, &device).unwrap();
        let read = net.weights().unwrap();
        prop_assert_eq!(&read, &drawn);
        let bytes = artifact::record::encode(&read).unwrap();
        let decoded = artifact::record::decode(&bytes, &artifact::Limits::default()).unwrap();
        prop_assert_eq!(&decoded, &drawn);
        prop_assert_eq!(run(&network, &decoded, &batch), run(&network, &drawn, &batch));

        let weights = busy_weights(&network);
        let found = run(&network, &weights, &batch);
        let expected: Vec<f64> = batch.chunks(size).flat_map(|sample| reference::run(&network, &weights, sample)).collect();
        prop_assert_eq!(found.len(), 2 * network.output_shape().iter().product::<usize>());
        assert_close(&found, &expected, 1e-3, "logits");
    }
}
