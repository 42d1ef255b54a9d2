//! Work on a device that may fail in the middle.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model::device::panic_message;
use model::{DeviceError, DeviceSpec};

/// Does `work` that computes on `device`. Burn's GPU backends panic when a driver fails, a kernel does not
/// compile or the memory ends; that becomes an error. A panic on a CPU is a fault of the program and stays one.
///
/// # Errors
/// [`DeviceError::Failed`] when the GPU's backend panicked; what the work itself returns is handed on as it is.
pub fn guarded<T>(device: DeviceSpec, work: impl FnOnce() -> T) -> Result<T, DeviceError> {
    if !device.is_gpu() {
        return Ok(work());
    }
    // The caller gives the work up as a whole, so nothing half-changed is looked at afterwards.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let reason = panic_message(panic.as_ref()).to_owned();
        DeviceError::Failed { device, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_dies_is_an_error() {
        let error = guarded(DeviceSpec::Cuda(1), || -> u8 { panic!("out of {}", "memory") }).unwrap_err();
        assert_eq!(error.to_string(), "the device `cuda:1` failed: out of memory");
        let error = guarded(DeviceSpec::Vulkan(0), || -> u8 { panic!("lost") }).unwrap_err();
        assert_eq!(error.to_string(), "the device `vulkan` failed: lost");
        assert_eq!(guarded(DeviceSpec::Vulkan(0), || 7), Ok(7));
        assert!(catch_unwind(|| guarded(DeviceSpec::Cpu, || -> u8 { panic!("a fault") })).is_err());
    }
}
