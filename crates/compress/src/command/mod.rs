//! What the command line does.

pub(crate) mod bench;
pub(crate) mod compare;
mod failure;
pub(crate) mod quantize;
mod subject;
