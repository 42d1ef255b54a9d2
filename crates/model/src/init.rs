//! Fresh weights, drawn on the host so that every device starts from the same numbers.

use network::spec::{Layer, Op};
use network::{Network, Parameter, Role, Tensor, Weights};

use crate::random::{generator, normal, uniform};

/// Fresh weights for a network, a function of the seed and of each parameter's key alone.
///
/// - A dense or convolution layer that relu, leaky relu, gelu or silu follows (normalisation, dropout, pooling
///   and flattening in between do not count): normal with standard deviation √(2 / fan-in), He et al. 2015
///   ("Delving deep into rectifiers"), for leaky relu √(2 / ((1 + slope²) · fan-in)), their equation 15.
/// - Any other: uniform in ±√(6 / (fan-in + fan-out)), Glorot and Bengio 2010.
/// - Biases 0; gamma 1 and beta 0; running mean 0 and variance 1 (Ioffe and Szegedy 2015).
///
/// The fan-in of a convolution is the number of inputs that one output sees (channels of a group × kernel).
#[must_use]
pub fn initial_weights(network: &Network, seed: u64) -> Weights {
    let mut gains = Vec::new();
    collect_gains(&network.spec().layers, None, &mut gains);
    let gain = |key: &str| {
        gains.iter().find(|(name, _)| key == format!("{name}.weight")).and_then(|(_, gain)| *gain)
    };
    let tensor = |parameter: &Parameter| {
        let values = match parameter.role {
            Role::Weight => weight(parameter, gain(&parameter.key), seed),
            Role::Bias | Role::Beta | Role::RunningMean => vec![0.0; parameter.len()],
            Role::Gamma | Role::RunningVar => vec![1.0; parameter.len()],
        };
        Tensor::from_f32(parameter.shape.clone(), values).ok().map(|tensor| (parameter.key.clone(), tensor))
    };
    network.parameters().filter_map(tensor).collect()
}

fn weight(parameter: &Parameter, gain: Option<f64>, seed: u64) -> Vec<f32> {
    let (fan_in, fan_out) = fans(&parameter.shape);
    let mut generator = generator(seed, 0, &parameter.key);
    let mut draw = || match gain {
        Some(gain) => normal(&mut generator) * gain / fan_in.sqrt(),
        None => (uniform(&mut generator) * 2.0 - 1.0) * (6.0 / (fan_in + fan_out)).sqrt(),
    };
    std::iter::repeat_with(|| draw() as f32).take(parameter.len()).collect()
}

/// Dense weights are `[in, out]`, convolution weights `[out, in / groups, height, width]`.
fn fans(shape: &[usize]) -> (f64, f64) {
    match *shape {
        [inputs, outputs] => (inputs as f64, outputs as f64),
        [outputs, inputs, ref kernel @ ..] => {
            let window = kernel.iter().product::<usize>() as f64;
            (inputs as f64 * window, outputs as f64 * window)
        }
        _ => (1.0, 1.0),
    }
}

/// For each layer with a weight: the gain of the rectifier that follows, if one does. `after` is the gain of
/// what follows the list itself.
fn collect_gains(layers: &[Layer], after: Option<f64>, gains: &mut Vec<(String, Option<f64>)>) {
    for (index, layer) in layers.iter().enumerate() {
        let following = || following(&layers[index + 1..], after);
        match &layer.op {
            Op::Dense(_) | Op::Conv2d(_) => gains.push((layer.name.clone(), following())),
            Op::Residual(block) => {
                let following = following();
                collect_gains(&block.body, following, gains);
                collect_gains(&block.shortcut, following, gains);
            }
            _ => {}
        }
    }
}

fn following(layers: &[Layer], after: Option<f64>) -> Option<f64> {
    for layer in layers {
        return match &layer.op {
            Op::Relu(_) | Op::Gelu(_) | Op::Silu(_) => Some(2.0f64.sqrt()),
            Op::LeakyRelu(relu) => Some((2.0 / (1.0 + relu.slope * relu.slope)).sqrt()),
            Op::BatchNorm(_) | Op::LayerNorm(_) | Op::Dropout(_) | Op::Flatten(_) => continue,
            Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::GlobalAvgPool(_) | Op::GlobalMaxPool(_) => continue,
            _ => None,
        };
    }
    after
}
