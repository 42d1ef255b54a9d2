//! The Open Inference Protocol over gRPC, with health checking (`grpc.health.v1`) and reflection.
//!
//! [`service`] answers calls by way of [`crate::front`], as the routes of HTTP do; [`convert`] is the form of the
//! messages; [`body`] bounds what is received, and [`codec`] what may become of it; [`server`] gives it all a socket and threads. The messages are
//! generated from `proto/inference.proto`, and the generated code is committed, so that a build needs no compiler
//! for it.

pub mod body;
pub mod codec;
pub mod convert;
pub mod health;
pub mod incoming;
pub mod server;
pub mod service;

/// The messages and the service of `proto/inference.proto`.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, unreachable_pub, reason = "generated")]
#[rustfmt::skip]
#[path = "generated/inference.rs"]
pub mod inference;

/// The description of [`inference`] that reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/inference.binpb");
