//! Format versions: `major.minor`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of a file's format, written as `"1.0"`.
///
/// A newer minor only adds optional fields, which older programs ignore; a newer major may change the
/// meaning of what is there, so it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormatVersion {
    /// Changes when older programs would misread the file.
    pub major: u32,
    /// Changes when optional fields are added.
    pub minor: u32,
}

impl FormatVersion {
    /// What this program writes. 1.1 added `quantization`, 1.2 records in a wrapper, and dynamic layers and integer
    /// weights in blocks to the quantization, 1.3 `observed` to the reference.
    pub const CURRENT: Self = Self { major: 1, minor: 3 };

    /// Whether a program that writes `self` can read `other`.
    #[must_use]
    pub fn reads(self, other: Self) -> bool {
        self.major == other.major
    }
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text that is no format version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a format version is `major.minor`, such as `1.0`, not `{0}`")]
pub struct FormatVersionError(String);

impl FromStr for FormatVersion {
    type Err = FormatVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse::<u32>().ok() } else { None }
        };
        let parsed = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Self { major: number(major)?, minor: number(minor)? }));
        parsed.filter(|version| version.major > 0).ok_or_else(|| FormatVersionError(text.to_owned()))
    }
}

impl Serialize for FormatVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FormatVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for FormatVersion {
    fn schema_name() -> Cow<'static, str> {
        "FormatVersion".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[1-9][0-9]*\\.[0-9]+$",
            "description": "`major.minor`: a newer minor only adds optional fields, a newer major is refused.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for text in ["1.0", "1.12", "20.3"] {
            assert_eq!(text.parse::<FormatVersion>().unwrap().to_string(), text);
        }
        for text in ["", "1", "1.", ".1", "1.0.0", "0.1", "a.b", "1.-1", "+1.0", "1.99999999999"] {
            assert!(text.parse::<FormatVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_newer_minor_is_read_and_another_major_is_not() {
        let reads = |text: &str| FormatVersion::CURRENT.reads(text.parse().unwrap());
        assert!(reads("1.0") && reads("1.7"));
        assert!(!reads("2.0"));
    }
}
