//! What is minimised and what is watched, per task.
//!
//! | task | loss | metric |
//! |---|---|---|
//! | multi-class | softmax cross-entropy | accuracy |
//! | binary | logistic loss of one logit | accuracy |
//! | multi-label | logistic loss, averaged over the labels | label accuracy |
//! | regression | squared error of standardised targets | mean absolute error, in the data's units |
//!
//! Class weights and label smoothing change the training loss only; the validation loss is the plain one, so
//! that it can be compared between runs.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use network::{Postprocess, Prediction, Task};

use crate::config::Metric;
use crate::data::Target;

/// The loss and the metric of a training.
#[derive(Clone, Debug)]
pub struct Objective {
    postprocess: Postprocess,
    smoothing: f32,
    /// One factor per class or label; empty: all 1.
    weights: Vec<f32>,
}

/// Weights that make every class count the same: `samples / (classes · samples of the class)`. For labels:
/// the weight of a positive is the number of negatives per positive. Classes without samples get 1.
#[must_use]
pub fn balanced_weights(task: Task, counts: &[usize], samples: usize) -> Vec<f32> {
    let weight = |&count: &usize| match (task, count) {
        (_, 0) => 1.0,
        (Task::MultiLabel, count) => (samples.saturating_sub(count).max(1)) as f32 / count as f32,
        (_, count) => samples as f32 / (counts.len() * count) as f32,
    };
    counts.iter().map(weight).collect()
}

/// Whether a loss is for learning (smoothed, weighted) or for looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Train,
    Watch,
}

impl Objective {
    /// The objective of a task; `weights` is empty or has one factor per class or label.
    #[must_use]
    pub fn new(postprocess: Postprocess, smoothing: f32, weights: Vec<f32>) -> Self {
        Self { postprocess, smoothing, weights }
    }

    /// The metric that is shown beside the loss.
    #[must_use]
    pub fn metric(&self) -> Metric {
        Metric::of(self.postprocess.task)
    }

    fn width(&self) -> usize {
        self.postprocess.output_width()
    }

    /// The mean loss of a batch: logits `[samples, outputs]` → `[1]`.
    pub(super) fn loss(
        &self,
        logits: Tensor<2>,
        targets: &[Target],
        purpose: Purpose,
        device: &Device,
    ) -> Tensor<1> {
        let smoothing = if purpose == Purpose::Train { self.smoothing } else { 0.0 };
        let weighted = purpose == Purpose::Train && !self.weights.is_empty();
        let (rows, width) = (targets.len(), self.width());
        let tensor = |values: Vec<f32>, columns: usize| {
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), device)
        };
        let wanted = tensor(self.wanted(targets, smoothing), width);
        let losses = match self.postprocess.task {
            // Per sample.
            Task::MultiClass => (log_softmax(logits, 1) * wanted).sum_dim(1).neg(),
            // Per label, in the form that cannot overflow: max(x, 0) − x·t + ln(1 + exp(−|x|)).
            Task::Binary | Task::MultiLabel => {
                let logarithm = logits.clone().abs().neg().exp().log1p();
                burn::tensor::activation::relu(logits.clone()) - logits * wanted + logarithm
            }
            Task::Regression => {
                let error = logits - wanted;
                error.clone() * error
            }
        };
        if !weighted {
            return losses.mean();
        }
        let factors = self.factors(targets);
        let columns = factors.len() / rows.max(1);
        let total: f32 = factors.iter().sum();
        (losses * tensor(factors, columns)).sum() / total
    }

    /// The mean loss of a batch against a teacher's raw outputs, both `[samples, outputs]` → `[1]`; see
    /// [`Distillation`](super::Distillation).
    pub(super) fn soft_loss(
        &self,
        logits: Tensor<2>,
        teacher: Vec<f32>,
        temperature: f64,
        device: &Device,
    ) -> Tensor<1> {
        let teacher = Tensor::<2>::from_data(TensorData::new(teacher, logits.dims()), device).inner();
        let softened = |logits: Tensor<2>| logits / temperature;
        let divergence = match self.postprocess.task {
            Task::Regression => {
                let error = logits - teacher;
                return (error.clone() * error).mean();
            }
            Task::MultiClass => {
                let wanted = log_softmax(softened(teacher), 1);
                let probabilities = wanted.clone().exp();
                let found = log_softmax(softened(logits), 1);
                (probabilities * (wanted - found)).sum_dim(1)
            }
            // The same of two classes whose logits are x and 0.
            Task::Binary | Task::MultiLabel => {
                let (wanted, found) = (softened(teacher), softened(logits));
                let probabilities = burn::tensor::activation::sigmoid(wanted.clone());
                let logistic = |x: Tensor<2>| {
                    let logarithm = x.clone().abs().neg().exp().log1p();
                    burn::tensor::activation::relu(x.clone()) - x * probabilities.clone() + logarithm
                };
                logistic(found) - logistic(wanted)
            }
        };
        divergence.mean() * (temperature * temperature)
    }

    /// The target of each output.
    fn wanted(&self, targets: &[Target], smoothing: f32) -> Vec<f32> {
        let width = self.width();
        let mut values = vec![0.0; targets.len() * width];
        for (target, row) in targets.iter().zip(values.chunks_exact_mut(width)) {
            match target {
                Target::Class(class) if self.postprocess.task == Task::Binary => {
                    let on = if *class == 1 { 1.0 } else { 0.0 };
                    row[0] = on * (1.0 - smoothing) + smoothing / 2.0;
                }
                Target::Class(class) => {
                    row.fill(smoothing / width as f32);
                    if let Some(value) = row.get_mut(*class) {
                        *value += 1.0 - smoothing;
                    }
                }
                Target::Labels(labels) => {
                    for (value, &on) in row.iter_mut().zip(labels) {
                        *value = if on { 1.0 - smoothing / 2.0 } else { smoothing / 2.0 };
                    }
                }
                Target::Values(numbers) => {
                    for (index, (value, &number)) in row.iter_mut().zip(numbers).enumerate() {
                        *value = match &self.postprocess.target {
                            Some(scaling) => (number - scaling.mean[index]) / scaling.std[index],
                            None => number,
                        };
                    }
                }
            }
        }
        values
    }

    /// How much each sample (classes) or each label of each sample counts.
    fn factors(&self, targets: &[Target]) -> Vec<f32> {
        let factor = |class: usize| self.weights.get(class).copied().unwrap_or(1.0);
        let of = |target: &Target| match target {
            Target::Class(class) => vec![factor(*class)],
            Target::Labels(labels) => {
                labels.iter().enumerate().map(|(label, &on)| if on { factor(label) } else { 1.0 }).collect()
            }
            Target::Values(values) => vec![1.0; values.len()],
        };
        targets.iter().flat_map(of).collect()
    }

    /// The metric of each sample of a batch, summed; answers come from the same postprocessing as everywhere.
    pub(super) fn score_sum(&self, logits: &[f32], targets: &[Target]) -> f64 {
        let rows = logits.chunks_exact(self.width());
        rows.zip(targets).map(|(row, target)| self.score(row, target)).sum()
    }

    fn score(&self, logits: &[f32], target: &Target) -> f64 {
        let share = |agreements: usize, all: usize| agreements as f64 / all.max(1) as f64;
        match (self.postprocess.apply(logits), target) {
            (Ok(Prediction::Class { index, .. }), Target::Class(class)) => {
                f64::from(u8::from(index == *class))
            }
            (Ok(Prediction::Labels { labels: given, .. }), Target::Labels(truth)) => {
                let agree = |(label, &on): (&String, &bool)| given.contains(label) == on;
                let agreements =
                    self.postprocess.labels.iter().zip(truth).filter(|&pair| agree(pair)).count();
                share(agreements, truth.len())
            }
            (Ok(Prediction::Values { values }), Target::Values(truth)) => {
                let errors = values.iter().zip(truth).map(|(a, b)| f64::from((a - b).abs()));
                errors.sum::<f64>() / truth.len().max(1) as f64
            }
            // The data was loaded for this task, so its targets are of this task.
            _ => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use network::postprocess::TargetScaling;

    use super::*;

    fn loss(objective: &Objective, logits: &[&[f32]], targets: &[Target], purpose: Purpose) -> f32 {
        let device = Device::flex();
        let (rows, width) = (logits.len(), logits[0].len());
        let logits = Tensor::<2>::from_data(TensorData::new(logits.concat(), [rows, width]), &device);
        objective.loss(logits, targets, purpose, &device).into_scalar::<f32>()
    }

    fn objective(task: Task, labels: usize, smoothing: f32, weights: &[f32]) -> Objective {
        let labels = (0..labels).map(|label| label.to_string()).collect();
        Objective::new(Postprocess::new(task, labels), smoothing, weights.to_vec())
    }

    fn close(a: f32, b: f32) {
        assert!((a - b).abs() < 1e-5, "{a} is not {b}");
    }

    #[test]
    fn losses_are_the_known_ones() {
        // ln(1 + e^-2) for the right class 2 logits ahead.
        let classes = objective(Task::MultiClass, 2, 0.0, &[]);
        close(loss(&classes, &[&[2.0, 0.0]], &[Target::Class(0)], Purpose::Train), 0.126_928);
        let binary = objective(Task::Binary, 2, 0.0, &[]);
        close(loss(&binary, &[&[2.0]], &[Target::Class(1)], Purpose::Train), 0.126_928);
        close(loss(&binary, &[&[-200.0]], &[Target::Class(1)], Purpose::Train), 200.0);
        let labels = objective(Task::MultiLabel, 2, 0.0, &[]);
        let both = [Target::Labels(vec![true, false])];
        close(loss(&labels, &[&[2.0, 2.0]], &both, Purpose::Train), (0.126_928 + 2.126_928) / 2.0);
        let mut post = Postprocess::new(Task::Regression, vec!["y".to_owned()]);
        post.target = Some(TargetScaling { mean: vec![10.0], std: vec![2.0] });
        let numbers = Objective::new(post, 0.0, Vec::new());
        close(loss(&numbers, &[&[1.0]], &[Target::Values(vec![16.0])], Purpose::Train), 4.0);
    }

    #[test]
    fn smoothing_and_weights_change_the_training_loss_only() {
        let targets = [Target::Class(0), Target::Class(1)];
        let logits: [&[f32]; 2] = [&[2.0, 0.0], &[2.0, 0.0]];
        let plain = objective(Task::MultiClass, 2, 0.0, &[]);
        let (right, wrong) = (0.126_928, 2.126_928);
        close(loss(&plain, &logits, &targets, Purpose::Train), (right + wrong) / 2.0);
        let weighted = objective(Task::MultiClass, 2, 0.0, &[1.0, 3.0]);
        close(loss(&weighted, &logits, &targets, Purpose::Train), (right + 3.0 * wrong) / 4.0);
        close(loss(&weighted, &logits, &targets, Purpose::Watch), (right + wrong) / 2.0);
        let smooth = objective(Task::MultiClass, 2, 0.2, &[]);
        close(loss(&smooth, &logits[..1], &targets[..1], Purpose::Train), 0.9 * right + 0.1 * wrong);
        assert_eq!(balanced_weights(Task::MultiClass, &[30, 10, 0], 40), [40.0 / 90.0, 40.0 / 30.0, 1.0]);
        assert_eq!(balanced_weights(Task::MultiLabel, &[10], 40), [3.0]);
    }

    #[test]
    fn soft_losses_are_the_known_ones() {
        let device = Device::flex();
        let soft = |task: Task, student: &[f32], teacher: &[f32], temperature: f64| {
            let width = if task == Task::Binary { 1 } else { student.len() };
            let objective = objective(task, if task == Task::Binary { 2 } else { width }, 0.0, &[]);
            let rows = student.len() / width;
            let logits = Tensor::<2>::from_data(TensorData::new(student.to_vec(), [rows, width]), &device);
            objective.soft_loss(logits, teacher.to_vec(), temperature, &device).into_scalar::<f32>()
        };
        // softmax(4/2, 0) = 0.880797, softmax(0, 0) = 1/2: 4 · (0.880797 · ln(0.880797 / 0.5) + 0.119203 ·
        // ln(0.119203 / 0.5)) = 4 · 0.327812.
        close(soft(Task::MultiClass, &[0.0, 0.0], &[4.0, 0.0], 2.0), 4.0 * 0.327_812);
        close(soft(Task::MultiClass, &[1.0, 3.0], &[2.0, 4.0], 3.0), 0.0);
        // The same of one logit against 0, and of several labels their mean.
        close(soft(Task::Binary, &[0.0], &[4.0], 2.0), 4.0 * 0.327_812);
        close(soft(Task::MultiLabel, &[0.0, 7.0], &[4.0, 7.0], 2.0), 2.0 * 0.327_812);
        // Numbers have no temperature.
        close(soft(Task::Regression, &[1.0, 2.0], &[3.0, 1.0], 5.0), 2.5);
    }

    #[test]
    fn metrics_follow_the_postprocessing() {
        let classes = objective(Task::MultiClass, 2, 0.0, &[]);
        assert_eq!(classes.score_sum(&[2.0, 0.0, 2.0, 0.0], &[Target::Class(0), Target::Class(1)]), 1.0);
        let labels = objective(Task::MultiLabel, 2, 0.0, &[]);
        assert_eq!(labels.score_sum(&[1.0, 1.0], &[Target::Labels(vec![true, false])]), 0.5);
    }
}
