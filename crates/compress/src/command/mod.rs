//! What the command line does.

pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod compare;
pub(crate) mod compress;
pub(crate) mod distill;
mod failure;
pub(crate) mod prune;
pub(crate) mod quantize;
pub(crate) mod recipe;
mod subject;
mod tuning;
