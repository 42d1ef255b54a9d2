//! Makes models small and fast, and measures what that costs.
//!
//! [`quantize::quantize`] is post-training quantization to int8: batch normalisation is folded into the weights,
//! activations are calibrated on training samples ([`calibrate`]), and layers that are slower or too lossy in int8
//! stay floats. What trains goes through [`finetune::finetune`]: [`qat`] for int8, [`magnitude`] for zeros that stay,
//! [`cluster`] for weights that share values, [`distill`] for a student of a larger network. Every method ends in a
//! [`finish::Candidate`]; [`finish::finish`] scores and times it beside its parent. The crate deliberately prints
//! nothing and publishes nothing by itself.

pub mod bench;
pub mod calibrate;
pub mod cluster;
pub mod compare;
pub mod config;
pub mod distill;
pub mod finetune;
pub mod finish;
mod kmeans;
pub mod magnitude;
pub mod names;
pub mod qat;
pub mod quantize;
pub mod report;
pub mod side;
mod speed;
