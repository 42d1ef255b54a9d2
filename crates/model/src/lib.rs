//! Burn modules built from a [`network::Network`], and the devices that they run on.
//!
//! [`Net`] is the one module type: it is built from the description of a network, so a program runs any
//! network without being recompiled. Its parameters are found by `<layer>.<parameter>` in Burn's own
//! records as well as in [`network::Weights`]. This crate deliberately knows nothing about data, training
//! loops and packages, and does without autodiff; a program that trains turns that on in Burn.
//!
//! ```
//! use burn::tensor::Tensor;
//! use model::{DeviceSpec, Net};
//!
//! let network = network::Network::new(network::preset("mlp", &[4], 3)?)?;
//! let device = "cpu".parse::<DeviceSpec>()?.open()?;
//! let net = Net::init(&network, 42, &device)?;
//! let logits = net.forward(Tensor::<2>::zeros([2, 4], &device));
//! assert_eq!(logits.dims(), [2, 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assemble;
pub mod device;
mod hook;
mod init;
mod layer;
mod net;
mod parameters;
mod precision;
mod random;
mod value;

pub use self::device::{DeviceError, DeviceSpec, Lane};
pub use self::hook::{Hook, TensorMap};
pub use self::init::initial_weights;
pub use self::layer::Draws;
pub use self::net::{Net, NetError};
pub use self::parameters::ParameterState;
pub use self::precision::{Precision, PrecisionError};
pub use self::value::Value;
