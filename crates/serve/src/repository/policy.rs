//! Which versions of a model are served.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use artifact::parse_version;
use serde::{Deserialize, Serialize};

/// Which versions of a model are served: `all`, `latest`, `latest:2`, or their numbers as in `1,4`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Policy {
    /// Every one.
    #[default]
    All,
    /// The newest so many that can be loaded, and those that an alias or the traffic names.
    Latest(usize),
    /// These and no other.
    Specific(BTreeSet<u64>),
}

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `all`, `latest`, `latest:N` or version numbers such as `1,4`, but is `{0}`")]
pub struct PolicyError(String);

impl Policy {
    /// The versions that may be served, the newest first.
    pub fn candidates<'a>(
        &'a self,
        found: impl DoubleEndedIterator<Item = u64> + 'a,
    ) -> impl Iterator<Item = u64> + 'a {
        found.rev().filter(move |version| self.allows(*version))
    }

    /// Whether a version may be served.
    #[must_use]
    pub fn allows(&self, version: u64) -> bool {
        match self {
            Self::All | Self::Latest(_) => true,
            Self::Specific(versions) => versions.contains(&version),
        }
    }

    /// How many of [`Policy::candidates`] are served, besides those that an alias or the traffic names.
    #[must_use]
    pub fn limit(&self) -> usize {
        if let Self::Latest(count) = self { *count } else { usize::MAX }
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let wrong = || PolicyError(text.to_owned());
        match text.trim() {
            "all" => Ok(Self::All),
            "latest" => Ok(Self::Latest(1)),
            other => match other.strip_prefix("latest:") {
                Some(count) => {
                    let count = count.trim().parse().ok().filter(|count| *count > 0);
                    count.map(Self::Latest).ok_or_else(wrong)
                }
                None => {
                    let numbers = other.split(',').map(|number| parse_version(number.trim()));
                    numbers.collect::<Option<BTreeSet<u64>>>().map(Self::Specific).ok_or_else(wrong)
                }
            },
        }
    }
}

impl TryFrom<String> for Policy {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Latest(1) => f.write_str("latest"),
            Self::Latest(count) => write!(f, "latest:{count}"),
            Self::Specific(versions) => {
                let numbers: Vec<String> = versions.iter().map(u64::to_string).collect();
                f.write_str(&numbers.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written() {
        for text in ["all", "latest", "latest:3", "1", "1,4,9"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        assert_eq!("latest:1".parse(), Ok(Policy::Latest(1)));
        assert_eq!(" 4, 1 ".parse(), Ok(Policy::Specific([1, 4].into())));
        for text in ["", "newest", "latest:0", "latest:-1", "latest:x", "0", "01", "1,,2", "1,x", "all,1"] {
            let error = text.parse::<Policy>().unwrap_err().to_string();
            assert!(error.contains("`latest:N`"), "{text}: {error}");
        }
    }

    #[test]
    fn candidates_come_newest_first() {
        let candidates = |policy: Policy| policy.candidates([1, 2, 3].into_iter()).collect::<Vec<u64>>();
        assert_eq!(candidates(Policy::All), [3, 2, 1]);
        assert_eq!(
            candidates(Policy::Latest(1)),
            [3, 2, 1],
            "an older one takes the place of one that is damaged"
        );
        assert_eq!(candidates(Policy::Specific([1, 3, 7].into())), [3, 1]);
        assert_eq!((Policy::All.limit(), Policy::Latest(2).limit()), (usize::MAX, 2));
    }
}
