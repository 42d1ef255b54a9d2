//! Pruning with training: what is left after each step is trained before the next one looks at it.

use predict::Parts;
use train::data::DataSet;
use train::fit::Finish;

use super::{Baseline, PruneError, Pruned, Stage, StructuredConfig, check, prune_step};
use crate::distill::taught;
use crate::finetune::{FinetuneHooks, Finetuned, Guidance, finetune};

/// A pruned network that was trained after the last cut, not packed yet.
#[derive(Clone, Debug)]
pub struct Trained {
    /// What was cut; its `parts` have the trained weights.
    pub pruned: Pruned,
    /// How the training after the last step went.
    pub tuned: Finetuned,
}

/// Prunes in all steps of the configuration and trains the network after each. With a teacher, or where the
/// configuration asks for one, its answers are learned from; without another the teacher is the network that was
/// given, whole.
///
/// # Errors
/// As [`prune`](super::prune), and when the network cannot be trained.
pub fn prune_and_train(
    parts: &Parts,
    data: &DataSet,
    config: &StructuredConfig,
    teacher: Option<&Parts>,
    hooks: &mut FinetuneHooks<'_>,
    stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Trained, PruneError> {
    check(parts, config)?;
    let teacher = teacher.or(config.teaching.as_ref().map(|_| parts));
    let baseline = Baseline::of(parts, config)?;
    let mut step = |from: &Parts, number: usize, hooks: &mut FinetuneHooks<'_>| {
        let mut pruned = prune_step(from, data, config, &baseline, number, stage)?;
        let distillation = taught(&pruned.parts, config.teaching.as_ref(), teacher)?;
        let guidance = Guidance { distillation, ..Guidance::default() };
        let tuned = finetune(&pruned.parts, data, &config.finetune, guidance, hooks)?;
        pruned.parts.weights.clone_from(&tuned.weights);
        Ok::<_, PruneError>(Trained { pruned, tuned })
    };
    let mut done = step(parts, 1, hooks)?;
    for number in 2..=config.steps {
        if done.tuned.finish == Finish::Interrupted {
            break;
        }
        let next = step(&done.pruned.parts, number, hooks)?;
        done = Trained { pruned: done.pruned.then(next.pruned), tuned: next.tuned };
    }
    Ok(done)
}
