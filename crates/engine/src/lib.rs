//! The CPU engine: a [`network::Network`] and its weights, compiled into a [`Program`] of fused kernels.
//!
//! Compiling decides everything once: batch normalisation goes into weights, activations, additions and pooling
//! into the epilogue of the product before them; layouts, packings and algorithms are chosen per layer, and one
//! arena is planned for all values. Running allocates nothing. A program is shared by all threads; each caller
//! has a [`Scratch`]. The instructions ([`Isa`]) are chosen when the program is compiled.
//!
//! It deliberately knows no records, packages or signatures' data types (`artifact` and `predict` do), and it
//! does not train. This is the only crate with `unsafe`, in kernels and in the code that hands memory to them.
//!
//! ```
//! let network = network::Network::new(network::preset("mlp", &[4], 3)?)?;
//! let weight = |parameter: &network::Parameter| {
//!     let tensor = network::Tensor::from_f32(parameter.shape.clone(), vec![0.1; parameter.len()]);
//!     tensor.map(|tensor| (parameter.key.clone(), tensor))
//! };
//! let weights = network.parameters().map(weight).collect::<Result<network::Weights, _>>()?;
//! let program = engine::Program::compile(&network, &weights, engine::Options::default())?;
//! let mut scratch = program.scratch();
//! let mut logits = [0.0; 2 * 3];
//! program.run(&mut scratch, &[1.0; 2 * 4], 2, &mut logits)?;
//! assert!(logits.iter().all(|logit| (logit - logits[0]).abs() < 1e-6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod algorithm;
mod buffer;
mod dynamic;
mod error;
mod exec;
mod fuse;
mod gather;
mod graph;
mod halves;
mod isa;
mod kernel;
mod layout;
mod lower;
mod observe;
mod pack;
mod pack8;
mod pool;
mod profile;
mod program;
mod quantize;
mod spread;
mod step;
#[cfg(test)]
mod tiles;

pub use self::error::{CompileError, RunError};
pub use self::isa::{ISA_VARIABLE, Isa, IsaError};
pub use self::kernel::ceiling::{bandwidth_ceiling, bf16_ceiling, f32_ceiling, int8_ceiling};
pub use self::pool::Pool;
pub use self::profile::{Ceilings, Precision, Profile, StepProfile, processor};
pub use self::program::{Options, Port, Program, Scratch, StepInfo};
pub use self::quantize::Plan;
pub use network::Affine;
