//! What a budget counts, in what the parent has.

use std::collections::BTreeMap;

use artifact::record;
use engine::{Options, Program};
use network::channels::{Group, remove, resize};
use network::{Network, Tensor, Weights};
use predict::Parts;

use super::allocate::{Candidate, Meter, removal};
use super::{Metric, PruneError, Stage, StructuredConfig};
use crate::speed;

/// What a network costs, whatever the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Costs {
    /// Multiply–accumulates of one sample.
    pub macs: u64,
    /// Trained values.
    pub parameters: u64,
    /// Bytes of the record in 32-bit floats, unwrapped.
    pub bytes: u64,
}

impl Costs {
    /// Counts them.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn of(network: &Network) -> Result<Self, PruneError> {
        let zeros = |parameter: &network::Parameter| {
            let tensor = Tensor::from_f32(parameter.shape.clone(), vec![0.0; parameter.len()]);
            tensor.map(|tensor| (parameter.key.clone(), tensor))
        };
        let weights = network.parameters().map(zeros).collect::<Result<Weights, _>>();
        let weights = weights.map_err(network::channels::RemoveError::from)?;
        let bytes = record::encode(&weights)?.len() as u64;
        Ok(Self { macs: network.macs(), parameters: network.parameter_count(), bytes })
    }
}

/// What budgets are shares of: the network before its first step.
#[derive(Debug)]
pub struct Baseline {
    /// What it costs.
    pub costs: Costs,
    /// How many channels each layer gives.
    filters: BTreeMap<String, usize>,
    /// For budgets of latency.
    program: Option<Program>,
}

impl Baseline {
    /// Counts what the parent costs; for a budget of latency, compiles it.
    ///
    /// # Errors
    /// When the record cannot be written or the engine cannot compile the network.
    pub fn of(parts: &Parts, config: &StructuredConfig) -> Result<Self, PruneError> {
        let program = match config.budget.metric {
            Metric::Latency => Some(Program::compile(&parts.network, &parts.weights, Options::default())?),
            _ => None,
        };
        let layers = parts.network.layers().iter();
        let filters = layers.map(|info| (info.name.clone(), info.output.first().copied().unwrap_or(0)));
        Ok(Self { costs: Costs::of(&parts.network)?, filters: filters.collect(), program })
    }

    /// How many filters a group had, which has not more now.
    pub(super) fn filters(&self, group: &Group) -> usize {
        self.filters.get(&group.name).copied().unwrap_or(group.channels * group.width)
    }

    /// What a network costs as a share of the baseline.
    fn share(&self, metric: Metric, network: &Network) -> Result<f64, PruneError> {
        let of = |now: u64, then: u64| now as f64 / then.max(1) as f64;
        Ok(match metric {
            Metric::Macs => of(network.macs(), self.costs.macs),
            Metric::Parameters => of(network.parameter_count(), self.costs.parameters),
            Metric::Bytes | Metric::Latency => of(Costs::of(network)?.bytes, self.costs.bytes),
        })
    }
}

/// Measures choices for one network.
pub(super) struct Scale<'a> {
    pub(super) parts: &'a Parts,
    pub(super) candidates: &'a [Candidate<'a>],
    pub(super) baseline: &'a Baseline,
    pub(super) config: &'a StructuredConfig,
    pub(super) stage: &'a mut dyn FnMut(Stage<'_>),
}

impl Meter for Scale<'_> {
    fn share(&mut self, kept: &[usize]) -> Result<f64, PruneError> {
        let Parts { network, weights, .. } = self.parts;
        if let Some(program) = &self.baseline.program {
            let (network, weights) = remove(network, weights, &removal(self.candidates, kept))?;
            let candidate = Program::compile(&network, &weights, Options::default())?;
            let share = speed::share(program, &candidate, self.config.budget.batch);
            (self.stage)(Stage::Measured { share });
            return Ok(share);
        }
        let names = self.candidates.iter().map(|candidate| candidate.group.name.clone());
        let sizes: BTreeMap<String, usize> = names.zip(kept.iter().copied()).collect();
        self.baseline.share(self.config.budget.metric, &resize(network, &sizes)?)
    }

    fn is_exact(&self) -> bool {
        self.baseline.program.is_none()
    }
}
