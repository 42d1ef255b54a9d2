//! The server's routes in the process: every success and every refusal, without sockets.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

mod access;
mod authority;
mod binary;
mod bytes;
mod changes;
mod clients;
mod command;
mod devices;
mod drift;
mod encryption;
mod ensembles;
mod executors;
mod h2;
mod hostile;
mod life;
mod logging;
mod metrics;
mod models;
mod network;
mod oip;
mod plans;
mod platforms;
mod predict;
mod registry;
mod repository;
mod rpc;
mod scrape;
mod server;
mod telemetry;
mod tokens;
mod traffic;
mod watched;
mod wire;
