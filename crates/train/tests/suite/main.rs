//! Training as a whole, through the library's own door and through the command.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod command;
mod resume;
mod support;
mod tasks;
