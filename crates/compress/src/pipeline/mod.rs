//! Compression within a budget: methods are tried one after the other, and what gains and holds the budget is kept.
//!
//! ```text
//! latency:  channels removed → int8 after training, or trained for it
//! size:     channels removed → single weights made zero → weights that share values → the codec
//!                                                       ↘ int8, where values cannot be shared
//! ```
//!
//! Whatever is trained learns from the parent's answers as well (Hinton et al. 2015). Every choice is made on
//! validation samples: a step is kept when the network holds the budget with it and is better than without it, in
//! what the target counts, measured beside it. The test split is left to [`crate::finish`].

mod clock;
mod config;
mod ladder;
mod methods;
mod search;

use predict::Parts;
use serde::Serialize;
use train::config::Metric;
use train::fit::EpochRecord;

pub use self::config::{PipelineConfig, Target};
pub use self::search::{SearchError, search};
use crate::prune::structured::Curve;
use crate::side::Side;

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// The method, such as `prune`.
    pub method: &'static str,
    /// What it did, for people.
    pub what: String,
    /// What became of it.
    pub verdict: Verdict,
    /// How far the headline metric fell below the parent's on the samples that choose; where it got so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<f64>,
    /// What was measured; where it got so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "because")]
pub enum Verdict {
    /// It holds the budget and gains; the next attempt begins with it.
    Kept,
    /// More is lost than the budget allows.
    TooLossy,
    /// It holds the budget and gains nothing.
    NoGain,
    /// It was kept, until another way to do the same was better.
    Replaced,
    /// There was no time for it.
    NoTime(String),
    /// It cannot be done with this network.
    Impossible(String),
}

impl Verdict {
    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Kept => "kept".to_owned(),
            Self::TooLossy => "left out: it loses more than the budget allows".to_owned(),
            Self::NoGain => "left out: it gains nothing".to_owned(),
            Self::Replaced => "left out: what was tried next instead of it is better".to_owned(),
            Self::NoTime(why) => format!("left out: {why}"),
            Self::Impossible(why) => format!("left out: {why}"),
        }
    }
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Found {
    /// The best network that holds the budget; none when no step was kept.
    pub best: Option<Best>,
    /// The parent as it was measured.
    pub parent: Side,
    /// All that was tried, in order.
    pub attempts: Vec<Attempt>,
    /// The split that chose.
    pub chosen_on: &'static str,
    /// What each group of channels bears; empty where no channels can be removed.
    pub sensitivity: Vec<Curve>,
    /// Whether somebody stopped the search.
    pub interrupted: bool,
}

/// The best network that holds the budget.
#[derive(Clone, Debug)]
pub struct Best {
    /// The network as its record will hold it.
    pub parts: Parts,
    /// Whether its record goes through the codec.
    pub coded: bool,
    /// How far the headline metric fell on the samples that choose.
    pub drop: f64,
}

/// Hears what happens.
pub trait Observer {
    /// Something is tried.
    fn begins(&mut self, what: &str);
    /// An epoch of `epochs` of a training is over.
    fn epoch(&mut self, record: &EpochRecord, epochs: usize, metric: Metric);
    /// It has been tried.
    fn done(&mut self, attempt: &Attempt);
}
