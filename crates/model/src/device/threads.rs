//! The threads that compute on a CPU: rayon's global pool, which Burn's CPU backends share.

use super::DeviceError;

/// The most threads that [`set_threads`] starts. The system would let more of them hang rather than refuse.
pub const MAX_THREADS: usize = 1024;

/// Fixes the number of threads that compute, once for the whole process; 0 takes one per processor core.
///
/// Burn's CPU backends run on rayon's global pool, so this is for `main`, before anything is computed;
/// a library must not call it. Asking again for the number that is running is fine.
///
/// # Errors
/// When there are more than [`MAX_THREADS`], or the pool is running already with another number of threads.
pub fn set_threads(threads: usize) -> Result<(), DeviceError> {
    if threads > MAX_THREADS {
        return Err(DeviceError::TooManyThreads { wanted: threads });
    }
    let result = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let current = rayon::current_num_threads();
    match result {
        Ok(()) => Ok(()),
        Err(_) if threads == 0 || threads == current => Ok(()),
        Err(_) => Err(DeviceError::Threads { current, wanted: threads }),
    }
}

/// The number of threads that compute.
#[must_use]
pub fn threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_threads_are_refused() {
        for wanted in [1025, 100_000, usize::MAX] {
            let message = set_threads(wanted).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("{wanted} threads are too many; at most 1024")),
                "{message}"
            );
        }
    }
}
