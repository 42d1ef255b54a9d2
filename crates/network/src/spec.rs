//! The description of a network: named layers with their hyper-parameters.

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network as data: named inputs, layers in order, named outputs.
///
/// A layer reads the one before it (the first reads the first input) unless it says `from`. An empty
/// list of layers is the identity model. [`crate::Network::new`] checks a specification; every consumer
/// goes through it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// The inputs, each with its shape without the batch dimension: `[features]` or
    /// `[channels, height, width]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputSpec>,
    /// The layers in the order in which they run.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// The outputs. Left out: the last layer, under the name `logits`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputSpec>,
}

/// A named input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The name by which layers and requests refer to it.
    pub name: String,
    /// The shape of one sample.
    pub shape: Vec<usize>,
}

/// A named output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The name in the signature.
    pub name: String,
    /// The layer (or input) whose value it is.
    pub from: String,
}

/// One layer: a name, what it reads, and what it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Layer {
    /// Unique in the whole network, inside residual blocks too. The keys of the record begin with it.
    /// A configuration may leave it out; [`NetworkSpec::name_layers`] then makes one from the type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The layers or inputs it reads; empty: the one before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// What it does.
    #[serde(flatten)]
    pub op: Op,
}

/// What a layer does. Shapes are those of one sample, without the batch: `[features]` for tables and
/// after `flatten`, `[channels, height, width]` for images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Op {
    /// `y = x · W + b`: `[in]` → `[units]`.
    Dense(Dense),
    /// Cross-correlation with learned kernels: `[in, h, w]` → `[out, h', w']`.
    Conv2d(Conv2d),
    /// Batch normalisation per channel (Ioffe & Szegedy 2015).
    BatchNorm(BatchNorm),
    /// Layer normalisation over the last dimension (Ba et al. 2016).
    LayerNorm(LayerNorm),
    /// `max(x, 0)`.
    Relu(Empty),
    /// `x` where positive, `slope · x` elsewhere.
    LeakyRelu(LeakyRelu),
    /// `x · Φ(x)` with the exact normal distribution function (Hendrycks & Gimpel 2016).
    Gelu(Empty),
    /// `1 / (1 + exp(−x))`.
    Sigmoid(Empty),
    /// Hyperbolic tangent.
    Tanh(Empty),
    /// `x · sigmoid(x)`.
    Silu(Empty),
    /// The largest value under a window.
    MaxPool2d(Pool2d),
    /// The mean under a window; padding counts as zeros.
    AvgPool2d(Pool2d),
    /// The mean of each channel: `[channels, h, w]` → `[channels]`.
    GlobalAvgPool(Empty),
    /// The largest value of each channel: `[channels, h, w]` → `[channels]`.
    GlobalMaxPool(Empty),
    /// Zeroes values at random while training, scales the others up (Srivastava et al. 2014).
    Dropout(Dropout),
    /// `[a, b, …]` → `[a · b · …]`.
    Flatten(Empty),
    /// `body(x) + shortcut(x)` (He et al. 2015).
    Residual(Residual),
}

/// An operation without hyper-parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Hyper-parameters of a dense layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// The number of outputs.
    pub units: usize,
    /// Whether a bias is added.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

/// Hyper-parameters of a convolution. Pairs are `[height, width]` or one number for both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// The number of output channels.
    pub channels: usize,
    /// The size of the kernel.
    pub kernel: Pair,
    /// The step between two positions.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub stride: Pair,
    /// Zeros added on each side.
    #[serde(default = "Pair::zero", skip_serializing_if = "Pair::is_zero")]
    pub padding: Pair,
    /// The distance between two taps of the kernel.
    #[serde(default = "Pair::one", skip_serializing_if = "Pair::is_one")]
    pub dilation: Pair,
    /// Channels are split into this many groups that do not see each other.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Whether a bias is added.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

/// Hyper-parameters of batch normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Added to the variance.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// The weight of a new batch in the running statistics.
    #[serde(default = "momentum")]
    pub momentum: f64,
}

/// Hyper-parameters of layer normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Added to the variance.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
}

/// Hyper-parameters of leaky relu.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeakyRelu {
    /// The factor of negative values.
    #[serde(default = "slope")]
    pub slope: f64,
}

/// Hyper-parameters of pooling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool2d {
    /// The size of the window.
    pub kernel: Pair,
    /// The step between two windows; left out: the window's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Pair>,
    /// Padding on each side.
    #[serde(default = "Pair::zero", skip_serializing_if = "Pair::is_zero")]
    pub padding: Pair,
}

impl Pool2d {
    /// The step between two windows.
    #[must_use]
    pub fn step(&self) -> Pair {
        self.stride.unwrap_or(self.kernel)
    }
}

/// Hyper-parameters of dropout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The share of values that become zero, in [0, 1).
    pub probability: f64,
}

/// The two branches of a residual block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The layers of the block.
    pub body: Vec<Layer>,
    /// The layers of the shortcut; empty: the identity. A projection is a 1×1 convolution here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<Layer>,
}

/// Height and width; written as `[h, w]` or as one number for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "PairForm", into = "PairForm")]
#[schemars(with = "PairForm")]
pub struct Pair {
    /// Along the rows.
    pub height: usize,
    /// Along the columns.
    pub width: usize,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum PairForm {
    Both(usize),
    Each([usize; 2]),
}

impl From<PairForm> for Pair {
    fn from(form: PairForm) -> Self {
        match form {
            PairForm::Both(size) => Self::both(size),
            PairForm::Each([height, width]) => Self { height, width },
        }
    }
}

impl From<Pair> for PairForm {
    fn from(pair: Pair) -> Self {
        if pair.height == pair.width {
            Self::Both(pair.height)
        } else {
            Self::Each([pair.height, pair.width])
        }
    }
}

impl Pair {
    /// The same for height and width.
    #[must_use]
    pub const fn both(size: usize) -> Self {
        Self { height: size, width: size }
    }
    fn one() -> Self {
        Self::both(1)
    }
    fn zero() -> Self {
        Self::both(0)
    }
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_one(&self) -> bool {
        *self == Self::one()
    }
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_zero(&self) -> bool {
        *self == Self::zero()
    }
}

fn yes() -> bool {
    true
}
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}
fn one() -> usize {
    1
}
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(value: &usize) -> bool {
    *value == 1
}
fn epsilon() -> f64 {
    1e-5
}
fn momentum() -> f64 {
    0.1
}
fn slope() -> f64 {
    0.01
}

impl Op {
    /// The name of the type as configurations write it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Dense(_) => "dense",
            Self::Conv2d(_) => "conv2d",
            Self::BatchNorm(_) => "batch_norm",
            Self::LayerNorm(_) => "layer_norm",
            Self::Relu(_) => "relu",
            Self::LeakyRelu(_) => "leaky_relu",
            Self::Gelu(_) => "gelu",
            Self::Sigmoid(_) => "sigmoid",
            Self::Tanh(_) => "tanh",
            Self::Silu(_) => "silu",
            Self::MaxPool2d(_) => "max_pool2d",
            Self::AvgPool2d(_) => "avg_pool2d",
            Self::GlobalAvgPool(_) => "global_avg_pool",
            Self::GlobalMaxPool(_) => "global_max_pool",
            Self::Dropout(_) => "dropout",
            Self::Flatten(_) => "flatten",
            Self::Residual(_) => "residual",
        }
    }
}

impl NetworkSpec {
    /// Names the layers that have no name after their type: `conv2d1`, `conv2d2`, …, skipping taken ones.
    pub fn name_layers(&mut self) {
        let mut taken = HashSet::new();
        visit(&self.layers, &mut |layer| {
            taken.insert(layer.name.clone());
        });
        taken.extend(self.inputs.iter().map(|input| input.name.clone()));
        // Names are only ever added, so counting goes on where it stopped: a hostile file may have many layers.
        let mut next = HashMap::new();
        fn fill(layers: &mut [Layer], taken: &mut HashSet<String>, next: &mut HashMap<&'static str, usize>) {
            for layer in layers {
                if layer.name.is_empty() {
                    let type_name = layer.op.type_name();
                    let number = next.entry(type_name).or_insert(0);
                    while layer.name.is_empty() || taken.contains(&layer.name) {
                        *number += 1;
                        layer.name = format!("{type_name}{number}");
                    }
                    taken.insert(layer.name.clone());
                }
                if let Op::Residual(block) = &mut layer.op {
                    fill(&mut block.body, taken, next);
                    fill(&mut block.shortcut, taken, next);
                }
            }
        }
        fill(&mut self.layers, &mut taken, &mut next);
    }

    /// Every layer in running order, those inside residual blocks after the block that holds them.
    #[must_use]
    pub fn all_layers(&self) -> Vec<&Layer> {
        let mut layers = Vec::new();
        visit(&self.layers, &mut |layer| layers.push(layer));
        layers
    }
}

fn visit<'a>(layers: &'a [Layer], visitor: &mut impl FnMut(&'a Layer)) {
    for layer in layers {
        visitor(layer);
        if let Op::Residual(block) = &layer.op {
            visit(&block.body, visitor);
            visit(&block.shortcut, visitor);
        }
    }
}
