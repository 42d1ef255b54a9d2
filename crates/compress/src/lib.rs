//! Makes models small and fast, and measures what that costs.
//!
//! [`quantize::quantize`] is post-training quantization to int8: batch normalisation is folded into the weights,
//! activations are calibrated on training samples ([`calibrate`]), and layers that are slower or too lossy in int8
//! stay floats. Every method makes a [`finish::Candidate`]; [`finish::finish`] scores and times it beside its parent.
//! [`compare::compare`] puts any models side by side, [`significance`] says whether they really differ, and [`page`]
//! draws that. The crate deliberately prints nothing and publishes nothing by itself.
//! [`quantize::quantize`] is static post-training quantization to int8: batch normalisation is folded into the
//! weights, activations are calibrated on training samples ([`calibrate`]), layers that are slower or too lossy in
//! int8 stay floats, and what comes out is scored and timed beside what went in ([`compare`]).
//! [`prune::structured`] removes channels. It deliberately prints nothing and packs nothing by itself: [`pack::draft`]
//! is for its caller to publish.

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
pub mod pack;
pub mod page;
pub mod prune;
pub mod qat;
pub mod quantize;
pub mod report;
pub mod side;
pub mod significance;
mod speed;
