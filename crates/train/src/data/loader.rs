//! Prepared batches: from memory when the samples fit there, decoded on the way otherwise.

use std::sync::OnceLock;

use network::Preprocess;
use rayon::prelude::*;

use super::DataError;
use super::prepare::prepare;
use super::source::{DataSet, Target};

/// Hands out prepared samples. It may be used from several threads, and on rayon's pool it prepares several
/// samples at once; what it returns depends on neither.
#[derive(Debug)]
pub struct Loader {
    data: DataSet,
    preprocess: Preprocess,
    shape: Vec<usize>,
    /// One place per sample, filled when the sample is first asked for; none when they would not fit.
    cache: Option<Vec<OnceLock<Box<[f32]>>>>,
}

impl Loader {
    /// A loader that keeps prepared samples when all of them need at most `cache_bytes`.
    #[must_use]
    pub fn new(data: DataSet, preprocess: Preprocess, cache_bytes: u64) -> Self {
        let shape = preprocess.output_shape();
        let width: usize = shape.iter().product();
        let needed = (data.source.len() as u64).saturating_mul(width as u64).saturating_mul(4);
        let cache =
            (needed <= cache_bytes).then(|| (0..data.source.len()).map(|_| OnceLock::new()).collect());
        Self { data, preprocess, shape, cache }
    }

    /// The shape of one prepared sample.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The data set.
    #[must_use]
    pub fn data(&self) -> &DataSet {
        &self.data
    }

    /// The preprocessing.
    #[must_use]
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Whether prepared samples stay in memory.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// The prepared samples `indices`, one after the other (row-major, [`Loader::shape`] each), and their
    /// targets.
    ///
    /// # Errors
    /// When a sample cannot be read or prepared; the error is that of the first such sample.
    pub fn batch(&self, indices: &[usize]) -> Result<(Vec<f32>, Vec<Target>), DataError> {
        let width: usize = self.shape.iter().product();
        let targets = self.data.targets(indices)?;
        let mut values = Vec::with_capacity(indices.len() * width);
        let place = |index: usize| self.cache.as_ref().and_then(|cache| cache.get(index));
        if indices.iter().all(|&index| place(index).is_some_and(|place| place.get().is_some())) {
            for sample in indices.iter().filter_map(|&index| place(index)?.get()) {
                values.extend_from_slice(sample);
            }
            return Ok((values, targets));
        }
        let fetch = |&index: &usize| -> Result<Vec<f32>, DataError> {
            if let Some(sample) = place(index).and_then(OnceLock::get) {
                return Ok(sample.to_vec());
            }
            let sample = prepare(&self.data, &self.preprocess, index)?;
            if let Some(place) = place(index) {
                // Another thread may have been faster; its sample is the same.
                let _ = place.set(sample.clone().into_boxed_slice());
            }
            Ok(sample)
        };
        let samples: Vec<Result<Vec<f32>, DataError>> = indices.par_iter().map(fetch).collect();
        for sample in samples {
            values.extend_from_slice(&sample?);
        }
        Ok((values, targets))
    }
}
