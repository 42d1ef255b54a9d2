//! Models side by side: what each answers and costs, measured on the thing that is served, and whether the answers
//! to the same samples really differ.

mod latency;
mod seen;
mod table;

use network::{Postprocess, Task, Weights};
use predict::{PredictError, Predictor};
use serde::Serialize;
use train::data::DataSet;
use train::evaluate::{AlignError, EvaluateError, align, evaluate_outcomes};

pub use self::latency::{BATCHES, Latency, latencies};
pub use self::seen::seen_in_training;
pub use self::table::{
    Cell, IN_INT8, Row, change_text, difference_text, interval_text, metric_name, microseconds, p_text, rows,
    sentence, table,
};
use crate::side::Side;
use crate::significance::{PairTest, Term, holm, paired, resampled, terms};

/// Draws of the tests and intervals; the same for everybody, so that equal answers give equal numbers.
const SEED: u64 = 1;

/// From which probability on a difference is one that samples cannot show.
pub const LEVEL: f64 = 0.05;

/// A model that takes part.
#[derive(Clone, Copy)]
pub struct Contender<'a> {
    /// Its name and version.
    pub name: &'a str,
    /// What answers.
    pub predictor: &'a Predictor,
    /// Its weights as its file has them.
    pub weights: &'a Weights,
    /// Bytes of that file.
    pub record_bytes: u64,
}

/// The samples that all of them answer.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    /// Where they are from.
    pub data: &'a DataSet,
    /// The name of the part.
    pub split: &'a str,
    /// Which of its samples.
    pub indices: &'a [usize],
}

/// What goes on.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// So many samples were answered, of those of all models together.
    Score {
        /// Who answers.
        model: &'a str,
        /// How many are done.
        done: usize,
    },
    /// All of them are timed.
    Time,
}

/// Models that cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum CompareError {
    #[error("{first} and {other} cannot be compared: {first} tells {first_task}, {other} tells {other_task}")]
    Task { first: String, first_task: &'static str, other: String, other_task: &'static str },
    #[error("{first} and {other} cannot be compared, for they do not know the same {kind}: {difference}")]
    Labels { first: String, other: String, kind: &'static str, difference: String },
    #[error("{model} does not fit the data")]
    Align { model: String, source: AlignError },
    #[error("{model} cannot be scored")]
    Evaluate { model: String, source: EvaluateError },
    #[error(transparent)]
    Predict(#[from] PredictError),
}

/// Several models, measured side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The name of the data.
    pub data: String,
    /// Its digest.
    pub data_sha256: String,
    /// The part that was answered.
    pub split: String,
    /// How many samples.
    pub samples: usize,
    /// What the models tell.
    pub task: Task,
    /// The metric that counts most.
    pub metric: &'static str,
    /// The processor that the times are of.
    pub processor: String,
    /// How many threads computed.
    pub threads: usize,
    /// How often each model was timed.
    pub turns: usize,
    /// The models; the first is what the others are compared with.
    pub models: Vec<Standing>,
    /// Each with each of those after it.
    pub pairs: Vec<Pair>,
}

/// One of the models.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// What is known of it.
    #[serde(flatten)]
    pub side: Side,
    /// The same beside the first model; nothing for that itself.
    pub change: Option<Change>,
}

/// A model beside the one it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its score less the other's.
    pub score: f64,
    /// Its bytes over the other's.
    pub record_bytes: f64,
    /// Its parameters over the other's.
    pub parameters: f64,
    /// Its parameters that are not 0 over the other's.
    pub nonzero: f64,
    /// Its multiplications over the other's.
    pub macs: f64,
    /// Its median time over the other's, for each batch size.
    pub latency: Vec<f64>,
}

impl Change {
    /// `side` beside `reference`.
    #[must_use]
    pub fn between(reference: &Side, side: &Side) -> Self {
        let over = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let times = side.latency.iter().zip(&reference.latency);
        Self {
            score: side.score - reference.score,
            record_bytes: over(side.record_bytes, reference.record_bytes),
            parameters: over(side.parameters, reference.parameters),
            nonzero: over(side.nonzero, reference.nonzero),
            macs: over(side.macs, reference.macs),
            latency: times
                .map(|(own, other)| own.median_us / other.median_us.max(f64::MIN_POSITIVE))
                .collect(),
        }
    }
}

/// Two models on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The one.
    pub a: String,
    /// The other.
    pub b: String,
    /// The metric that the difference is of.
    pub metric: &'static str,
    /// Their answers compared.
    #[serde(flatten)]
    pub test: PairTest,
    /// The probability after Holm's correction for the number of pairs.
    pub p_holm: f64,
    /// How many pairs were tested together.
    pub tests: usize,
    /// All of this for people.
    pub verdict: String,
}

/// Scores every model on the same samples, times all of them in turns, and tests each with each. A model whose classes
/// stand in another order is given them in its own.
///
/// # Errors
/// When two models tell different things or know different labels, or one of them cannot answer.
pub fn compare(
    contenders: &[Contender<'_>],
    samples: Samples<'_>,
    turns: usize,
    hear: &mut dyn FnMut(Stage<'_>),
) -> Result<Compared, CompareError> {
    agree(contenders)?;
    let mut scored = Vec::with_capacity(contenders.len());
    for (place, contender) in contenders.iter().enumerate() {
        let model = contender.name;
        let post = contender.predictor.postprocess();
        let data = align(samples.data.clone(), post)
            .map_err(|source| CompareError::Align { model: model.to_owned(), source })?;
        let before = place * samples.indices.len();
        let mut progress = |done| hear(Stage::Score { model, done: before + done });
        let (evaluation, outcomes) =
            evaluate_outcomes(contender.predictor, &data, samples.split, samples.indices, &mut progress)
                .map_err(|source| CompareError::Evaluate { model: model.to_owned(), source })?;
        scored.push((evaluation, terms(&outcomes, &post.labels)));
    }
    hear(Stage::Time);
    let predictors: Vec<&Predictor> = contenders.iter().map(|contender| contender.predictor).collect();
    let times = latencies(&predictors, turns)?;
    let sides: Vec<Side> = contenders
        .iter()
        .zip(&scored)
        .zip(times)
        .map(|((contender, (evaluation, terms)), times)| {
            let Contender { name, predictor, weights, record_bytes } = *contender;
            let mut side = Side::new(name.to_owned(), predictor, weights, evaluation, record_bytes, times);
            side.interval.get_or_insert_with(|| resampled(terms, SEED));
            side
        })
        .collect();
    let answers: Vec<(&str, &[Term])> =
        contenders.iter().zip(&scored).map(|(one, (_, terms))| (one.name, terms.as_slice())).collect();
    let task = contenders.first().map_or(Task::MultiClass, |first| first.predictor.postprocess().task);
    let changes: Vec<Option<Change>> = (0..sides.len())
        .map(|place| (place > 0).then(|| Change::between(&sides[0], &sides[place])))
        .collect();
    let models = sides.into_iter().zip(changes).map(|(side, change)| Standing { side, change }).collect();
    Ok(Compared {
        data: samples.data.name.clone(),
        data_sha256: samples.data.sha256.clone(),
        split: samples.split.to_owned(),
        samples: samples.indices.len(),
        task,
        metric: train::evaluate::headline(task),
        processor: engine::processor(),
        threads: model::device::threads(),
        turns,
        models,
        pairs: pairs(task, &answers),
    })
}

/// Tests each with each of those after it. The models gave `answers` to the same samples in the same order;
/// [`terms`] makes them of outcomes.
#[must_use]
pub fn pairs(task: Task, answers: &[(&str, &[Term])]) -> Vec<Pair> {
    let metric = train::evaluate::headline(task);
    let each = answers.iter().enumerate();
    let mut pairs: Vec<Pair> = each
        .flat_map(|(place, one)| answers[place + 1..].iter().map(move |other| (one, other)))
        .map(|((a, of_a), (b, of_b))| {
            let test = paired(task, of_a, of_b, SEED);
            let (a, b) = ((*a).to_owned(), (*b).to_owned());
            Pair { a, b, metric, p_holm: test.p, tests: 1, test, verdict: String::new() }
        })
        .collect();
    let corrected = holm(&pairs.iter().map(|pair| pair.test.p).collect::<Vec<_>>());
    let tests = pairs.len();
    for (pair, p) in pairs.iter_mut().zip(corrected) {
        (pair.p_holm, pair.tests) = (p, tests);
        pair.verdict = sentence(pair, task);
    }
    pairs
}

/// Whether all of them answer the same question; [`compare`] asks this first.
///
/// # Errors
/// When one tells other things, or knows other labels, than the first.
pub fn agree(contenders: &[Contender<'_>]) -> Result<(), CompareError> {
    let Some((first, others)) = contenders.split_first() else { return Ok(()) };
    let classes = |task| matches!(task, Task::MultiClass | Task::Binary);
    let own = first.predictor.postprocess();
    for other in others {
        let post = other.predictor.postprocess();
        if own.task != post.task && !(classes(own.task) && classes(post.task)) {
            return Err(CompareError::Task {
                first: first.name.to_owned(),
                first_task: own.task.name(),
                other: other.name.to_owned(),
                other_task: post.task.name(),
            });
        }
        if let Some(difference) = differing([first.name, other.name], own, post) {
            let kind = match own.task {
                Task::MultiClass | Task::Binary => "classes",
                Task::MultiLabel => "labels",
                Task::Regression => "targets",
            };
            let (first, other) = (first.name.to_owned(), other.name.to_owned());
            return Err(CompareError::Labels { first, other, kind, difference });
        }
    }
    Ok(())
}

/// What the one knows and the other does not; the order of classes is of no importance, that of targets is.
fn differing(names: [&str; 2], own: &Postprocess, post: &Postprocess) -> Option<String> {
    if own.labels == post.labels {
        return None;
    }
    let only = |name: &str, of: &[String], without: &[String]| {
        let left: Vec<String> =
            of.iter().filter(|label| !without.contains(label)).map(|label| format!("`{label}`")).collect();
        let shown = left.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if left.len() > 5 { format!(" and {} more", left.len() - 5) } else { String::new() };
        (!left.is_empty()).then(|| format!("only {name} knows {shown}{more}"))
    };
    let parts: Vec<String> =
        [only(names[0], &own.labels, &post.labels), only(names[1], &post.labels, &own.labels)]
            .into_iter()
            .flatten()
            .collect();
    match (parts.is_empty(), own.task) {
        (true, Task::MultiClass | Task::Binary) => None,
        (true, _) => Some("they stand in another order".to_owned()),
        (false, _) => Some(parts.join(", ")),
    }
}

#[cfg(test)]
pub(crate) mod tests;
