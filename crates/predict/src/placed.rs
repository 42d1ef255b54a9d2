//! A network on a device: built there, run there, dropped there.

use std::fmt;
use std::iter::once;
use std::sync::Arc;

use engine::{CompileError, Profile};

use model::{DeviceError, DeviceSpec, Lane, Net, Precision, Value};
use network::quantization::{Quantization, dequantize};
use network::{Network, Weights};
use serde::Serialize;

use crate::compiled::Compiled;
use crate::error::PredictError;
use crate::placement::Placement;

/// A network where it computes.
#[derive(Debug)]
pub(crate) struct Placed {
    network: Place,
    placement: Placement,
    kernels: Kernels,
}

#[derive(Debug)]
enum Place {
    /// Boxed, for a program is large and this is looked at seldom.
    Engine(Box<Compiled>),
    Burn(OnBurn),
}

/// What computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kernels", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kernels {
    /// Brazier's own CPU engine.
    Engine {
        /// The tier of instructions, such as `avx512`.
        isa: &'static str,
    },
    /// Burn's backend of the device.
    Burn {
        /// On the device `cpu`: why the engine does not, with the layer that is the reason.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl Kernels {
    /// Whether the engine computes.
    #[must_use]
    pub fn is_engine(&self) -> bool {
        matches!(self, Self::Engine { .. })
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine { isa } => write!(f, "engine {isa}"),
            Self::Burn { .. } => f.write_str("burn"),
        }
    }
}

impl Placed {
    /// Builds the network on the device: on `cpu`, in f32 and bf16, the engine compiles it; what the engine cannot
    /// compile, and every other device and precision, is Burn's.
    pub(crate) fn new(
        network: &Network,
        weights: &Weights,
        quantization: Option<&Quantization>,
        lane: Arc<Lane>,
        precision: Precision,
    ) -> Result<Self, PredictError> {
        let placement = Placement { device: lane.device(), precision };
        lane.supports(precision)?;
        let mut reason = None;
        if placement.device == DeviceSpec::Cpu && precision != Precision::F16 {
            match Compiled::new(network, weights, quantization, precision == Precision::Bf16) {
                Ok(compiled) => {
                    let kernels = Kernels::Engine { isa: compiled.isa().name() };
                    return Ok(Self { network: Place::Engine(Box::new(compiled)), placement, kernels });
                }
                Err(PredictError::Compile(
                    error @ (CompileError::Unsupported { .. } | CompileError::TooLarge { .. }),
                )) => reason = Some(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let weights = match quantization {
            None => weights.clone(),
            Some(plan) => dequantize(network, plan, weights).map_err(artifact::RecordError::from)?,
        };
        let network = Place::Burn(OnBurn::new(network, weights, lane, precision)?);
        Ok(Self { network, placement, kernels: Kernels::Burn { reason } })
    }

    /// The resolved device and the precision.
    pub(crate) fn placement(&self) -> Placement {
        self.placement
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// How long each step of the engine takes; nothing where Burn computes.
    pub(crate) fn profile(&self) -> Option<Profile> {
        match &self.network {
            Place::Engine(compiled) => Some(compiled.profile()),
            Place::Burn(_) => None,
        }
    }

    /// Runs `rows` rows of all inputs, filled up with zeros to `size` rows where the size of a pass matters, and
    /// returns all outputs, row-major, of at least `rows` rows. On a GPU it waits for its turn.
    pub(crate) fn run(
        &self,
        inputs: &[Rows<'_>],
        rows: usize,
        size: usize,
    ) -> Result<Vec<Vec<f32>>, PredictError> {
        match &self.network {
            Place::Engine(compiled) => {
                let values: Vec<&[f32]> = inputs.iter().map(|(values, _)| *values).collect();
                compiled.run(&values, rows)
            }
            Place::Burn(burn) => {
                let batch = |(values, shape): &Rows<'_>| {
                    let mut batch = Vec::with_capacity(size * shape.iter().product::<usize>());
                    batch.extend_from_slice(values);
                    batch.resize(batch.capacity(), 0.0);
                    (batch, once(size).chain(shape.iter().copied()).collect())
                };
                burn.run(inputs.iter().map(batch).collect())
            }
        }
    }
}

/// Some rows of one input, and the shape of a row.
pub(crate) type Rows<'a> = (&'a [f32], &'a [usize]);

/// A network whose tensors never leave the thread of their device, if that has one of its own.
#[derive(Debug)]
struct OnBurn {
    /// `None` only while it is being dropped.
    net: Option<Arc<Net>>,
    lane: Arc<Lane>,
    precision: Precision,
}

/// A batch of one input: values in row-major order and their shape.
type Batch = (Vec<f32>, Vec<usize>);

impl OnBurn {
    fn new(
        network: &Network,
        weights: Weights,
        lane: Arc<Lane>,
        precision: Precision,
    ) -> Result<Self, PredictError> {
        let network = network.clone();
        let build =
            move |device: &_| Net::from_weights_as(&network, &weights, device, precision).map(Arc::new);
        let net = lane.run(build)??;
        Ok(Self { net: Some(net), lane, precision })
    }

    fn run(&self, inputs: Vec<Batch>) -> Result<Vec<Vec<f32>>, PredictError> {
        let (net, precision, device) = (self.net.clone(), self.precision, self.lane.device());
        let failed = move |reason: String| PredictError::Device(DeviceError::Failed { device, reason });
        let outputs = self.lane.run(move |device| {
            let Some(net) = net else {
                return Err(PredictError::Internal { reason: "the network is gone".to_owned() });
            };
            let mut values = Vec::with_capacity(inputs.len());
            for (batch, shape) in inputs {
                let value = Value::from_vec_as(batch, &shape, device, precision);
                values.push(value.ok_or_else(|| PredictError::Internal {
                    reason: format!("a batch of shape {shape:?}"),
                })?);
            }
            net.run(values, None).into_iter().map(|output| output.into_vec().map_err(&failed)).collect()
        })??;
        Ok(outputs)
    }
}

impl Drop for OnBurn {
    fn drop(&mut self) {
        self.lane.discard(self.net.take());
    }
}

#[cfg(test)]
mod tests {
    use model::DeviceSpec;

    use super::*;

    #[test]
    fn a_panic_of_the_backend_is_an_error() {
        let network = Network::new(network::preset("mlp", &[4], 2).unwrap()).unwrap();
        for device in DeviceSpec::available() {
            let weights = model::initial_weights(&network, 1);
            let lane = Lane::open(&device).unwrap();
            let net = OnBurn::new(&network, weights, lane, Precision::F32).unwrap();
            // The signature keeps such a batch away; here it stands for a driver that fails.
            let error = net.run(vec![(vec![0.0; 3], vec![1, 3])]).unwrap_err();
            assert!(matches!(error, PredictError::Device(DeviceError::Failed { .. })), "{error}");
            assert_eq!(net.run(vec![(vec![0.0; 4], vec![1, 4])]).unwrap()[0].len(), 2);
        }
    }
}
