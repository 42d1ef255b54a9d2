//! Time: how much there is, and how many epochs fit into it.

use std::time::{Duration, Instant};

use model::DeviceSpec;
use network::Network;
use train::fit::{FitError, Stepper};

use crate::finetune::FinetuneConfig;

/// What one epoch takes beside its steps: batches are made, the validation part is looked at.
const AROUND: f64 = 1.2;

/// The end of the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    end: Instant,
    all: Duration,
}

impl Clock {
    /// So many minutes from now.
    pub(super) fn of_minutes(minutes: f64) -> Self {
        let all = Duration::from_secs_f64(60.0 * minutes);
        Self { end: Instant::now() + all, all }
    }

    /// What is left.
    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// A share of all time, but no more than is left.
    pub(super) fn share(&self, share: f64) -> Duration {
        self.all.mul_f64(share).min(self.left())
    }
}

/// The time of an epoch over so many samples, from a few steps of training.
///
/// # Errors
/// When the device cannot train the network.
pub(super) fn epoch(
    network: &Network,
    config: &FinetuneConfig,
    samples: usize,
    device: DeviceSpec,
) -> Result<Duration, FitError> {
    let optimizer = config.optimizer.check().map_err(|error| FitError::Device(error.to_string()))?;
    let device = device.open().map_err(|error| FitError::Device(error.to_string()))?;
    let mut stepper = Stepper::new(network, config.batch_size, optimizer, config.seed, &device)?;
    // The first makes what the others find.
    stepper.step()?;
    let (start, mut steps) = (Instant::now(), 0);
    while steps < 2 || start.elapsed() < Duration::from_millis(300) {
        stepper.step()?;
        steps += 1;
    }
    let step = start.elapsed() / steps;
    let all = samples.div_ceil(config.batch_size.max(1));
    Ok(Duration::from_secs_f64(step.as_secs_f64() * all as f64 * AROUND))
}

/// How many epochs of such a length fit, at most `most`; or why none does.
pub(super) fn epochs(one: Duration, time: Duration, most: usize) -> Result<usize, String> {
    let fit = (time.as_secs_f64() / one.as_secs_f64().max(1e-9)) as usize;
    match fit.min(most) {
        0 => Err(format!(
            "no time is left to train it: an epoch takes about {}, and {} are left for it",
            cli::duration(one),
            cli::duration(time)
        )),
        epochs => Ok(epochs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_fit_into_the_time() {
        let second = Duration::from_secs(1);
        assert_eq!(epochs(second, 10 * second, 20), Ok(10));
        assert_eq!(epochs(second, 100 * second, 20), Ok(20));
        let why = epochs(60 * second, 30 * second, 20).unwrap_err();
        assert!(why.contains("no time") && why.contains("30"), "{why}");
    }
}
