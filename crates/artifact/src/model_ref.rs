//! Names of models, and what a person types to mean one of their versions.

use std::fmt;
use std::str::FromStr;

/// The alias that nobody may set: it always means the newest version.
pub const LATEST: &str = "latest";

/// The alias that a bare name means, where it is set.
pub const PRODUCTION: &str = "production";

/// A model and which of its versions: `digits@1`, `digits@production`, `digits@latest`, `digits`.
///
/// ```
/// use artifact::{ModelRef, Selector};
///
/// let reference: ModelRef = "digits@production".parse()?;
/// assert_eq!(reference.name, "digits");
/// assert_eq!(reference.selector, Selector::Alias("production".to_owned()));
/// assert_eq!("digits@3".parse::<ModelRef>()?.selector, Selector::Version(3));
/// assert_eq!("digits".parse::<ModelRef>()?.selector, Selector::Default);
/// # Ok::<(), artifact::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRef {
    /// The model.
    pub name: String,
    /// Which version.
    pub selector: Selector,
}

/// Which version of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// This one.
    Version(u64),
    /// The one that the alias points at.
    Alias(String),
    /// The newest.
    Latest,
    /// The one in production, or the newest while none is.
    Default,
}

/// A name or reference that cannot be one. The messages say what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum NameError {
    #[error(
        "`{0}` is no name for a model: at most 64 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit"
    )]
    Name(String),
    #[error(
        "`{0}` is no name for an alias: at most 64 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit, and not a number"
    )]
    Alias(String),
    #[error("the alias `{LATEST}` always means the newest version and cannot be set")]
    Latest,
    #[error("`{0}` is no version: versions are whole numbers from 1, without leading zeros")]
    Version(String),
}

/// Checks the name of a model: `[a-z0-9][a-z0-9._-]*`, at most 64 characters.
///
/// # Errors
/// When it is another.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if is_name(name) { Ok(()) } else { Err(NameError::Name(name.to_owned())) }
}

/// Checks the name of an alias that somebody wants to set: as a model's, but not a number and not `latest`.
///
/// # Errors
/// When it is another.
pub fn check_alias(alias: &str) -> Result<(), NameError> {
    if alias == LATEST {
        return Err(NameError::Latest);
    }
    if !is_name(alias) || is_number(alias) {
        return Err(NameError::Alias(alias.to_owned()));
    }
    Ok(())
}

/// Reads a version: a whole number from 1 without leading zeros, as a directory is named.
#[must_use]
pub fn parse_version(text: &str) -> Option<u64> {
    if !is_number(text) || text.starts_with('0') {
        return None;
    }
    text.parse().ok()
}

fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    first && text.len() <= 64 && text.bytes().all(allowed)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl FromStr for ModelRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, selector) = match text.split_once('@') {
            None => (text, Selector::Default),
            Some((name, LATEST)) => (name, Selector::Latest),
            Some((name, number)) if is_number(number) => {
                let version = parse_version(number).ok_or_else(|| NameError::Version(number.to_owned()))?;
                (name, Selector::Version(version))
            }
            Some((name, alias)) => {
                check_alias(alias)?;
                (name, Selector::Alias(alias.to_owned()))
            }
        };
        check_name(name)?;
        Ok(Self { name: name.to_owned(), selector })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.selector {
            Selector::Version(version) => write!(f, "@{version}"),
            Selector::Alias(alias) => write!(f, "@{alias}"),
            Selector::Latest => write!(f, "@{LATEST}"),
            Selector::Default => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for text in ["digits", "digits@1", "digits@18446744073709551615", "a.b-c_1@canary", "0@latest"] {
            assert_eq!(text.parse::<ModelRef>().unwrap().to_string(), text);
        }
        let long = "a".repeat(65);
        let bad = [
            "",
            "@1",
            "Digits",
            "-a",
            ".tmp",
            "a/b",
            "../a",
            "a b",
            "ä",
            "a@",
            "a@0",
            "a@01",
            "a@-1",
            "a@1@2",
            "a@99999999999999999999",
            "a@UP",
            "a@../b",
            long.as_str(),
        ];
        for text in bad {
            assert!(text.parse::<ModelRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn aliases() {
        assert!(check_alias("production").is_ok());
        assert_eq!(check_alias("latest"), Err(NameError::Latest));
        assert!(check_alias("12").is_err() && check_alias("A").is_err());
    }
}
