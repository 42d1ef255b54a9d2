//! How fast training is, beside PyTorch on the same network, batch size and threads.
//!
//! Both take turns in one run, so that a machine that changes its speed changes both; what is told is the
//! median of the turns. A GPU has done its work before a clock is read, on both sides.

mod peer;

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use network::Network;
use serde::Serialize;

pub use self::peer::{Peer, PeerError};
use crate::config::{Optimizer, OptimizerRule};
use crate::fit::{FitError, Stepper};

/// What is measured.
pub struct Options {
    /// Samples per step.
    pub batch_size: usize,
    /// Threads of either side; ours are set by the caller.
    pub threads: usize,
    /// Steps before anything is measured: a GPU compiles and tunes kernels in the first ones.
    pub warm_up: usize,
    /// How many turns each side takes.
    pub turns: usize,
    /// How long a turn takes, roughly.
    pub turn_seconds: f64,
    /// The interpreter that may have PyTorch.
    pub python: Option<PathBuf>,
    /// Where PyTorch computes, by its own name: `cpu`, `cuda:0`.
    pub peer_device: String,
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The network's name.
    pub network: String,
    /// Its trained parameters.
    pub parameters: u64,
    /// Multiply–accumulates of one sample's forward pass.
    pub macs: u64,
    /// Samples per second of Brazier.
    pub brazier: Speed,
    /// Samples per second of PyTorch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pytorch: Option<Speed>,
    /// PyTorch's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pytorch_version: Option<String>,
    /// What PyTorch computed on; a GPU by its own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pytorch_device: Option<String>,
}

/// Samples per second over all turns.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    /// The middle one.
    pub median: f64,
    /// The slowest turn.
    pub min: f64,
    /// The fastest turn.
    pub max: f64,
}

/// A measurement that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// On our side.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// On PyTorch's side.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

/// Measures one network.
///
/// # Errors
/// When either side fails. Without an interpreter in the options only our side is measured.
pub fn training(
    name: &str,
    network: &Network,
    options: &Options,
    device: &Device,
) -> Result<Row, BenchError> {
    let adam = OptimizerRule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let config = Optimizer { rule: adam, learning_rate: 1e-7, weight_decay: 0.0, l1: 0.0, clip_norm: None };
    let mut ours = Stepper::new(network, options.batch_size, config, 0, device)?;
    let mut peer = match &options.python {
        Some(python) => Some(Peer::start(python, network, options)?),
        None => None,
    };
    let mut our_turn = |steps: usize| -> Result<f64, BenchError> {
        let began = Instant::now();
        for _ in 0..steps {
            ours.step()?;
        }
        ours.sync()?;
        Ok(began.elapsed().as_secs_f64())
    };
    // Warm up, and find out how many steps make a turn.
    our_turn(options.warm_up.max(1))?;
    let our_steps = ((options.turn_seconds / (our_turn(3)? / 3.0)) as usize).max(1);
    let peer_steps = match &mut peer {
        Some(peer) => {
            peer.steps(options.warm_up.max(1))?;
            ((options.turn_seconds / (peer.steps(3)? / 3.0)) as usize).max(1)
        }
        None => 0,
    };
    let (mut our_speeds, mut peer_speeds) = (Vec::new(), Vec::new());
    for _ in 0..options.turns.max(1) {
        our_speeds.push((our_steps * options.batch_size) as f64 / our_turn(our_steps)?);
        if let Some(peer) = &mut peer {
            peer_speeds.push((peer_steps * options.batch_size) as f64 / peer.steps(peer_steps)?);
        }
    }
    Ok(Row {
        network: name.to_owned(),
        parameters: network.parameter_count(),
        macs: network.macs(),
        brazier: Speed::of(our_speeds),
        pytorch: peer.as_ref().map(|_| Speed::of(peer_speeds)),
        pytorch_version: peer.as_ref().map(|peer| peer.version.clone()),
        pytorch_device: peer.map(|peer| peer.device.clone()),
    })
}

impl Speed {
    fn of(mut speeds: Vec<f64>) -> Self {
        speeds.sort_by(f64::total_cmp);
        let at = |index: usize| speeds.get(index).copied().unwrap_or(0.0);
        Self { median: at(speeds.len() / 2), min: at(0), max: at(speeds.len().saturating_sub(1)) }
    }
}
