//! A network as data, without any tensor library: [`spec::NetworkSpec`] and its presets, shape inference
//! ([`Network`]), the way in ([`preprocess`]) and the way out ([`postprocess`]), the signature, host tensors, and
//! what a network is whose layers are integers ([`quantization`], [`fold`], [`equalize`]) or that lost channels
//! ([`channels`]), and what is watched of its inputs and answers while it serves ([`observe`]). It deliberately cannot run a network; `model` and the CPU engine do, from the same description.
//!
//! ```
//! let spec = network::preset("lenet5", &[1, 28, 28], 10)?;
//! let network = network::Network::new(spec)?;
//! assert_eq!(network.parameter_count(), 431_080);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod background;
pub mod channels;
pub mod equalize;
pub mod fold;
pub mod observe;
pub mod postprocess;
pub mod preprocess;
mod preset;
pub mod quantization;
mod raw;
mod rows;
pub mod shape;
pub mod signature;
pub mod spec;
mod summary;
mod tensor;
mod weights;

pub use self::observe::Observer;
pub use self::postprocess::{Postprocess, Prediction, Task};
pub use self::preprocess::{Preprocess, PreprocessError};
pub use self::preset::{PRESETS, PresetError, preset};
pub use self::quantization::{
    Affine, Calibration, CalibrationMethod, Quantization, QuantizationError, WeightOnly,
};
pub use self::raw::{Bitmap, Cell, RawInput, Row};
pub use self::shape::{LayerInfo, Network, Parameter, Role, ShapeError};
pub use self::signature::{Dim, Signature, SignatureError, TensorSpec};
pub use self::spec::NetworkSpec;
pub use self::summary::{summary, summary_with_precision};
pub use self::tensor::{DType, Elements, LengthError, NamedTensor, Tensor, element_count};
pub use self::weights::{Weights, WeightsError};
