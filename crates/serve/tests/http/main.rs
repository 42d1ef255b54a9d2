//! The server's routes in the process: every success and every refusal, without sockets.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

mod command;
mod devices;
mod ensembles;
mod hostile;
mod life;
mod models;
mod oip;
mod predict;
mod registry;
mod repository;
mod server;
mod traffic;
