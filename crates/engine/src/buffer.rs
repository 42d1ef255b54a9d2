//! Memory that begins on a cache line.

use std::cell::UnsafeCell;

use crate::halves;

/// Sixteen floats, or 64 bytes of anything: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// A fixed number of floats, aligned to 64 bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// The values, padded with zeros to whole lines.
    pub(crate) fn from_values(values: &[f32]) -> Self {
        let line = |chunk: &[f32]| {
            let mut line = Line([0; 16]);
            line.0.iter_mut().zip(chunk).for_each(|(word, value)| *word = value.to_bits());
            line
        };
        Self { lines: values.chunks(16).map(line).collect() }
    }

    /// The bytes, padded with zeros to whole lines.
    pub(crate) fn from_bytes(bytes: &[i8]) -> Self {
        let line = |chunk: &[i8]| {
            let byte = |index: usize| chunk.get(index).map_or(0, |&byte| byte.cast_unsigned());
            let word = |word: usize| u32::from_ne_bytes(std::array::from_fn(|part| byte(4 * word + part)));
            Line(std::array::from_fn(word))
        };
        Self { lines: bytes.chunks(64).map(line).collect() }
    }

    /// The values rounded to bf16, padded with zeros to whole lines.
    pub(crate) fn from_halves(values: &[f32]) -> Self {
        let halves = values.iter().flat_map(|&value| halves::bits(value).to_ne_bytes());
        Self::from_bytes(&halves.map(u8::cast_signed).collect::<Vec<i8>>())
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.lines.as_ptr().cast()
    }

    /// The number of floats.
    pub(crate) fn len(&self) -> usize {
        self.lines.len() * 16
    }
}

/// Memory that several threads write at once, each its own part, through pointers.
#[derive(Debug)]
pub(crate) struct Arena {
    lines: Box<[UnsafeCell<Line>]>,
}

impl Arena {
    /// Room for at least so many floats and one line more, zeroed.
    pub(crate) fn zeros(floats: usize) -> Self {
        let lines = (0..floats.div_ceil(16) + 1).map(|_| UnsafeCell::new(Line([0; 16])));
        Self { lines: lines.collect() }
    }

    pub(crate) fn as_ptr(&self) -> *mut f32 {
        // A cell has the address and the layout of what is in it.
        self.lines.as_ptr().cast::<f32>().cast_mut()
    }
}
