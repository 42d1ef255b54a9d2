//! What the command line does.

pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod compare;
pub(crate) mod distill;
mod failure;
pub(crate) mod prune;
pub(crate) mod quantize;
mod subject;
mod tuning;
