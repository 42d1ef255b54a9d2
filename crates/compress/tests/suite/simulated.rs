//! int8 packages against their definition in plain loops over what the package says: what is quantized is rounded to
//! a byte, the rest is 32-bit floats, and the answers of the whole test split are equal to the last bit.

use std::collections::BTreeMap;

use artifact::Package;
use network::spec::{Op, Pair};
use network::{Affine, Tensor, Weights};
use predict::DeviceSpec;

use crate::place::{DIGITS, PIXELS, Place, data, open};

/// What one layer reads: `[channels][height][width]` values, each the difference of a byte from the one that stands
/// for zero, and what one such step is.
struct Steps {
    size: [usize; 3],
    values: Vec<i32>,
    scale: f32,
}

impl Steps {
    /// Rounds values that are counted in steps already.
    fn round(size: [usize; 3], counted: impl Iterator<Item = f32>, affine: Affine) -> Self {
        let zero = f32::from(affine.zero_point);
        let step = |value: f32| ((value.round_ties_even() + zero).clamp(0.0, 255.0) - zero) as i32;
        Self { size, values: counted.map(step).collect(), scale: affine.scale }
    }

    /// What lies outside of the picture is zero.
    fn at(&self, channel: usize, y: Option<usize>, x: Option<usize>) -> i64 {
        let [_, height, width] = self.size;
        match (y.filter(|&y| y < height), x.filter(|&x| x < width)) {
            (Some(y), Some(x)) => i64::from(self.values[(channel * height + y) * width + x]),
            _ => 0,
        }
    }
}

/// A layer with its integers as the record holds them.
struct Integers<'a> {
    weight: &'a [i8],
    scale: &'a [f32],
    bias: &'a [f32],
}

impl<'a> Integers<'a> {
    fn of(weights: &'a Weights, layer: &str) -> Self {
        let get = |parameter: &str| &weights[&format!("{layer}.{parameter}")];
        let floats = |tensor: &'a Tensor| tensor.as_f32().unwrap();
        let network::Elements::I8(weight) = get("weight").elements() else {
            panic!("`{layer}` has no integers")
        };
        Self { weight, scale: floats(get("scale")), bias: floats(get("bias")) }
    }

    /// The bias in steps of the products.
    fn bias(&self, output: usize, step: f64) -> i64 {
        (f64::from(self.bias[output]) / step).round_ties_even() as i64
    }
}

/// `[outputs][height][width]` sums in whole steps, and the step of each output.
fn sums(op: &Op, layer: &Integers<'_>, input: &Steps) -> ([usize; 3], Vec<i64>, Vec<f64>) {
    let steps: Vec<f64> =
        layer.scale.iter().map(|&scale| f64::from(input.scale) * f64::from(scale)).collect();
    let mut sums = Vec::new();
    match op {
        Op::Dense(dense) => {
            for (output, &step) in steps.iter().enumerate() {
                let products = input.values.iter().enumerate().map(|(index, &value)| {
                    i64::from(value) * i64::from(layer.weight[index * dense.units + output])
                });
                sums.push(products.sum::<i64>() + layer.bias(output, step));
            }
            ([dense.units, 1, 1], sums, steps)
        }
        Op::Conv2d(conv) => {
            let [channels, height, width] = input.size;
            let both = |pair: Pair| [pair.height, pair.width];
            let ([kh, kw], [sh, sw], [ph, pw], [dh, dw]) =
                (both(conv.kernel), both(conv.stride), both(conv.padding), both(conv.dilation));
            let rows = (height + 2 * ph - (kh - 1) * dh - 1) / sh + 1;
            let columns = (width + 2 * pw - (kw - 1) * dw - 1) / sw + 1;
            for (output, &step) in steps.iter().enumerate() {
                for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                    let mut sum = layer.bias(output, step);
                    for c in 0..channels {
                        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                            let from = |at: usize, k: usize, s: usize, d: usize, p: usize| {
                                (at * s + k * d).checked_sub(p)
                            };
                            let weight = layer.weight[((output * channels + c) * kh + ky) * kw + kx];
                            sum += input.at(c, from(y, ky, sh, dh, ph), from(x, kx, sw, dw, pw))
                                * i64::from(weight);
                        }
                    }
                    sums.push(sum);
                }
            }
            ([conv.channels, rows, columns], sums, steps)
        }
        other => panic!("{other:?} has no products"),
    }
}

/// The largest of each 2×2 window.
fn pool([channels, height, width]: [usize; 3], values: &[f32]) -> ([usize; 3], Vec<f32>) {
    let mut greatest = Vec::new();
    for (c, y) in (0..channels).flat_map(|c| (0..height / 2).map(move |y| (c, 2 * y))) {
        for x in (0..width / 2).map(|x| 2 * x) {
            let at = |y: usize, x: usize| values[(c * height + y) * width + x];
            greatest.push(at(y, x).max(at(y, x + 1)).max(at(y + 1, x)).max(at(y + 1, x + 1)));
        }
    }
    ([channels, height / 2, width / 2], greatest)
}

/// A chain of layers with products, each with rectifiers and windows behind it. What comes out of one is counted in
/// steps of the range that the package names for the last of those; without one, as numbers.
fn simulate(package: &Package, weights: &Weights, sample: &[f32]) -> Vec<f32> {
    let ranges: &BTreeMap<String, Affine> = &package.quantization().unwrap().activations;
    let size = match *package.network().input_shape() {
        [channels, height, width] => [channels, height, width],
        _ => [sample.len(), 1, 1],
    };
    let affine = ranges["input"];
    // Dividing is multiplying with the nearest number to 1 / scale.
    let mut input = Steps::round(size, sample.iter().map(|value| value * (1.0 / affine.scale)), affine);
    let mut layers = package.network().spec().layers.iter().peekable();
    while let Some(layer) = layers.next() {
        if matches!(layer.op, Op::Flatten(_) | Op::Dropout(_)) {
            input.size = [input.values.len(), 1, 1];
            continue;
        }
        let (mut size, sums, steps) = sums(&layer.op, &Integers::of(weights, &layer.name), &input);
        let mut behind = Vec::new();
        while let Some(next) = layers.next_if(|next| matches!(next.op, Op::Relu(_) | Op::MaxPool2d(_))) {
            behind.push(next);
        }
        let last = *behind.last().unwrap_or(&layer);
        let to = ranges.get(&last.name).copied();
        let factors: Vec<f32> =
            steps.iter().map(|step| (step / to.map_or(1.0, |to| f64::from(to.scale))) as f32).collect();
        let plane = size[1] * size[2];
        let counted = sums.iter().enumerate().map(|(at, &sum)| sum as f32 * factors[at / plane]);
        let mut values: Vec<f32> = counted.collect();
        for layer in behind {
            match layer.op {
                Op::Relu(_) => values.iter_mut().for_each(|value| *value = value.max(0.0)),
                _ => (size, values) = pool(size, &values),
            }
        }
        let Some(affine) = to else {
            assert!(layers.peek().is_none(), "`{}` is read in int8 and has no range", last.name);
            return values;
        };
        input = Steps::round(size, values.into_iter(), affine);
    }
    panic!("the network ends in bytes");
}

#[test]
fn an_int8_package_answers_what_its_definition_says() {
    let place = Place::quantized();
    for name in [DIGITS, PIXELS] {
        let package = place.package(&format!("{name}@2"));
        let (predictor, data) = (open(&package, DeviceSpec::Cpu), data(&package));
        let weights = package.weights().unwrap();
        let inputs: Vec<_> = data.splits.test.iter().map(|&row| data.source.read(row).unwrap()).collect();
        let batch = predictor.prepare(&inputs).unwrap();
        let outputs = predictor.infer(std::slice::from_ref(&batch)).unwrap();
        let found = outputs[0].tensor.as_f32().unwrap();
        let values = batch.tensor.as_f32().unwrap();
        assert!(inputs.len() > 300);
        for (row, (sample, found)) in values.chunks(64).zip(found.chunks(10)).enumerate() {
            assert_eq!(found, simulate(&package, &weights, sample), "{name}: sample {row} of the test split");
        }
    }
}
