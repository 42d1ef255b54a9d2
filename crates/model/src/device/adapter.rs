//! What this machine has, asked of the backends that are compiled in. Nothing is opened here.

use std::ffi::OsString;
use std::path::Path;

use burn::tensor::Device;

use super::DeviceSpec;

/// A device of a GPU backend, under the name that CubeCL has for it.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) type Gpu = burn::cubecl::Device;
/// There is none in this build.
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
pub(super) type Gpu = std::convert::Infallible;

/// A device that was found.
#[derive(Clone, Debug)]
pub(super) struct Adapter {
    pub(super) spec: DeviceSpec,
    /// Its own name; CUDA tells it only of an open device.
    pub(super) name: Option<String>,
    pub(super) driver: Option<String>,
    /// Whether a processor pretends to be it.
    pub(super) software: bool,
    pub(super) device: Device,
    /// The same device where it is a GPU.
    pub(super) gpu: Option<Gpu>,
}

impl Adapter {
    /// Why it must not be opened although it is there.
    pub(super) fn unfit(&self) -> Option<&'static str> {
        if self.software && cfg!(feature = "fast-gpu") {
            return Some(
                "it is a processor that pretends to be a GPU, and fused and tuned kernels, which this program has, \
                 crash inside Mesa there; `cpu` is faster, and a program built with `wgpu` alone runs on it",
            );
        }
        if matches!(self.spec, DeviceSpec::Cuda(_)) && !has_libdevice(std::env::var_os("CUDA_PATH")) {
            return Some(
                "CUDA's mathematical functions are missing: nvvm/libdevice/libdevice.10.bc is not in CUDA_PATH nor, \
                 without that variable, in /usr/local/cuda, /opt/cuda, /usr/lib/cuda or /usr; docs/devices.md says \
                 where to get this one file",
            );
        }
        None
    }
}

/// Whether the bitcode is there that CubeCL links into kernels with an exponential and the like. It looks in
/// `CUDA_PATH`, and without that in the first of the usual places that has such a folder.
fn has_libdevice(cuda_path: Option<OsString>) -> bool {
    let folder = |toolkit: &Path| toolkit.join("nvvm/libdevice");
    let usual = || ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"].map(Path::new);
    let found = match &cuda_path {
        Some(toolkit) => Some(folder(Path::new(toolkit))),
        None => usual().into_iter().map(folder).find(|folder| folder.is_dir()),
    };
    found.is_some_and(|folder| folder.join("libdevice.10.bc").is_file())
}

/// The devices of the kind of `spec`, in the order of their indices.
pub(super) fn adapters(spec: DeviceSpec) -> Vec<Adapter> {
    let simple =
        |device| vec![Adapter { spec, name: None, driver: None, software: false, device, gpu: None }];
    match spec {
        DeviceSpec::Cpu | DeviceSpec::Flex => simple(Device::flex()),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated, reason = "it is asked for by name, to compare with")]
        DeviceSpec::NdArray => simple(Device::ndarray()),
        #[cfg(feature = "vulkan")]
        DeviceSpec::Vulkan(_) => graphics::vulkan(),
        #[cfg(feature = "wgpu")]
        DeviceSpec::Wgpu(_) => graphics::wgpu(),
        #[cfg(feature = "cuda")]
        DeviceSpec::Cuda(_) => cuda(),
        _ => Vec::new(),
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Adapter> {
    use burn::tensor::DeviceType;

    // `NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  …`, or `… Open Kernel Module for x86_64  570.…`
    let version = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
    let number = version.as_deref().and_then(|text| {
        text.lines().next()?.split_whitespace().find(|word| {
            word.contains('.') && word.chars().all(|letter| letter.is_ascii_digit() || letter == '.')
        })
    });
    let driver = number.map(|number| format!("NVIDIA {number}"));
    let adapter = |(index, device): (usize, Device)| Adapter {
        spec: DeviceSpec::Cuda(index),
        name: None,
        driver: driver.clone(),
        software: false,
        device,
        gpu: Gpu::cuda(index).ok(),
    };
    Device::enumerate(DeviceType::Cuda).into_iter().enumerate().map(adapter).collect()
}

/// Adapters of the graphics APIs. They are listed once per process: Vulkan's loader can crash when instances
/// come and go on several threads, and Burn makes instances of its own as soon as a device is opened.
#[cfg(feature = "wgpu")]
mod graphics {
    use std::sync::OnceLock;

    use burn::cubecl::device::{WgpuBackend, WgpuDevice, WgpuDeviceKind};
    use burn::cubecl::future::block_on;
    use burn::tensor::Device;
    use burn::tensor::wgpu::wgpu::{AdapterInfo, Backends, DeviceType, Instance, InstanceDescriptor};

    use super::{Adapter, DeviceSpec, Gpu};

    #[cfg(feature = "vulkan")]
    pub(super) fn vulkan() -> Vec<Adapter> {
        number(listed_vulkan(), DeviceSpec::Vulkan, WgpuBackend::Vulkan)
    }

    /// The first API with a GPU, or else the first with anything: the order in which Burn looks, so that
    /// the adapters listed are those it opens.
    pub(super) fn wgpu() -> Vec<Adapter> {
        static OTHERS: OnceLock<Vec<AdapterInfo>> = OnceLock::new();
        let has_gpu =
            |found: &[AdapterInfo]| found.iter().any(|adapter| adapter.device_type != DeviceType::Cpu);
        let vulkan = listed_vulkan();
        let found = if has_gpu(vulkan) {
            vulkan
        } else {
            let others = OTHERS.get_or_init(|| {
                let mut others = [Backends::METAL, Backends::DX12, Backends::GL].map(list).to_vec();
                others.sort_by_key(|found| (!has_gpu(found), found.is_empty()));
                others.swap_remove(0)
            });
            if has_gpu(others) || vulkan.is_empty() { others } else { vulkan }
        };
        number(found, DeviceSpec::Wgpu, WgpuBackend::Auto)
    }

    fn listed_vulkan() -> &'static [AdapterInfo] {
        static VULKAN: OnceLock<Vec<AdapterInfo>> = OnceLock::new();
        VULKAN.get_or_init(|| list(Backends::VULKAN))
    }

    fn list(backends: Backends) -> Vec<AdapterInfo> {
        let descriptor = InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() };
        let instance = Instance::new(descriptor);
        block_on(instance.enumerate_adapters(backends)).iter().map(|adapter| adapter.get_info()).collect()
    }

    /// Numbers the adapters: discrete GPUs first, then integrated, virtual and other ones, then a processor
    /// that pretends. CubeCL counts each type from zero, and can name one processor only.
    fn number(found: &[AdapterInfo], spec: fn(usize) -> DeviceSpec, api: WgpuBackend) -> Vec<Adapter> {
        let kind = |device_type, index| match device_type {
            DeviceType::DiscreteGpu => WgpuDeviceKind::DiscreteGpu(index),
            DeviceType::IntegratedGpu => WgpuDeviceKind::IntegratedGpu(index),
            DeviceType::VirtualGpu => WgpuDeviceKind::VirtualGpu(index),
            DeviceType::Cpu => WgpuDeviceKind::Cpu,
            DeviceType::Other => WgpuDeviceKind::Other(index),
        };
        let types = [
            DeviceType::DiscreteGpu,
            DeviceType::IntegratedGpu,
            DeviceType::VirtualGpu,
            DeviceType::Other,
            DeviceType::Cpu,
        ];
        let mut adapters = Vec::new();
        for device_type in types {
            let software = device_type == DeviceType::Cpu;
            let alike = found.iter().filter(|info| info.device_type == device_type);
            for (index, info) in alike.enumerate().take(if software { 1 } else { usize::MAX }) {
                let driver = format!("{} {}", info.driver, info.driver_info);
                let gpu = Gpu::Wgpu(WgpuDevice::new(kind(device_type, index)).on(api));
                adapters.push(Adapter {
                    spec: spec(adapters.len()),
                    name: Some(info.name.clone()).filter(|name| !name.is_empty()),
                    driver: Some(driver.trim().to_owned()).filter(|driver| !driver.is_empty()),
                    software,
                    device: Device::new(gpu.clone()),
                    gpu: Some(gpu),
                });
            }
        }
        adapters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_of_cuda_are_looked_for_where_the_toolkit_is_said_to_be() {
        let toolkit = tempfile::tempdir().unwrap();
        let found = || has_libdevice(Some(toolkit.path().into()));
        let folder = toolkit.path().join("nvvm/libdevice");
        std::fs::create_dir_all(&folder).unwrap();
        assert!(!found());
        std::fs::write(folder.join("libdevice.10.bc"), b"BC").unwrap();
        assert!(found());
    }
}
