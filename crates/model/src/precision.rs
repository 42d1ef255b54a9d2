//! The number format that a network computes in.

use std::fmt;
use std::str::FromStr;

use burn::tensor::DType;
use serde::{Serialize, Serializer};

/// The format of parameters, activations and sums on the device. It is named by whoever opens a model and
/// never chosen by the device, so that answers do not depend on the machine.
///
/// Preprocessing and postprocessing compute in 32 bits whatever this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Precision {
    /// IEEE 754 binary32: 24 significant bits. What networks are trained and packed in.
    #[default]
    F32,
    /// IEEE 754 binary16: 11 significant bits, at most 65,504.
    F16,
    /// bfloat16: 8 significant bits, the range of binary32.
    Bf16,
}

/// A word that names no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a precision; known are f32, f16 and bf16")]
pub struct PrecisionError {
    /// The word.
    pub given: String,
}

impl Precision {
    /// All of them, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Its name: `f32`, `f16` or `bf16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = PrecisionError;

    fn from_str(given: &str) -> Result<Self, PrecisionError> {
        let known = Self::ALL.into_iter().find(|precision| precision.name() == given);
        known.ok_or_else(|| PrecisionError { given: given.to_owned() })
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        let message = "fp16".parse::<Precision>().unwrap_err().to_string();
        assert_eq!(message, "`fp16` is not a precision; known are f32, f16 and bf16");
    }
}
