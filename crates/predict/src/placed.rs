//! A network on a device: built there, run there, dropped there.

use std::sync::Arc;

use model::{DeviceError, Lane, Net, Precision, Value};
use network::{Network, Weights};

use crate::error::PredictError;
use crate::placement::Placement;

/// A network whose tensors never leave the thread of their device, if that has one of its own.
#[derive(Debug)]
pub(crate) struct Placed {
    /// `None` only while it is being dropped.
    net: Option<Arc<Net>>,
    lane: Arc<Lane>,
    precision: Precision,
}

/// A batch of one input: values in row-major order and their shape.
pub(crate) type Batch = (Vec<f32>, Vec<usize>);

impl Placed {
    /// Builds the network on the device.
    pub(crate) fn new(
        network: &Network,
        weights: Weights,
        lane: Arc<Lane>,
        precision: Precision,
    ) -> Result<Self, PredictError> {
        lane.supports(precision)?;
        let network = network.clone();
        let build =
            move |device: &_| Net::from_weights_as(&network, &weights, device, precision).map(Arc::new);
        let net = lane.run(build)??;
        Ok(Self { net: Some(net), lane, precision })
    }

    /// The resolved device and the precision.
    pub(crate) fn placement(&self) -> Placement {
        Placement { device: self.lane.device(), precision: self.precision }
    }

    /// Runs one batch of all inputs and returns all outputs, row-major. On a GPU it waits for its turn.
    pub(crate) fn run(&self, inputs: Vec<Batch>) -> Result<Vec<Vec<f32>>, PredictError> {
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

impl Drop for Placed {
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
            let placed =
                Placed::new(&network, weights, Lane::open(&device).unwrap(), Precision::F32).unwrap();
            // The signature keeps such a batch away; here it stands for a driver that fails.
            let error = placed.run(vec![(vec![0.0; 3], vec![1, 3])]).unwrap_err();
            assert!(matches!(error, PredictError::Device(DeviceError::Failed { .. })), "{error}");
            assert_eq!(placed.run(vec![(vec![0.0; 4], vec![1, 4])]).unwrap()[0].len(), 2);
        }
    }
}
