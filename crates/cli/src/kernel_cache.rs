//! Where the commands keep what GPUs have compiled and learned, so that each finds what another left.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names the folder.
const VARIABLE: &str = "BRAZIER_KERNEL_CACHE";

/// The folder for compiled kernels and tuning results: what `BRAZIER_KERNEL_CACHE` names, else `kernel-cache`
/// beside the registry at `models`.
#[must_use]
pub fn kernel_cache(models: &Path) -> PathBuf {
    choose(std::env::var_os(VARIABLE), models)
}

fn choose(named: Option<OsString>, models: &Path) -> PathBuf {
    let named = named.filter(|folder| !folder.is_empty()).map(PathBuf::from);
    named.unwrap_or_else(|| models.parent().unwrap_or(models).join("kernel-cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_kept_beside_the_registry_or_where_the_environment_says() {
        let models = Path::new("artifacts/models");
        let cases = [
            (None, "artifacts/kernel-cache"),
            (Some(""), "artifacts/kernel-cache"),
            (Some("/tmp/kernels"), "/tmp/kernels"),
        ];
        for (named, expected) in cases {
            assert_eq!(choose(named.map(OsString::from), models), Path::new(expected), "{named:?}");
        }
        assert_eq!(choose(None, Path::new("models")), Path::new("kernel-cache"));
    }
}
