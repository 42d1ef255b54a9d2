//! Running steps: from views and tables to calls of kernels.
#![allow(unsafe_code, reason = "pointers into the arena, which the planner has laid out")]

mod bytes;
mod each;
mod tiles;

use crate::isa::Isa;
use crate::kernel::amx::Configured;
use crate::kernel::copy::{self, Steps};
use crate::kernel::gemm::{self, Gemm};
use crate::kernel::map::{self, Map};
use crate::kernel::tiled;
use crate::kernel::window::{self, Reduce, Window};
use crate::layout::{Place, View};
use crate::step::{CopyFrom, GemmStep, MapStep, NormStep, Step, WindowKind, WindowStep, Work};

/// The memory of one block of rows.
#[derive(Clone, Copy)]
pub(crate) struct Env<'a> {
    pub(crate) isa: Isa,
    pub(crate) rows: usize,
    /// The first row of the block, in the caller's buffers.
    pub(crate) first: usize,
    pub(crate) arena: *mut f32,
    /// This thread's own.
    pub(crate) workspace: *mut f32,
    pub(crate) inputs: &'a [(*const f32, usize)],
    pub(crate) outputs: &'a [(*mut f32, usize)],
}

/// A share of a step: the `index`-th of `count`.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) index: usize,
    pub(crate) count: usize,
}

impl Share {
    pub(crate) const ALL: Self = Self { index: 0, count: 1 };

    /// Its part of `units` equal units.
    fn of(self, units: usize) -> (usize, usize) {
        (units * self.index / self.count, units * (self.index + 1) / self.count)
    }
}

impl Env<'_> {
    /// The first pixel of the first sample of a value.
    ///
    /// # Safety
    /// The view belongs to the program that this memory was made for.
    unsafe fn source(&self, view: &View) -> *const f32 {
        // SAFETY: passed on.
        unsafe {
            match view.place {
                Place::Input(input) => {
                    let (start, per_row) = self.inputs[input];
                    start.add(self.first * per_row + view.origin)
                }
                Place::Arena(offset) => self.arena.add(offset + view.origin),
            }
        }
    }

    /// The first pixel of the first sample of a value in bytes.
    ///
    /// # Safety
    /// As [`Env::source`]; the value is in the arena.
    unsafe fn bytes(&self, view: &View) -> *mut u8 {
        // SAFETY: passed on. Values in bytes are never the caller's.
        unsafe {
            match view.place {
                Place::Input(_) => self.arena.cast::<u8>(),
                Place::Arena(offset) => self.arena.add(offset).cast::<u8>().add(view.origin),
            }
        }
    }

    /// # Safety
    /// As [`Env::source`]; the value is in the arena.
    unsafe fn target(&self, view: &View) -> *mut f32 {
        // SAFETY: passed on. Only values in the arena are written.
        unsafe { self.source(view).cast_mut() }
    }
}

/// Into how many shares a step can be cut, for so many rows.
pub(crate) fn units(step: &Step, rows: usize) -> usize {
    match &step.work {
        Work::Gemm(step) if step.dense => step.panels.div_ceil(2),
        Work::Gemm(step) => step.positions.len().div_ceil(16),
        Work::Gemm8(step) if step.dense => step.panels.div_ceil(2),
        Work::Gemm8(step) => step.positions.len().div_ceil(16),
        Work::Dynamic(step) if step.gemm.dense => step.gemm.panels.div_ceil(2),
        Work::Dynamic(step) => step.gemm.positions.len().div_ceil(16),
        Work::Winograd(step) => tiles::units(step, rows),
        Work::Window(step) => rows * step.to.size[1],
        Work::Map(step) => rows * step.to.size[1],
        _ => 1,
    }
}

/// Runs a share of a step.
///
/// # Safety
/// The step belongs to the program that the memory was made for, `env.rows` is at most the program's block, the
/// caller's buffers hold `first + rows` rows, and no other thread works on the same share or on a step that
/// touches the same values.
pub(crate) unsafe fn run(step: &Step, env: &Env<'_>, share: Share) {
    // SAFETY: passed on.
    unsafe {
        match &step.work {
            Work::Quantize { from, to, affine } => bytes::quantize(env, from, to, *affine),
            Work::Round { input, to } => {
                for row in 0..env.rows {
                    let target = env.target(to).add(row * to.sample);
                    copy_row(env, &CopyFrom::Input(*input, to.size), row, target, to.steps);
                    copy::round(target, to.steps, to.size);
                }
            }
            Work::QuantizeEach { from, to } => each::quantize(env, from, to),
            Work::Gemm8(step) => bytes::product(step, env, share),
            Work::Dynamic(step) => each::product(step, env, share),
            Work::Copy { from, to } => {
                for row in 0..env.rows {
                    copy_row(env, from, row, env.target(to).add(row * to.sample), to.steps);
                }
            }
            Work::Export { from, output } => {
                let (start, per_row) = env.outputs[*output];
                for row in 0..env.rows {
                    let size = match from {
                        CopyFrom::Value(view) => view.size,
                        CopyFrom::Input(_, size) => *size,
                    };
                    copy_row(env, from, row, start.add((env.first + row) * per_row), planes(size));
                }
            }
            Work::Gemm(step) => product(step, env, share),
            Work::Winograd(step) => tiles::filter(step, env, share),
            Work::Window(step) => slide(step, env, share),
            Work::GlobalPool { from, to, maximum } => {
                let (source, target) = (env.source(from), env.target(to));
                let [_, height, width] = from.size;
                for row in 0..env.rows {
                    let (source, target) = (source.add(row * from.sample), target.add(row * to.sample));
                    let padded = from.steps.pixel.min(to.steps.pixel);
                    let size = [height, width];
                    window::global_pool(env.isa, source, target, from.strides(), size, padded, *maximum);
                }
            }
            Work::Map(step) => each(step, env, share),
            Work::LayerNorm(step) => normalise(step, env),
        }
    }
}

/// Shows what a step has just written, if it is a value in f32 with a name, and lets it be changed. What is only taken
/// over from the caller has been shown already.
///
/// # Safety
/// As [`run`], which has just run the whole step.
pub(crate) unsafe fn visit(step: &Step, env: &Env<'_>, visitor: &mut dyn FnMut(&str, &mut [f32])) {
    let (Some(name), Some(view)) = (step.layers.last(), step.work.target()) else { return };
    let taken_over = matches!(step.work, Work::Copy { from: CopyFrom::Input(..), .. });
    if view.bytes || view.planar || taken_over {
        return;
    }
    let [channels, height, width] = view.size;
    for row in 0..env.rows {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let at = row * view.sample + y * view.steps.row + x * view.steps.pixel;
            // SAFETY: the pixel is part of the value, which this thread alone works on.
            let pixel = unsafe { std::slice::from_raw_parts_mut(env.target(view).add(at), channels) };
            visitor(name, pixel);
        }
    }
}

/// The steps of `[channels][height][width]` values without gaps.
fn planes([_, height, width]: [usize; 3]) -> Steps {
    Steps { channel: height * width, row: width, pixel: 1 }
}

/// Fills what is around a value: with zeros, or the byte that stands for zero.
///
/// # Safety
/// As [`run`].
pub(crate) unsafe fn clear(env: &Env<'_>, view: &View, fill: u8) {
    for row in 0..env.rows {
        // SAFETY: passed on.
        unsafe { clear_sample(env, view, row, fill) };
    }
}

/// As [`clear`], for one sample.
///
/// # Safety
/// As [`run`], of a sample among the rows.
unsafe fn clear_sample(env: &Env<'_>, view: &View, row: usize, fill: u8) {
    let [channels, height, width] = view.size;
    let [above, below, left, _] = view.frame;
    let (images, step, pixel) =
        if view.planar { (channels, view.steps.channel, 1) } else { (1, 0, view.steps.pixel) };
    let size = if view.bytes { 1 } else { 4 };
    // SAFETY: passed on; the frame is part of the value.
    unsafe {
        let first = if view.bytes { env.bytes(view) } else { env.target(view).cast() };
        let start = first.sub(view.origin * size);
        for image in 0..images {
            let start = start.add((row * view.sample + image * step) * size);
            let rows = [above, height, below];
            let (left, inner) = (left * pixel * size, width * pixel * size);
            copy::fill_frame(start, view.pitch() * size, rows, left, inner, fill);
        }
    }
}

/// # Safety
/// As [`run`]; `target` has room for the value.
unsafe fn copy_row(env: &Env<'_>, from: &CopyFrom, row: usize, target: *mut f32, to: Steps) {
    // SAFETY: passed on.
    unsafe {
        match from {
            CopyFrom::Input(input, size) => {
                let (start, per_row) = env.inputs[*input];
                let source = start.add((env.first + row) * per_row);
                copy::image(source, planes(*size), target, to, *size);
            }
            CopyFrom::Value(view) => {
                let source = env.source(view).add(row * view.sample);
                // Flat values and answers are written plane by plane.
                let to = planes(view.size);
                copy::image(source, view.steps, target, to, view.size);
            }
        }
    }
}

/// # Safety
/// As [`run`].
unsafe fn product(step: &GemmStep, env: &Env<'_>, share: Share) {
    // SAFETY: passed on; the tables were made for these views.
    unsafe {
        let (source, target) = (env.source(&step.from).sub(step.back), env.target(&step.to));
        let rest = match &step.rest {
            Some(rest) => env.source(rest),
            None => std::ptr::null(),
        };
        let mut gemm = Gemm {
            isa: env.isa,
            source,
            target,
            rest,
            positions: &step.positions,
            targets: &step.targets,
            rests: &step.rests,
            taps: &step.taps,
            weights: step.weights.as_ptr(),
            half: step.half,
            rounds: step.rounds,
            bias: step.bias.as_ptr(),
            panels: (0, step.panels),
            vectors: step.vectors,
            act: step.act,
            pooled: step.pooled,
        };
        let tiles = step.gather.as_ref().map(|gather| (gather, Configured::new()));
        let multiply = |gemm: &Gemm<'_>| match &tiles {
            Some((gather, tiles)) => tiled::tiled(env.isa, gemm, gather, env.workspace, tiles),
            None => gemm::gemm(env.isa, gemm),
        };
        if step.dense {
            gemm.positions = &step.positions[..env.rows];
            let (first, last) = share.of(step.panels.div_ceil(2));
            gemm.panels = (2 * first, (2 * last).min(step.panels));
            multiply(&gemm);
            return;
        }
        let (first, last) = share.of(step.positions.len().div_ceil(16));
        let (first, last) = (16 * first, (16 * last).min(step.positions.len()));
        let outputs = if step.pooled { 4 } else { 1 };
        gemm.positions = &step.positions[first..last];
        gemm.targets = &step.targets[first / outputs..last / outputs];
        if step.rest.is_some() {
            gemm.rests = &step.rests[first..last];
        }
        for row in 0..env.rows {
            for group in &step.groups {
                gemm.source = source.add(row * step.from.sample + group.source);
                gemm.target = target.add(row * step.to.sample + group.target);
                gemm.weights = step.weights.as_ptr().add(group.weights);
                gemm.bias = step.bias.as_ptr().add(group.bias);
                if let Some(view) = &step.rest {
                    gemm.rest = rest.add(row * view.sample);
                }
                multiply(&gemm);
            }
        }
    }
}

/// The rows of each sample that a share of all rows covers.
fn sample_rows(range: (usize, usize), height: usize) -> impl Iterator<Item = (usize, (usize, usize))> {
    let (first, last) = range;
    (first / height..last.div_ceil(height)).map(move |sample| {
        let start = sample * height;
        (sample, (first.max(start) - start, last.min(start + height) - start))
    })
}

/// # Safety
/// As [`run`].
unsafe fn slide(step: &WindowStep, env: &Env<'_>, share: Share) {
    // SAFETY: passed on.
    unsafe {
        let (source, target) = (env.source(&step.from), env.target(&step.to));
        let height = step.to.size[1];
        for (sample, rows) in sample_rows(share.of(env.rows * height), height) {
            let reduce = match &step.kind {
                WindowKind::Max => Reduce::Max,
                WindowKind::Average => Reduce::Sum(1.0 / (step.kernel[0] * step.kernel[1]) as f32),
                WindowKind::Depthwise { weights, bias } => Reduce::Weighted(weights.as_ptr(), bias.as_ptr()),
            };
            let window = Window {
                isa: env.isa,
                source: source.add(sample * step.from.sample),
                target: target.add(sample * step.to.sample),
                source_strides: step.from.strides(),
                target_strides: step.to.strides(),
                size: [step.from.size[1], step.from.size[2]],
                columns: step.to.size[2],
                kernel: step.kernel,
                stride: step.stride,
                padding: step.padding,
                dilation: step.dilation,
                padded: step.padded,
                reduce,
                act: step.act,
                rows,
            };
            window::window(env.isa, &window);
        }
    }
}

/// # Safety
/// As [`run`].
unsafe fn each(step: &MapStep, env: &Env<'_>, share: Share) {
    // SAFETY: passed on.
    unsafe {
        let (source, target) = (env.source(&step.from), env.target(&step.to));
        let height = step.to.size[1];
        let null = std::ptr::null();
        let (scale, shift) =
            step.scale_shift.as_ref().map_or((null, null), |(a, b)| (a.as_ptr(), b.as_ptr()));
        for (sample, (first, last)) in sample_rows(share.of(env.rows * height), height) {
            for y in first..last {
                let other = match &step.rest {
                    Some(rest) => env.source(rest).add(sample * rest.sample + y * rest.steps.row),
                    None => null,
                };
                let map = Map {
                    isa: env.isa,
                    source: source.add(sample * step.from.sample + y * step.from.steps.row),
                    target: target.add(sample * step.to.sample + y * step.to.steps.row),
                    other,
                    scale,
                    shift,
                    steps: [
                        step.from.steps.pixel,
                        step.to.steps.pixel,
                        step.rest.as_ref().map_or(0, |rest| rest.steps.pixel),
                    ],
                    width: step.to.size[2],
                    padded: step.padded,
                    act: step.act,
                    rounds: step.rounds,
                };
                map::map(env.isa, &map);
            }
        }
    }
}

/// # Safety
/// As [`run`].
unsafe fn normalise(step: &NormStep, env: &Env<'_>) {
    // SAFETY: passed on.
    unsafe {
        let (source, target) = (env.source(&step.from), env.target(&step.to));
        let [channels, height, width] = step.from.size;
        let (gamma, beta) = (step.gamma.as_ptr(), step.beta.as_ptr());
        for sample in 0..env.rows {
            let (source, target) =
                (source.add(sample * step.from.sample), target.add(sample * step.to.sample));
            if step.image {
                for y in 0..height {
                    let from = source.add(y * step.from.steps.row);
                    let to = target.add(y * step.to.steps.row);
                    let steps = [step.from.steps.pixel, step.to.steps.pixel];
                    map::layer_norm_lanes(
                        env.isa,
                        from,
                        to,
                        steps,
                        width,
                        step.padded,
                        gamma,
                        beta,
                        step.epsilon,
                    );
                }
                continue;
            }
            for row in 0..channels / step.gamma.len() {
                let start = row * step.gamma.len();
                let row = std::slice::from_raw_parts(source.add(start), step.gamma.len());
                let to = std::slice::from_raw_parts_mut(target.add(start), step.gamma.len());
                map::layer_norm(row, &step.gamma, &step.beta, step.epsilon, to);
            }
        }
    }
}
