//! How important each channel of a group is. More is more important; what groups are compared by is said with each.

use std::collections::BTreeSet;

use model::DeviceSpec;
use network::channels::{Group, Part, Slice};
use network::{Role, Weights};
use predict::Parts;
use train::data::DataSet;
use train::fit::gradients_of;

use super::{Criterion, PruneError, Stage, StructuredConfig};

/// Samples of one batch of gradients. The estimate of Molchanov et al. is a mean over batches.
const BATCH: usize = 32;

/// The importance of the channels of each group; `None` where the criterion says nothing about a group.
///
/// - `l1`, `l2`: the norm of what each coupled tensor (weights and the factors of normalisations; what only moves
///   values, biases and running statistics, says nothing about size) holds for the channel, divided by the mean of
///   that norm over the channels, and the mean of those over the tensors. So every tensor counts the same whatever its
///   size and scale, and every group has the mean 1: the group norm of Fang et al. 2023, normalised by the mean as
///   they do between groups, and between the tensors of a group too.
/// - `batch-norm`: the mean of the absolute factors of the group's batch normalisations, compared between groups as
///   they are (Liu et al. 2017, section 3).
/// - `taylor`: the square of the sum of gradient times weight over all weights that read the channel, averaged over
///   batches (Molchanov et al. 2019, section 3.1). Taking the channel away sets just those to zero, so
///   this is the first-order estimate of the change of the loss, squared. It is in the loss's own unit, and is
///   compared between groups as it is.
/// - `random`: a permutation that depends on the seed and the group's place alone, in equal steps from 0 to 1.
pub(super) fn importance(
    groups: &[&Group],
    parts: &Parts,
    data: &DataSet,
    config: &StructuredConfig,
    stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Vec<Option<Vec<f64>>>, PruneError> {
    let each = |of: &dyn Fn(&Group) -> Vec<f64>| groups.iter().map(|group| Some(of(group))).collect();
    Ok(match config.criterion {
        Criterion::L1 => each(&|group| norms(group, &parts.weights, f64::abs, |sum| sum)),
        Criterion::L2 => each(&|group| norms(group, &parts.weights, |value| value * value, f64::sqrt)),
        Criterion::BatchNorm => groups.iter().map(|group| factors(group, &parts.weights)).collect(),
        Criterion::Taylor => taylor(groups, parts, data, config, stage)?.into_iter().map(Some).collect(),
        Criterion::Random => {
            let draw = |(place, group): (usize, &&Group)| {
                let order = train::data::order(group.channels, config.seed, place as u64);
                Some(order.into_iter().map(|rank| rank as f64 / group.channels as f64).collect())
            };
            groups.iter().enumerate().map(draw).collect()
        }
    })
}

/// Calls `each` with the channel and the value of everything in a slice.
fn visit(slice: &Slice, weights: &Weights, mut each: impl FnMut(usize, f64)) {
    let values = weights.get(&slice.key).and_then(|tensor| tensor.as_f32()).unwrap_or_default();
    slice.for_each(|channel, at| {
        if let Some(&value) = values.get(at) {
            each(channel, f64::from(value));
        }
    });
}

fn norms(
    group: &Group,
    weights: &Weights,
    part: impl Fn(f64) -> f64,
    whole: impl Fn(f64) -> f64,
) -> Vec<f64> {
    let sized = |slice: &&Slice| matches!(slice.role, Role::Weight | Role::Gamma);
    let slices: Vec<&Slice> = group.slices.iter().filter(sized).collect();
    let mut importance = vec![0.0; group.channels];
    for slice in &slices {
        let mut sums = vec![0.0; group.channels];
        visit(slice, weights, |channel, value| sums[channel] += part(value));
        sums.iter_mut().for_each(|sum| *sum = whole(*sum));
        let mean = sums.iter().sum::<f64>() / group.channels as f64;
        // A tensor of zeros makes no channel more important than another.
        if mean > 0.0 {
            importance.iter_mut().zip(&sums).for_each(|(to, sum)| *to += sum / mean / slices.len() as f64);
        }
    }
    importance
}

/// `None`: the group has no batch normalisation.
fn factors(group: &Group, weights: &Weights) -> Option<Vec<f64>> {
    // Layer normalisation has factors too; what tells them apart are the running statistics.
    let layer = |slice: &Slice| slice.key.rsplit_once('.').map(|(layer, _)| layer.to_owned());
    let running = group.slices.iter().filter(|slice| slice.role == Role::RunningMean);
    let norms: BTreeSet<String> = running.filter_map(layer).collect();
    if norms.is_empty() {
        return None;
    }
    let mut importance = vec![0.0; group.channels];
    for slice in group.slices.iter().filter(|slice| slice.role == Role::Gamma) {
        if layer(slice).is_some_and(|layer| norms.contains(&layer)) {
            // Behind `flatten` a channel has a factor for each pixel.
            let share = 1.0 / (norms.len() * slice.block) as f64;
            visit(slice, weights, |channel, value| importance[channel] += value.abs() * share);
        }
    }
    Some(importance)
}

fn taylor(
    groups: &[&Group],
    parts: &Parts,
    data: &DataSet,
    config: &StructuredConfig,
    stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Vec<Vec<f64>>, PruneError> {
    let indices = train::data::draw(&data.splits.train, config.samples.gradients, config.seed);
    if indices.is_empty() {
        return Err(PruneError::NoSamples { split: "training", purpose: "take gradients of" });
    }
    stage(Stage::Gradients { samples: indices.len() });
    let mut importance: Vec<Vec<f64>> = groups.iter().map(|group| vec![0.0; group.channels]).collect();
    let device = DeviceSpec::Flex.open()?;
    let mut batches = 0.0;
    gradients_of(parts, data, &indices, BATCH, &device, &mut |_, gradients| {
        batches += 1.0;
        for (group, importance) in groups.iter().zip(&mut importance) {
            let mut changes = vec![0.0; group.channels];
            let reads = |slice: &&Slice| slice.part == Part::Consumer && slice.role == Role::Weight;
            for slice in group.slices.iter().filter(reads) {
                let of = |weights: &Weights| {
                    let values = weights.get(&slice.key).and_then(|tensor| tensor.as_f32());
                    values.unwrap_or_default().to_vec()
                };
                let (weights, gradients) = (of(&parts.weights), of(gradients));
                slice.for_each(|channel, at| {
                    if let (Some(&weight), Some(&gradient)) = (weights.get(at), gradients.get(at)) {
                        changes[channel] += f64::from(weight) * f64::from(gradient);
                    }
                });
            }
            importance.iter_mut().zip(&changes).for_each(|(to, change)| *to += change * change);
        }
    })?;
    importance.iter_mut().flatten().for_each(|value| *value /= batches);
    Ok(importance)
}
