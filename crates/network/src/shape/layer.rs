//! What one layer makes of the shape that reaches it: its output, its parameters, its work.

use super::{Parameter, Role, ShapeError};
use crate::spec::{Conv2d, Layer, Op, Pair, Pool2d};

/// Output shape, parameters and multiply–accumulates.
pub(super) type Applied = (Vec<usize>, Vec<Parameter>, u64);

pub(super) fn apply(layer: &Layer, input: &[usize]) -> Result<Applied, ShapeError> {
    let unfit = |needs: &str| ShapeError::Unfit {
        layer: layer.name.clone(),
        kind: layer.op.type_name(),
        needs: needs.to_owned(),
        shape: input.to_vec(),
    };
    let wrong = |reason: String| ShapeError::Parameter {
        layer: layer.name.clone(),
        kind: layer.op.type_name(),
        reason,
    };
    let parameter = |role: Role, shape: Vec<usize>| Parameter {
        key: format!("{}.{}", layer.name, role.name()),
        shape,
        role,
    };
    let same = || (input.to_vec(), Vec::new(), 0);
    Ok(match &layer.op {
        Op::Dense(dense) => {
            let [features] = *input else {
                return Err(unfit("a flat input [features]; put a `flatten` layer before it"));
            };
            if dense.units == 0 {
                return Err(wrong("`units` must be at least 1".to_owned()));
            }
            let mut parameters = vec![parameter(Role::Weight, vec![features, dense.units])];
            parameters.extend(dense.bias.then(|| parameter(Role::Bias, vec![dense.units])));
            (vec![dense.units], parameters, product(&[features, dense.units]))
        }
        Op::Conv2d(conv) => {
            let [channels, height, width] = *input else {
                return Err(unfit("an image [channels, height, width]"));
            };
            convolution(layer, conv, [channels, height, width])?
        }
        Op::BatchNorm(norm) => {
            if input.len() != 1 && input.len() != 3 {
                return Err(unfit("[features] or [channels, height, width]"));
            }
            if !(norm.epsilon > 0.0 && norm.epsilon.is_finite()) {
                return Err(wrong(format!("`epsilon` must be above 0, but is {}", norm.epsilon)));
            }
            if !(0.0..=1.0).contains(&norm.momentum) {
                return Err(wrong(format!("`momentum` must be between 0 and 1, but is {}", norm.momentum)));
            }
            let roles = [Role::Gamma, Role::Beta, Role::RunningMean, Role::RunningVar];
            let parameters = roles.map(|role| parameter(role, vec![input[0]]));
            (input.to_vec(), parameters.to_vec(), 0)
        }
        Op::LayerNorm(norm) => {
            if !(norm.epsilon > 0.0 && norm.epsilon.is_finite()) {
                return Err(wrong(format!("`epsilon` must be above 0, but is {}", norm.epsilon)));
            }
            let last = input.last().copied().unwrap_or(1);
            let parameters = [Role::Gamma, Role::Beta].map(|role| parameter(role, vec![last]));
            (input.to_vec(), parameters.to_vec(), 0)
        }
        Op::LeakyRelu(relu) => {
            if !relu.slope.is_finite() {
                return Err(wrong(format!("`slope` must be finite, but is {}", relu.slope)));
            }
            same()
        }
        Op::Relu(_) | Op::Gelu(_) | Op::Sigmoid(_) | Op::Tanh(_) | Op::Silu(_) => same(),
        Op::Dropout(dropout) => {
            if !(0.0..1.0).contains(&dropout.probability) {
                return Err(wrong(format!(
                    "`probability` must be in [0, 1), but is {}",
                    dropout.probability
                )));
            }
            same()
        }
        Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => {
            let [channels, height, width] = *input else {
                return Err(unfit("an image [channels, height, width]"));
            };
            let [height, width] = pooling(layer, pool, [height, width])?;
            (vec![channels, height, width], Vec::new(), 0)
        }
        Op::GlobalAvgPool(_) | Op::GlobalMaxPool(_) => {
            let [channels, _, _] = *input else {
                return Err(unfit("an image [channels, height, width]"));
            };
            (vec![channels], Vec::new(), 0)
        }
        Op::Flatten(_) => (vec![input.iter().product()], Vec::new(), 0),
        Op::Residual(_) => same(),
    })
}

fn convolution(layer: &Layer, conv: &Conv2d, input: [usize; 3]) -> Result<Applied, ShapeError> {
    let wrong = |reason: String| ShapeError::Parameter { layer: layer.name.clone(), kind: "conv2d", reason };
    let [channels, height, width] = input;
    if conv.channels == 0 {
        return Err(wrong("`channels` must be at least 1".to_owned()));
    }
    if conv.groups == 0 || !channels.is_multiple_of(conv.groups) || !conv.channels.is_multiple_of(conv.groups)
    {
        return Err(wrong(format!(
            "`groups` = {} must divide the {channels} channels that reach it and the {} that it gives",
            conv.groups, conv.channels
        )));
    }
    let windows =
        Windows { kernel: conv.kernel, stride: conv.stride, padding: conv.padding, dilation: conv.dilation };
    let [out_height, out_width] = windows.positions(layer, [height, width], &input)?;
    let per_group = channels / conv.groups;
    let key = |role: Role, shape: Vec<usize>| Parameter {
        key: format!("{}.{}", layer.name, role.name()),
        shape,
        role,
    };
    let kernel = vec![conv.channels, per_group, conv.kernel.height, conv.kernel.width];
    let macs = product(&kernel).saturating_mul(product(&[out_height, out_width]));
    let mut parameters = vec![key(Role::Weight, kernel)];
    parameters.extend(conv.bias.then(|| key(Role::Bias, vec![conv.channels])));
    Ok((vec![conv.channels, out_height, out_width], parameters, macs))
}

fn pooling(layer: &Layer, pool: &Pool2d, input: [usize; 2]) -> Result<[usize; 2], ShapeError> {
    let kind = layer.op.type_name();
    let Pair { height, width } = pool.padding;
    // More than half a window of padding would let a window see nothing but padding.
    if height > pool.kernel.height / 2 || width > pool.kernel.width / 2 {
        let reason = "`padding` must be at most half of `kernel`".to_owned();
        return Err(ShapeError::Parameter { layer: layer.name.clone(), kind, reason });
    }
    let windows =
        Windows { kernel: pool.kernel, stride: pool.step(), padding: pool.padding, dilation: Pair::both(1) };
    windows.positions(layer, input, &input)
}

/// The most that a kernel, stride, padding or dilation may be. No image is so large, and what computes with them need
/// not fear that their products overflow.
const MAX_WINDOW: usize = 1 << 16;

struct Windows {
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
}

impl Windows {
    fn positions(
        &self,
        layer: &Layer,
        size: [usize; 2],
        reaches: &[usize],
    ) -> Result<[usize; 2], ShapeError> {
        let kind = layer.op.type_name();
        let pairs = [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)];
        for (name, pair) in pairs {
            if pair.height == 0 || pair.width == 0 {
                let reason = format!("`{name}` must be at least 1");
                return Err(ShapeError::Parameter { layer: layer.name.clone(), kind, reason });
            }
        }
        let padding = [("padding", self.padding)];
        for (name, pair) in pairs.into_iter().chain(padding) {
            if pair.height > MAX_WINDOW || pair.width > MAX_WINDOW {
                let reason = format!("`{name}` must be at most {MAX_WINDOW}");
                return Err(ShapeError::Parameter { layer: layer.name.clone(), kind, reason });
            }
        }
        let axis = |size: usize, kernel: usize, stride: usize, padding: usize, dilation: usize| {
            let extent = (kernel - 1).checked_mul(dilation)?.checked_add(1)?;
            let padded = padding.checked_mul(2)?.checked_add(size)?;
            padded.checked_sub(extent).map(|rest| rest / stride + 1)
        };
        let (k, s, p, d) = (self.kernel, self.stride, self.padding, self.dilation);
        let height = axis(size[0], k.height, s.height, p.height, d.height);
        let width = axis(size[1], k.width, s.width, p.width, d.width);
        match (height, width) {
            (Some(height), Some(width)) => Ok([height, width]),
            _ => {
                let needs = format!(
                    "an image of at least {}×{} (kernel {}×{}, padding {}×{}, dilation {}×{})",
                    (k.height - 1)
                        .saturating_mul(d.height)
                        .saturating_add(1)
                        .saturating_sub(p.height.saturating_mul(2)),
                    (k.width - 1)
                        .saturating_mul(d.width)
                        .saturating_add(1)
                        .saturating_sub(p.width.saturating_mul(2)),
                    k.height,
                    k.width,
                    p.height,
                    p.width,
                    d.height,
                    d.width
                );
                Err(ShapeError::Unfit { layer: layer.name.clone(), kind, needs, shape: reaches.to_vec() })
            }
        }
    }
}

fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1u64, |product, &size| product.saturating_mul(size as u64))
}
