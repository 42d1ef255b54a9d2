//! `train devices`: what is compiled in, what this machine has, and why something is missing.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use cli::{ExitStatus, Table};
use model::DeviceSpec;
use model::device::{Found, Kind, inventory};
use serde::Serialize;

use super::failure;

/// Lists the devices that this program can compute on, and why others are missing.
///
/// Which devices a program can use is decided when it is built: `cargo xtask devices --device vulkan` builds
/// one that knows Vulkan and asks it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevicesArguments {
    /// Fail unless this device is there: cpu, flex, ndarray, vulkan[:INDEX], wgpu[:INDEX] or cuda[:INDEX]; auto
    /// stands for the best of those.
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceSpec>,

    #[command(flatten)]
    common: cli::Common,
}

const EXAMPLES: &str = "Examples:
  train devices
  train devices --json
  cargo xtask devices --device vulkan     builds with Vulkan first";

#[derive(Serialize)]
struct DevicesResult<'a> {
    devices: &'a [Kind],
    /// What `--device auto` takes.
    auto: Option<DeviceSpec>,
}

pub(crate) fn run(arguments: &DevicesArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.common.start(tracing::Level::WARN);
    // Asking a GPU opens it, and what is compiled for that belongs where the other commands look.
    model::device::set_kernel_cache(&cli::kernel_cache(Path::new("artifacts/models")));
    let kinds = inventory();
    let auto = DeviceSpec::Auto.resolve().ok();
    printer.result(&DevicesResult { devices: &kinds, auto }, || human(&kinds, auto))?;
    if let Some(device) = arguments.device {
        device.resolve().map_err(failure::explain_device)?;
    }
    Ok(ExitStatus::Success)
}

fn human(kinds: &[Kind], auto: Option<DeviceSpec>) -> String {
    let mut table = Table::new(["device", "name", "memory", "driver", "computes in"]).numbers([2]);
    for found in kinds.iter().flat_map(|kind| &kind.found) {
        table.row(row(found));
    }
    let mut text = table.to_string();
    let mut note = |name: &str, reason: &str| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\n{name}: {reason}");
    };
    for kind in kinds {
        for found in &kind.found {
            if let Some(fault) = &found.fault {
                note(&found.device.to_string(), &format!("is found and cannot be used: {fault}"));
            }
        }
        if let Some(reason) = &kind.missing {
            note(kind.name, reason);
        }
    }
    if let Some(auto) = auto {
        note("auto", &format!("takes {auto}"));
    }
    text
}

fn row(found: &Found) -> [String; 5] {
    let precisions: Vec<&str> = found.precisions.iter().map(|precision| precision.name()).collect();
    let pretends = if found.software { " (a processor that pretends to be a GPU)" } else { "" };
    [
        found.device.to_string(),
        format!("{}{pretends}", found.name),
        found.memory.map(cli::bytes).unwrap_or_default(),
        found.driver.clone().unwrap_or_default(),
        precisions.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use model::Precision;

    use super::*;

    #[test]
    fn what_is_there_stands_in_the_table_and_what_is_missing_below_it() {
        let gpu = Found {
            device: DeviceSpec::Vulkan(1),
            name: "Imaginary 9000".to_owned(),
            memory: Some(8 << 30),
            driver: Some("imagined 1.2".to_owned()),
            software: false,
            precisions: vec![Precision::F32, Precision::F16],
            fault: None,
        };
        let soft = Found {
            device: DeviceSpec::Vulkan(2),
            name: "pipe".to_owned(),
            software: true,
            memory: None,
            driver: None,
            precisions: Vec::new(),
            fault: Some("it broke".to_owned()),
        };
        let kinds = [
            Kind { name: "vulkan", compiled_in: true, found: vec![gpu, soft], missing: None },
            Kind {
                name: "cuda",
                compiled_in: false,
                found: Vec::new(),
                missing: Some("not compiled in".to_owned()),
            },
        ];
        let text = human(&kinds, Some(DeviceSpec::Vulkan(1)));
        for expected in [
            "vulkan:1  Imaginary 9000",
            "imagined 1.2  f32, f16",
            "pipe (a processor that pretends to be a GPU)",
            "\nvulkan:2: is found and cannot be used: it broke\ncuda: not compiled in\nauto: takes vulkan:1",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }
}
