//! What the command line does.

pub(crate) mod bench;
mod failure;
pub(crate) mod quantize;
mod subject;
