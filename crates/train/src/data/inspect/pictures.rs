//! Sizes and brightness of pictures.

use std::collections::HashMap;

use serde::Serialize;

/// Sizes that are told.
const TOLD: usize = 10;

/// The pictures of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PictureSummary {
    /// How many different sizes there are.
    pub distinct_sizes: usize,
    /// The most frequent sizes, at most ten.
    pub sizes: Vec<SizeCount>,
    /// How many pictures are grey.
    pub grey: usize,
    /// How many pictures have colours.
    pub colour: usize,
    /// The smallest value of a pixel.
    pub min: f32,
    /// The largest value of a pixel.
    pub max: f32,
    /// How many pictures are of one value all over.
    pub blank: usize,
}

/// How often a size occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SizeCount {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// How many pictures.
    pub count: usize,
}

/// Pictures being looked at.
#[derive(Default)]
pub(super) struct Pictures {
    sizes: HashMap<[usize; 2], usize>,
    grey: usize,
    colour: usize,
    range: Option<(f32, f32)>,
    blank: usize,
}

impl Pictures {
    pub(super) fn add(&mut self, size: [usize; 2], channels: usize, (low, high): (f32, f32), blank: bool) {
        *self.sizes.entry(size).or_default() += 1;
        *(if channels == 1 { &mut self.grey } else { &mut self.colour }) += 1;
        let (min, max) = self.range.unwrap_or((low, high));
        self.range = Some((min.min(low), max.max(high)));
        self.blank += usize::from(blank);
    }

    pub(super) fn finish(self) -> PictureSummary {
        let mut sizes: Vec<SizeCount> =
            self.sizes.iter().map(|(&[height, width], &count)| SizeCount { height, width, count }).collect();
        sizes.sort_by_key(|size| (std::cmp::Reverse(size.count), size.height, size.width));
        sizes.truncate(TOLD);
        let (min, max) = self.range.unwrap_or_default();
        PictureSummary {
            distinct_sizes: self.sizes.len(),
            sizes,
            grey: self.grey,
            colour: self.colour,
            min,
            max,
            blank: self.blank,
        }
    }
}
