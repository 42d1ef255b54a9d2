//! Running the steps that compute in bytes.
#![allow(unsafe_code, reason = "pointers into the arena, which the planner has laid out")]

use network::Affine;

use super::{Env, Share, planes};
use crate::kernel::amx::Configured;
use crate::kernel::copy::Steps;
use crate::kernel::gemm8::{self, Gemm8, Target};
use crate::kernel::tiled;
use crate::layout::View;
use crate::step::{CopyFrom, Gemm8Step};

/// Fewer rows of a dense layer than this are multiplied in vectors: its weights are then read for too little
/// work in tiles. The sums are the same either way.
const FEW_ROWS: usize = 8;

/// # Safety
/// As [`super::run`].
pub(super) unsafe fn quantize(env: &Env<'_>, from: &CopyFrom, to: &View, affine: Affine) {
    for sample in 0..env.rows {
        // SAFETY: passed on.
        unsafe {
            let (source, steps) = source_of(env, from, sample);
            let (inverse, zero) = (1.0 / affine.scale, f32::from(affine.zero_point));
            quantize_sample(env, source, steps, to, sample, inverse, zero);
        }
    }
}

/// Where the floats of a sample begin, and the steps between them.
///
/// # Safety
/// As [`super::run`], of a sample among the rows.
pub(super) unsafe fn source_of(env: &Env<'_>, from: &CopyFrom, sample: usize) -> (*const f32, Steps) {
    // SAFETY: passed on.
    unsafe {
        match from {
            CopyFrom::Input(input, size) => {
                let (start, per_row) = env.inputs[*input];
                (start.add((env.first + sample) * per_row), planes(*size))
            }
            CopyFrom::Value(view) => (env.source(view).add(sample * view.sample), view.steps),
        }
    }
}

/// # Safety
/// As [`super::run`]; the loops stay inside the image.
pub(super) unsafe fn quantize_sample(
    env: &Env<'_>,
    source: *const f32,
    steps: Steps,
    to: &View,
    sample: usize,
    inverse: f32,
    zero: f32,
) {
    // SAFETY: passed on; the loops stay inside the image.
    unsafe {
        let [channels, height, width] = to.size;
        let quantize = |from: *const f32, to: *mut u8, count: usize| {
            gemm8::quantize(env.isa, from, to, count, inverse, zero);
        };
        let target = env.bytes(to).add(sample * to.sample);
        let alike = (steps.channel == 1 || channels == 1) && steps.pixel == to.steps.pixel;
        if alike && steps.row == to.steps.row && !to.has_frame() {
            // One run of values, the padding of the channels too, but behind the last pixel.
            quantize(source, target, (height - 1) * steps.row + (width - 1) * steps.pixel + channels);
            return;
        }
        for y in 0..height {
            let (row, place) = (source.add(y * steps.row), target.add(y * to.steps.row));
            if alike {
                quantize(row, place, (width - 1) * steps.pixel + channels);
            } else if steps.pixel == 1 && to.steps.pixel == 4 && channels < 4 && width >= env.isa.lanes() {
                let plane = steps.channel;
                gemm8::quantize_pixels(env.isa, row, plane, channels, place, width, inverse, zero);
            } else if steps.channel == 1 {
                for x in 0..width {
                    quantize(row.add(x * steps.pixel), place.add(x * to.steps.pixel), channels);
                }
            } else {
                for (x, c) in (0..width).flat_map(|x| (0..channels).map(move |c| (x, c))) {
                    let value = row.add(x * steps.pixel + c * steps.channel);
                    quantize(value, place.add(x * to.steps.pixel + c), 1);
                }
            }
        }
    }
}

/// # Safety
/// As [`super::run`].
pub(super) unsafe fn product(step: &Gemm8Step, env: &Env<'_>, share: Share) {
    // SAFETY: passed on; the tables were made for these views.
    unsafe {
        let source = env.bytes(&step.from).sub(step.back).cast_const();
        let target = |sample: usize| {
            if step.to.bytes {
                Target::Bytes(env.bytes(&step.to).add(sample * step.to.sample))
            } else {
                Target::Floats(env.target(&step.to).add(sample * step.to.sample))
            }
        };
        let rest = |sample: usize| match &step.rest {
            Some(view) => env.bytes(view).add(sample * view.sample).cast_const(),
            None => std::ptr::null(),
        };
        let mut gemm = Gemm8 { rest: rest(0), ..gemm_of(step, env, source, target(0)) };
        let is_few = step.dense && env.rows < FEW_ROWS;
        let tiles = step.gather.as_ref().filter(|_| !is_few).map(|gather| (gather, Configured::new()));
        let multiply = |gemm: &Gemm8<'_>| match &tiles {
            Some((gather, tiles)) => tiled::tiled8(env.isa, gemm, gather, env.workspace, tiles),
            None => gemm8::gemm8(env.isa, gemm),
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
        for sample in 0..env.rows {
            gemm.source = source.add(sample * step.from.sample);
            gemm.target = target(sample);
            gemm.rest = rest(sample);
            multiply(&gemm);
        }
    }
}

/// The whole product of a step, without an addend.
pub(super) fn gemm_of<'a>(
    step: &'a Gemm8Step,
    env: &Env<'_>,
    source: *const u8,
    target: Target,
) -> Gemm8<'a> {
    Gemm8 {
        isa: env.isa,
        source,
        target,
        rest: std::ptr::null(),
        rest_scale: step.rest_scale,
        rest_zero: f32::from(step.rest_zero),
        positions: &step.positions,
        targets: &step.targets,
        rests: &step.rests,
        taps: &step.taps,
        depth: step.depth,
        weights: step.weights.as_ptr().cast(),
        bias: step.bias.as_ptr(),
        scale: step.scale.as_ptr(),
        zero: i32::from(step.zero),
        panels: (0, step.panels),
        vectors: step.vectors,
        act: step.act,
        pooled: step.pooled,
    }
}
