//! One layer as a Burn module, and what it does to a batch.

use burn::module::{Flag, Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, LayerNorm, Linear};
use burn::tensor::module::{avg_pool2d, linear, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Tensor, TensorData, activation};
use network::spec::Pool2d;

use crate::hook::{Hook, Pass};
use crate::net::Nodes;
use crate::random::{generator, uniform};
use crate::value::{Value, any_rank, same_rank};

/// What the random parts of one training step are drawn from. Equal values give equal draws, on every
/// device and however many threads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch.
    pub epoch: u32,
    /// The step within the epoch.
    pub step: u32,
}

/// What a layer does, with its parameters.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    Dense(Linear),
    Conv2d(Conv2d),
    BatchNorm(BatchNorm),
    LayerNorm(LayerNorm),
    Dropout(Dropout),
    Residual { body: Nodes, shortcut: Nodes },
    Plain(Plain),
}

/// A layer without parameters.
#[derive(Clone, Debug)]
pub(crate) enum Plain {
    Relu,
    LeakyRelu(f64),
    Gelu,
    Sigmoid,
    Tanh,
    Silu,
    MaxPool2d(Pool2d),
    AvgPool2d(Pool2d),
    GlobalAvgPool,
    GlobalMaxPool,
    Flatten,
}

/// Dropout whose masks are drawn on the host from [`Draws`] and the layer's name; Burn's own draws from a
/// generator that the whole process shares.
#[derive(Module, Debug)]
pub(crate) struct Dropout {
    /// The share of values that become zero.
    pub(crate) probability: f64,
    /// The layer's name.
    pub(crate) key: String,
    /// Cleared while the layer is frozen and by [`Module::valid`].
    pub(crate) training: Param<Flag>,
}

impl Dropout {
    pub(crate) fn new(probability: f64, key: String) -> Self {
        Self { probability, key, training: Param::from_bool(true) }
    }

    fn forward(&self, input: Value, draws: Option<&Draws>) -> Value {
        let Some(draws) = draws.filter(|_| self.probability > 0.0 && self.training.is_enabled()) else {
            return input;
        };
        let stream = u64::from(draws.epoch) << 32 | u64::from(draws.step);
        let mut generator = generator(draws.seed, stream, &self.key);
        let scale = (1.0 / (1.0 - self.probability)) as f32;
        same_rank!(input, tensor => {
            let shape = tensor.dims();
            let count = shape.iter().product();
            let mut keep = || if uniform(&mut generator) < self.probability { 0.0 } else { scale };
            let mask: Vec<f32> = std::iter::repeat_with(&mut keep).take(count).collect();
            let device = tensor.device();
            tensor * Tensor::from_data(TensorData::new(mask, shape), &device)
        })
    }
}

impl Layer {
    /// Applies the layer to a batch. Shape inference has made sure that the shapes fit.
    pub(crate) fn forward(&self, name: &str, input: Value, pass: Pass<'_>) -> Value {
        match self {
            Self::Dense(dense) => Value::Rank2(match pass.hook {
                None => dense.forward(input.flatten()),
                Some(hook) => hooked_dense(name, dense, input.flatten(), hook),
            }),
            Self::Conv2d(conv) => images(input, |images| match pass.hook {
                None => conv.forward(images),
                Some(hook) => hooked_conv2d(name, conv, images, hook),
            }),
            Self::BatchNorm(norm) => same_rank!(input, tensor => norm.forward(tensor)),
            Self::LayerNorm(norm) => same_rank!(input, tensor => norm.forward(tensor)),
            Self::Dropout(dropout) => dropout.forward(input, pass.draws),
            Self::Residual { body, shortcut } => {
                let straight = shortcut.forward(input.clone(), &mut shortcut.slots(), pass);
                let bent = body.forward(input, &mut body.slots(), pass);
                add(bent, straight)
            }
            Self::Plain(plain) => plain.forward(input),
        }
    }
}

/// Burn's dense layer with the weight that a hook gives.
fn hooked_dense(name: &str, dense: &Linear, input: Tensor<2>, hook: &dyn Hook) -> Tensor<2> {
    let weight = hook.dense_weight(name, dense.weight.val());
    linear(input, weight, dense.bias.as_ref().map(Param::val))
}

/// Burn's convolution with the weight that a hook gives.
fn hooked_conv2d(name: &str, conv: &Conv2d, images: Tensor<4>, hook: &dyn Hook) -> Tensor<4> {
    let weight = Param::initialized(conv.weight.id, hook.conv_weight(name, conv.weight.val()));
    Conv2d { weight, ..conv.clone() }.forward(images)
}

impl Plain {
    fn forward(&self, input: Value) -> Value {
        match self {
            Self::Relu => same_rank!(input, tensor => activation::relu(tensor)),
            Self::LeakyRelu(slope) => same_rank!(input, tensor => activation::leaky_relu(tensor, *slope)),
            Self::Gelu => same_rank!(input, tensor => activation::gelu(tensor)),
            Self::Sigmoid => same_rank!(input, tensor => activation::sigmoid(tensor)),
            Self::Tanh => same_rank!(input, tensor => activation::tanh(tensor)),
            Self::Silu => same_rank!(input, tensor => activation::silu(tensor)),
            Self::MaxPool2d(pool) => {
                let options = MaxPoolOptions::new(pair(pool.kernel))
                    .with_stride(pair(pool.step()))
                    .with_padding(pair(pool.padding));
                images(input, |images| max_pool2d(images, options))
            }
            Self::AvgPool2d(pool) => {
                let options = AvgPoolOptions::new(pair(pool.kernel))
                    .with_stride(pair(pool.step()))
                    .with_padding(pair(pool.padding))
                    .with_count_include_pad(true);
                images(input, |images| avg_pool2d(images, options))
            }
            Self::GlobalAvgPool => Value::Rank2(pixels(input).mean_dim(2).flatten(1, 2)),
            Self::GlobalMaxPool => Value::Rank2(pixels(input).max_dim(2).flatten(1, 2)),
            Self::Flatten => Value::Rank2(input.flatten()),
        }
    }
}

pub(crate) fn pair(pair: network::spec::Pair) -> [usize; 2] {
    [pair.height, pair.width]
}

/// `[batch, channels, height, width]` → the same. Shape inference lets nothing else reach an image layer.
fn images(input: Value, apply: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Value {
    match input {
        Value::Rank4(images) => Value::Rank4(apply(images)),
        other => other,
    }
}

/// `[batch, channels, height, width]` → `[batch, channels, pixels]`.
fn pixels(input: Value) -> Tensor<3> {
    any_rank!(input, tensor => {
        let shape = tensor.dims();
        let pixels = shape.iter().skip(2).product();
        tensor.reshape([shape[0], shape[1], pixels])
    })
}

fn add(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Rank2(left), Value::Rank2(right)) => Value::Rank2(left + right),
        (Value::Rank3(left), Value::Rank3(right)) => Value::Rank3(left + right),
        (Value::Rank4(left), Value::Rank4(right)) => Value::Rank4(left + right),
        (Value::Rank5(left), Value::Rank5(right)) => Value::Rank5(left + right),
        // Shape inference has compared the shapes of both branches.
        (left, _) => left,
    }
}
