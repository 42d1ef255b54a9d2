//! The inference server: raw inputs on `/predict`, prepared tensors on `/v2` (Open Inference Protocol), a
//! playground on `/`. It deliberately knows no training: `predict` is all it needs of a model.
//!
//! [`app`] is the application, the same for `main` and for tests in the process; [`run`] gives it sockets
//! and signals. What answers a request ([`payload`], [`answer`], [`oip`]) knows no HTTP, so that other
//! transports and batching can be put before it.

pub mod access;
pub mod answer;
pub mod app;
pub mod body;
mod cache;
pub mod compression;
pub mod config;
pub mod connections;
pub mod describe;
pub mod drift;
pub mod ensemble;
pub mod error;
pub mod executor;
pub mod front;
pub mod grpc;
pub mod health;
pub mod inventory;
pub mod json;
pub mod limits;
pub mod load;
mod loader;
pub mod memory;
pub mod metrics;
pub mod oip;
pub mod openapi;
pub mod ops;
pub mod payload;
pub mod pool;
pub mod repository;
pub mod routes;
pub mod run;
pub mod scheduler;
pub mod served;
pub mod settings;
pub mod state;
pub mod stats;
pub mod telemetry;
pub mod tls;
pub mod traffic;
