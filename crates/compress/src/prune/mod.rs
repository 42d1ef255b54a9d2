//! Pruning: networks with less in them.
//!
//! [`structured`] removes whole channels and neurons, so that what is left is a smaller dense network that every
//! device runs faster.

pub mod structured;
