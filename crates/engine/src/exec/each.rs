//! Running the steps that give each sample a range of its own; see [`crate::dynamic`].
#![allow(unsafe_code, reason = "pointers into the arena, which the planner has laid out")]

use network::Affine;

use super::bytes::{gemm_of, quantize_sample, source_of};
use super::{Env, Share, clear_sample};
use crate::dynamic::{MIDDLE, TRAILER};
use crate::kernel::copy::Steps;
use crate::kernel::each8::{self, Finish, Range};
use crate::kernel::gemm8::{self, Target};
use crate::layout::View;
use crate::step::{CopyFrom, DynamicStep};

/// Where scale and zero point of a sample are.
///
/// # Safety
/// As [`super::run`], of a value whose bytes mean something else in each sample, and of a sample among the rows.
unsafe fn trailer(env: &Env<'_>, view: &View, sample: usize) -> *mut u8 {
    // SAFETY: the sample has room for it behind its bytes.
    unsafe { env.bytes(view).sub(view.origin).add((sample + 1) * view.sample - TRAILER) }
}

/// # Safety
/// As [`trailer`], after the value was written.
unsafe fn found(env: &Env<'_>, view: &View, sample: usize) -> (f32, u8) {
    // SAFETY: passed on.
    unsafe {
        let place = trailer(env, view, sample);
        (place.cast::<f32>().read_unaligned(), place.add(4).cast::<u32>().read_unaligned() as u8)
    }
}

/// # Safety
/// As [`super::run`].
pub(super) unsafe fn quantize(env: &Env<'_>, from: &CopyFrom, to: &View) {
    for sample in 0..env.rows {
        // SAFETY: passed on.
        unsafe {
            let (source, steps) = source_of(env, from, sample);
            let range = range_of(env, source, steps, to.size);
            let affine = Affine::of_sample(range.least, range.most);
            // A sample with a value that is no finite number has no steps: every answer to it is no number.
            let (scale, inverse) =
                if range.is_finite() { (affine.scale, 1.0 / affine.scale) } else { (f32::NAN, 0.0) };
            let place = trailer(env, to, sample);
            place.cast::<f32>().write_unaligned(scale);
            place.add(4).cast::<u32>().write_unaligned(u32::from(affine.zero_point));
            if to.has_frame() {
                clear_sample(env, to, sample, affine.zero_point);
            }
            quantize_sample(env, source, steps, to, sample, inverse, f32::from(affine.zero_point));
        }
    }
}

/// The range of an image, without what pads its channels.
///
/// # Safety
/// The pointer is valid for the image that the steps describe.
unsafe fn range_of(env: &Env<'_>, source: *const f32, steps: Steps, size: [usize; 3]) -> Range {
    let [channels, height, width] = size;
    let mut range = Range::default();
    // SAFETY: the loops stay inside the image.
    unsafe {
        if steps.pixel == 1 {
            for (c, y) in (0..channels).flat_map(|c| (0..height).map(move |y| (c, y))) {
                let row = source.add(c * steps.channel + y * steps.row);
                each8::range(env.isa, row, width, &mut range);
            }
            return range;
        }
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let pixel = source.add(y * steps.row + x * steps.pixel);
            each8::range(env.isa, pixel, channels, &mut range);
        }
    }
    range
}

/// # Safety
/// As [`super::run`].
pub(super) unsafe fn product(step: &DynamicStep, env: &Env<'_>, share: Share) {
    let gemm = &step.gemm;
    // SAFETY: passed on; the tables were made for these views.
    unsafe {
        let source = env.bytes(&gemm.from).sub(gemm.back).cast_const();
        let target = env.target(&gemm.to);
        let rest = step.rest.as_ref().map_or(std::ptr::null(), |view| env.source(view));
        let mut call = gemm_of(gemm, env, source, Target::Floats(target));
        let mut finish = Finish {
            isa: env.isa,
            values: target,
            targets: &[],
            rest,
            rests: &[],
            sample_scale: 0.0,
            scale: step.scale.as_ptr(),
            bias: step.bias.as_ptr(),
            count: 0,
            act: step.act,
        };
        let bias = |zero: u8| if zero == MIDDLE { step.middle.as_ptr() } else { gemm.bias.as_ptr() };
        let width = gemm.vectors * env.isa.lanes();
        if gemm.dense {
            let (first, last) = share.of(gemm.panels.div_ceil(2));
            call.panels = (2 * first, (2 * last).min(gemm.panels));
            let channel = call.panels.0 * width;
            finish.values = target.add(channel);
            finish.scale = finish.scale.add(channel);
            finish.bias = finish.bias.add(channel);
            finish.count = call.panels.1 * width - channel;
            if !rest.is_null() {
                finish.rest = rest.add(channel);
            }
            let mut start = 0;
            while start < env.rows {
                // Samples with one zero point go through together; mostly these are all of them.
                let zero = found(env, &gemm.from, start).1;
                let alike =
                    (start..env.rows).take_while(|&row| found(env, &gemm.from, row).1 == zero).count();
                call.bias = bias(zero);
                call.positions = &gemm.positions[start..start + alike];
                call.targets = &gemm.targets[start..start + alike];
                gemm8::gemm8(env.isa, &call);
                for row in start..start + alike {
                    finish.sample_scale = found(env, &gemm.from, row).0;
                    finish.targets = &gemm.targets[row..=row];
                    finish.rests = step.rests.get(row..=row).unwrap_or_default();
                    each8::finish(env.isa, &finish);
                }
                start += alike;
            }
            return;
        }
        let (first, last) = share.of(gemm.positions.len().div_ceil(16));
        let (first, last) = (16 * first, (16 * last).min(gemm.positions.len()));
        let outputs = if gemm.pooled { 4 } else { 1 };
        call.positions = &gemm.positions[first..last];
        call.targets = &gemm.targets[first / outputs..last / outputs];
        finish.targets = call.targets;
        finish.rests = step.rests.get(first..last).unwrap_or_default();
        finish.count = gemm.panels * width;
        for sample in 0..env.rows {
            let (scale, zero) = found(env, &gemm.from, sample);
            let values = target.add(sample * gemm.to.sample);
            call.bias = bias(zero);
            call.source = source.add(sample * gemm.from.sample);
            call.target = Target::Floats(values);
            gemm8::gemm8(env.isa, &call);
            finish.sample_scale = scale;
            finish.values = values;
            if let Some(view) = &step.rest {
                finish.rest = rest.add(sample * view.sample);
            }
            each8::finish(env.isa, &finish);
        }
    }
}
