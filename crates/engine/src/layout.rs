//! Where each value lies: its layout, the frame of zeros around it, and its place in the arena.
//!
//! Values are `[rows][height][width][channels]` with the channels padded to whole vectors, so that every kernel
//! runs along channels. A convolution finds its padding in the buffer: the value that it reads has a frame of
//! zeros. An input whose readers take any layout is read where the caller put it, plane by plane.

use crate::algorithm::{Algorithm, algorithm};
use crate::dynamic::TRAILER;
use crate::graph::{Conv, Graph, Kind, Node, ValueId};
use crate::kernel::copy::Steps;

/// Which memory a value is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The caller's input of this number.
    Input(usize),
    /// The arena, this many floats from its start.
    Arena(usize),
}

/// How to find a value's elements. Everything is counted in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) place: Place,
    /// The step between samples.
    pub(crate) sample: usize,
    /// From the start of a sample to its first pixel.
    pub(crate) origin: usize,
    pub(crate) steps: Steps,
    /// Channels, height, width. Values that are no images have height and width 1.
    pub(crate) size: [usize; 3],
    /// Rows above, rows below, columns left, columns right.
    pub(crate) frame: [usize; 4],
    /// Whether each channel is a plane of its own.
    pub(crate) planar: bool,
    /// Whether the elements are bytes; everything is then counted in bytes, but the place.
    pub(crate) bytes: bool,
}

impl View {
    /// The steps between rows and pixels.
    pub(crate) fn strides(&self) -> [usize; 2] {
        [self.steps.row, self.steps.pixel]
    }

    pub(crate) fn has_frame(&self) -> bool {
        self.frame != [0; 4]
    }

    /// The floats that a sample takes in the arena.
    pub(crate) fn floats(&self) -> usize {
        if self.bytes { self.sample.div_ceil(4) } else { self.sample }
    }

    /// The elements of a pixel row of the frame, and the planes that have one.
    pub(crate) fn pitch(&self) -> usize {
        self.steps.row
    }
}

/// The number of channels that a vector tier keeps for `channels`: whole vectors, and an even number of them
/// from four on, so that panels of two vectors fit.
pub(crate) fn padded(channels: usize, lanes: usize) -> usize {
    let vectors = channels.div_ceil(lanes);
    let vectors = if vectors <= 3 { vectors } else { vectors.next_multiple_of(2) };
    vectors * lanes
}

/// Vectors in a panel of weights for so many outputs.
pub(crate) fn panel_vectors(outputs: usize, lanes: usize) -> usize {
    if (padded(outputs, lanes) / lanes).is_multiple_of(2) { 2 } else { 1 }
}

/// Channels, height and width of a shape; whatever is no image is a row of channels.
pub(crate) fn image_size(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [channels, height, width] => [channels, height, width],
        _ => [shape.iter().product(), 1, 1],
    }
}

/// The layout of every value; those in the arena get their places later.
pub(crate) fn layouts(graph: &Graph, lanes: usize, winograd: bool) -> Vec<View> {
    let mut views: Vec<View> = Vec::with_capacity(graph.shapes.len());
    for value in 0..graph.shapes.len() {
        let is_input = value < graph.inputs.len();
        let readers: Vec<&Node> = graph.nodes.iter().filter(|node| node.input == value).collect();
        let is_rest = graph.nodes.iter().any(|node| node.rest == Some(value));
        let any_layout = |node: &&Node| match &node.kind {
            Kind::Dense(_) | Kind::Round => true,
            Kind::Conv(conv) => {
                let (from, to) = (&graph.shapes[value], conv_output(graph, node));
                matches!(algorithm(conv, image_size(from), to, lanes, winograd), Algorithm::Direct)
            }
            _ => false,
        };
        let is_output = graph.outputs.iter().any(|(_, output)| *output == value);
        let is_bytes = graph.bytes[value].is_some();
        let winograd = winograd && !is_bytes;
        let is_rounded =
            graph.nodes.iter().any(|node| node.output == value && matches!(node.kind, Kind::Round));
        let planar =
            (is_input || is_rounded) && !is_bytes && !is_rest && !is_output && readers.iter().all(any_layout);
        let mut frame = [0; 4];
        for node in &readers {
            if let Kind::Conv(conv) = &node.kind {
                let size = image_size(&graph.shapes[value]);
                let needed = frame_of(conv, size, conv_output(graph, node), lanes, winograd);
                frame = std::array::from_fn(|side| frame[side].max(needed[side]));
            }
        }
        if is_bytes && narrow_pixel(graph, value) == Some(1) {
            // Kernels read four neighbours at once, beyond the last column too.
            let width = graph.shapes[value].get(2).copied().unwrap_or(1);
            let whole = |node: &&Node| matches!(node.kind, Kind::Dense(_)) && width.is_multiple_of(4);
            frame[3] += if readers.iter().all(whole) { 0 } else { 3 };
        }
        views.push(view(graph, value, lanes, planar, frame));
    }
    views
}

/// The bytes of a pixel of an image with few channels, if they need not be whole vectors: that is so where no
/// kernel writes vectors of channels. With one channel they lie without gaps, so that a group of four is four
/// neighbours in a row; otherwise a pixel is a group of four.
fn narrow_pixel(graph: &Graph, value: ValueId) -> Option<usize> {
    let written = graph.nodes.iter().find(|node| node.output == value);
    let by_byte = written.is_none_or(|node| matches!(node.kind, Kind::Quantize));
    let is_rest = graph.nodes.iter().any(|node| node.rest == Some(value));
    let gapless = |node: &Node| match &node.kind {
        Kind::Conv(conv) => conv.dilation[1] == 1,
        _ => true,
    };
    let mut readers = graph.nodes.iter().filter(|node| node.input == value);
    match graph.shapes[value].as_slice() {
        _ if !by_byte || is_rest => None,
        [1, _, _] if readers.all(gapless) => Some(1),
        [1..=4, _, _] => Some(4),
        _ => None,
    }
}

/// Height and width that a convolution gives, before pooling.
pub(crate) fn conv_output(graph: &Graph, node: &Node) -> [usize; 2] {
    let [_, height, width] = image_size(&graph.shapes[node.input]);
    let Kind::Conv(conv) = &node.kind else { return [1, 1] };
    let axis = |size: usize, axis: usize| {
        let extent = (conv.kernel[axis] - 1) * conv.dilation[axis] + 1;
        (size + 2 * conv.padding[axis] - extent) / conv.stride[axis] + 1
    };
    [axis(height, 0), axis(width, 1)]
}

/// The frame that a convolution reads: its padding, and for Winograd's last tiles what they reach beyond.
fn frame_of(conv: &Conv, input: [usize; 3], output: [usize; 2], lanes: usize, winograd: bool) -> [usize; 4] {
    let kind = algorithm(conv, input, output, lanes, winograd);
    let past = |axis: usize| {
        let reach = match kind {
            Algorithm::Depthwise => return [0, 0],
            Algorithm::Direct => {
                (output[axis] - 1) * conv.stride[axis] + (conv.kernel[axis] - 1) * conv.dilation[axis] + 1
            }
            Algorithm::Winograd { outputs, .. } => {
                output[axis].next_multiple_of(outputs) + conv.kernel[axis] - 1
            }
        };
        let before = conv.padding[axis];
        [before, reach.saturating_sub(before + input[axis + 1])]
    };
    let ([above, below], [left, right]) = (past(0), past(1));
    [above, below, left, right]
}

fn view(graph: &Graph, value: ValueId, lanes: usize, planar: bool, frame: [usize; 4]) -> View {
    let size = image_size(&graph.shapes[value]);
    let [channels, height, width] = size;
    let [above, below, left, right] = frame;
    let (rows, columns) = (height + above + below, width + left + right);
    if planar {
        let as_is = value < graph.inputs.len() && frame == [0; 4];
        let place = if as_is { Place::Input(value) } else { Place::Arena(0) };
        let steps = Steps { channel: rows * columns, row: columns, pixel: 1 };
        let sample = channels * rows * columns;
        let origin = above * columns + left;
        return View { place, sample, origin, steps, size, frame, planar, bytes: false };
    }
    let maker = graph.nodes.iter().find(|node| node.output == value);
    let mut pixel = padded(channels, lanes);
    if let Some(Node { kind: Kind::Conv(conv), .. }) = maker
        && conv.groups > 1
    {
        // The last group's vectors begin where the group does, and may reach past the padding.
        let group = conv.channels / conv.groups;
        let reach = (conv.groups - 1) * group + padded(group, lanes);
        pixel = pixel.max(reach.next_multiple_of(lanes));
    }
    let bytes = graph.bytes[value].is_some();
    if bytes && let Some(narrow) = narrow_pixel(graph, value) {
        pixel = narrow;
    }
    let row = columns * pixel;
    let steps = Steps { channel: 1, row, pixel };
    let origin = above * row + left * pixel;
    let mut sample = rows * row;
    if graph.per_sample.contains(&value) {
        sample = sample.next_multiple_of(4) + TRAILER;
    }
    View { place: Place::Arena(0), sample, origin, steps, size, frame, planar, bytes }
}

/// When a value is first written and last read, in steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) value: ValueId,
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) floats: usize,
    /// Values with the same frame around them have the same number here. Only they share a place, so that the
    /// frame is filled once and stays.
    pub(crate) frame: Option<usize>,
}

/// Gives each value a place so that no two that live at once overlap, the largest first, each as low as it
/// fits. Returns the places and the size of the arena.
pub(crate) fn place(mut lives: Vec<Life>) -> (Vec<(ValueId, usize)>, usize) {
    lives.sort_by_key(|life| (std::cmp::Reverse(life.floats), life.value));
    let mut placed: Vec<(Life, usize)> = Vec::new();
    let mut size = 0;
    for life in lives {
        let floats = life.floats.next_multiple_of(16);
        // Those of one frame are of one size, so their places are the same or apart.
        let at_once = |other: &Life| {
            other.frame != life.frame || (other.first <= life.last && life.first <= other.last)
        };
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(other, _)| at_once(other))
            .map(|(other, offset)| (*offset, offset + other.floats.next_multiple_of(16)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + floats <= start {
                break;
            }
            offset = offset.max(end);
        }
        size = size.max(offset + floats);
        placed.push((life, offset));
    }
    (placed.into_iter().map(|(life, offset)| (life.value, offset)).collect(), size)
}
