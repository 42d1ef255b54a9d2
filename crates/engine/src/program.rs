//! A compiled network and how it is run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use network::quantization::{Quantization, dequantize};
use network::{Network, Weights};

use crate::buffer::Arena;
use crate::error::{CompileError, RunError};
use crate::graph::Graph;
use crate::isa::Isa;
use crate::layout::View;
use crate::pool::Pool;
use crate::quantize::Plan;
use crate::spread::{Run, fill_frames, spread, time};
use crate::step::{Step, WindowKind, Work};
use crate::{fuse, halves, lower, quantize};

/// How to compile.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// The tier of instructions; left out: what `BRAZIER_ISA` says, or the processor's best.
    pub isa: Option<Isa>,
    /// Computes convolutions tap by tap, never by Winograd's algorithm: slower, and a little closer to exact.
    pub direct: bool,
    /// Dense layers and convolutions of one group that are not int8 compute with weights and inputs rounded to
    /// bf16, sums in f32.
    pub bf16: bool,
    /// Whether products may run by tiles; left out: where the tier has them. Tests may ask for tiles elsewhere.
    pub(crate) tiles: Option<bool>,
    /// How many samples run through the whole program at once; left out: as many as suit the cache.
    pub(crate) block_rows: Option<usize>,
}

impl Options {
    /// The given tier instead of the best one.
    #[must_use]
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa: Some(isa), ..self }
    }

    /// Without Winograd's algorithm.
    #[must_use]
    pub fn with_direct(self, direct: bool) -> Self {
        Self { direct, ..self }
    }

    /// Weights and inputs of products rounded to bf16 (8 bits of precision), sums in f32: half the memory of
    /// weights, no calibration. Convolutions are then direct.
    #[must_use]
    pub fn with_bf16(self, bf16: bool) -> Self {
        Self { bf16, ..self }
    }

    /// Blocks of so many samples.
    #[must_use]
    pub fn with_block_rows(self, rows: usize) -> Self {
        Self { block_rows: Some(rows.clamp(1, 1024)), ..self }
    }
}

/// A network and its weights, compiled. Shared by all threads that run it; what changes while it runs is in
/// each caller's [`Scratch`].
#[derive(Debug)]
pub struct Program {
    id: u64,
    pub(crate) isa: Isa,
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    byte_values: BTreeSet<String>,
    read: BTreeMap<String, Vec<String>>,
    pub(crate) rows: usize,
    arena: usize,
    workspace: usize,
    frames: Vec<(View, u8)>,
}

/// An input or output: its name and the values of one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the signature.
    pub name: String,
    /// The number of values of one sample, in row-major order.
    pub values: usize,
}

/// The memory that one run needs: an arena and a workspace for each thread that may help.
#[derive(Debug)]
pub struct Scratch {
    program: u64,
    lanes: Vec<Lane>,
}

impl Scratch {
    pub(crate) fn lanes_mut(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }
}

/// The memory of one thread.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) arena: Arena,
    pub(crate) workspace: Arena,
}

/// One step of a program, for tables.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepInfo {
    /// The layers that it computes.
    pub layers: Vec<String>,
    /// How: `direct`, `dense`, `winograd 6x6`, ….
    pub method: String,
    /// Multiply–accumulates of those layers for one sample.
    pub macs: u64,
    /// Bytes of packed weights.
    pub weight_bytes: usize,
    /// The best time of [`Program::profile`]; zero elsewhere.
    pub time: Duration,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Program {
    /// Compiles a network.
    ///
    /// # Errors
    /// When a layer cannot be compiled, the weights are not those of the network, or the tier is not there.
    pub fn compile(network: &Network, weights: &Weights, options: Options) -> Result<Self, CompileError> {
        Self::compile_int8(network, weights, &Plan::default(), options)
    }

    /// Compiles a network with the weights of its record, as a package holds both: with a `quantization`, some
    /// layers are integers with scales. With [`Options::bf16`] nothing runs in int8; the integers then are
    /// floats like all others.
    ///
    /// # Errors
    /// As [`Program::compile_int8`], and when the record does not fit the quantization.
    pub fn from_record(
        network: &Network,
        record: &Weights,
        quantization: Option<&Quantization>,
        options: Options,
    ) -> Result<Self, CompileError> {
        let Some(quantization) = quantization else { return Self::compile(network, record, options) };
        let floats = dequantize(network, quantization, record)?;
        let plan = if options.bf16 { Plan::default() } else { Plan::new(quantization, record) };
        Self::compile_int8(network, &floats, &plan, options)
    }

    /// Compiles a network of which some layers run in int8. The weights are f32 all the same; those of an int8
    /// layer are rounded to whole multiples of its scales, which brings weights that were stored as integers
    /// back exactly.
    ///
    /// # Errors
    /// As [`Program::compile`], and when the plan names a layer that is not there or lacks a range.
    pub fn compile_int8(
        network: &Network,
        weights: &Weights,
        plan: &Plan,
        options: Options,
    ) -> Result<Self, CompileError> {
        let isa = match options.isa {
            Some(isa) => isa.check()?,
            None => Isa::from_environment()?,
        };
        let mut graph = Graph::new(network, weights)?;
        fuse::fuse(&mut graph, &|layer| plan.layers.get(layer).is_some_and(|scales| !scales.is_empty()));
        let read = quantize::read(&graph);
        quantize::apply(&mut graph, plan)?;
        if options.bf16 {
            halves::apply(&mut graph);
        }
        let winograd = !options.direct && !options.bf16;
        let tiles = options.tiles.unwrap_or(isa >= Isa::Amx);
        let lowered = lower::lower(network, &graph, isa.lanes(), winograd, tiles, options.block_rows)?;
        let port = |name: &String, value: usize| Port {
            name: name.clone(),
            values: graph.shapes[value].iter().product(),
        };
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            isa,
            inputs: graph.inputs.iter().enumerate().map(|(value, name)| port(name, value)).collect(),
            outputs: graph.outputs.iter().map(|(name, value)| port(name, *value)).collect(),
            byte_values: quantize::byte_values(&graph),
            read,
            steps: lowered.steps,
            rows: lowered.rows,
            arena: lowered.arena,
            workspace: lowered.workspace,
            frames: lowered.frames,
        })
    }

    /// The tier that it was compiled for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The inputs in the order of the signature.
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs in the order of the signature.
    #[must_use]
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The values that are bytes, by the names that [`Plan::values`] has for them: the ranges that the plan needs.
    #[must_use]
    pub fn byte_values(&self) -> &BTreeSet<String> {
        &self.byte_values
    }

    /// What each dense layer and convolution reads, by the name of the layer: its input and, where one is added to it
    /// before anything else, that value; under the names that [`Program::observe`] shows. An image that is only
    /// flattened in between is read as an image.
    #[must_use]
    pub fn read(&self) -> &BTreeMap<String, Vec<String>> {
        &self.read
    }

    /// How many samples run through the whole program at once.
    #[must_use]
    pub fn block_rows(&self) -> usize {
        self.rows
    }

    /// The bytes of a scratch for one thread.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        4 * (self.arena + self.workspace)
    }

    /// The bytes of packed weights.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.steps.iter().map(weight_bytes).sum()
    }

    /// What runs how.
    #[must_use]
    pub fn steps(&self) -> Vec<StepInfo> {
        let info = |step: &Step| StepInfo {
            layers: step.layers.clone(),
            method: method(&step.work),
            macs: step.macs,
            weight_bytes: weight_bytes(step),
            time: Duration::ZERO,
        };
        self.steps.iter().map(info).collect()
    }

    /// What runs how, with the best time of each step in `repeats` runs of one block of up to
    /// [`Program::block_rows`] samples of zeros on this thread.
    #[must_use]
    pub fn profile(&self, rows: usize, repeats: usize) -> Vec<StepInfo> {
        let rows = rows.clamp(1, self.rows);
        let inputs: Vec<Vec<f32>> = self.inputs.iter().map(|port| vec![0.0; rows * port.values]).collect();
        let mut outputs: Vec<Vec<f32>> =
            self.outputs.iter().map(|port| vec![0.0; rows * port.values]).collect();
        let sources: Vec<_> = inputs.iter().zip(&self.inputs).map(|(i, p)| (i.as_ptr(), p.values)).collect();
        let targets: Vec<_> =
            outputs.iter_mut().zip(&self.outputs).map(|(o, p)| (o.as_mut_ptr(), p.values)).collect();
        let mut scratch = self.scratch();
        let mut best = vec![Duration::MAX; self.steps.len()];
        for _ in 0..repeats.max(1) {
            let (steps, isa, block) = (self.steps.as_slice(), self.isa, self.rows);
            let (inputs, outputs) = (sources.as_slice(), targets.as_slice());
            time(&Run { steps, isa, block, rows, inputs, outputs, lanes: &mut scratch.lanes }, &mut best);
        }
        let mut steps = self.steps();
        steps.iter_mut().zip(best).for_each(|(step, best)| step.time = best);
        steps
    }

    /// Memory for runs on one thread.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        self.scratch_for(1)
    }

    /// Memory for runs on up to `threads` threads.
    #[must_use]
    pub fn scratch_for(&self, threads: usize) -> Scratch {
        let lane = || {
            let lane = Lane { arena: Arena::zeros(self.arena), workspace: Arena::zeros(self.workspace) };
            fill_frames(&lane, self.isa, self.rows, &self.frames);
            lane
        };
        Scratch { program: self.id, lanes: (0..threads.max(1)).map(|_| lane()).collect() }
    }

    /// Runs `rows` samples of the first input, on this thread: `[rows, …]` in row-major order → the first
    /// output, `[rows, …]`.
    ///
    /// # Errors
    /// When the program has more than one input or output, or a buffer does not fit.
    pub fn run(
        &self,
        scratch: &mut Scratch,
        input: &[f32],
        rows: usize,
        output: &mut [f32],
    ) -> Result<(), RunError> {
        self.run_all(None, scratch, &[input], rows, &mut [output])
    }

    /// Runs `rows` samples of all inputs and writes all outputs, in the order of the signature. With a pool, a
    /// batch is split over its threads, and a single sample where that is worth it.
    ///
    /// # Errors
    /// When a buffer is missing or does not fit.
    pub fn run_all(
        &self,
        pool: Option<&Pool>,
        scratch: &mut Scratch,
        inputs: &[&[f32]],
        rows: usize,
        outputs: &mut [&mut [f32]],
    ) -> Result<(), RunError> {
        self.check(scratch, inputs, rows, outputs)?;
        // Beyond four of each, which no network so far has, the tables are allocated.
        let mut sources = [(std::ptr::null(), 0); 4];
        let mut targets = [(std::ptr::null_mut(), 0); 4];
        if inputs.len() <= 4 && outputs.len() <= 4 {
            for (source, (input, port)) in sources.iter_mut().zip(inputs.iter().zip(&self.inputs)) {
                *source = (input.as_ptr(), port.values);
            }
            for (target, (output, port)) in targets.iter_mut().zip(outputs.iter_mut().zip(&self.outputs)) {
                *target = (output.as_mut_ptr(), port.values);
            }
            self.spread(pool, scratch, &sources, rows, &targets);
            return Ok(());
        }
        let sources: Vec<_> = inputs.iter().zip(&self.inputs).map(|(i, p)| (i.as_ptr(), p.values)).collect();
        let targets: Vec<_> =
            outputs.iter_mut().zip(&self.outputs).map(|(o, p)| (o.as_mut_ptr(), p.values)).collect();
        self.spread(pool, scratch, &sources, rows, &targets);
        Ok(())
    }

    pub(crate) fn check_inputs(&self, inputs: &[&[f32]], rows: usize) -> Result<(), RunError> {
        for (index, port) in self.inputs.iter().enumerate() {
            let found = inputs.get(index).map_or(0, |input| input.len());
            let (name, per_row) = (port.name.clone(), port.values);
            let expected = rows.saturating_mul(per_row);
            if found != expected {
                return Err(RunError::Input { name, rows, per_row, expected, found });
            }
        }
        Ok(())
    }

    pub(crate) fn check(
        &self,
        scratch: &Scratch,
        inputs: &[&[f32]],
        rows: usize,
        outputs: &[&mut [f32]],
    ) -> Result<(), RunError> {
        if scratch.program != self.id {
            return Err(RunError::Scratch);
        }
        if inputs.len() != self.inputs.len() || outputs.len() != self.outputs.len() {
            return Err(RunError::Count {
                expected: self.inputs.len(),
                outputs: self.outputs.len(),
                found: inputs.len(),
                found_outputs: outputs.len(),
            });
        }
        self.check_inputs(inputs, rows)?;
        for (port, output) in self.outputs.iter().zip(outputs) {
            let (name, per_row, found) = (port.name.clone(), port.values, output.len());
            let expected = rows.saturating_mul(per_row);
            if found != expected {
                return Err(RunError::Output { name, rows, per_row, expected, found });
            }
        }
        Ok(())
    }

    fn spread(
        &self,
        pool: Option<&Pool>,
        scratch: &mut Scratch,
        inputs: &[(*const f32, usize)],
        rows: usize,
        outputs: &[(*mut f32, usize)],
    ) {
        let (steps, isa, block) = (self.steps.as_slice(), self.isa, self.rows);
        spread(&Run { steps, isa, block, rows, inputs, outputs, lanes: &mut scratch.lanes }, pool);
    }
}

fn weight_bytes(step: &Step) -> usize {
    4 * match &step.work {
        Work::Gemm(step) => step.weights.len() + step.bias.len(),
        Work::Gemm8(step) => step.weights.len() + step.bias.len() + step.scale.len(),
        Work::Dynamic(step) => step.gemm.weights.len() + step.bias.len() + step.scale.len(),
        Work::Winograd(step) => step.weights.len() + step.bias.len(),
        _ => 0,
    }
}

fn method(work: &Work) -> String {
    match work {
        Work::Copy { .. } | Work::Export { .. } => "copy".to_owned(),
        Work::Gemm(step) => {
            let name = if step.dense { "dense" } else { "direct" };
            let tiles = if step.gather.is_some() { " tiles" } else { "" };
            if step.half { format!("{name}{tiles} bf16") } else { name.to_owned() }
        }
        Work::Quantize { .. } => "quantize".to_owned(),
        Work::QuantizeEach { .. } => "quantize each".to_owned(),
        Work::Round { .. } => "round".to_owned(),
        Work::Dynamic(step) if step.gemm.dense => "dense dynamic int8".to_owned(),
        Work::Dynamic(_) => "direct dynamic int8".to_owned(),
        Work::Gemm8(step) => {
            let name = if step.dense { "dense" } else { "direct" };
            format!("{name}{} int8", if step.gather.is_some() { " tiles" } else { "" })
        }
        Work::Winograd(step) => format!("winograd {}x{}", step.outputs, step.outputs),
        Work::Window(step) => match step.kind {
            WindowKind::Max | WindowKind::Average => "pool".to_owned(),
            WindowKind::Depthwise { .. } => "depthwise".to_owned(),
        },
        Work::GlobalPool { .. } => "global pool".to_owned(),
        Work::Map(_) => "map".to_owned(),
        Work::LayerNorm(_) => "layer norm".to_owned(),
    }
}
