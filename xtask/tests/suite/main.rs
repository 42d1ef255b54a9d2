//! The tests of xtask from outside, in one executable.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[cfg(unix)]
mod commands;
#[cfg(target_os = "linux")]
mod models;
#[cfg(unix)]
mod quickstart;
#[cfg(unix)]
mod support;
mod tidy;
