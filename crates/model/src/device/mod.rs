//! Devices as values: `cpu`, `flex`, `ndarray`, `vulkan:1`, … A device is chosen at run time; which ones
//! exist is decided by Cargo features when the program is built.

mod adapter;
mod cache;
mod inventory;
mod lane;
mod threads;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Serialize, Serializer};

use self::adapter::{Adapter, adapters};
pub use self::cache::set_kernel_cache;
pub use self::inventory::{Found, Kind, PassedOver, inventory, passed_over};
pub use self::lane::{Lane, panic_message};
pub use self::threads::{MAX_THREADS, set_threads, threads};
use crate::precision::Precision;

/// A device by name, whether or not this program was built with it. Parsed by [`FromStr`]; the names that
/// parse are `cpu`, `flex`, `ndarray`, `auto`, and `vulkan`, `wgpu` and `cuda` with an optional `:index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceSpec {
    /// The processor, by the fastest engine in this program.
    #[default]
    Cpu,
    /// Burn's pure-Rust CPU backend.
    Flex,
    /// Burn's older CPU backend, kept for comparison.
    NdArray,
    /// A Vulkan adapter by its index.
    Vulkan(usize),
    /// An adapter of whatever graphics API there is, by its index; the kernels are WGSL shaders. In a program
    /// that has `vulkan` too, Burn takes Vulkan's compiler for both where the adapter speaks Vulkan.
    Wgpu(usize),
    /// An NVIDIA GPU by its index.
    Cuda(usize),
    /// The best device that this program finds; see [`DeviceSpec::resolve`].
    Auto,
}

/// A device that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum DeviceError {
    #[error(
        "`{given}` is not a device; known are cpu, flex, ndarray, auto, and vulkan, wgpu and cuda with an \
         optional index as in `cuda:1`"
    )]
    Unknown { given: String },
    #[error("`{given}` is not a device: {kind} has no index; write `{kind}`")]
    NoIndex { given: String, kind: String },
    #[error("`{given}` is not a device: `{index}` is not an index; write `{kind}` or `{kind}:0`")]
    BadIndex { given: String, kind: String, index: String },
    #[error("the device `{device}` is {reason}")]
    NotCompiledIn { device: DeviceSpec, reason: String },
    #[error("the device `{device}` is not there: {reason}")]
    NotFound { device: DeviceSpec, reason: String },
    #[error("the device `{device}` failed: {reason}")]
    Failed { device: DeviceSpec, reason: String },
    #[error("the device `{device}` cannot compute in {precision}; it can in {able}")]
    Precision { device: DeviceSpec, precision: Precision, able: String },
    #[error(
        "{wanted} threads are too many; at most {MAX_THREADS} can compute, and 0 is one per processor core"
    )]
    TooManyThreads { wanted: usize },
    #[error("the number of compute threads is fixed already: {current} are running, {wanted} were asked for")]
    Threads { current: usize, wanted: usize },
}

impl DeviceError {
    /// What a person at a terminal can do about it, where the message does not say so itself.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotCompiledIn { .. } | Self::TooManyThreads { .. } | Self::Threads { .. } => None,
            Self::Failed { .. } => {
                Some("`cargo xtask devices` lists the devices with their drivers".to_owned())
            }
            Self::NotFound { device, .. } => {
                Some(format!("`cargo xtask devices --device {device}` lists what there is"))
            }
            Self::Unknown { .. } | Self::NoIndex { .. } | Self::BadIndex { .. } | Self::Precision { .. } => {
                Some("`cargo xtask devices` lists what there is".to_owned())
            }
        }
    }
}

impl DeviceSpec {
    /// One of each kind, but for [`DeviceSpec::Auto`].
    pub(crate) const KINDS: [Self; 6] =
        [Self::Cpu, Self::Flex, Self::NdArray, Self::Vulkan(0), Self::Wgpu(0), Self::Cuda(0)];

    /// The kinds of GPU that [`DeviceSpec::Auto`] looks for, in this order.
    pub(crate) const BEST_FIRST: [Self; 3] = [Self::Cuda(0), Self::Vulkan(0), Self::Wgpu(0)];

    /// Its name without an index.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Vulkan(_) => "vulkan",
            Self::Wgpu(_) => "wgpu",
            Self::Cuda(_) => "cuda",
            Self::Auto => "auto",
        }
    }

    fn index(&self) -> usize {
        match self {
            Self::Vulkan(index) | Self::Wgpu(index) | Self::Cuda(index) => *index,
            Self::Cpu | Self::Flex | Self::NdArray | Self::Auto => 0,
        }
    }

    /// Whether it is a GPU, or a processor that pretends to be one: a device with memory and a stream of
    /// its own.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        matches!(self, Self::Vulkan(_) | Self::Wgpu(_) | Self::Cuda(_))
    }

    /// The Cargo feature that compiles it in; `None` for what every program has.
    #[must_use]
    pub fn feature(&self) -> Option<&'static str> {
        match self {
            Self::Cpu | Self::Flex | Self::Auto => None,
            device => Some(device.kind()),
        }
    }

    /// Whether this program can use devices of this kind.
    #[must_use]
    pub fn compiled_in(&self) -> bool {
        match self {
            Self::Cpu | Self::Flex | Self::Auto => true,
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Vulkan(_) => cfg!(feature = "vulkan"),
            Self::Wgpu(_) => cfg!(feature = "wgpu"),
            Self::Cuda(_) => cfg!(feature = "cuda"),
        }
    }

    /// The devices that this program finds on this machine and may open. None is opened.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let found = Self::KINDS.into_iter().flat_map(adapters);
        found.filter(|adapter| adapter.unfit().is_none()).map(|adapter| adapter.spec).collect()
    }

    /// The device that is meant: [`DeviceSpec::Auto`] becomes the first of `cuda`, `vulkan`, `wgpu` that is
    /// compiled in, found and fit for use, and `cpu` where none is; a processor that pretends to be a GPU is passed
    /// over, for `cpu` is faster. Every other device is itself, once it is found. Nothing is opened.
    ///
    /// # Errors
    /// When the device is not compiled in or not found; the message says which build has it, or what the
    /// machine lacks.
    pub fn resolve(&self) -> Result<Self, DeviceError> {
        self.find().map(|adapter| adapter.spec)
    }

    /// Opens the device, for inference. For training, call `.autodiff()` on the result.
    ///
    /// # Errors
    /// As [`DeviceSpec::resolve`], and when a GPU that was found does not start.
    pub fn open(&self) -> Result<Device, DeviceError> {
        let adapter = self.find()?;
        if let Some(reason) = adapter.unfit() {
            return Err(DeviceError::Failed { device: adapter.spec, reason: reason.to_owned() });
        }
        let Adapter { spec, device, .. } = adapter;
        if !spec.is_gpu() {
            return Ok(device);
        }
        // Burn opens a GPU when it is first used, and panics where it cannot be.
        let first_use =
            catch_unwind(AssertUnwindSafe(|| device.sync().map_err(|error| format!("{error:?}"))));
        match first_use {
            Ok(Ok(())) => Ok(device),
            Ok(Err(reason)) => Err(DeviceError::Failed { device: spec, reason }),
            Err(panic) => {
                let reason = lane::panic_message(panic.as_ref()).to_owned();
                Err(DeviceError::Failed { device: spec, reason })
            }
        }
    }

    fn find(&self) -> Result<Adapter, DeviceError> {
        if *self == Self::Auto {
            let fit = |adapter: &Adapter| !adapter.software && adapter.unfit().is_none();
            let hardware = Self::BEST_FIRST.into_iter().flat_map(adapters).find(fit);
            return hardware.map_or_else(|| Self::Cpu.find(), Ok);
        }
        if !self.compiled_in() {
            return Err(DeviceError::NotCompiledIn { device: *self, reason: inventory::missing(*self) });
        }
        let found = adapters(*self);
        if found.is_empty() {
            return Err(DeviceError::NotFound { device: *self, reason: inventory::missing(*self) });
        }
        let count = found.len();
        let same_kind: Vec<String> = found.iter().map(|adapter| adapter.spec.to_string()).collect();
        found.into_iter().nth(self.index()).ok_or_else(|| DeviceError::NotFound {
            device: *self,
            reason: format!("{count} of this kind are found: {}", same_kind.join(", ")),
        })
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, index) = (self.kind(), self.index());
        if index == 0 { f.write_str(name) } else { write!(f, "{name}:{index}") }
    }
}

impl Serialize for DeviceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(given: &str) -> Result<Self, DeviceError> {
        let (kind, index) = match given.split_once(':') {
            Some((kind, index)) => (kind, Some(index)),
            None => (given, None),
        };
        let cpu = |device: Self| match index {
            None => Ok(device),
            Some(_) => Err(DeviceError::NoIndex { given: given.to_owned(), kind: kind.to_owned() }),
        };
        let gpu = |device: fn(usize) -> Self| match index.map(str::parse) {
            None => Ok(device(0)),
            Some(Ok(index)) => Ok(device(index)),
            Some(Err(_)) => Err(DeviceError::BadIndex {
                given: given.to_owned(),
                kind: kind.to_owned(),
                index: index.unwrap_or_default().to_owned(),
            }),
        };
        match kind {
            "cpu" => cpu(Self::Cpu),
            "flex" => cpu(Self::Flex),
            "ndarray" => cpu(Self::NdArray),
            "auto" => cpu(Self::Auto),
            "vulkan" => gpu(Self::Vulkan),
            "wgpu" => gpu(Self::Wgpu),
            "cuda" => gpu(Self::Cuda),
            _ => Err(DeviceError::Unknown { given: given.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        let cases = [
            ("cpu", DeviceSpec::Cpu),
            ("flex", DeviceSpec::Flex),
            ("ndarray", DeviceSpec::NdArray),
            ("vulkan", DeviceSpec::Vulkan(0)),
            ("wgpu:2", DeviceSpec::Wgpu(2)),
            ("cuda:1", DeviceSpec::Cuda(1)),
            ("auto", DeviceSpec::Auto),
        ];
        for (name, expected) in cases {
            let device: DeviceSpec = name.parse().unwrap();
            assert_eq!(device, expected, "{name}");
            assert_eq!(device.to_string(), name);
        }
        assert_eq!("cuda:0".parse::<DeviceSpec>().unwrap().to_string(), "cuda");
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        let cases = [
            ("gpu", "`gpu` is not a device; known are cpu, flex, ndarray, auto, and vulkan, wgpu and cuda"),
            ("", "`` is not a device"),
            ("cpu:0", "`cpu:0` is not a device: cpu has no index; write `cpu`"),
            ("auto:1", "auto has no index"),
            ("cuda:x", "`cuda:x` is not a device: `x` is not an index; write `cuda` or `cuda:0`"),
            ("cuda:-1", "`-1` is not an index"),
        ];
        for (given, expected) in cases {
            let message = given.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(message.contains(expected), "{given}: {message}");
        }
    }

    #[test]
    fn opening_what_is_not_there_says_what_would_help() {
        for device in DeviceSpec::available() {
            assert_eq!(device.resolve(), Ok(device));
            assert!(device.open().is_ok(), "{device}");
        }
        for device in DeviceSpec::KINDS.into_iter().filter(|device| !device.compiled_in()) {
            let message = device.open().unwrap_err().to_string();
            assert!(message.contains(&format!("the device `{device}` is not compiled into")), "{message}");
            assert!(message.contains(&format!("cargo xtask … --device {device}")), "{message}");
        }
        for device in [DeviceSpec::Vulkan(77), DeviceSpec::Wgpu(77), DeviceSpec::Cuda(77)] {
            assert!(device.open().is_err());
        }
    }

    #[test]
    fn auto_takes_something_that_opens() {
        let taken = DeviceSpec::Auto.resolve().unwrap();
        assert_ne!(taken, DeviceSpec::Auto);
        taken.open().unwrap();
    }
}
