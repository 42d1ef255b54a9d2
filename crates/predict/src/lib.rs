//! Predictions from a package: the library for programs that use a trained model.
//!
//! A [`Predictor`] opens `name@version` or `name@alias` on a device and answers batches, from raw inputs
//! (numbers, pixels, image files, table rows) or from tensors that are prepared already. Evaluation, the
//! `predict` command and the server are made of it, so a program that uses it gets the very answers that were
//! scored. It neither trains nor changes packages; [`input`] reads inputs from JSON, CSV and image files.
//!
//! ```no_run
//! use artifact::Registry;
//! use predict::{DeviceSpec, Predictor, RawInput};
//!
//! let registry = Registry::open("artifacts/models")?;
//! let predictor = Predictor::open(&registry, &"digits@production".parse()?, DeviceSpec::Cpu)?;
//! let image = std::fs::read("seven.png")?;
//! let predictions = predictor.predict(&[RawInput::EncodedImage(image.into())])?;
//! for (label, probability) in predictions[0].top_k(3, &predictor.postprocess().labels) {
//!     println!("{label}: {probability:.3}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Any package runs on any device, and in half precision where the device can: wherever a device is taken, a
//! [`Placement`] may say both. [`Predictor::warm_up`] compares the model with the answers in its package, at every
//! size of a batch that the device will be given; do it before the first request, and on a GPU before believing
//! anything:
//!
//! ```no_run
//! # let registry = artifact::Registry::open("artifacts/models")?;
//! use predict::{DeviceSpec, Placement, Precision, Predictor};
//!
//! let placement = Placement { device: DeviceSpec::Auto, precision: Precision::F16 };
//! let predictor = Predictor::open(&registry, &"digits@production".parse()?, placement)?;
//! for size in predictor.warm_up()? {
//!     println!("{} rows: {:?} at first, then {:?}", size.rows, size.first, size.again);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Without a package, from a network and its weights:
//!
//! ```
//! use network::{Network, Postprocess, Prediction, Preprocess, Task};
//! use predict::{DeviceSpec, Parts, Predictor, RawInput};
//!
//! let network = Network::new(network::preset("mlp", &[4], 2)?)?;
//! let parts = Parts {
//!     weights: model::initial_weights(&network, 42),
//!     network,
//!     preprocess: Preprocess::Numbers { shape: vec![4] },
//!     postprocess: Postprocess::new(Task::MultiClass, vec!["no".to_owned(), "yes".to_owned()]),
//!     quantization: None,
//! };
//! let predictor = Predictor::from_parts(parts, DeviceSpec::Cpu)?;
//! let predictions = predictor.predict(&[RawInput::Numbers(vec![0.1, 0.2, 0.3, 0.4])])?;
//! assert!(matches!(&predictions[0], Prediction::Class { probabilities, .. } if probabilities.len() == 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batching;
mod check;
mod compiled;
mod error;
mod infer;
pub mod input;
mod observe;
mod placed;
mod placement;
mod predictor;

pub use engine::{CompileError, Isa};
pub use model::{DeviceError, DeviceSpec, Precision};
pub use network::{NamedTensor, Prediction, RawInput};

pub use self::batching::MAX_PASS_ROWS;
pub use self::check::{SelfCheck, WarmUp, tolerance};
pub use self::error::{PredictError, PrepareError};
pub use self::placed::Kernels;
pub use self::placement::Placement;
pub use self::predictor::{Parts, Predictor};
