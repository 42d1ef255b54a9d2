//! The device of a command: found before anything is read, and told where `auto` chose it.

use cli::Printer;
use model::DeviceSpec;

use super::failure;

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
    format!(
        "device {taken}: `auto` finds no GPU that this program can use; `cargo xtask devices --device auto` says why"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_says_what_it_took() {
        assert_eq!(took(DeviceSpec::Cuda(0)), "device cuda, the best that `auto` finds");
        assert!(took(DeviceSpec::Cpu).contains("finds no GPU"));
    }
}
