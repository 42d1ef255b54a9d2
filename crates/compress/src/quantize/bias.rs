//! Bias correction: what rounding adds to an output on the average is taken out of its bias.
//!
//! The mean error of output n of a layer over samples and positions is `E[ŷₙ] − E[yₙ]`, with ŷ of the quantized
//! network and y of the floats (Nagel et al. 2019, section 4.2, measured on data as in its appendix D). A product is
//! linear, so these means follow from the means of what the layer reads: `E[ŷ] = Ŵ · E[x̂] + b`. Layers are corrected
//! in the order of the network, each with those before it corrected already.

use std::collections::BTreeMap;

use engine::{Options, Program};
use network::spec::{Conv2d, Op};
use network::{Affine, Network, Weights};

use super::work::Work;
use super::{QuantizeError, Stage};
use crate::calibrate::{alter, round};

impl Work {
    /// Corrects the biases of all layers that are quantized as things stand. Activations are rounded where their ranges
    /// are fixed; in other modes the error is that of the weights.
    pub(super) fn correct_biases(
        &mut self,
        rows: &[f32],
        stage: &mut dyn FnMut(Stage<'_>),
    ) -> Result<(), QuantizeError> {
        let layers: Vec<String> = self.candidates().map(str::to_owned).collect();
        let bytes = self.program(&layers)?.byte_values().clone();
        let ranges: BTreeMap<String, Affine> = self
            .activations
            .iter()
            .filter(|(name, _)| bytes.contains(*name))
            .map(|(name, affine)| (name.clone(), *affine))
            .collect();
        let floats = self.floats()?;
        let exact = means(&floats, &self.network, rows, &BTreeMap::new())?;
        for layer in &layers {
            stage(Stage::Correct { layer });
            let weights = self.dequantized(&layers)?;
            let program = Program::compile(&self.network, &weights, Options::default())?;
            let found = means(&program, &self.network, rows, &ranges)?;
            let Some(value) = floats.read().get(layer).and_then(|read| read.first()) else { continue };
            let (Some(exact), Some(found)) = (exact.get(value), found.get(value)) else { continue };
            let before = outputs(&self.network, &self.weights, layer, exact);
            let after = outputs(&self.network, &weights, layer, found);
            let bias = weights.get(&format!("{layer}.bias")).and_then(network::Tensor::as_f32);
            let corrected = bias
                .unwrap_or_default()
                .iter()
                .zip(after.iter().zip(&before))
                .map(|(&bias, (after, before))| (f64::from(bias) - (after - before)) as f32);
            self.set_bias(layer, corrected.collect())?;
        }
        Ok(())
    }
}

/// The mean of each value over the rows, `[channels][height][width]` as its layer gives it, by the name of the layer
/// or input. Values with a range go through bytes and back first.
fn means(
    program: &Program,
    network: &Network,
    rows: &[f32],
    ranges: &BTreeMap<String, Affine>,
) -> Result<BTreeMap<String, Vec<f64>>, QuantizeError> {
    // Pixels of a value, and how many of them were shown.
    let mut sums: BTreeMap<String, (Vec<f64>, usize, usize)> = BTreeMap::new();
    for info in network.layers() {
        let pixels = info.output.iter().skip(1).product();
        sums.insert(info.name.clone(), (vec![0.0; info.output.iter().product()], pixels, 0));
    }
    for input in &network.spec().inputs {
        // An input is shown as the caller has it: all of it at once.
        sums.insert(input.name.clone(), (vec![0.0; input.shape.iter().product()], 0, 0));
    }
    alter(program, rows, &mut |name, values| {
        if let Some(&affine) = ranges.get(name) {
            round(values, affine);
        }
        let Some((sums, pixels, shown)) = sums.get_mut(name) else { return };
        if *pixels == 0 {
            for (index, &value) in values.iter().enumerate() {
                let at = index % sums.len();
                sums[at] += f64::from(value);
            }
            return;
        }
        let pixel = *shown % *pixels;
        *shown += 1;
        for (channel, &value) in values.iter().enumerate() {
            if let Some(sum) = sums.get_mut(channel * *pixels + pixel) {
                *sum += f64::from(value);
            }
        }
    })?;
    let per_row = program.inputs().first().map_or(1, |input| input.values);
    let count = (rows.len() / per_row).max(1) as f64;
    let mean = |(name, (sums, _, _)): (String, (Vec<f64>, usize, usize))| {
        (name, sums.into_iter().map(|sum| sum / count).collect())
    };
    Ok(sums.into_iter().map(mean).collect())
}

/// The mean of each output of a layer without its bias, from the mean of what it reads.
fn outputs(network: &Network, weights: &Weights, name: &str, input: &[f64]) -> Vec<f64> {
    let all = network.spec().all_layers();
    let found = all.into_iter().zip(network.layers()).find(|(layer, _)| layer.name == name);
    let weight = weights.get(&format!("{name}.weight")).and_then(network::Tensor::as_f32);
    let (Some((layer, info)), Some(weight)) = (found, weight) else { return Vec::new() };
    match &layer.op {
        Op::Dense(dense) => {
            let mut outputs = vec![0.0; dense.units];
            for (x, row) in input.iter().zip(weight.chunks(dense.units)) {
                for (output, &weight) in outputs.iter_mut().zip(row) {
                    *output += x * f64::from(weight);
                }
            }
            outputs
        }
        Op::Conv2d(conv) => {
            let [height, width] = [1, 2].map(|axis| info.input.get(axis).copied().unwrap_or(1));
            let [rows, columns] = [1, 2].map(|axis| info.output.get(axis).copied().unwrap_or(1));
            let taps = taps(conv, input, [height, width], [rows, columns]);
            let per_output = weight.len() / conv.channels;
            let per_group = conv.channels / conv.groups;
            let product = |(output, kernel): (usize, &[f32])| {
                let first = output / per_group * per_output;
                kernel.iter().zip(&taps[first..]).map(|(&weight, tap)| f64::from(weight) * tap).sum()
            };
            weight.chunks(per_output).enumerate().map(product).collect()
        }
        _ => Vec::new(),
    }
}

/// What each tap of a kernel reads on the average over all positions: `[channels][kernel height][kernel width]`.
fn taps(conv: &Conv2d, input: &[f64], size: [usize; 2], positions: [usize; 2]) -> Vec<f64> {
    let [height, width] = size;
    let plane = (height * width).max(1);
    let mut taps = Vec::with_capacity(input.len() / plane * conv.kernel.height * conv.kernel.width);
    for image in input.chunks(plane) {
        for ky in 0..conv.kernel.height {
            for kx in 0..conv.kernel.width {
                let mut sum = 0.0;
                for y in 0..positions[0] {
                    let from = y * conv.stride.height + ky * conv.dilation.height;
                    let Some(y) = from.checked_sub(conv.padding.height).filter(|&y| y < height) else {
                        continue;
                    };
                    for x in 0..positions[1] {
                        let from = x * conv.stride.width + kx * conv.dilation.width;
                        if let Some(x) = from.checked_sub(conv.padding.width).filter(|&x| x < width) {
                            sum += image[y * width + x];
                        }
                    }
                }
                taps.push(sum / (positions[0] * positions[1]).max(1) as f64);
            }
        }
    }
    taps
}

#[cfg(test)]
mod tests {
    use network::{NetworkSpec, Tensor};

    use super::*;

    fn numbers(mut state: u64, count: usize) -> Vec<f32> {
        let mut number = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| number()).collect()
    }

    /// The mean of what a layer gives, from the mean of what it reads, is the mean over all samples and positions.
    #[test]
    fn means_go_through_products() {
        let json = r#"{"inputs": [{"name": "input", "shape": [3, 7, 6]}], "layers": [
            {"name": "a", "type": "conv2d", "channels": 4, "kernel": [3, 2], "stride": [2, 1], "padding": [1, 2]},
            {"name": "relu", "type": "relu"},
            {"name": "b", "type": "conv2d", "channels": 6, "kernel": 2, "dilation": 2, "groups": 2},
            {"name": "bend", "type": "sigmoid"},
            {"name": "flat", "type": "flatten"},
            {"name": "c", "type": "dense", "units": 5}]}"#;
        let spec: NetworkSpec = serde_json::from_str(json).unwrap();
        let rows = numbers(5, 70 * 126);
        for last in ["a", "b", "c"] {
            let mut spec = spec.clone();
            let end = spec.layers.iter().position(|layer| layer.name == last).unwrap();
            spec.layers.truncate(end + 1);
            let network = Network::new(spec).unwrap();
            let weights: Weights = network
                .parameters()
                .enumerate()
                .map(|(seed, parameter)| {
                    let values = numbers(seed as u64 + 9, parameter.len());
                    (parameter.key.clone(), Tensor::from_f32(parameter.shape.clone(), values).unwrap())
                })
                .collect();
            let program = Program::compile(&network, &weights, Options::default()).unwrap();
            let means = means(&program, &network, &rows, &BTreeMap::new()).unwrap();
            let value = &program.read()[last][0];
            let found = outputs(&network, &weights, last, &means[value]);
            let bias = weights[&format!("{last}.bias")].as_f32().unwrap();
            // What the layer itself gave, averaged afterwards.
            let pixels: usize = network.output_shape().iter().skip(1).product();
            let given = means[last].chunks(pixels).map(|channel| channel.iter().sum::<f64>() / pixels as f64);
            for ((found, bias), given) in found.iter().zip(bias).zip(given) {
                let found = found + f64::from(*bias);
                assert!((found - given).abs() < 1e-4, "{last}: {found} instead of {given}");
            }
        }
    }
}
