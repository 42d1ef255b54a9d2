//! The server's routes in the process: every success and every refusal, without sockets.

mod hostile;
mod models;
mod oip;
mod predict;
mod registry;
mod server;
