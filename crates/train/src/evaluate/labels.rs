//! Several labels per sample: exact matches, Hamming loss, micro and macro F1.

use network::{Postprocess, Prediction};

use super::classes::softplus;
use super::{ClassScore, EvaluateError, Evaluation, Outcome, mean, misfit, mistakes, ratio, wilson};
use crate::data::Target;

/// One answered sample of a label task.
pub(super) struct Answer<'a> {
    pub(super) index: usize,
    pub(super) truth: &'a [bool],
    pub(super) guess: Vec<bool>,
    /// The binary log loss, averaged over the labels.
    pub(super) loss: f64,
}

pub(super) fn score(
    postprocess: &Postprocess,
    outcomes: &[Outcome],
    evaluation: &mut Evaluation,
) -> Result<(), EvaluateError> {
    let labels = &postprocess.labels;
    let mut answers = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        let (Target::Labels(truth), Prediction::Labels { labels: given, logits, .. }) =
            (&outcome.target, &outcome.prediction)
        else {
            return Err(misfit(postprocess, outcome));
        };
        if truth.len() != labels.len() || logits.len() != labels.len() {
            return Err(misfit(postprocess, outcome));
        }
        let loss = mean(truth.iter().zip(logits).map(|(&on, &logit)| {
            let z = f64::from(logit) / f64::from(postprocess.temperature);
            softplus(if on { -z } else { z })
        }));
        let guess = labels.iter().map(|label| given.contains(label)).collect();
        answers.push(Answer { index: outcome.index, truth, guess, loss });
    }
    let mut classes = Vec::with_capacity(labels.len());
    let (mut all_hits, mut all_predicted, mut all_support, mut agreements) = (0, 0, 0, 0u64);
    for (label, name) in labels.iter().enumerate() {
        let (mut hits, mut predicted, mut support) = (0, 0, 0);
        for answer in &answers {
            hits += u64::from(answer.truth[label] && answer.guess[label]);
            predicted += u64::from(answer.guess[label]);
            support += u64::from(answer.truth[label]);
            agreements += u64::from(answer.truth[label] == answer.guess[label]);
        }
        classes.push(ClassScore::from_counts(name, hits, predicted, support));
        (all_hits, all_predicted, all_support) =
            (all_hits + hits, all_predicted + predicted, all_support + support);
    }
    let exact = answers.iter().filter(|answer| answer.truth == answer.guess).count() as u64;
    let cells = (answers.len() * labels.len()) as u64;
    let metrics = &mut evaluation.metrics;
    metrics.insert("subset_accuracy".to_owned(), ratio(exact, answers.len() as u64));
    metrics.insert("label_accuracy".to_owned(), ratio(agreements, cells));
    metrics.insert("hamming_loss".to_owned(), ratio(cells - agreements, cells));
    metrics.insert("micro_f1".to_owned(), ratio(2 * all_hits, all_predicted + all_support));
    metrics.insert("macro_f1".to_owned(), mean(classes.iter().map(|class| class.f1)));
    metrics.insert("log_loss".to_owned(), mean(answers.iter().map(|answer| answer.loss)));
    evaluation.mistakes = mistakes::of_labels(&answers, labels);
    evaluation.interval = Some(wilson(exact, answers.len() as u64));
    evaluation.classes = classes;
    Ok(())
}
