//! Where the models run: the device and the precision, from the settings.

use std::path::Path;
use std::sync::Arc;

use cli::ErrorExt as _;
use cli::config::Resolved;
use model::{Lane, PrecisionError};
use predict::{DeviceError, DeviceSpec, Placement, Precision};
use serve::config::Config;
use serve::load::Options;

/// Opens the device. What this build or this machine lacks is known before any model is read.
pub(crate) fn place(resolved: &Resolved<Config>) -> anyhow::Result<(Arc<Lane>, Options)> {
    let config = &resolved.config;
    let precision: Result<Precision, PrecisionError> = config.precision.parse();
    let precision = precision.map_err(|error| resolved.refuse("precision", error.to_string()))?;
    let asked: DeviceSpec = config.device.parse().or_else(|error| refused(resolved, error))?;
    let device = asked.resolve().or_else(|error| refused(resolved, error))?;
    if asked == DeviceSpec::Auto {
        tell(device);
    }
    if !device.is_gpu() && !config.batch_sizes.is_empty() {
        tracing::warn!(%device, "`batch_sizes` is for GPUs; this device takes batches as they come");
    }
    keep_kernels(config.kernel_cache.as_deref(), &config.models, device);
    let lane = Lane::open(&device).or_else(|error| refused(resolved, error))?;
    lane.supports(precision).or_else(|error| refused(resolved, error))?;
    let placement = Placement { device, precision };
    Ok((lane, Options { placement, batch_sizes: config.batch_sizes.clone() }))
}

/// A device that is not there, or cannot do what was asked, is a mistake in a setting; one that fails is not.
fn refused<T>(resolved: &Resolved<Config>, error: DeviceError) -> anyhow::Result<T> {
    let hint = error.hint();
    let result = match error {
        DeviceError::Failed { .. } => Err(error.into()),
        DeviceError::Precision { .. } => Err(resolved.refuse("precision", error.to_string()).into()),
        error => Err(resolved.refuse("device", error.to_string()).into()),
    };
    match hint {
        Some(hint) => result.hint(hint),
        None => result,
    }
}

/// Says where compiled kernels are kept, which must be before anything opens the device. `wanted` is the setting.
fn keep_kernels(wanted: Option<&Path>, models: &Path, device: DeviceSpec) {
    // `wgpu` keeps nothing by itself, but where the others have brought the means.
    let build_keeps = DeviceSpec::Vulkan(0).compiled_in() || DeviceSpec::Cuda(0).compiled_in();
    if device.is_gpu() && build_keeps {
        let folder = wanted.map_or_else(|| cli::kernel_cache(models), Path::to_owned);
        model::device::set_kernel_cache(&folder);
    } else if wanted.is_some() {
        let reason = if device.is_gpu() {
            "a build with `wgpu` alone keeps no kernels"
        } else {
            "this device compiles no kernels"
        };
        tracing::warn!(%device, "`kernel_cache` has no effect: {reason}");
    }
}

/// Logs what `auto` takes, and why nothing better.
fn tell(device: DeviceSpec) {
    tracing::info!(%device, "auto takes this device");
    for passed in model::device::passed_over(device) {
        tracing::info!(device = passed.name, reason = passed.reason, "not taken by auto");
    }
}

#[cfg(test)]
mod tests {
    use cli::config::Layers;

    use super::*;

    #[test]
    fn a_device_that_fails_is_no_mistake_in_a_setting() {
        let resolved = Layers::new().flag("device", "--device", Some("cuda")).unwrap().resolve().unwrap();
        let told = |error| {
            let error = refused::<()>(&resolved, error).unwrap_err();
            (cli::exit_status(&error).code(), cli::render_error(&error, false))
        };
        let device = DeviceSpec::Cuda(0);
        assert_eq!(
            told(DeviceError::Failed { device, reason: "it fell off".to_owned() }),
            (
                3,
                "error: the device `cuda` failed: it fell off\n\n\
                 hint: `cargo xtask devices` lists the devices with their drivers\n"
                    .to_owned()
            )
        );
        let (code, text) = told(DeviceError::NotFound { device, reason: "no driver".to_owned() });
        assert_eq!(code, 2);
        for part in
            ["`device`", "--device", "is not there: no driver", "hint: `cargo xtask devices --device cuda`"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let (precision, able) = (Precision::Bf16, "f32".to_owned());
        let (code, text) = told(DeviceError::Precision { device, precision, able });
        assert!(code == 2 && text.contains("`precision`"), "{text}");
    }
}
