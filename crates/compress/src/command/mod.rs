//! What the command line does.

mod failure;
pub(crate) mod quantize;
