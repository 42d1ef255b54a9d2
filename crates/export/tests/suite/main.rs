//! What is exported, computed by ONNX Runtime and by the engine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured, and what was skipped")]

mod common;
mod floats;
mod integers;
mod packages;
mod random;
mod runtime;
