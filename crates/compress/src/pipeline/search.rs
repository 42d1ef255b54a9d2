//! The search: what stands, what is tried, and who decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use predict::{DeviceSpec, Parts, PredictError, Predictor};
use train::config::Metric;
use train::data::DataSet;
use train::fit::{EpochRecord, FitError};

use super::clock::{self, Clock};
use super::methods;
use super::{Attempt, Best, Found, Observer, PipelineConfig, Target, Verdict};
use crate::compare::latencies;
use crate::distill::DistillError;
use crate::finetune::{FinetuneConfig, FinetuneHooks};
use crate::finish::{FinishError, drop_between, file_bytes};
use crate::judge::{Judge, JudgeError};
use crate::prune::structured::Curve;
use crate::side::Side;

/// How often a candidate and what stands are timed in turns.
const TURNS: usize = 21;

/// What a gain must be at least: 2 per cent of the time, 1 per cent of the bytes. Less is within the noise of a clock, or
/// not worth a step.
const FASTER: f64 = 0.98;
const SMALLER: f64 = 0.99;

/// A search that cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum SearchError {
    #[error("the model is quantized already; compress the package that it was made from")]
    Quantized,
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Weigh(#[from] FinishError),
    #[error(transparent)]
    Teacher(#[from] DistillError),
    #[error(transparent)]
    Fit(#[from] FitError),
}

/// What stands: the best so far.
pub(super) struct Standing {
    pub(super) parts: Parts,
    predictor: Predictor,
    side: Side,
    pub(super) drop: f64,
    coded: bool,
    kept: bool,
}

/// A search under way.
pub(super) struct Search<'a> {
    pub(super) parent: &'a Parts,
    pub(super) data: &'a DataSet,
    pub(super) config: &'a PipelineConfig,
    pub(super) clock: Clock,
    pub(super) device: DeviceSpec,
    pub(super) standing: Standing,
    pub(super) sensitivity: Vec<Curve>,
    observer: &'a mut dyn Observer,
    stop: Arc<AtomicBool>,
    judge: Judge<'a>,
    attempts: Vec<Attempt>,
}

/// Searches for the best network that holds the budget. `coded` says that the record of the parent goes through the
/// codec; then that of what is found does too. `stop` ends the search after the step of training under way.
///
/// # Errors
/// When the parent is quantized, cannot answer, or the data cannot be read. A method that cannot be used with the
/// network is no error but an [`Attempt`].
pub fn search<'a>(
    parent: &'a Parts,
    coded: bool,
    data: &'a DataSet,
    config: &'a PipelineConfig,
    device: DeviceSpec,
    stop: Arc<AtomicBool>,
    observer: &'a mut dyn Observer,
) -> Result<Found, SearchError> {
    if parent.quantization.is_some() {
        return Err(SearchError::Quantized);
    }
    let clock = Clock::of_minutes(config.minutes);
    let judge = Judge::new(parent, data, config.finetune.seed)?;
    let predictor = Predictor::from_parts(parent.clone(), DeviceSpec::Cpu)?;
    let latency = latencies(&[&predictor], TURNS)?.into_iter().next().unwrap_or_default();
    let bytes = file_bytes(&parent.weights, coded)?;
    let side = Side::new("parent".to_owned(), &predictor, &parent.weights, &judge.before, bytes, latency);
    let measured = side.clone();
    let parts = parent.clone();
    let standing = Standing { parts, predictor, side, drop: 0.0, coded, kept: false };
    let mut search = Search {
        parent,
        data,
        config,
        clock,
        device,
        standing,
        sensitivity: Vec::new(),
        observer,
        stop,
        judge,
        attempts: Vec::new(),
    };
    methods::channels(&mut search)?;
    if config.target == Target::Size {
        methods::zeros(&mut search)?;
        if !methods::values(&mut search)? {
            methods::int8(&mut search)?;
        }
        methods::codec(&mut search)?;
    } else {
        methods::int8(&mut search)?;
    }
    let Search { standing, sensitivity, attempts, judge, stop, .. } = search;
    let Standing { parts, drop, coded, kept, .. } = standing;
    Ok(Found {
        best: kept.then_some(Best { parts, coded, drop }),
        parent: measured,
        attempts,
        chosen_on: judge.split,
        sensitivity,
        interrupted: stop.load(Ordering::Relaxed),
    })
}

impl Search<'_> {
    /// Whether somebody stopped the search.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How much may still be lost.
    pub(super) fn allowed(&self) -> f64 {
        (self.config.max_drop - self.standing.drop).max(0.0)
    }

    /// Whether the record of what stands goes through the codec.
    pub(super) fn is_coded(&self) -> bool {
        self.standing.coded
    }

    pub(super) fn begin(&mut self, what: &str) {
        self.observer.begins(what);
    }

    /// The training of what stands, with as many epochs as fit into a share of the time; or why none does.
    pub(super) fn training(&self, share: f64) -> Result<Result<FinetuneConfig, String>, SearchError> {
        let config = &self.config.finetune;
        let samples = self.data.splits.train.len();
        let epoch = clock::epoch(&self.standing.parts.network, config, samples, self.device)?;
        let epochs = clock::epochs(epoch, self.clock.share(share), config.epochs);
        Ok(epochs.map(|epochs| FinetuneConfig { epochs, ..config.clone() }))
    }

    /// Runs something that trains.
    pub(super) fn train<T>(&mut self, epochs: usize, run: impl FnOnce(&mut FinetuneHooks<'_>) -> T) -> T {
        let metric = Metric::of(self.data.task);
        let observer = &mut *self.observer;
        let mut epoch = |record: &EpochRecord| observer.epoch(record, epochs, metric);
        run(&mut FinetuneHooks { epoch: &mut epoch, stop: self.stop.clone(), device: self.device })
    }

    /// Scores a candidate, measures it beside what stands, and keeps the better one that holds the budget. `true` when
    /// that is the candidate.
    pub(super) fn weigh(
        &mut self,
        method: &'static str,
        what: String,
        parts: Parts,
        coded: bool,
    ) -> Result<bool, SearchError> {
        let coded = coded || self.standing.coded;
        let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu)?;
        let evaluation = self.judge.score(&predictor)?;
        let drop = drop_between(&self.judge.before, &evaluation);
        let mut latency = latencies(&[&self.standing.predictor, &predictor], TURNS)?.into_iter();
        let (stands, candidate) = (latency.next().unwrap_or_default(), latency.next().unwrap_or_default());
        let bytes = file_bytes(&parts.weights, coded)?;
        let side = Side::new(what.clone(), &predictor, &parts.weights, &evaluation, bytes, candidate);
        let gains = match self.config.target {
            Target::Latency => {
                let ratios = stands.iter().zip(&side.latency).map(|(a, b)| (b.median_us / a.median_us).ln());
                let mean = ratios.sum::<f64>() / stands.len().max(1) as f64;
                mean.exp() < FASTER
            }
            Target::Size => (bytes as f64) < SMALLER * self.standing.side.record_bytes as f64,
        };
        let verdict = match (drop <= self.config.max_drop, gains) {
            (false, _) => Verdict::TooLossy,
            (true, false) => Verdict::NoGain,
            (true, true) => Verdict::Kept,
        };
        let kept = verdict == Verdict::Kept;
        if kept {
            let side = side.clone();
            self.standing = Standing { parts, predictor, side, drop, coded, kept: true };
        }
        self.tell(Attempt { method, what, verdict, drop: Some(drop), side: Some(side) });
        Ok(kept)
    }

    /// How much was tried.
    pub(super) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Notes that the last attempt, which was kept, stands instead of those since `from`: it did not begin with them.
    pub(super) fn replace(&mut self, from: usize) {
        let before = self.attempts.len().saturating_sub(1);
        for attempt in self.attempts.iter_mut().take(before).skip(from) {
            if attempt.verdict == Verdict::Kept {
                attempt.verdict = Verdict::Replaced;
            }
        }
    }

    /// Notes what was not even measured.
    pub(super) fn leave(&mut self, method: &'static str, what: String, verdict: Verdict) {
        self.tell(Attempt { method, what, verdict, drop: None, side: None });
    }

    fn tell(&mut self, attempt: Attempt) {
        self.observer.done(&attempt);
        self.attempts.push(attempt);
    }
}
