//! The operations of a compiled program.

use network::Affine;

use crate::buffer::Buffer;
use crate::gather::Gather;
use crate::kernel::Act;
use crate::layout::View;

/// One operation with everything it needs but the data.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The layers that it computes.
    pub(crate) layers: Vec<String>,
    pub(crate) work: Work,
    /// Multiply–accumulates for one sample, as the specification counts them.
    pub(crate) macs: u64,
    /// Vector operations for one sample, estimated: what decides whether a second thread is worth waking.
    pub(crate) cost: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// From an input of the caller, or from one layout to another.
    Copy {
        from: CopyFrom,
        to: View,
    },
    /// To an output of the caller.
    Export {
        from: CopyFrom,
        output: usize,
    },
    /// From floats to bytes.
    Quantize {
        from: CopyFrom,
        to: View,
        affine: Affine,
    },
    /// From floats to bytes, with a range for each sample.
    QuantizeEach {
        from: CopyFrom,
        to: View,
    },
    /// From an input of the caller, rounded to bf16.
    Round {
        input: usize,
        to: View,
    },
    Gemm(Box<GemmStep>),
    Gemm8(Box<Gemm8Step>),
    Dynamic(Box<DynamicStep>),
    Winograd(Box<WinogradStep>),
    Window(Box<WindowStep>),
    GlobalPool {
        from: View,
        to: View,
        maximum: bool,
    },
    Map(Box<MapStep>),
    LayerNorm(Box<NormStep>),
}

impl Work {
    /// The value that it writes.
    pub(crate) fn target(&self) -> Option<&View> {
        match self {
            Self::Export { .. } => None,
            Self::Copy { to, .. }
            | Self::Quantize { to, .. }
            | Self::QuantizeEach { to, .. }
            | Self::Round { to, .. }
            | Self::GlobalPool { to, .. } => Some(to),
            Self::Gemm(step) => Some(&step.to),
            Self::Gemm8(step) => Some(&step.to),
            Self::Dynamic(step) => Some(&step.gemm.to),
            Self::Winograd(step) => Some(&step.to),
            Self::Window(step) => Some(&step.to),
            Self::Map(step) => Some(&step.to),
            Self::LayerNorm(step) => Some(&step.to),
        }
    }
}

/// What a copy reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CopyFrom {
    /// The caller's input of this number, plane by plane.
    Input(usize, [usize; 3]),
    Value(View),
}

/// A dense layer or a direct convolution.
#[derive(Clone, Debug)]
pub(crate) struct GemmStep {
    pub(crate) from: View,
    pub(crate) to: View,
    pub(crate) rest: Option<View>,
    /// Dense: the positions are the rows of the batch. Otherwise they are the windows of one image.
    pub(crate) dense: bool,
    /// How far before the first pixel of the value the first window begins.
    pub(crate) back: usize,
    pub(crate) positions: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) rests: Vec<u32>,
    pub(crate) taps: Vec<u32>,
    pub(crate) weights: Buffer,
    /// By tiles: how inputs come into them; the weights are then pairs of bf16.
    pub(crate) gather: Option<Gather>,
    /// Whether the weights are bf16.
    pub(crate) half: bool,
    /// Whether the results are rounded to bf16.
    pub(crate) rounds: bool,
    pub(crate) bias: Buffer,
    pub(crate) groups: Vec<Group>,
    pub(crate) panels: usize,
    pub(crate) vectors: usize,
    pub(crate) act: Act,
    pub(crate) pooled: bool,
}

/// A dense layer or a convolution in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Gemm8Step {
    pub(crate) from: View,
    pub(crate) to: View,
    pub(crate) rest: Option<View>,
    pub(crate) rest_scale: f32,
    pub(crate) rest_zero: u8,
    pub(crate) dense: bool,
    pub(crate) back: usize,
    pub(crate) positions: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) rests: Vec<u32>,
    pub(crate) taps: Vec<u32>,
    /// By tiles, where there are enough rows: how inputs come into them.
    pub(crate) gather: Option<Gather>,
    /// Groups of weights in a panel: as many as taps, or more, which are zeros.
    pub(crate) depth: usize,
    /// Bytes.
    pub(crate) weights: Buffer,
    pub(crate) bias: Vec<i32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) zero: u8,
    pub(crate) panels: usize,
    pub(crate) vectors: usize,
    pub(crate) act: Act,
    pub(crate) pooled: bool,
}

/// A product of bytes that mean something else in each sample; see [`crate::dynamic`].
#[derive(Clone, Debug)]
pub(crate) struct DynamicStep {
    /// The sums, as floats, and nothing else. Its bias is zeros, for samples whose zero point is 0.
    pub(crate) gemm: Gemm8Step,
    /// The bias for samples whose zero point is 128.
    pub(crate) middle: Vec<i32>,
    /// Of each output, padded as the panels are.
    pub(crate) scale: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// Floats.
    pub(crate) rest: Option<View>,
    pub(crate) rests: Vec<u32>,
    pub(crate) act: Act,
}

/// Where a group of channels begins, in floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) source: usize,
    pub(crate) target: usize,
    pub(crate) weights: usize,
    pub(crate) bias: usize,
}

/// A convolution by Winograd's algorithm.
#[derive(Clone, Debug)]
pub(crate) struct WinogradStep {
    pub(crate) from: View,
    pub(crate) to: View,
    pub(crate) rest: Option<View>,
    pub(crate) back: usize,
    pub(crate) size: usize,
    pub(crate) outputs: usize,
    /// Tiles down and across.
    pub(crate) tiles: [usize; 2],
    /// Height and width of the convolution's outputs, after pooling.
    pub(crate) written: [usize; 2],
    /// How many tiles are in the workspace at once: whole groups.
    pub(crate) block: usize,
    /// Channels of the input.
    pub(crate) read: usize,
    /// Floats between two elements of a tile in the transformed input, in the products and in the weights.
    pub(crate) steps: [usize; 3],
    /// Channels of a tile in the transformed input and in the products, padded.
    pub(crate) padded: [usize; 2],
    /// `size²` times the panels of a product.
    pub(crate) weights: Buffer,
    pub(crate) bias: Buffer,
    pub(crate) panels: usize,
    pub(crate) vectors: usize,
    pub(crate) act: Act,
    pub(crate) pooled: bool,
}

impl WinogradStep {
    /// The floats of workspace that a thread needs.
    pub(crate) fn workspace(&self) -> usize {
        self.size * self.size * (self.steps[0] + self.steps[1])
    }
}

/// Pooling or a depthwise convolution.
#[derive(Clone, Debug)]
pub(crate) struct WindowStep {
    pub(crate) from: View,
    pub(crate) to: View,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) padded: usize,
    pub(crate) kind: WindowKind,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
pub(crate) enum WindowKind {
    Max,
    Average,
    Depthwise { weights: Buffer, bias: Buffer },
}

#[derive(Clone, Debug)]
pub(crate) struct MapStep {
    pub(crate) from: View,
    pub(crate) to: View,
    pub(crate) rest: Option<View>,
    /// Both or none.
    pub(crate) scale_shift: Option<(Buffer, Buffer)>,
    pub(crate) padded: usize,
    pub(crate) act: Act,
    /// Whether the results are rounded to bf16.
    pub(crate) rounds: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct NormStep {
    pub(crate) from: View,
    pub(crate) to: View,
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
    pub(crate) epsilon: f32,
    pub(crate) padded: usize,
    /// An image: over the width, channel by channel. Otherwise over rows of as many values as `gamma` has.
    pub(crate) image: bool,
}
