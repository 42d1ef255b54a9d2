//! Where and in which number format a model runs.

use std::fmt;

use model::{DeviceSpec, Precision};

/// A device and the precision to compute in there. A device alone means 32-bit floats:
///
/// ```
/// use predict::{DeviceSpec, Placement, Precision};
///
/// assert_eq!(Placement::from(DeviceSpec::Cpu).precision, Precision::F32);
/// let half = Placement { device: DeviceSpec::Cuda(0), precision: Precision::Bf16 };
/// assert_eq!(half.to_string(), "cuda in bf16");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The device.
    pub device: DeviceSpec,
    /// The format of parameters, activations and sums. Raw inputs, prepared inputs, outputs and
    /// probabilities are 32-bit floats whatever it is.
    pub precision: Precision,
}

impl From<DeviceSpec> for Placement {
    fn from(device: DeviceSpec) -> Self {
        Self { device, precision: Precision::F32 }
    }
}

impl From<&DeviceSpec> for Placement {
    fn from(device: &DeviceSpec) -> Self {
        Self::from(*device)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.device, self.precision)
    }
}
