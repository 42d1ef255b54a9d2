//! The Open Inference Protocol, version 2.
//!
//! [`types`] are the messages, [`json`] reads and writes them, [`infer`] answers them. None of the three
//! knows HTTP; the routes are in [`crate::routes::oip`].

pub mod data;
pub mod infer;
pub mod json;
pub mod types;
