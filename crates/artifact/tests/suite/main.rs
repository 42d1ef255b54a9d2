//! Black-box tests of packages and registries, by topic.

mod common;
mod compatibility;
mod concurrency;
mod package;
mod registry;
