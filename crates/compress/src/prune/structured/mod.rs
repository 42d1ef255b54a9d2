//! Structured pruning: whole channels and neurons are removed until a budget holds.
//!
//! `network::channels` says which channels can only go together. Here they are ranked ([`Criterion`]), the cuts are
//! shared out among the groups ([`Allocation`]), and as few are made as the budget ([`Metric`]) asks for. What comes out
//! is a smaller dense network with ordinary weights: nothing in it says that it was pruned, and every device runs it.
//!
//! [`prune`] makes all steps and trains nothing; [`prune_and_train`] trains what is left after each.

mod allocate;
mod config;
mod importance;
mod meter;
mod sensitivity;
mod trained;

use artifact::{RecordError, record};
use engine::CompileError;
use model::DeviceError;
use network::Network;
use network::channels::{Fixed, Group, Groups, RemoveError, remove};
use predict::{Parts, PredictError};
use serde::Serialize;
use train::data::DataSet;
use train::evaluate::EvaluateError;
use train::fit::FitError;
use train::init::names_layer;

use self::allocate::Candidate;
pub use self::config::{
    Allocation, BudgetConfig, Criterion, GroupsConfig, Metric, SamplesConfig, SensitivityConfig,
    StructuredConfig,
};
use self::meter::Scale;
pub use self::meter::{Baseline, Costs};
pub use self::sensitivity::{Curve, Point};
pub use self::trained::{Trained, prune_and_train};
use crate::distill::DistillError;
use crate::finetune::FinetuneError;

/// A network that cannot be pruned as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum PruneError {
    #[error("the configuration's `{key}` {message}")]
    Config { key: String, message: String },
    #[error("the model is quantized already; prune the package that it was made from, then quantize")]
    Quantized,
    #[error("nothing can be pruned: {reasons}")]
    Nothing { reasons: String },
    #[error("`{pattern}` in `groups.exclude` names no layer that makes channels; there are {known}")]
    UnknownGroup { pattern: String, known: String },
    #[error(
        "a share of {limit:.3} cannot be reached: with every group at its smallest size {least:.3} is left; raise \
         `budget.share`, lower `groups.minimum`, `groups.keep` or `groups.multiple`, or exclude fewer groups"
    )]
    Budget { limit: f64, least: f64 },
    #[error("the {split} split has no samples, and pruning needs some to {purpose}")]
    NoSamples { split: &'static str, purpose: &'static str },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the channels cannot be removed")]
    Remove(#[from] RemoveError),
    #[error("the engine, on which the latency is measured, cannot run the network")]
    Compile(#[from] CompileError),
    #[error("the gradients cannot be taken")]
    Fit(#[from] FitError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error(transparent)]
    Teacher(#[from] DistillError),
    #[error(transparent)]
    Finetune(#[from] FinetuneError),
}

/// What is going on, for the display.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stage<'a> {
    /// Taking gradients of training samples.
    Gradients {
        /// How many.
        samples: usize,
    },
    /// Scoring the network with one group alone cut.
    Sensitivity {
        /// Its name.
        group: &'a str,
        /// The channels that are left of it.
        kept: usize,
        /// The channels that it has.
        channels: usize,
        /// Groups that are done.
        done: usize,
        /// Groups in all.
        groups: usize,
    },
    /// A choice has been timed.
    Measured {
        /// Its latency as a share of the parent's.
        share: f64,
    },
    /// A step has chosen what goes.
    Chosen {
        /// The step, from 1.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// What is left of what the budget counts, as a share of the parent's.
        share: f64,
    },
}

/// What became of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupChange {
    /// Its name: that of its first producer.
    pub name: String,
    /// The layers that make its channels.
    pub producers: Vec<String>,
    /// Filters or units of the first producer before.
    pub before: usize,
    /// And after.
    pub after: usize,
    /// Why it was left whole, where it could not be cut at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A pruned network, not trained since and not packed yet.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The smaller network with its weights.
    pub parts: Parts,
    /// Every group whose channels could be removed.
    pub groups: Vec<GroupChange>,
    /// Channels that cannot be removed, and why.
    pub fixed: Vec<Fixed>,
    /// What was there before.
    pub before: Costs,
    /// What is left.
    pub after: Costs,
    /// What is left of what the budget counts, as a share of the parent's.
    pub share: f64,
    /// What each group bore before anything was cut; empty where the configuration does not ask.
    pub sensitivity: Vec<Curve>,
}

/// Prunes a network of floats in all its steps, without training between: `parts` with the data that it was trained
/// on. The data is read only where the criterion, the allocation or the curves need samples.
///
/// # Errors
/// When the configuration or the model does not allow it, or the budget cannot be reached.
pub fn prune(
    parts: &Parts,
    data: &DataSet,
    config: &StructuredConfig,
    stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Pruned, PruneError> {
    check(parts, config)?;
    let baseline = Baseline::of(parts, config)?;
    let first = prune_step(parts, data, config, &baseline, 1, stage)?;
    (2..=config.steps).try_fold(first, |before, step| {
        let next = prune_step(&before.parts, data, config, &baseline, step, stage)?;
        Ok(before.then(next))
    })
}

/// One step of `config.steps`, the first being 1, from the network as it is now to the share of the baseline that
/// [`StructuredConfig::share_after`] says. Curves are drawn in the first, and in every one whose allocation needs them.
///
/// # Errors
/// As [`prune`].
pub fn prune_step(
    parts: &Parts,
    data: &DataSet,
    config: &StructuredConfig,
    baseline: &Baseline,
    step: usize,
    stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Pruned, PruneError> {
    check(parts, config)?;
    let groups = Groups::of(&parts.network);
    let mut reasons = excluded(&groups, &config.groups)?;
    let all: Vec<&Group> = groups.groups.iter().collect();
    let importance = importance::importance(&all, parts, data, config, stage)?;
    let mut candidates = Vec::new();
    for ((group, importance), reason) in all.iter().zip(importance).zip(&mut reasons) {
        let Some(importance) = importance else {
            reason.get_or_insert("the criterion `batch-norm` needs a batch normalisation".to_owned());
            continue;
        };
        let candidate = Candidate::new(group, importance, baseline.filters(group), &config.groups);
        if reason.is_none() && candidate.sizes.len() == 1 {
            *reason = Some("no smaller size is allowed".to_owned());
        }
        if reason.is_none() {
            candidates.push(candidate);
        }
    }
    // In a later step there may be nothing left to cut, and the budget hold all the same.
    if candidates.is_empty() && step <= 1 {
        return Err(PruneError::Nothing { reasons: told(&groups, &reasons) });
    }
    let needed = config.allocation == Allocation::Sensitivity;
    let sensitivity = if needed || (config.sensitivity.curves && step <= 1) {
        sensitivity::curves(&candidates, parts, data, config, stage)?
    } else {
        Vec::new()
    };
    let cuts = allocate::order(&candidates, config.allocation, config.budget.metric, &sensitivity);
    let mut scale = Scale { parts, candidates: &candidates, baseline, config, stage: &mut *stage };
    let limit = config.share_after(step);
    let (kept, share) = allocate::choose(&candidates, &cuts, config.allocation, limit, &mut scale)?;
    stage(Stage::Chosen { step, steps: config.steps, share });
    let removal = allocate::removal(&candidates, &kept);
    let (network, weights) = remove(&parts.network, &parts.weights, &removal)?;
    let changes = groups.groups.iter().zip(reasons).map(|(group, reason)| GroupChange {
        name: group.name.clone(),
        producers: group.producers.clone(),
        before: filters(&parts.network, &group.name),
        after: filters(&network, &group.name),
        reason,
    });
    Ok(Pruned {
        groups: changes.collect(),
        fixed: groups.fixed.clone(),
        before: Costs::of(&parts.network)?,
        after: Costs::of(&network)?,
        share,
        sensitivity,
        parts: Parts { network, weights, ..parts.clone() },
    })
}

impl Pruned {
    /// Both steps as one: what this one began with and what the next came to.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let groups = self
            .groups
            .into_iter()
            .map(|group| GroupChange { after: filters(&next.parts.network, &group.name), ..group });
        Self {
            groups: groups.collect(),
            fixed: self.fixed,
            before: self.before,
            sensitivity: self.sensitivity,
            ..next
        }
    }
}

fn check(parts: &Parts, config: &StructuredConfig) -> Result<(), PruneError> {
    if let Some((key, message)) = config.fault() {
        return Err(PruneError::Config { key, message });
    }
    if parts.quantization.is_some() {
        return Err(PruneError::Quantized);
    }
    Ok(record::check_finite(&parts.weights)?)
}

/// For each group, why it is left whole because the configuration says so.
fn excluded(groups: &Groups, config: &GroupsConfig) -> Result<Vec<Option<String>>, PruneError> {
    let mut reasons = vec![None; groups.groups.len()];
    for pattern in &config.exclude {
        let matches = |name: &String| names_layer(pattern, name);
        let mut found = groups.fixed.iter().any(|fixed| matches(&fixed.name));
        for (group, reason) in groups.groups.iter().zip(&mut reasons) {
            if group.producers.iter().any(matches) {
                found = true;
                reason.get_or_insert(format!("excluded by `{pattern}`"));
            }
        }
        if !found {
            let producers = groups.groups.iter().flat_map(|group| &group.producers);
            let known: Vec<String> = producers.map(|name| format!("`{name}`")).collect();
            let pattern = pattern.clone();
            return Err(PruneError::UnknownGroup { pattern, known: known.join(", ") });
        }
    }
    Ok(reasons)
}

/// Why nothing can go, for the message.
fn told(groups: &Groups, reasons: &[Option<String>]) -> String {
    let cut = groups.groups.iter().zip(reasons);
    let cut = cut.filter_map(|(group, reason)| Some(format!("`{}`: {}", group.name, reason.as_ref()?)));
    let fixed = groups.fixed.iter().map(|fixed| format!("`{}`: {}", fixed.name, fixed.reason));
    let all: Vec<String> = cut.chain(fixed).collect();
    if all.is_empty() { "it has no convolution and no dense layer".to_owned() } else { all.join("; ") }
}

/// How many channels a layer gives.
fn filters(network: &Network, layer: &str) -> usize {
    let info = network.layers().iter().find(|info| info.name == layer);
    info.and_then(|info| info.output.first()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
