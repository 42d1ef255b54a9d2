//! int8 against its definition in plain loops: bytes in, whole sums, bytes out, value by value.

use engine::{Affine, Options, Plan, Program};
use network::spec::{Conv2d, Dense, Empty, InputSpec, Layer, NetworkSpec, Op, Pair, Pool2d};
use network::{Network, Weights};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::int8::plan;
use crate::{busy_weights, numbers, run, tiers};

/// An image of bytes, `[channels][height][width]`.
pub(crate) struct Bytes {
    pub(crate) size: [usize; 3],
    pub(crate) values: Vec<i64>,
    pub(crate) affine: Affine,
}

impl Bytes {
    /// How far a byte is from the one that stands for zero; outside the image that is nothing.
    fn at(&self, c: usize, y: Option<usize>, x: Option<usize>) -> i64 {
        let [_, height, width] = self.size;
        match (y.filter(|y| *y < height), x.filter(|x| *x < width)) {
            (Some(y), Some(x)) => {
                self.values[(c * height + y) * width + x] - i64::from(self.affine.zero_point)
            }
            _ => 0,
        }
    }
}

pub(crate) fn byte(value: f32, affine: Affine) -> i64 {
    (value.round_ties_even() + f32::from(affine.zero_point)).clamp(0.0, 255.0) as i64
}

/// The weights of one output as integers with their scale.
fn integers(weights: &[f32]) -> (Vec<i64>, f32) {
    let most = weights.iter().fold(0.0f64, |most, w| most.max(f64::from(w.abs())));
    let scale = (most / 127.0) as f32;
    (weights.iter().map(|w| (f64::from(*w) / f64::from(scale)).round_ties_even() as i64).collect(), scale)
}

/// `[outputs][height][width]` sums of products with the bias in whole steps, and the steps.
pub(crate) fn sums(op: &Op, weight: &[f32], bias: &[f32], input: &Bytes) -> ([usize; 3], Vec<i64>, Vec<f64>) {
    let [channels, height, width] = input.size;
    let one = |pair: Pair| (pair.height, pair.width);
    let (outputs, kernel, stride, padding, dilation) = match op {
        Op::Conv2d(conv) => {
            (conv.channels, one(conv.kernel), one(conv.stride), one(conv.padding), one(conv.dilation))
        }
        Op::Dense(dense) => (dense.units, (height, width), (1, 1), (0, 0), (1, 1)),
        _ => panic!("no product"),
    };
    let out = |size: usize, k: usize, s: usize, p: usize, d: usize| (size + 2 * p - (k - 1) * d - 1) / s + 1;
    let rows = out(height, kernel.0, stride.0, padding.0, dilation.0);
    let columns = out(width, kernel.1, stride.1, padding.1, dilation.1);
    let (mut values, mut steps) = (Vec::new(), Vec::new());
    for output in 0..outputs {
        let own: Vec<f32> = match op {
            Op::Dense(_) => weight.iter().skip(output).step_by(outputs).copied().collect(),
            _ => weight[output * weight.len() / outputs..][..weight.len() / outputs].to_vec(),
        };
        let (own, scale) = integers(&own);
        let step = f64::from(input.affine.scale) * f64::from(scale);
        for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            let mut sum = (f64::from(bias[output]) / step).round_ties_even() as i64;
            for c in 0..channels {
                for (ky, kx) in (0..kernel.0).flat_map(|ky| (0..kernel.1).map(move |kx| (ky, kx))) {
                    let from_y = (y * stride.0 + ky * dilation.0).checked_sub(padding.0);
                    let from_x = (x * stride.1 + kx * dilation.1).checked_sub(padding.1);
                    sum += input.at(c, from_y, from_x) * own[(c * kernel.0 + ky) * kernel.1 + kx];
                }
            }
            values.push(sum);
        }
        steps.push(step);
    }
    ([outputs, rows, columns], values, steps)
}

/// The greatest of each 2×2 window.
pub(crate) fn greatest([channels, height, width]: [usize; 3], values: &[f32]) -> ([usize; 3], Vec<f32>) {
    let value = |c: usize, y: usize, x: usize| values[(c * height + y) * width + x];
    let mut greatest = Vec::new();
    for c in 0..channels {
        for (y, x) in (0..height / 2).flat_map(|y| (0..width / 2).map(move |x| (2 * y, 2 * x))) {
            let upper = value(c, y, x).max(value(c, y, x + 1));
            greatest.push(upper.max(value(c, y + 1, x)).max(value(c, y + 1, x + 1)));
        }
    }
    ([channels, height / 2, width / 2], greatest)
}

/// Runs a chain of products, each with what is fused into it: rectifiers and 2×2 maxima.
fn simulate(network: &Network, weights: &Weights, plan: &Plan, sample: &[f32]) -> Vec<f32> {
    let affine = plan.values["x"];
    let values = sample.iter().map(|value| byte(value * (1.0 / affine.scale), affine)).collect();
    let size = network.input_shape().to_vec().try_into().unwrap();
    let mut current = Bytes { size, values, affine };
    let layers = &network.spec().layers;
    let mut index = 0;
    while index < layers.len() {
        let layer = &layers[index];
        index += 1;
        if matches!(layer.op, Op::Flatten(_)) {
            continue;
        }
        let get = |parameter: &str| weights[&format!("{}.{parameter}", layer.name)].as_f32().unwrap();
        let (mut size, sums, steps) = sums(&layer.op, get("weight"), get("bias"), &current);
        let mut name = &layer.name;
        let (mut relu, mut pooled) = (false, false);
        while let Some(next) = layers.get(index) {
            match next.op {
                Op::Relu(_) => relu = true,
                Op::MaxPool2d(_) => pooled = true,
                _ => break,
            }
            name = &next.name;
            index += 1;
        }
        let plane = size[1] * size[2];
        let to = (index < layers.len()).then(|| plan.values[name]);
        let scaled = |(at, sum): (usize, &i64)| {
            let value = *sum as f32 * (steps[at / plane] / to.map_or(1.0, |to| f64::from(to.scale))) as f32;
            if relu { value.max(0.0) } else { value }
        };
        let mut values: Vec<f32> = sums.iter().enumerate().map(scaled).collect();
        if pooled {
            (size, values) = greatest(size, &values);
        }
        let Some(affine) = to else { return values };
        current = Bytes { size, values: values.iter().map(|value| byte(*value, affine)).collect(), affine };
    }
    Vec::new()
}

/// Convolutions with everything they can have, each perhaps rectified and pooled, then dense layers.
pub(crate) fn spec() -> impl Strategy<Value = NetworkSpec> {
    let pair =
        |low: usize, high: usize| (low..=high, low..=high).prop_map(|(height, width)| Pair { height, width });
    let convolution = (1..36usize, pair(1, 5), pair(1, 2), pair(0, 2), pair(1, 2)).prop_map(
        |(channels, kernel, stride, padding, dilation)| {
            Op::Conv2d(Conv2d { channels, kernel, stride, padding, dilation, groups: 1, bias: true })
        },
    );
    let block = (convolution, any::<bool>(), any::<bool>());
    let input = (1..7usize, 1..14usize, 1..14usize).prop_map(|(c, h, w)| vec![c, h, w]);
    let tail = proptest::collection::vec((1..60usize, any::<bool>()), 0..2);
    (input, proptest::collection::vec(block, 1..4), tail, 1..40usize).prop_map(
        |(shape, blocks, tail, last)| {
            let mut ops = Vec::new();
            for (convolution, relu, pooled) in blocks {
                ops.push(convolution);
                ops.extend(relu.then_some(Op::Relu(Empty {})));
                let pool = Pool2d { kernel: Pair::both(2), stride: None, padding: Pair::both(0) };
                ops.extend(pooled.then_some(Op::MaxPool2d(pool)));
            }
            ops.push(Op::Flatten(Empty {}));
            for (units, relu) in tail {
                ops.push(Op::Dense(Dense { units, bias: true }));
                ops.extend(relu.then_some(Op::Relu(Empty {})));
            }
            ops.push(Op::Dense(Dense { units: last, bias: true }));
            let layer = |op: Op| Layer { name: String::new(), from: Vec::new(), op };
            let inputs = vec![InputSpec { name: "x".to_owned(), shape }];
            NetworkSpec { inputs, layers: ops.into_iter().map(layer).collect(), outputs: Vec::new() }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn every_tier_gives_what_the_definition_says(spec in spec(), rows in 1..6usize) {
        let Ok(network) = Network::new(spec) else { return Ok(()) };
        let weights = busy_weights(&network);
        let size: usize = network.input_shape().iter().product();
        let batch = numbers(17, rows * size);
        // Ranges of one sample, so that others leave them and are clamped.
        let plan = plan(&network, &weights, &batch[..size], 1);
        let expected: Vec<f32> =
            batch.chunks(size).flat_map(|sample| simulate(&network, &weights, &plan, sample)).collect();
        for isa in tiers() {
            let options = Options::default().with_isa(isa);
            let program = Program::compile_int8(&network, &weights, &plan, options).unwrap();
            let found = run(&program, &batch, rows);
            prop_assert_eq!(&found, &expected, "{}: {:?}", isa, network.spec());
        }
    }
}
