//! Packages in the formats of others: [`onnx()`] for a runtime that is not ours, [`safetensors()`] for the weights
//! alone.
//!
//! ONNX Runtime computing what this crate writes is the referee of the CPU engine: nobody here wrote it, and it must
//! come to the same answers. It deliberately reads none of these formats: a package is what is trained, kept and
//! served. Nothing here depends on Burn, `protoc` or a runtime; the tests load one when it is there.
//!
//! ```
//! use network::{Network, Tensor, Weights, preset};
//!
//! let network = Network::new(preset("mlp", &[4], 3)?)?;
//! let weight = |parameter: &network::Parameter| {
//!     let tensor = Tensor::from_f32(parameter.shape.clone(), vec![0.1; parameter.len()]);
//!     tensor.map(|tensor| (parameter.key.clone(), tensor))
//! };
//! let weights = network.parameters().map(weight).collect::<Result<Weights, _>>()?;
//! let model = export::Model::new("digits", 1, network, weights, None);
//! let file = export::onnx(&model)?;
//! assert!(file.len() > 4 * 4739);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod model;
mod onnx;
mod tensors;

pub use self::error::ExportError;
pub use self::model::Model;
pub use self::onnx::onnx;
pub use self::tensors::safetensors;
