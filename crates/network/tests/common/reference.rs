//! The operations in plain loops over 64-bit floats, written from their definitions and sharing no code with
//! what is tested: one sample at a time, images as `[channels][height][width]`.

use network::spec::{Conv2d, Op, Pool2d};
use network::{Network, Weights};

/// A sample with its shape.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

/// Runs one sample through a network whose layers form a chain (residual blocks included).
pub(crate) fn run(network: &Network, weights: &Weights, values: &[f32]) -> Vec<f64> {
    let values = values.iter().map(|&value| f64::from(value)).collect();
    let sample = Sample { shape: network.input_shape().to_vec(), values };
    chain(&network.spec().layers, weights, sample).values
}

fn chain(layers: &[network::spec::Layer], weights: &Weights, sample: Sample) -> Sample {
    layers.iter().fold(sample, |sample, layer| apply(&layer.name, &layer.op, weights, sample))
}

pub(crate) fn apply(name: &str, op: &Op, weights: &Weights, sample: Sample) -> Sample {
    let get = |parameter: &str| -> Option<Vec<f64>> {
        let tensor = weights.get(&format!("{name}.{parameter}"))?;
        Some(tensor.as_f32().unwrap().iter().map(|&value| f64::from(value)).collect())
    };
    let each = |function: &dyn Fn(f64) -> f64| Sample {
        shape: sample.shape.clone(),
        values: sample.values.iter().map(|&value| function(value)).collect(),
    };
    match op {
        Op::Dense(dense) => {
            let (weight, bias) = (get("weight").unwrap(), get("bias"));
            let value = |unit: usize| {
                let products =
                    sample.values.iter().enumerate().map(|(input, x)| x * weight[input * dense.units + unit]);
                products.sum::<f64>() + bias.as_ref().map_or(0.0, |bias| bias[unit])
            };
            Sample { shape: vec![dense.units], values: (0..dense.units).map(value).collect() }
        }
        Op::Conv2d(conv) => conv2d(conv, &get("weight").unwrap(), get("bias").as_deref(), &sample),
        Op::BatchNorm(norm) => {
            let (gamma, beta) = (get("gamma").unwrap(), get("beta").unwrap());
            let (mean, var) = (get("running_mean").unwrap(), get("running_var").unwrap());
            let plane: usize = sample.shape[1..].iter().product();
            let value = |(index, x): (usize, &f64)| {
                let c = index / plane;
                (x - mean[c]) / (var[c] + norm.epsilon).sqrt() * gamma[c] + beta[c]
            };
            Sample {
                shape: sample.shape.clone(),
                values: sample.values.iter().enumerate().map(value).collect(),
            }
        }
        Op::LayerNorm(norm) => {
            let (gamma, beta) = (get("gamma").unwrap(), get("beta").unwrap());
            let mut values = Vec::new();
            for row in sample.values.chunks(gamma.len()) {
                let count = row.len() as f64;
                let mean = row.iter().sum::<f64>() / count;
                let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
                let value = |(index, x): (usize, &f64)| {
                    (x - mean) / (var + norm.epsilon).sqrt() * gamma[index] + beta[index]
                };
                values.extend(row.iter().enumerate().map(value));
            }
            Sample { shape: sample.shape.clone(), values }
        }
        Op::Relu(_) => each(&|x| x.max(0.0)),
        Op::LeakyRelu(relu) => each(&|x| if x > 0.0 { x } else { relu.slope * x }),
        Op::Gelu(_) => each(&|x| x * 0.5 * (1.0 + erf(x / 2.0f64.sqrt()))),
        Op::Sigmoid(_) => each(&|x| 1.0 / (1.0 + (-x).exp())),
        Op::Tanh(_) => each(&f64::tanh),
        Op::Silu(_) => each(&|x| x / (1.0 + (-x).exp())),
        Op::MaxPool2d(pool) => {
            pooled(pool, &sample, |inside, _| inside.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        }
        Op::AvgPool2d(pool) => {
            pooled(pool, &sample, |inside, window| inside.iter().sum::<f64>() / window as f64)
        }
        Op::GlobalAvgPool(_) => planes(&sample, |plane| plane.iter().sum::<f64>() / plane.len() as f64),
        Op::GlobalMaxPool(_) => {
            planes(&sample, |plane| plane.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        }
        Op::Dropout(_) => sample,
        Op::Flatten(_) => Sample { shape: vec![sample.values.len()], values: sample.values },
        Op::Residual(block) => {
            let body = chain(&block.body, weights, sample.clone());
            let shortcut = chain(&block.shortcut, weights, sample);
            let values = body.values.iter().zip(&shortcut.values).map(|(a, b)| a + b).collect();
            Sample { shape: body.shape, values }
        }
        other => panic!("no reference for {}", other.type_name()),
    }
}

fn conv2d(conv: &Conv2d, weight: &[f64], bias: Option<&[f64]>, sample: &Sample) -> Sample {
    let [channels, height, width]: [usize; 3] = sample.shape.clone().try_into().unwrap();
    let (kernel, stride, padding, dilation) = (conv.kernel, conv.stride, conv.padding, conv.dilation);
    let out_height =
        (height + 2 * padding.height - dilation.height * (kernel.height - 1) - 1) / stride.height + 1;
    let out_width = (width + 2 * padding.width - dilation.width * (kernel.width - 1) - 1) / stride.width + 1;
    let (group_in, group_out) = (channels / conv.groups, conv.channels / conv.groups);
    let mut values = Vec::new();
    for out in 0..conv.channels {
        for y in 0..out_height {
            for x in 0..out_width {
                let mut sum = bias.map_or(0.0, |bias| bias[out]);
                for input in 0..group_in {
                    for ky in 0..kernel.height {
                        for kx in 0..kernel.width {
                            let from_y =
                                (y * stride.height + ky * dilation.height).checked_sub(padding.height);
                            let from_x = (x * stride.width + kx * dilation.width).checked_sub(padding.width);
                            let (Some(from_y), Some(from_x)) = (from_y, from_x) else { continue };
                            if from_y >= height || from_x >= width {
                                continue;
                            }
                            let channel = out / group_out * group_in + input;
                            let tap = ((out * group_in + input) * kernel.height + ky) * kernel.width + kx;
                            sum += sample.values[(channel * height + from_y) * width + from_x] * weight[tap];
                        }
                    }
                }
                values.push(sum);
            }
        }
    }
    Sample { shape: vec![conv.channels, out_height, out_width], values }
}

/// `reduce` gets the values inside the image and the size of the window.
fn pooled(pool: &Pool2d, sample: &Sample, reduce: impl Fn(&[f64], usize) -> f64) -> Sample {
    let [channels, height, width]: [usize; 3] = sample.shape.clone().try_into().unwrap();
    let (kernel, stride, padding) = (pool.kernel, pool.step(), pool.padding);
    let out_height = (height + 2 * padding.height - kernel.height) / stride.height + 1;
    let out_width = (width + 2 * padding.width - kernel.width) / stride.width + 1;
    let mut values = Vec::new();
    for channel in 0..channels {
        for y in 0..out_height {
            for x in 0..out_width {
                let mut inside = Vec::new();
                for ky in 0..kernel.height {
                    for kx in 0..kernel.width {
                        let from_y = (y * stride.height + ky).checked_sub(padding.height);
                        let from_x = (x * stride.width + kx).checked_sub(padding.width);
                        if let (Some(from_y), Some(from_x)) = (from_y, from_x)
                            && from_y < height
                            && from_x < width
                        {
                            inside.push(sample.values[(channel * height + from_y) * width + from_x]);
                        }
                    }
                }
                values.push(reduce(&inside, kernel.height * kernel.width));
            }
        }
    }
    Sample { shape: vec![channels, out_height, out_width], values }
}

fn planes(sample: &Sample, reduce: impl Fn(&[f64]) -> f64) -> Sample {
    let plane = sample.shape[1] * sample.shape[2];
    let values = sample.values.chunks(plane).map(reduce).collect();
    Sample { shape: vec![sample.shape[0]], values }
}

/// The error function by its Maclaurin series. From 4 on it is 1 up to 2e-8, and the series would cancel.
fn erf(x: f64) -> f64 {
    if x.abs() >= 4.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}
