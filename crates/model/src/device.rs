//! Devices as values: `cpu`, `flex`, `ndarray`, `vulkan:1`, … A device is chosen at run time; which ones
//! exist is decided by Cargo features when the program is built.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

/// The most threads that [`set_threads`] starts. The system would let more of them hang rather than refuse.
pub const MAX_THREADS: usize = 1024;

/// A device by name, whether or not this program was built with it. Parsed by [`FromStr`]; the names that
/// parse are `cpu`, `flex`, `ndarray`, and `vulkan`, `wgpu` and `cuda` with an optional `:index`.
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
    /// An adapter of whatever graphics API there is, by its index.
    Wgpu(usize),
    /// An NVIDIA GPU by its index.
    Cuda(usize),
}

/// A device that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum DeviceError {
    #[error(
        "`{given}` is not a device; known are {}, and vulkan, wgpu and cuda with an optional index as in `cuda:1`",
        DeviceSpec::CPU_NAMES.join(", ")
    )]
    Unknown { given: String },
    #[error("`{given}` is not a device: the {kind} has no index; write `{kind}`")]
    NoIndex { given: String, kind: String },
    #[error("`{given}` is not a device: `{index}` is not an index; write `{kind}` or `{kind}:0`")]
    BadIndex { given: String, kind: String, index: String },
    #[error(
        "the device `{device}` is not compiled into this program; build it with `cargo build --release --features {feature}`"
    )]
    NotCompiledIn { device: DeviceSpec, feature: &'static str },
    #[error("the device `{device}` is not part of Brazier yet; the devices of this program are {available}")]
    NotYet { device: DeviceSpec, available: String },
    #[error(
        "{wanted} threads are too many; at most {MAX_THREADS} can compute, and 0 is one per processor core"
    )]
    TooManyThreads { wanted: usize },
    #[error("the number of compute threads is fixed already: {current} are running, {wanted} were asked for")]
    Threads { current: usize, wanted: usize },
}

impl DeviceSpec {
    const CPU_NAMES: [&'static str; 3] = ["cpu", "flex", "ndarray"];

    /// The devices that [`DeviceSpec::open`] can open in this program.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut devices = vec![Self::Cpu, Self::Flex];
        if cfg!(feature = "ndarray") {
            devices.push(Self::NdArray);
        }
        devices
    }

    /// Opens the device, for inference. For training, call `.autodiff()` on the result.
    ///
    /// # Errors
    /// When the device is not compiled in; the message says which build has it, if one has.
    pub fn open(&self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu | Self::Flex => Ok(Device::flex()),
            Self::NdArray => Self::open_ndarray(),
            Self::Vulkan(_) | Self::Wgpu(_) | Self::Cuda(_) => {
                let names: Vec<String> = Self::available().iter().map(ToString::to_string).collect();
                Err(DeviceError::NotYet { device: *self, available: names.join(", ") })
            }
        }
    }

    #[cfg(feature = "ndarray")]
    #[allow(deprecated, reason = "it is asked for by name, to compare with")]
    fn open_ndarray() -> Result<Device, DeviceError> {
        Ok(Device::ndarray())
    }

    #[cfg(not(feature = "ndarray"))]
    fn open_ndarray() -> Result<Device, DeviceError> {
        Err(DeviceError::NotCompiledIn { device: Self::NdArray, feature: "ndarray" })
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, index) = match self {
            Self::Cpu => ("cpu", 0),
            Self::Flex => ("flex", 0),
            Self::NdArray => ("ndarray", 0),
            Self::Vulkan(index) => ("vulkan", *index),
            Self::Wgpu(index) => ("wgpu", *index),
            Self::Cuda(index) => ("cuda", *index),
        };
        if index == 0 { f.write_str(name) } else { write!(f, "{name}:{index}") }
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
            "vulkan" => gpu(Self::Vulkan),
            "wgpu" => gpu(Self::Wgpu),
            "cuda" => gpu(Self::Cuda),
            _ => Err(DeviceError::Unknown { given: given.to_owned() }),
        }
    }
}

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
    fn names_parse_and_print() {
        let cases = [
            ("cpu", DeviceSpec::Cpu),
            ("flex", DeviceSpec::Flex),
            ("ndarray", DeviceSpec::NdArray),
            ("vulkan", DeviceSpec::Vulkan(0)),
            ("wgpu:2", DeviceSpec::Wgpu(2)),
            ("cuda:1", DeviceSpec::Cuda(1)),
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
            ("gpu", "`gpu` is not a device; known are cpu, flex, ndarray, and vulkan, wgpu and cuda"),
            ("", "`` is not a device"),
            ("cpu:0", "`cpu:0` is not a device: the cpu has no index; write `cpu`"),
            ("cuda:x", "`cuda:x` is not a device: `x` is not an index; write `cuda` or `cuda:0`"),
            ("cuda:-1", "`-1` is not an index"),
        ];
        for (given, expected) in cases {
            let message = given.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(message.contains(expected), "{given}: {message}");
        }
    }

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

    #[test]
    fn opening_what_is_not_there_says_which_build_has_it() {
        for device in DeviceSpec::available() {
            assert!(device.open().is_ok(), "{device}");
        }
        let message = DeviceSpec::Cuda(0).open().unwrap_err().to_string();
        assert!(message.contains("`cuda` is not part of Brazier yet"), "{message}");
        assert!(message.contains("cpu, flex"), "{message}");
        #[cfg(not(feature = "ndarray"))]
        {
            let message = DeviceSpec::NdArray.open().unwrap_err().to_string();
            assert!(message.contains("--features ndarray"), "{message}");
        }
    }
}
