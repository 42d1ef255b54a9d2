//! The Open Inference Protocol, version 2, with the extensions that clients use.
//!
//! [`types`] are the messages. [`request`] and [`response`] read and write inference as JSON, as JSON with binary
//! tensors, and as bare bytes, with [`data`] for the values in JSON, [`binary`] for those in bytes and
//! [`parameters`] for what parameters mean; they are pure functions that fuzzers call too. [`infer`] fits requests
//! to models. None of them knows HTTP or gRPC: the routes are in [`crate::routes::oip`].

pub mod binary;
pub mod data;
pub mod infer;
pub mod parameters;
pub mod request;
pub mod response;
pub mod types;
