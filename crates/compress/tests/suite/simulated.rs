//! int8 packages against their definition in plain loops over what the package says: what is quantized is rounded to
//! a byte, the rest is 32-bit floats, and the answers of the whole test split are equal to the last bit.

use std::collections::BTreeMap;

use artifact::Package;
use network::spec::{Op, Pair};
use network::{Affine, CalibrationMethod, Tensor, Weights};
use predict::DeviceSpec;

use crate::place::{ALL_LAYERS, DIGITS, PIXELS, Place, data, open, text};

/// What one layer reads: `[channels][height][width]` values, each the difference of a byte from the one that stands
/// for zero, and what one such step is.
pub(crate) struct Steps {
    size: [usize; 3],
    values: Vec<i32>,
    scale: f32,
}

impl Steps {
    /// Rounds values that are counted in steps already.
    pub(crate) fn round(size: [usize; 3], counted: impl Iterator<Item = f32>, affine: Affine) -> Self {
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
#[derive(Clone, Copy)]
pub(crate) struct Integers<'a> {
    pub(crate) weight: &'a [i8],
    pub(crate) scale: &'a [f32],
    pub(crate) bias: &'a [f32],
}

impl<'a> Integers<'a> {
    pub(crate) fn of(weights: &'a Weights, layer: &str) -> Self {
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
pub(crate) fn sums(op: &Op, layer: &Integers<'_>, input: &Steps) -> ([usize; 3], Vec<i64>, Vec<f64>) {
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
pub(crate) fn pool([channels, height, width]: [usize; 3], values: &[f32]) -> ([usize; 3], Vec<f32>) {
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

/// The answers to the whole test split beside those of a simulation, bit for bit.
pub(crate) fn answers_are(package: &Package, simulate: impl Fn(&Package, &Weights, &[f32]) -> Vec<f32>) {
    let (predictor, data) = (open(package, DeviceSpec::Cpu), data(package));
    let weights = package.weights().unwrap();
    let inputs: Vec<_> = data.splits.test.iter().map(|&row| data.source.read(row).unwrap()).collect();
    let batch = predictor.prepare(&inputs).unwrap();
    let outputs = predictor.infer(std::slice::from_ref(&batch)).unwrap();
    let found = outputs[0].tensor.as_f32().unwrap();
    let values = batch.tensor.as_f32().unwrap();
    assert!(inputs.len() > 300);
    for (row, (sample, found)) in values.chunks(64).zip(found.chunks(10)).enumerate() {
        let expected = simulate(package, &weights, sample);
        assert_eq!(found, expected, "{}: sample {row} of the test split", package.manifest().name);
    }
}

#[test]
fn an_int8_package_answers_what_its_definition_says() {
    let place = Place::quantized();
    for name in [DIGITS, PIXELS] {
        answers_are(&place.package(&format!("{name}@2")), simulate);
    }
}

/// What else may be asked for is told by the same definition.
#[test]
fn other_scales_ranges_and_biases_are_read_from_the_package() {
    let place = Place::trained();
    let flags = [
        "--set",
        "weights='per-tensor'",
        "--set",
        "calibration.method='auto'",
        "--set",
        "bias_correction=true",
        "--set",
        "equalize=true",
    ];
    for name in [DIGITS, PIXELS] {
        let output = place.quantize(&format!("{name}@1"), &[&ALL_LAYERS[..], &flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let package = place.package(&format!("{name}@2"));
        let weights = package.weights().unwrap();
        let plan = package.quantization().unwrap();
        for layer in &plan.layers {
            let scales = weights[&format!("{layer}.scale")].as_f32().unwrap();
            assert!(scales.iter().all(|scale| *scale == scales[0]), "{name}: {layer} has {scales:?}");
        }
        let calibration = plan.calibration.as_ref().unwrap();
        assert_eq!(calibration.method, CalibrationMethod::Auto);
        let named: Vec<&String> = calibration.chosen.keys().collect();
        assert_eq!(named, plan.activations.keys().collect::<Vec<_>>(), "{name}");
        answers_are(&package, simulate);
    }
}

/// Dynamic layers: floats in between, and a range for each sample.
fn simulate_dynamic(package: &Package, weights: &Weights, sample: &[f32]) -> Vec<f32> {
    let mut size = match *package.network().input_shape() {
        [channels, height, width] => [channels, height, width],
        _ => [sample.len(), 1, 1],
    };
    let mut values = sample.to_vec();
    for layer in &package.network().spec().layers {
        match &layer.op {
            Op::Flatten(_) => size = [values.len(), 1, 1],
            Op::Dropout(_) => {}
            Op::Relu(_) => values.iter_mut().for_each(|value| *value = value.max(0.0)),
            Op::MaxPool2d(_) => (size, values) = pool(size, &values),
            op => {
                let least = values.iter().copied().fold(0.0, f32::min);
                let affine = Affine::of_sample(least, values.iter().copied().fold(0.0, f32::max));
                let counted = values.iter().map(|value| value * (1.0 / affine.scale));
                let input = Steps::round(size, counted, affine);
                let layer = Integers::of(weights, &layer.name);
                let none = vec![0.0; layer.bias.len()];
                let (found, sums, _) = sums(op, &Integers { bias: &none, ..layer }, &input);
                let plane = found[1] * found[2];
                let value = |(at, &sum): (usize, &i64)| {
                    sum as f32 * (affine.scale * layer.scale[at / plane]) + layer.bias[at / plane]
                };
                values = sums.iter().enumerate().map(value).collect();
                size = found;
            }
        }
    }
    values
}

#[test]
fn a_dynamic_package_answers_what_its_definition_says_alone_and_in_a_batch() {
    let place = Place::trained();
    for name in [DIGITS, PIXELS] {
        let flags = ["--set", "mode='dynamic'"];
        let output = place.quantize(&format!("{name}@1"), &[&ALL_LAYERS[..], &flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let package = place.package(&format!("{name}@2"));
        let plan = package.quantization().unwrap();
        assert!(plan.dynamic == plan.layers && plan.layers.len() >= 3, "{name}: {plan:?}");
        assert!(plan.activations.is_empty() && plan.calibration.is_none(), "{name}: {plan:?}");
        answers_are(&package, simulate_dynamic);
        let (predictor, data) = (open(&package, DeviceSpec::Cpu), data(&package));
        assert!(predictor.runs_int8() && predictor.precision_name() == "int8");
        let rows = &data.splits.test[..9];
        let inputs: Vec<_> = rows.iter().map(|&row| data.source.read(row).unwrap()).collect();
        let answers = |inputs: &[network::RawInput]| {
            let outputs = predictor.infer(&[predictor.prepare(inputs).unwrap()]).unwrap();
            outputs[0].tensor.as_f32().unwrap().to_vec()
        };
        let alone: Vec<f32> = inputs.chunks(1).flat_map(answers).collect();
        assert_eq!(answers(&inputs), alone, "{name}");
    }
}
