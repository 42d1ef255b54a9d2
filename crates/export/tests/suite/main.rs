//! What is exported, computed by ONNX Runtime and by the engine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
mod floats;
mod integers;
mod random;
mod runtime;
