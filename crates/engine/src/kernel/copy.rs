//! Copies between layouts: a request's planes into the arena, the arena's pixels into an answer.
#![allow(unsafe_code, reason = "raw loads and stores")]

use crate::halves;

/// One image with the steps between its channels, rows and pixels, in floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    pub(crate) channel: usize,
    pub(crate) row: usize,
    pub(crate) pixel: usize,
}

/// Copies `[channels][height][width]` values from one set of steps to another.
///
/// # Safety
/// Both pointers are valid for the image that their steps describe, and the two do not overlap.
pub(crate) unsafe fn image(source: *const f32, from: Steps, target: *mut f32, to: Steps, size: [usize; 3]) {
    let [channels, height, width] = size;
    // SAFETY: the loops stay inside the image.
    unsafe {
        if from.pixel == 1 && to.pixel == 1 {
            for c in 0..channels {
                for y in 0..height {
                    let row = source.add(c * from.channel + y * from.row);
                    std::ptr::copy_nonoverlapping(row, target.add(c * to.channel + y * to.row), width);
                }
            }
            return;
        }
        for y in 0..height {
            for x in 0..width {
                let pixel = source.add(y * from.row + x * from.pixel);
                let place = target.add(y * to.row + x * to.pixel);
                for c in 0..channels {
                    *place.add(c * to.channel) = *pixel.add(c * from.channel);
                }
            }
        }
    }
}

/// Rounds `[channels][height][width]` values to bf16 where they are.
///
/// # Safety
/// The pointer is valid for the image that the steps describe.
pub(crate) unsafe fn round(target: *mut f32, steps: Steps, size: [usize; 3]) {
    let [channels, height, width] = size;
    for (c, y) in (0..channels).flat_map(|c| (0..height).map(move |y| (c, y))) {
        for x in 0..width {
            // SAFETY: the indices stay inside the image.
            unsafe {
                let value = target.add(c * steps.channel + y * steps.row + x * steps.pixel);
                *value = halves::round(*value);
            }
        }
    }
}

/// Fills what surrounds `rows` rows of `inner` bytes, each `pitch` bytes from the next: `before` and `after`
/// whole rows, and what is left of each row, `left` bytes of it before the inner part.
///
/// # Safety
/// `start` is valid for `(before + rows + after) · pitch` bytes.
pub(crate) unsafe fn fill_frame(
    start: *mut u8,
    pitch: usize,
    [before, rows, after]: [usize; 3],
    left: usize,
    inner: usize,
    fill: u8,
) {
    // SAFETY: the loops stay inside.
    unsafe {
        start.write_bytes(fill, before * pitch);
        for y in before..before + rows {
            let row = start.add(y * pitch);
            row.write_bytes(fill, left);
            row.add(left + inner).write_bytes(fill, pitch - left - inner);
        }
        start.add((before + rows) * pitch).write_bytes(fill, after * pitch);
    }
}
