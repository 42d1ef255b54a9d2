//! What chooses: the score on validation samples, never on the test split.

use predict::{DeviceSpec, Parts, PredictError, Predictor};
use train::data::DataSet;
use train::evaluate::{EvaluateError, Evaluation, evaluate};

use crate::finish::drop_between;

/// The most samples that choose.
pub(crate) const SAMPLES: usize = 5_000;

/// The split that chooses, by its name and with its samples. Without a validation split the training split does; the
/// test split never does.
pub(crate) fn choosing(data: &DataSet) -> (&'static str, &[usize]) {
    match data.splits.validation.is_empty() {
        false => ("validation", &data.splits.validation),
        true => ("train", &data.splits.train),
    }
}

/// Scores candidates on the samples that choose, beside their parent.
#[derive(Clone, Debug)]
pub struct Judge<'a> {
    data: &'a DataSet,
    /// The split that the samples are of: `validation`, or `train` where there is none.
    pub split: &'static str,
    indices: Vec<usize>,
    /// The parent's score on them.
    pub before: Evaluation,
}

/// A model that cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum JudgeError {
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

impl<'a> Judge<'a> {
    /// Draws the samples and scores the parent.
    ///
    /// # Errors
    /// When it cannot answer.
    pub fn new(parent: &Parts, data: &'a DataSet, seed: u64) -> Result<Self, JudgeError> {
        let (split, all) = choosing(data);
        let indices = train::data::draw(all, SAMPLES, seed);
        let predictor = Predictor::from_parts(parent.clone(), DeviceSpec::Cpu)?;
        let before = evaluate(&predictor, data, split, &indices, &mut |_| ())?;
        Ok(Self { data, split, indices, before })
    }

    /// The score of a candidate.
    ///
    /// # Errors
    /// When it cannot answer.
    pub fn score(&self, candidate: &Predictor) -> Result<Evaluation, JudgeError> {
        Ok(evaluate(candidate, self.data, self.split, &self.indices, &mut |_| ())?)
    }

    /// How much worse it is than the parent, as [`drop_between`] counts.
    ///
    /// # Errors
    /// When it cannot answer.
    pub fn drop(&self, candidate: &Parts) -> Result<f64, JudgeError> {
        let predictor = Predictor::from_parts(candidate.clone(), DeviceSpec::Cpu)?;
        Ok(drop_between(&self.before, &self.score(&predictor)?))
    }
}
