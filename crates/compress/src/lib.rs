//! Makes models small and fast, and measures what that costs.
//!
//! [`quantize::quantize`] is post-training quantization to int8: batch normalisation is folded into the weights,
//! activations are calibrated on training samples ([`calibrate`]), and layers that are slower or too lossy in int8
//! stay floats. Every method makes a [`finish::Candidate`]; [`finish::finish`] scores and times it beside its parent.
//! The crate deliberately prints nothing and publishes nothing by itself.

pub mod bench;
pub mod calibrate;
pub mod compare;
pub mod config;
pub mod finetune;
pub mod finish;
pub mod quantize;
pub mod report;
pub mod side;
mod speed;
