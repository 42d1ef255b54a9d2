//! What is compiled in, what this machine has, and why something is missing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Serialize;

use super::DeviceSpec;
use super::adapter::{Adapter, Gpu, adapters};
use super::lane::{panic_message, precisions};
use crate::precision::Precision;

/// A kind of device: `cpu`, `vulkan`, …
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kind {
    /// Its name, as `--device` takes it.
    pub name: &'static str,
    /// Whether this program can use such devices.
    pub compiled_in: bool,
    /// The devices of this kind that the machine has, in the order of their indices.
    pub found: Vec<Found>,
    /// When there is none: why, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A device that the machine has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// What to give to `--device`.
    pub device: DeviceSpec,
    /// The device's own name.
    pub name: String,
    /// Its memory in bytes, where the driver tells it.
    pub memory: Option<u64>,
    /// The driver and its version, where it tells them.
    pub driver: Option<String>,
    /// Whether a processor pretends to be a GPU.
    pub software: bool,
    /// In which precisions networks can compute there.
    pub precisions: Vec<Precision>,
    /// Why it cannot be used although it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Lists every kind of device. GPUs are opened to be asked, which takes a second or so each.
#[must_use]
pub fn inventory() -> Vec<Kind> {
    let kind = |spec: DeviceSpec| {
        let found: Vec<Found> = adapters(spec).into_iter().map(found).collect();
        let missing = found.is_empty().then(|| missing(spec));
        Kind { name: spec.kind(), compiled_in: spec.compiled_in(), found, missing }
    };
    DeviceSpec::KINDS.into_iter().map(kind).collect()
}

fn found(adapter: Adapter) -> Found {
    let unfit = adapter.unfit();
    let Adapter { spec, name, driver, software, device, gpu } = adapter;
    if let Some(reason) = unfit {
        let (name, fault) = (name.unwrap_or_else(unnamed), Some(reason.to_owned()));
        return Found { device: spec, name, memory: None, driver, software, precisions: Vec::new(), fault };
    }
    let Some(gpu) = gpu else {
        let memory = proc_line("/proc/meminfo", "MemTotal")
            .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .map(|kibibytes| kibibytes * 1024);
        let name = proc_line("/proc/cpuinfo", "model name");
        let name = name.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let precisions = precisions(&device);
        return Found { device: spec, name, memory, driver, software, precisions, fault: None };
    };
    let opened = catch_unwind(AssertUnwindSafe(|| (ask(&gpu), precisions(&device))));
    let (told, precisions, fault) = match opened {
        Ok((told, precisions)) => (told, precisions, None),
        Err(panic) => (Told::default(), Vec::new(), Some(panic_message(panic.as_ref()).to_owned())),
    };
    let name = name.or(told.name).unwrap_or_else(unnamed);
    Found { device: spec, name, memory: told.memory, driver, software, precisions, fault }
}

fn unnamed() -> String {
    "unnamed".to_owned()
}

/// A kind of GPU that [`DeviceSpec::Auto`] does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its name, as `--device` takes it.
    pub name: &'static str,
    /// Why, and what would change it.
    pub reason: String,
}

/// Why [`DeviceSpec::Auto`] took `taken` and nothing better. Nothing is opened.
#[must_use]
pub fn passed_over(taken: DeviceSpec) -> Vec<PassedOver> {
    let better = DeviceSpec::BEST_FIRST.into_iter().take_while(|spec| spec.kind() != taken.kind());
    let why = |spec: DeviceSpec| {
        let pretends = "only a processor that pretends to be a GPU is found";
        let reason = match adapters(spec).iter().find(|adapter| !adapter.software) {
            Some(adapter) => adapter.unfit().unwrap_or("it is not the first choice").to_owned(),
            None if adapters(spec).is_empty() => missing(spec),
            None => pretends.to_owned(),
        };
        PassedOver { name: spec.kind(), reason }
    };
    better.map(why).collect()
}

/// What only an open GPU tells.
#[derive(Default)]
struct Told {
    name: Option<String>,
    memory: Option<u64>,
}

/// Opens a GPU, which panics where it cannot be.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn ask(gpu: &Gpu) -> Told {
    let client = gpu.client();
    let properties = client.properties();
    let identity = &properties.identity;
    // amdgpu tells the memory in sysfs; for the others CUDA and, in a build with `vulkan`, Vulkan does.
    let pci = identity.physical.as_ref().and_then(|card| card.pci_address);
    let file = pci.map(|pci| format!("/sys/bus/pci/devices/{pci}/mem_info_vram_total"));
    let sysfs = || std::fs::read_to_string(file?).ok()?.trim().parse().ok();
    Told { name: Some(identity.name.clone()), memory: properties.memory.max_memory().or_else(sysfs) }
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn ask(gpu: &Gpu) -> Told {
    match *gpu {}
}

/// The value of the first line of a file under /proc that begins with `key`.
fn proc_line(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim_end().to_owned())
}

/// Why there is no device of the kind of `spec`, and what would change it.
pub(super) fn missing(spec: DeviceSpec) -> String {
    let kind = spec.kind();
    let Some(feature) = spec.feature().filter(|_| !spec.compiled_in()) else {
        return absent(spec).to_owned();
    };
    let build = format!(
        "not compiled into this program; `cargo xtask … --device {kind}` builds one that has it \
         (`cargo build --release --features {feature}`)"
    );
    match spec {
        // What the machine lacks is worth knowing before a build of many minutes.
        DeviceSpec::Cuda(_) => {
            let driver = if library("libcuda.so.1") { "" } else { ". This machine has no NVIDIA driver" };
            build + "; that build needs LLVM 23, see docs/devices.md" + driver
        }
        DeviceSpec::Vulkan(_) if !library("libvulkan.so.1") => build + ". This machine has no Vulkan loader",
        _ => build,
    }
}

/// Why a backend that is compiled in finds nothing.
fn absent(spec: DeviceSpec) -> &'static str {
    match spec {
        DeviceSpec::Cuda(_) if library("libcuda.so.1") => {
            "NVIDIA's driver is installed but reports no GPU; `nvidia-smi` tells more"
        }
        DeviceSpec::Cuda(_) => {
            "there is no NVIDIA driver: libcuda.so.1 is not found; install the GPU's driver"
        }
        DeviceSpec::Vulkan(_) if !library("libvulkan.so.1") => {
            "there is no Vulkan loader: libvulkan.so.1 is not found; install it (Debian: libvulkan1) and the \
             driver of the GPU (Debian: mesa-vulkan-drivers for AMD and Intel; NVIDIA's own)"
        }
        DeviceSpec::Vulkan(_) => {
            "the Vulkan loader finds no device; install the driver of the GPU (Debian: mesa-vulkan-drivers for \
             AMD and Intel, and for a processor that pretends to be a GPU; NVIDIA's own)"
        }
        _ => {
            "no graphics adapter is found; on Linux install a Vulkan loader and the driver of the GPU (Debian: \
             libvulkan1 and mesa-vulkan-drivers)"
        }
    }
}

/// Whether a shared library lies where Linux looks for it. `cargo xtask` looks at the same places before it
/// builds anything.
fn library(name: &str) -> bool {
    let listed = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/lib64",
        "/lib",
    ];
    let extra = ["/usr/local/lib", "/usr/local/nvidia/lib64", "/usr/local/cuda/compat", "/usr/lib/wsl/lib"];
    let folders = listed.split(':').filter(|folder| !folder.is_empty()).chain(usual).chain(extra);
    folders.into_iter().any(|folder| Path::new(folder).join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_with_devices_or_a_reason() {
        let kinds = inventory();
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        assert_eq!(names, ["cpu", "flex", "ndarray", "vulkan", "wgpu", "cuda"]);
        for kind in &kinds {
            assert_eq!(kind.found.is_empty(), kind.missing.is_some(), "{kind:?}");
            assert!(kind.compiled_in || kind.found.is_empty(), "{kind:?}");
            for (index, found) in kind.found.iter().enumerate() {
                let index = if index == 0 { String::new() } else { format!(":{index}") };
                assert_eq!(found.device.to_string(), format!("{}{index}", kind.name));
                assert!(!found.name.is_empty());
                assert!(found.fault.is_some() || found.precisions.contains(&Precision::F32), "{found:?}");
            }
        }
        assert_eq!(kinds[0].found.len(), 1);
    }

    #[test]
    fn what_is_not_compiled_in_says_how_it_would_be() {
        for spec in DeviceSpec::KINDS.into_iter().filter(|spec| !spec.compiled_in()) {
            let text = missing(spec);
            assert!(text.contains(&format!("--device {}", spec.kind())), "{text}");
            assert!(text.contains(&format!("--features {}", spec.kind())), "{text}");
        }
    }
}
