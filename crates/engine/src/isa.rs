//! Which instructions the kernels may use: found once, or named by `BRAZIER_ISA`.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "x86_64")]
use crate::kernel::amx;

/// The environment variable that names a tier instead of the best one found.
pub const ISA_VARIABLE: &str = "BRAZIER_ISA";

/// A tier of instructions. Each one includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain loops that every processor runs.
    Scalar,
    /// AVX2 and FMA: vectors of 8 floats.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: vectors of 16 floats.
    Avx512,
    /// AVX-512 with VNNI: products of bytes, summed by fours, in one instruction.
    Avx512Vnni,
    /// AVX-512 with VNNI and AMX: tiles of 16 rows of 64 bytes, multiplied in one instruction. Only where the
    /// system gives the process leave to use them.
    Amx,
}

/// A tier that does not exist or that this processor lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum IsaError {
    #[error("there is no instruction tier `{name}`; there are {}", Isa::names())]
    Unknown { name: String },
    #[error("this processor lacks the instruction tier `{wanted}`; the best that it has is `{best}`")]
    Lacking { wanted: Isa, best: Isa },
}

impl Isa {
    /// Every tier, the plainest first.
    pub const ALL: &[Self] = &[Self::Scalar, Self::Avx2, Self::Avx512, Self::Avx512Vnni, Self::Amx];

    /// The name by which `BRAZIER_ISA` knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
            Self::Amx => "amx",
        }
    }

    fn names() -> String {
        let names: Vec<String> = Self::ALL.iter().map(|isa| format!("`{}`", isa.name())).collect();
        names.join(", ")
    }

    /// The best tier of this processor.
    #[must_use]
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let vnni = is_x86_feature_detected!("avx512vnni");
            match (avx2, avx512, vnni) {
                (true, true, true) if amx::available() => Self::Amx,
                (true, true, true) => Self::Avx512Vnni,
                (true, true, false) => Self::Avx512,
                (true, false, _) => Self::Avx2,
                _ => Self::Scalar,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::Scalar
    }

    /// Whether this processor has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        self <= Self::best()
    }

    /// The tier itself where the processor has it.
    ///
    /// # Errors
    /// When the processor lacks it.
    pub fn check(self) -> Result<Self, IsaError> {
        let best = Self::best();
        if self <= best { Ok(self) } else { Err(IsaError::Lacking { wanted: self, best }) }
    }

    /// The tier that a setting names, or the best one when nothing is set.
    ///
    /// # Errors
    /// When there is no such tier, or the processor lacks it.
    pub fn choose(setting: Option<&str>) -> Result<Self, IsaError> {
        match setting {
            Some(name) => name.parse::<Self>()?.check(),
            None => Ok(Self::best()),
        }
    }

    /// The tier that `BRAZIER_ISA` names, or the best one when it is not set.
    ///
    /// # Errors
    /// As [`Isa::choose`].
    pub fn from_environment() -> Result<Self, IsaError> {
        Self::choose(std::env::var(ISA_VARIABLE).ok().as_deref())
    }

    /// The number of floats in a vector.
    pub(crate) fn lanes(self) -> usize {
        if self >= Self::Avx512 { 16 } else { 8 }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        let found = Self::ALL.iter().find(|isa| isa.name() == name);
        found.copied().ok_or_else(|| IsaError::Unknown { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_named_or_found() {
        assert_eq!(Isa::choose(None), Ok(Isa::best()));
        assert_eq!(Isa::choose(Some("scalar")), Ok(Isa::Scalar));
        let error = Isa::choose(Some("sse9")).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no instruction tier `sse9`; there are `scalar`, `avx2`, `avx512`, `avx512vnni`, `amx`"
        );
        let error = IsaError::Lacking { wanted: Isa::Avx512, best: Isa::Avx2 }.to_string();
        assert!(error.contains("`avx512`") && error.contains("`avx2`"), "{error}");
    }
}
