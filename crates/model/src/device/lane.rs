//! Where a device computes: a CPU in the caller's thread, a GPU on one thread that owns its stream.
//!
//! Burn keeps a stream with memory pools of its own per operating system thread, so a GPU that is called from
//! many threads uses many times the memory and waits for itself (burn#2042, burn#1492). One thread per GPU
//! keeps one stream, and whoever wants something computed waits in line.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::ThreadId;

use burn::tensor::Device;

use super::{DeviceError, DeviceSpec};
use crate::precision::Precision;

type Job = Box<dyn FnOnce(&Device) + Send>;

/// An open device and the place to compute on it. Whoever opens the same device gets the same lane for as
/// long as anyone holds it; hold it for as long as models come and go, for the thread of a lane that is opened
/// anew may start while the old one still drops what it had. It is `Send` and `Sync`.
#[derive(Debug)]
pub struct Lane {
    spec: DeviceSpec,
    device: Device,
    worker: Option<Worker>,
}

/// The thread of a GPU. It ends when the lane is dropped.
#[derive(Debug)]
struct Worker {
    jobs: Sender<Job>,
    thread: ThreadId,
}

/// The lanes of this process, by device. Burn's own devices are global in the same way.
static LANES: Mutex<Option<HashMap<DeviceSpec, Weak<Lane>>>> = Mutex::new(None);

impl Lane {
    /// Opens a device, or joins those who have.
    ///
    /// # Errors
    /// When the device is not compiled in, not found, or does not start.
    pub fn open(device: &DeviceSpec) -> Result<Arc<Self>, DeviceError> {
        let spec = device.resolve()?;
        if !spec.is_gpu() {
            return Ok(Arc::new(Self { spec, device: spec.open()?, worker: None }));
        }
        // Held while the device opens, so that two callers do not open it twice.
        let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes = lanes.get_or_insert_default();
        if let Some(lane) = lanes.get(&spec).and_then(Weak::upgrade) {
            return Ok(lane);
        }
        let lane = Arc::new(Self::start(spec)?);
        lanes.insert(spec, Arc::downgrade(&lane));
        Ok(lane)
    }

    /// Starts the thread of a GPU, which opens it.
    fn start(spec: DeviceSpec) -> Result<Self, DeviceError> {
        let (jobs, queue) = channel::<Job>();
        let (opened, wait) = channel();
        let serve = move || match spec.open() {
            Err(error) => {
                // Nobody else waits for this thread, so it ends with the message.
                let _ = opened.send(Err(error));
            }
            Ok(device) => {
                let _ = opened.send(Ok((device.clone(), std::thread::current().id())));
                for job in queue {
                    job(&device);
                }
            }
        };
        let failed = |reason: String| DeviceError::Failed { device: spec, reason };
        let thread = std::thread::Builder::new().name(format!("device-{spec}"));
        thread.spawn(serve).map_err(|error| failed(error.to_string()))?;
        let (device, thread) = wait.recv().map_err(|_| failed("its thread ended".to_owned()))??;
        Ok(Self { spec, device, worker: Some(Worker { jobs, thread }) })
    }

    /// The device, never [`DeviceSpec::Auto`].
    #[must_use]
    pub fn device(&self) -> DeviceSpec {
        self.spec
    }

    /// Whether networks can compute in `precision` here.
    ///
    /// # Errors
    /// When they cannot; the message says what the device can do.
    pub fn supports(&self, precision: Precision) -> Result<(), DeviceError> {
        let able = precisions(&self.device);
        if able.contains(&precision) {
            return Ok(());
        }
        let able = able.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(DeviceError::Precision { device: self.spec, precision, able })
    }

    /// Runs `job` where the device computes and waits for what it returns. Jobs of one GPU run one after
    /// the other, in the order in which they were asked for.
    ///
    /// # Errors
    /// When the job panics, as Burn's backends do when a driver fails. The lane goes on.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Device) -> T + Send + 'static,
    ) -> Result<T, DeviceError> {
        let failed = |reason: &str| DeviceError::Failed { device: self.spec, reason: reason.to_owned() };
        // The job owns what it touches, so nothing half-changed outlives a panic.
        let guarded = move |device: &Device| catch_unwind(AssertUnwindSafe(|| job(device)));
        let result = match &self.worker {
            Some(worker) if std::thread::current().id() != worker.thread => {
                let (reply, answer) = channel();
                let job: Job = Box::new(move |device| {
                    let result = guarded(device);
                    // A caller that died while it waited wants no answer.
                    let _ = reply.send(result);
                });
                worker.jobs.send(job).map_err(|_| failed("its thread ended"))?;
                answer.recv().map_err(|_| failed("its thread ended"))?
            }
            // On the lane's own thread waiting for it would be waiting for oneself.
            _ => guarded(&self.device),
        };
        result.map_err(|panic| failed(panic_message(panic.as_ref())))
    }

    /// Drops a value where the device computes, without waiting: tensors belong to the stream that made them.
    pub fn discard<T: Send + 'static>(&self, value: T) {
        match &self.worker {
            Some(worker) if std::thread::current().id() != worker.thread => {
                // When the thread has ended, the job comes back and is dropped here.
                let _ = worker.jobs.send(Box::new(move |_| drop(value)));
            }
            _ => drop(value),
        }
    }
}

/// The precisions in which a device can compute.
pub(super) fn precisions(device: &Device) -> Vec<Precision> {
    Precision::ALL.into_iter().filter(|precision| device.supports_dtype(precision.dtype())).collect()
}

/// The text of a panic, when it has one.
#[must_use]
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_lane_goes_on() {
        for device in DeviceSpec::available() {
            let lane = Lane::open(&device).unwrap();
            let error = lane.run(|_| panic!("on purpose")).map(|()| 0).unwrap_err();
            assert!(error.to_string().contains("on purpose"), "{error}");
            assert_eq!(lane.run(|_| 7).unwrap(), 7);
            lane.discard(vec![1, 2, 3]);
        }
    }

    #[test]
    fn a_gpu_is_one_thread_and_a_cpu_is_the_callers() {
        for device in DeviceSpec::available() {
            let lane = Lane::open(&device).unwrap();
            let here = lane.run(|_| std::thread::current().id()).unwrap();
            let there = {
                let lane = Lane::open(&device).unwrap();
                std::thread::spawn(move || lane.run(|_| std::thread::current().id()).unwrap()).join().unwrap()
            };
            assert_eq!(here == there, device.is_gpu(), "{device}");
            assert_eq!(here == std::thread::current().id(), !device.is_gpu(), "{device}");
        }
    }

    #[test]
    fn every_device_computes_in_32_bits() {
        for device in DeviceSpec::available() {
            Lane::open(&device).unwrap().supports(Precision::F32).unwrap();
        }
        // The CPU's backend has both half precisions.
        let lane = Lane::open(&DeviceSpec::Flex).unwrap();
        for precision in Precision::ALL {
            lane.supports(precision).unwrap();
        }
    }
}
