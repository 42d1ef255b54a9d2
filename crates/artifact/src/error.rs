//! What goes wrong with a file, and what a person can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a file or directory that the system refused.
///
/// The reason is the [source](std::error::Error::source), so that a chain of causes prints each once.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", path.display())]
pub struct FileError {
    /// What was attempted: `read`, `write`, `rename`, …
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// Names the action and the path of an I/O error.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError { action, path: path.to_owned(), source })
    }
}
