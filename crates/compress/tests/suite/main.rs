//! Quantization from a trained package to the next version, and what two others make of the answers: Burn and ONNX
//! Runtime.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured, and what was skipped")]

mod auto;
mod bytes;
mod command;
mod compare;
mod making;
mod methods;
mod packages;
mod place;
mod recipes;
mod referees;
// How ONNX Runtime is found and asked is the same for all that is compared with it.
#[path = "../../../export/tests/suite/runtime.rs"]
mod runtime;
mod simulated;
mod small;
// Training without a display, on one thread.
#[path = "../../../train/tests/suite/support.rs"]
mod training;
mod tuning;
