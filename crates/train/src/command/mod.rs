//! The subcommands: what a person types, and what is printed.

pub(crate) mod bench;
pub(crate) mod data;
mod device;
pub(crate) mod devices;
pub(crate) mod evaluate;
mod failure;
mod inspection;
mod narrator;
mod progress;
mod resolve;
mod summary;
pub(crate) mod train;
