//! Where a configuration value came from.

use std::fmt;
use std::path::PathBuf;

/// The source of one value or key. Displayed as a person would look it up: `configs/x.toml:7:1`,
/// `environment variable BRAZIER_TRAIN_SEED`, `--seed`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody said anything: the program's own default.
    Default,
    /// A named preset.
    Preset(String),
    /// A place in a file; line and column count from 1.
    File {
        /// The file as it was named when it was read.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column in characters.
        column: usize,
    },
    /// An environment variable, by its full name.
    Env(String),
    /// `--set key=value`, by the key as it was typed.
    Set(String),
    /// A flag of its own, by its name with the dashes.
    Flag(String),
}

impl Origin {
    /// The strength: a value of a higher rank replaces one of a lower rank.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::Preset(_) => 1,
            Origin::File { .. } => 2,
            Origin::Env(_) => 3,
            Origin::Set(_) | Origin::Flag(_) => 4,
        }
    }

    /// True when a person wrote it for this run: a file, the environment, or the command line.
    pub fn is_explicit(&self) -> bool {
        self.rank() > 1
    }

    /// The phrase that follows the name of a key in an error: `in FILE:7:1`, `from --seed`.
    pub(super) fn phrase(&self) -> String {
        match self {
            Origin::File { .. } => format!("in {self}"),
            Origin::Default => "in the defaults".to_owned(),
            Origin::Preset(name) => format!("in the preset `{name}`"),
            Origin::Env(name) => format!("from the environment variable {name}"),
            Origin::Set(key) => format!("from `--set {key}=…`"),
            Origin::Flag(flag) => format!("from `{flag}`"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::Preset(name) => write!(formatter, "preset {name}"),
            Origin::File { path, line, column } => write!(formatter, "{}:{line}:{column}", path.display()),
            Origin::Env(name) => write!(formatter, "environment variable {name}"),
            Origin::Set(_) => formatter.write_str("--set"),
            Origin::Flag(flag) => formatter.write_str(flag),
        }
    }
}
