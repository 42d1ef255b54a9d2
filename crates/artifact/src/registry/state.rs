//! What a model's directory remembers besides its versions: aliases and the highest version ever given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::error::FileError;
use crate::manifest::FormatVersion;
use crate::model_ref::check_alias;
use crate::read::{self, ReadError};

/// The name of the file.
pub(super) const STATE_FILE: &str = "registry.json";

/// The format that is written. It has not changed when that of the manifest did.
const FORMAT: FormatVersion = FormatVersion { major: 1, minor: 0 };

/// So many earlier versions are remembered per alias.
const HISTORY: usize = 100;

/// A state file is small; a larger one is not ours.
const MAX_BYTES: u64 = 1 << 20;

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum StateError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("`{}` is not valid", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{}` has the format {found}, and this program reads {}.x", path.display(), FORMAT.major)]
    Format { path: PathBuf, found: FormatVersion },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    format: FormatVersion,
    /// The highest version that was ever given; it is not given again.
    #[serde(default)]
    pub(super) last_version: u64,
    #[serde(default)]
    pub(super) aliases: BTreeMap<String, AliasState>,
    /// Fields of a newer minor version; they are kept when the file is rewritten.
    #[serde(flatten)]
    other: BTreeMap<String, serde_json::Value>,
}

/// Where an alias points, and where it pointed before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasState {
    /// The version.
    pub version: u64,
    /// Earlier versions, the latest last.
    #[serde(default)]
    pub history: Vec<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self { format: FORMAT, last_version: 0, aliases: BTreeMap::new(), other: BTreeMap::new() }
    }
}

impl State {
    /// Reads the state of a model's directory; a missing file is an empty state.
    pub(super) fn read(model: &Path) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Head {
            format: FormatVersion,
        }
        let path = model.join(STATE_FILE);
        let bytes = match read::read(&path, MAX_BYTES) {
            Err(ReadError::File(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            other => other?,
        };
        let json = |source| StateError::Json { path: path.clone(), source };
        let Head { format: found } = serde_json::from_slice(&bytes).map_err(json)?;
        if !FORMAT.reads(found) {
            return Err(StateError::Format { path, found });
        }
        let mut state: Self = serde_json::from_slice(&bytes).map_err(json)?;
        // An alias that nobody could have set would make references ambiguous.
        state.aliases.retain(|alias, _| check_alias(alias).is_ok());
        Ok(state)
    }

    pub(super) fn write(&self, model: &Path) -> Result<(), FileError> {
        let path = model.join(STATE_FILE);
        let bytes = crate::json::to_vec(self).map_err(|error| FileError {
            action: "write",
            path: path.clone(),
            source: std::io::Error::other(error),
        })?;
        atomic::write(&path, bytes)
    }

    /// Points `alias` at `version` and returns where it pointed before.
    pub(super) fn promote(&mut self, alias: &str, version: u64) -> Option<u64> {
        let Some(state) = self.aliases.get_mut(alias) else {
            self.aliases.insert(alias.to_owned(), AliasState { version, history: Vec::new() });
            return None;
        };
        let before = std::mem::replace(&mut state.version, version);
        if before != version {
            state.history.push(before);
            let surplus = state.history.len().saturating_sub(HISTORY);
            state.history.drain(..surplus);
        }
        Some(before)
    }

    /// Points `alias` at the latest earlier version that still exists and returns both.
    pub(super) fn rollback(&mut self, alias: &str, exists: impl Fn(u64) -> bool) -> Option<(u64, u64)> {
        let state = self.aliases.get_mut(alias)?;
        let position =
            state.history.iter().rposition(|&version| version != state.version && exists(version))?;
        let to = state.history[position];
        state.history.truncate(position);
        Some((std::mem::replace(&mut state.version, to), to))
    }
}
