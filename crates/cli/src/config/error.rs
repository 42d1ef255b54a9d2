//! What can be wrong with a configuration, said with the key, the place, and what would be right.

use std::fmt;
use std::path::PathBuf;

use super::origin::Origin;
use crate::suggest::nearest;

/// A refused configuration. [`crate::run`] prints its [`hint`](ConfigError::hint) and ends with the exit
/// code for usage errors.
#[derive(Debug)]
pub struct ConfigError {
    kind: Box<ConfigErrorKind>,
}

/// The kinds of refusal. Keys are dotted paths, `network.layers[2].units`.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// The file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than a configuration can be.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit_bytes: u64,
    },
    /// The text is not TOML.
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// A key that nothing reads.
    UnknownKey {
        /// The dotted path.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The keys that exist beside it.
        known: Vec<String>,
    },
    /// A key that must be there is not.
    MissingKey {
        /// The key that is missing.
        key: String,
        /// The table that lacks it; empty for the top of the configuration.
        table: String,
        /// Where that table stands.
        origin: Origin,
    },
    /// A value of the wrong type, or out of range.
    WrongValue {
        /// The dotted path.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What stands there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A word that is not one of the possible ones.
    UnknownWord {
        /// The dotted path.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The word.
        found: String,
        /// The words that would be right.
        known: Vec<String>,
    },
    /// Two flags say different things about one key.
    Conflict {
        /// The dotted path.
        key: String,
        /// The one.
        first: Origin,
        /// The other.
        second: Origin,
    },
    /// Anything else that a type or a check has to say about a value.
    Refused {
        /// The dotted path; empty for the whole configuration.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What is wrong and what would be right.
        message: String,
    },
}

impl ConfigError {
    /// What is wrong, for programs.
    pub fn kind(&self) -> &ConfigErrorKind {
        &self.kind
    }

    /// What would help: the nearest known name, or the list of them.
    pub fn hint(&self) -> Option<String> {
        match &*self.kind {
            ConfigErrorKind::UnknownKey { key, known, .. } => {
                let last = key.rsplit('.').next().unwrap_or(key);
                Some(alternatives(last, known, "the keys here are"))
            }
            ConfigErrorKind::UnknownWord { found, known, .. } => {
                Some(alternatives(found, known, "it must be one of"))
            }
            ConfigErrorKind::Conflict { .. } => Some("give the value once".to_owned()),
            _ => None,
        }
    }
}

fn alternatives(word: &str, known: &[String], listing: &str) -> String {
    match nearest(word, known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "no key is known here: remove it".to_owned(),
        None => {
            let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("{listing} {}", names.join(", "))
        }
    }
}

impl From<ConfigErrorKind> for ConfigError {
    fn from(kind: ConfigErrorKind) -> Self {
        ConfigError { kind: Box::new(kind) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            ConfigErrorKind::Read { path, .. } => {
                write!(formatter, "cannot read the configuration {}", path.display())
            }
            ConfigErrorKind::TooLarge { path, limit_bytes } => {
                write!(
                    formatter,
                    "{} is larger than {limit_bytes} bytes, too large for a configuration",
                    path.display()
                )
            }
            ConfigErrorKind::Syntax { origin, message } => {
                write!(formatter, "invalid TOML {}: {message}", origin.phrase())
            }
            ConfigErrorKind::UnknownKey { key, origin, .. } => {
                write!(formatter, "unknown key `{key}` {}", origin.phrase())
            }
            ConfigErrorKind::MissingKey { key, table, .. } if table.is_empty() => {
                write!(formatter, "missing key `{key}` in the configuration")
            }
            ConfigErrorKind::MissingKey { key, table, origin } => {
                write!(formatter, "missing key `{key}` in `{table}` ({origin})")
            }
            ConfigErrorKind::WrongValue { key, origin, found, expected } => {
                write!(formatter, "`{key}` {} must be {expected}, but it is {found}", origin.phrase())
            }
            ConfigErrorKind::UnknownWord { key, origin, found, .. } => {
                write!(formatter, "`{key}` {} is \"{found}\", which does not exist", origin.phrase())
            }
            ConfigErrorKind::Conflict { key, first, second } => {
                write!(
                    formatter,
                    "`{key}` is given twice and differently: {} and {}",
                    first.phrase(),
                    second.phrase()
                )
            }
            ConfigErrorKind::Refused { key, message, .. } if key.is_empty() => formatter.write_str(message),
            ConfigErrorKind::Refused { key, origin, message } => {
                write!(formatter, "`{key}` {}: {message}", origin.phrase())
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            ConfigErrorKind::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}
