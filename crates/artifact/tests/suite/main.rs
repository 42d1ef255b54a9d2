//! Black-box tests of packages and registries, by topic.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod coded;
mod common;
mod compatibility;
mod concurrency;
mod package;
mod quantized;
mod registry;
