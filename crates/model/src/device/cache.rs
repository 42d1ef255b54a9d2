//! Compiled kernels and tuning results, kept between starts.
//!
//! The first pass of every shape compiles kernels and, on `vulkan` and `cuda`, times several of them to choose
//! one. CubeCL, on which Burn's GPU backends stand, keeps both in a small database; this says where.

use std::path::Path;

/// Keeps compiled kernels and tuning results in `directory` from now on. `main` calls it before any GPU is
/// opened; later calls, and calls in a build without `vulkan` and `cuda`, change nothing. A directory that
/// cannot be written costs the time to compile again, nothing else.
///
/// A `cubecl.toml` in the working directory or above it keeps its say in everything but these two settings.
pub fn set_kernel_cache(directory: &Path) {
    #[cfg(feature = "fast-gpu")]
    {
        use burn::cubecl::config::cache::CacheConfig;
        use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};

        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache = true;
        config.environment.path = CacheConfig::Directory(directory.to_owned());
        // Whoever was first has decided.
        let _ = CubeClRuntimeConfig::try_set(config);
    }
    #[cfg(not(feature = "fast-gpu"))]
    let _ = directory;
}
