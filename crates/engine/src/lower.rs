//! From fused operations to steps: layouts fixed, weights packed, tables made.

use network::{Affine, Network};

use crate::algorithm::{Algorithm, algorithm};
use crate::buffer::Buffer;
use crate::error::CompileError;
use crate::gather::Gather;
use crate::graph::{Graph, Kind, Node, ValueId};
use crate::kernel::amx::ROWS;
use crate::layout::{self, Life, Place, View, padded};
use crate::step::{CopyFrom, MapStep, NormStep, Step, WindowKind, WindowStep, Work};

/// The most floats that one sample's value may take: offsets are 32 bits.
const MOST_FLOATS: u64 = 1 << 31;

/// The steps, the floats of the arena for `rows` samples, and the workspace of a thread.
pub(crate) struct Lowered {
    pub(crate) steps: Vec<Step>,
    pub(crate) rows: usize,
    pub(crate) arena: usize,
    pub(crate) workspace: usize,
    /// The frames and the bytes that they are filled with, once.
    pub(crate) frames: Vec<(View, u8)>,
}

/// How many floats of values the steps should keep in flight: about the second-level cache.
const BLOCK_FLOATS: usize = 224 * 1024;
/// The most samples in a block.
const MOST_ROWS: usize = 32;

pub(crate) fn lower(
    network: &Network,
    graph: &Graph,
    lanes: usize,
    winograd: bool,
    tiles: bool,
    rows: Option<usize>,
) -> Result<Lowered, CompileError> {
    let mut views = layout::layouts(graph, lanes, winograd);
    check_sizes(graph, &views, rows.unwrap_or(0).max(MOST_ROWS))?;
    let lives = lives(graph, &views);
    // One sample first, to know its footprint; then the block's size; then the places for a whole block.
    let bare = lives.iter().map(|life| Life { frame: None, ..*life }).collect();
    let (_, footprint) = layout::place(bare);
    let rows = rows.unwrap_or_else(|| (BLOCK_FLOATS / footprint.max(1)).clamp(1, MOST_ROWS));
    let whole = lives.into_iter().map(|life| Life { floats: life.floats * rows, ..life }).collect();
    let (places, arena) = layout::place(whole);
    for (value, offset) in places {
        views[value].place = Place::Arena(offset);
    }
    // Tiles are made of vectors of 16.
    let tiles = tiles && lanes == ROWS;
    let mut lowering = Lowering { network, graph, views, lanes, winograd, tiles, rows, steps: Vec::new() };
    lowering.inputs();
    for node in &graph.nodes {
        lowering.node(node)?;
    }
    lowering.outputs();
    let workspace = lowering.steps.iter().map(|step| match &step.work {
        Work::Winograd(winograd) => winograd.workspace(),
        Work::Gemm(step) => step.gather.as_ref().map_or(0, Gather::workspace),
        Work::Gemm8(step) => step.gather.as_ref().map_or(0, Gather::workspace),
        _ => 0,
    });
    let workspace = workspace.max().unwrap_or(0);
    let frames = frames(graph, &lowering.views);
    Ok(Lowered { steps: lowering.steps, rows, arena, workspace, frames })
}

/// Every offset in a block of `rows` samples must fit the tables of offsets.
fn check_sizes(graph: &Graph, views: &[View], rows: usize) -> Result<(), CompileError> {
    for node in &graph.nodes {
        for value in [node.input, node.output] {
            let floats = views[value].sample as u64;
            let limit = MOST_FLOATS / rows as u64;
            if floats >= limit {
                return Err(CompileError::TooLarge { layer: node.name.clone(), floats, limit });
            }
        }
    }
    Ok(())
}

/// When each value in the arena lives. Operation `i` runs at time `i + 1`; inputs come at 0, outputs leave last.
fn lives(graph: &Graph, views: &[View]) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    let end = graph.nodes.len() + 1;
    // What tells frames apart: the layout and the filling.
    let mut kinds = Vec::new();
    for (value, view) in views.iter().enumerate() {
        if matches!(view.place, Place::Input(_)) {
            continue;
        }
        let made = graph.nodes.iter().position(|node| node.output == value).map(|index| index + 1);
        let first = match made {
            Some(time) => time,
            None if value < graph.inputs.len() => 0,
            None => continue,
        };
        let reads = |node: &Node| node.input == value || node.rest == Some(value);
        let mut last = graph.nodes.iter().rposition(reads).map_or(first, |index| index + 1);
        if graph.outputs.iter().any(|(_, output)| *output == value) {
            last = end;
        }
        let frame = view.has_frame().then(|| {
            let per_sample = graph.per_sample.contains(&value);
            let kind = (view.size, view.frame, view.steps.pixel, view.planar, view.bytes, fill(graph, value));
            let kind = (kind, per_sample);
            kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            })
        });
        lives.push(Life { value, first, last, floats: view.floats(), frame });
    }
    lives
}

/// The byte that stands for zero in a value.
fn fill(graph: &Graph, value: ValueId) -> u8 {
    graph.bytes[value].map_or(0, |affine| affine.zero_point)
}

/// One value for each place that has a frame.
fn frames(graph: &Graph, views: &[View]) -> Vec<(View, u8)> {
    let mut frames: Vec<(View, u8)> = Vec::new();
    for (value, view) in views.iter().enumerate() {
        let is_known = |(known, _): &(View, u8)| known.place == view.place;
        if view.has_frame() && matches!(view.place, Place::Arena(_)) && !frames.iter().any(is_known) {
            frames.push((*view, fill(graph, value)));
        }
    }
    frames
}

pub(crate) struct Lowering<'a> {
    network: &'a Network,
    pub(crate) graph: &'a Graph,
    pub(crate) views: Vec<View>,
    pub(crate) lanes: usize,
    pub(crate) winograd: bool,
    /// Whether products may run by tiles.
    pub(crate) tiles: bool,
    pub(crate) rows: usize,
    steps: Vec<Step>,
}

impl Lowering<'_> {
    fn inputs(&mut self) {
        for input in 0..self.graph.inputs.len() {
            let view = self.views[input];
            let used = self.graph.nodes.iter().any(|n| n.input == input || n.rest == Some(input))
                || self.graph.outputs.iter().any(|(_, output)| *output == input);
            if matches!(view.place, Place::Input(_)) || !used {
                continue;
            }
            let from = CopyFrom::Input(input, view.size);
            let work = match self.graph.bytes[input] {
                Some(_) if self.graph.per_sample.contains(&input) => Work::QuantizeEach { from, to: view },
                Some(affine) => Work::Quantize { from, to: view, affine },
                None => Work::Copy { from, to: view },
            };
            self.push(vec![self.graph.inputs[input].clone()], work, 0);
        }
    }

    fn outputs(&mut self) {
        for (output, (name, value)) in self.graph.outputs.iter().enumerate() {
            let from = CopyFrom::Value(self.views[*value]);
            self.push(vec![name.clone()], Work::Export { from, output }, 0);
        }
    }

    fn push(&mut self, layers: Vec<String>, work: Work, cost: u64) {
        let macs = |name: &String| {
            self.network.layers().iter().find(|info| info.name == *name).map_or(0, |info| info.macs)
        };
        let copies = matches!(
            work,
            Work::Copy { .. }
                | Work::Export { .. }
                | Work::Quantize { .. }
                | Work::QuantizeEach { .. }
                | Work::Round { .. }
        );
        let macs = if copies { 0 } else { layers.iter().map(macs).sum() };
        self.steps.push(Step { layers, work, macs, cost });
    }

    /// A vector per pixel and `lanes` channels: what is written, as vector operations.
    pub(crate) fn vectors(&self, value: ValueId) -> u64 {
        let [channels, height, width] = self.views[value].size;
        (padded(channels, self.lanes) / self.lanes * height * width) as u64
    }

    fn node(&mut self, node: &Node) -> Result<(), CompileError> {
        let (from, to) = (self.views[node.input], self.views[node.output]);
        let rest = node.rest.map(|value| self.views[value]);
        let channels = padded(to.size[0], self.lanes);
        let written = self.vectors(node.output);
        let (work, cost) = match &node.kind {
            Kind::Dense(_) | Kind::Conv(_) if node.dynamic => self.dynamic8(node)?,
            Kind::Dense(_) | Kind::Conv(_) if node.scales.is_some() => self.product8(node)?,
            Kind::Dense(dense) => self.dense(node, dense),
            Kind::Conv(conv) => {
                let size = layout::conv_output(self.graph, node);
                match algorithm(conv, from.size, size, self.lanes, self.winograd) {
                    Algorithm::Direct => self.direct(node, conv, size),
                    Algorithm::Winograd { size: tile, outputs } => {
                        self.winograd_step(node, conv, size, tile, outputs)
                    }
                    Algorithm::Depthwise => {
                        let taps = conv.kernel[0] * conv.kernel[1];
                        let mut weights = vec![0.0f32; taps * channels];
                        for (channel, kernel) in conv.weight.chunks(taps).enumerate() {
                            for (tap, &weight) in kernel.iter().enumerate() {
                                weights[tap * channels + channel] = weight as f32;
                            }
                        }
                        let kind = WindowKind::Depthwise {
                            weights: Buffer::from_values(&weights),
                            bias: Buffer::from_values(&narrow(&conv.bias, channels)),
                        };
                        let step = WindowStep {
                            from,
                            to,
                            kernel: conv.kernel,
                            stride: conv.stride,
                            padding: conv.padding,
                            dilation: conv.dilation,
                            padded: channels,
                            kind,
                            act: node.act,
                        };
                        (Work::Window(Box::new(step)), written * taps as u64)
                    }
                }
            }
            Kind::Pool { maximum, kernel, stride, padding } => {
                let step = WindowStep {
                    from,
                    to,
                    kernel: *kernel,
                    stride: *stride,
                    padding: *padding,
                    dilation: [1, 1],
                    padded: channels,
                    kind: if *maximum { WindowKind::Max } else { WindowKind::Average },
                    act: node.act,
                };
                (Work::Window(Box::new(step)), written * (kernel[0] * kernel[1]) as u64)
            }
            Kind::GlobalPool { maximum } => {
                (Work::GlobalPool { from, to, maximum: *maximum }, self.vectors(node.input))
            }
            Kind::Map { scale, shift } => {
                let buffers = || {
                    let scale = Buffer::from_values(&narrow(scale, channels));
                    (scale, Buffer::from_values(&narrow(shift, channels)))
                };
                let scale_shift = (!scale.is_empty()).then(buffers);
                let step = MapStep {
                    from,
                    to,
                    rest,
                    scale_shift,
                    padded: channels,
                    act: node.act,
                    rounds: node.rounds,
                };
                let cost = if node.act.is_linear() { written } else { 20 * written };
                (Work::Map(Box::new(step)), cost)
            }
            Kind::LayerNorm { gamma, beta, epsilon } => {
                let step = NormStep {
                    from,
                    to,
                    gamma: gamma.clone(),
                    beta: beta.clone(),
                    epsilon: *epsilon as f32,
                    padded: channels,
                    image: self.graph.shapes[node.input].len() == 3,
                };
                (Work::LayerNorm(Box::new(step)), 8 * written)
            }
            Kind::Quantize if self.graph.per_sample.contains(&node.output) => {
                (Work::QuantizeEach { from: CopyFrom::Value(from), to }, 2 * written)
            }
            Kind::Quantize => {
                let from = CopyFrom::Value(from);
                let affine = self.graph.bytes[node.output].unwrap_or(Affine { scale: 1.0, zero_point: 0 });
                (Work::Quantize { from, to, affine }, written)
            }
            Kind::Round => (Work::Round { input: node.input, to }, 2 * to.sample as u64),
            Kind::Flatten => (Work::Copy { from: CopyFrom::Value(from), to }, 16 * written),
        };
        let mut layers = vec![node.name.clone()];
        layers.extend(node.fused.iter().cloned());
        self.push(layers, work, cost);
        Ok(())
    }
}

/// To 32 bits, padded with zeros.
pub(crate) fn narrow(values: &[f64], count: usize) -> Vec<f32> {
    let mut narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    narrow.resize(count.max(values.len()), 0.0);
    narrow
}
