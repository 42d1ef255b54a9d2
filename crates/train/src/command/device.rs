//! The device of a command: found before anything is read, and told where `auto` chose it.

use std::path::{Path, PathBuf};

use cli::Printer;
use model::DeviceSpec;

use super::failure;

/// The variable that says where compiled kernels are kept.
pub(super) const KERNEL_CACHE: &str = "BRAZIER_KERNEL_CACHE";

/// Finds the device that was asked for.
///
/// What is not compiled in or not there is a mistake in what was asked for (exit code 2), and known before
/// anything is read.
pub(super) fn choose(given: DeviceSpec, printer: &Printer) -> anyhow::Result<DeviceSpec> {
    let taken = given.resolve().map_err(failure::explain_device)?;
    if taken != given {
        printer.status(took(taken));
    }
    Ok(taken)
}

/// What `auto` took, in words.
pub(super) fn took(taken: DeviceSpec) -> String {
    if taken.is_gpu() {
        return format!("device {taken}, the best that `auto` finds");
    }
    format!("device {taken}: `auto` finds no GPU that this program can use; `cargo xtask devices` says why")
}

/// Keeps compiled kernels and tuning results of GPUs between starts: in the folder that the environment names,
/// else beside the registry, where prediction and the server look as well.
pub(super) fn keep_kernels(models: &Path) {
    model::device::set_kernel_cache(&kernel_cache(std::env::var_os(KERNEL_CACHE).map(PathBuf::from), models));
}

fn kernel_cache(named: Option<PathBuf>, models: &Path) -> PathBuf {
    let named = named.filter(|folder| !folder.as_os_str().is_empty());
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
            (Some("/tmp/k"), "/tmp/k"),
        ];
        for (named, expected) in cases {
            assert_eq!(kernel_cache(named.map(PathBuf::from), models), Path::new(expected), "{named:?}");
        }
        assert_eq!(kernel_cache(None, Path::new("models")), Path::new("kernel-cache"));
    }

    #[test]
    fn auto_says_what_it_took() {
        assert_eq!(took(DeviceSpec::Cuda(0)), "device cuda, the best that `auto` finds");
        assert!(took(DeviceSpec::Cpu).contains("finds no GPU"));
    }
}
