//! Makes models small and fast, and measures what that costs.
//!
//! [`quantize::quantize`] is static post-training quantization to int8: batch normalisation is folded into the
//! weights, activations are calibrated on training samples ([`calibrate`]), layers that are slower or too lossy in
//! int8 stay floats, and what comes out is scored and timed beside what went in ([`compare`]).
//! [`prune::structured`] removes channels. It deliberately prints nothing and packs nothing by itself: [`pack::draft`]
//! is for its caller to publish.

pub mod bench;
pub mod calibrate;
pub mod compare;
pub mod config;
pub mod pack;
pub mod prune;
pub mod quantize;
pub mod report;
mod speed;
