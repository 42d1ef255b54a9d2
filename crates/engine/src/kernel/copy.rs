//! Copies between layouts: a request's planes into the arena, the arena's pixels into an answer.
#![allow(unsafe_code, reason = "raw loads and stores")]

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

/// Fills with zeros what surrounds `rows` rows of `inner` floats, each `pitch` floats from the next: `before`
/// and `after` whole rows, and what is left of each row, `left` floats of it before the inner part.
///
/// # Safety
/// `start` is valid for `(before + rows + after) · pitch` floats.
pub(crate) unsafe fn clear_frame(
    start: *mut f32,
    pitch: usize,
    [before, rows, after]: [usize; 3],
    left: usize,
    inner: usize,
) {
    // SAFETY: the loops stay inside.
    unsafe {
        start.write_bytes(0, before * pitch);
        for y in before..before + rows {
            let row = start.add(y * pitch);
            row.write_bytes(0, left);
            row.add(left + inner).write_bytes(0, pitch - left - inner);
        }
        start.add((before + rows) * pitch).write_bytes(0, after * pitch);
    }
}
