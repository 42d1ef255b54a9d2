//! Batches of one epoch, in an order that is a function of (seed, epoch).

use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use model::Draws;
use network::Preprocess;

use super::{Distillation, FitError, Plan};
use crate::data::augment::shift;
use crate::data::{Target, order};

/// One batch in host memory; the step moves it to the device.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// `[samples, …]`
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
    pub(super) targets: Vec<Target>,
    /// What dropout is drawn from.
    pub(super) draws: Draws,
    /// What the teacher says: its outputs, then the values of the hints.
    pub(super) taught: Option<Vec<Vec<f32>>>,
}

/// Which samples are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Validation,
}

/// The samples of one part in batches.
#[derive(Clone)]
pub(super) struct Batches {
    plan: Arc<Plan>,
    part: Part,
    /// What enters a shifted image, per channel.
    background: Vec<f32>,
}

impl Batches {
    pub(super) fn new(plan: Arc<Plan>, part: Part) -> Self {
        let background = match plan.loader.preprocess() {
            Preprocess::Image(image) => image.background(),
            _ => Vec::new(),
        };
        Self { plan, part, background }
    }

    fn indices(&self) -> &[usize] {
        match self.part {
            Part::Train => &self.plan.train,
            Part::Validation => &self.plan.validation,
        }
    }

    /// The number of samples.
    pub(super) fn len(&self) -> usize {
        self.indices().len()
    }

    /// The number of batches.
    pub(super) fn steps(&self) -> u64 {
        self.len().div_ceil(self.plan.batch_size) as u64
    }

    /// The batches of `epoch` (from 0), beginning with batch `first`. Validation samples keep their order.
    pub(super) fn epoch(
        &self,
        epoch: usize,
        first: u64,
    ) -> impl Iterator<Item = Result<Batch, FitError>> + Send + '_ {
        let indices: Vec<usize> = match self.part {
            Part::Train => order(self.len(), self.plan.seed, epoch as u64)
                .into_iter()
                .map(|at| self.plan.train[at])
                .collect(),
            Part::Validation => self.plan.validation.clone(),
        };
        (first..self.steps()).map(move |step| {
            let start = step as usize * self.plan.batch_size;
            let end = (start + self.plan.batch_size).min(indices.len());
            self.batch(&indices[start..end], epoch, step)
        })
    }

    fn batch(&self, indices: &[usize], epoch: usize, step: u64) -> Result<Batch, FitError> {
        let (mut values, targets) = self.plan.loader.batch(indices)?;
        let sample = self.plan.loader.shape();
        if self.part == Part::Train && self.plan.shift > 0 {
            let width = sample.iter().product::<usize>().max(1);
            for (row, &index) in values.chunks_exact_mut(width).zip(indices) {
                let draw = (self.plan.seed, epoch as u64, index as u64);
                shift(row, sample, self.plan.shift, draw, &self.background);
            }
        }
        let mut shape = vec![indices.len()];
        shape.extend_from_slice(sample);
        let draws = Draws { seed: self.plan.seed, epoch: epoch as u32, step: step as u32 };
        // The validation part is looked at, not learned from.
        let distillation = self.plan.guidance.distillation.as_ref().filter(|_| self.part == Part::Train);
        let taught = distillation.map(|distillation| self.ask(distillation, &shape, &values)).transpose()?;
        Ok(Batch { shape, values, targets, draws, taught })
    }

    /// Asks the teacher, and looks whether its answer is what was agreed.
    fn ask(
        &self,
        distillation: &Distillation,
        shape: &[usize],
        values: &[f32],
    ) -> Result<Vec<Vec<f32>>, FitError> {
        let answer = distillation.teacher.answer(shape, values).map_err(FitError::Teacher)?;
        let rows = shape.first().copied().unwrap_or(0);
        let outputs: usize = self.plan.network.output_shape().iter().product();
        let hints = distillation.hints.iter().map(|hint| hint.shape.iter().product());
        let expected: Vec<usize> = std::iter::once(outputs).chain(hints).map(|width| rows * width).collect();
        let found: Vec<usize> = answer.iter().map(Vec::len).collect();
        if found != expected {
            return Err(FitError::Teacher(format!(
                "it gave {found:?} values for {rows} samples, not {expected:?}"
            )));
        }
        Ok(answer)
    }
}

/// What Burn's own strategies would read; ours asks for epochs by number instead.
impl DataLoader<Batch> for Batches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch> + 'a> {
        Box::new(Epoch { batches: Box::new(self.epoch(0, 0)), done: 0, total: self.len() })
    }

    fn num_items(&self) -> usize {
        self.len()
    }

    /// Batches are in host memory whatever the device.
    fn to_device(&self, _device: &Device) -> Arc<dyn DataLoader<Batch>> {
        Arc::new(self.clone())
    }

    /// Only strategies for several devices ask for slices, and they are not used.
    fn slice(&self, _start: usize, _end: usize) -> Arc<dyn DataLoader<Batch>> {
        Arc::new(self.clone())
    }
}

struct Epoch<'a> {
    batches: Box<dyn Iterator<Item = Result<Batch, FitError>> + 'a>,
    done: usize,
    total: usize,
}

impl Iterator for Epoch<'_> {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        self.done += batch.as_ref().map_or(0, |batch| batch.targets.len());
        Some(batch.map_err(DatasetError::new))
    }
}

impl DataLoaderIterator<Batch> for Epoch<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.total, Some("items".to_owned()))
    }
}
