//! The scheduler from outside: what is computed together, in which order, and what becomes of requests that cannot be
//! answered.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

mod batching;
mod cache;
mod exact;
mod failing;
mod fake;
mod overload;
mod queueing;
mod routes;
