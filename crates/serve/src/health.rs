//! Whether the models still compute. A GPU may die while the server runs: its driver crashes, or another process
//! takes its memory.
//!
//! One request that fails says little, so the model is asked again what it was asked when it was loaded. If it
//! cannot answer that any more, the server is not ready until the model has answered something: requests still
//! reach it, so a device that recovers is found out. Liveness stays, for the process answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use predict::{DeviceError, PredictError, Predictor};

/// Which models have stopped to compute.
#[derive(Debug, Default)]
pub struct Health {
    /// By name and version: why, as clients are told.
    lost: Mutex<BTreeMap<(String, u64), String>>,
    /// Whether `lost` has any, so that a batch that was computed need not look.
    any: AtomicBool,
}

impl Health {
    /// Notes how a model answered; `check` asks it something that it has answered before, and is called when its
    /// device has failed.
    pub fn note(
        &self,
        predictor: &Predictor,
        error: Option<&PredictError>,
        check: impl FnOnce() -> Result<(), PredictError>,
    ) {
        match error {
            None if !self.any.load(Ordering::Acquire) => {}
            None => {
                if self.remove(&key(predictor)) {
                    tracing::info!(model = predictor.name(), version = predictor.version(), "computes again");
                }
            }
            Some(PredictError::Device(DeviceError::Failed { device, .. }))
                if self.fault(predictor).is_none() =>
            {
                // Not under the lock, since it computes.
                let Err(cause) = check() else { return };
                let (model, version) = key(predictor);
                tracing::error!(model, version, %device, %cause, "does not compute any more; the server is not ready");
                let reason = format!(
                    "the device `{device}` does not compute version {version} of `{model}` any more; the server's \
                     log says why"
                );
                let mut lost = self.lost();
                lost.insert((model, version), reason);
                self.any.store(true, Ordering::Release);
            }
            Some(_) => {}
        }
    }

    /// A version has been unloaded or replaced: what is known of it concerns nobody any more.
    pub fn forget(&self, name: &str, version: u64) {
        self.remove(&(name.to_owned(), version));
    }

    fn remove(&self, key: &(String, u64)) -> bool {
        let mut lost = self.lost();
        let removed = lost.remove(key).is_some();
        self.any.store(!lost.is_empty(), Ordering::Release);
        removed
    }

    /// Why a model cannot be asked, if so.
    #[must_use]
    pub fn fault(&self, predictor: &Predictor) -> Option<String> {
        self.lost().get(&key(predictor)).cloned()
    }

    /// Why the server is not ready, if so.
    #[must_use]
    pub fn first_fault(&self) -> Option<String> {
        self.lost().values().next().cloned()
    }

    fn lost(&self) -> MutexGuard<'_, BTreeMap<(String, u64), String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(predictor: &Predictor) -> (String, u64) {
    (predictor.name().to_owned(), predictor.version())
}

#[cfg(test)]
mod tests {
    use network::{Network, Postprocess, Preprocess, Task};
    use predict::{DeviceSpec, Parts};

    use super::*;

    fn predictor() -> Predictor {
        let network = Network::new(network::preset("mlp", &[4], 2).unwrap()).unwrap();
        let parts = Parts {
            weights: model::initial_weights(&network, 1),
            network,
            preprocess: Preprocess::Numbers { shape: vec![4] },
            postprocess: Postprocess::new(Task::MultiClass, vec!["no".to_owned(), "yes".to_owned()]),
            quantization: None,
        };
        Predictor::from_parts(parts, DeviceSpec::Cpu).unwrap()
    }

    fn failed() -> PredictError {
        DeviceError::Failed { device: DeviceSpec::Cuda(0), reason: "it fell off the bus".to_owned() }.into()
    }

    #[test]
    fn a_failure_that_does_not_repeat_is_one_requests_failure() {
        let (health, predictor) = (Health::default(), predictor());
        health.note(&predictor, Some(&failed()), || Ok(()));
        assert_eq!(health.first_fault(), None);
        let overflow = PredictError::Overflow { row: 0, precision: predict::Precision::F16 };
        health.note(&predictor, Some(&overflow), || panic!("the device is not at fault"));
        assert_eq!(health.first_fault(), None);
    }

    #[test]
    fn a_failure_that_repeats_is_told_until_an_answer_comes() {
        let (health, predictor) = (Health::default(), predictor());
        health.note(&predictor, Some(&failed()), || Err(failed()));
        let reason = health.fault(&predictor).unwrap();
        assert!(reason.starts_with("the device `cuda` does not compute version 0 of `unpacked`"), "{reason}");
        assert!(!reason.contains("bus"), "the log says that: {reason}");
        // Known already.
        health.note(&predictor, Some(&failed()), || panic!("checked again"));
        assert_eq!(health.first_fault(), Some(reason));
        health.note(&predictor, None, || panic!("there is nothing to check"));
        assert_eq!((health.fault(&predictor), health.first_fault()), (None, None));
    }
}
