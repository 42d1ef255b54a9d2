//! What can be wrong with data: the file, where in it, and what would be right.

use std::path::{Path, PathBuf};

use network::PreprocessError;

/// Data that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum DataError {
    #[error("{path}: cannot {action}", path = path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    #[error("{file}: at byte {offset}: {problem}")]
    Bytes { file: String, offset: u64, problem: String },
    #[error("{file}: line {line}: {problem}")]
    Line { file: String, line: u64, problem: String },
    #[error("{file}: {problem}")]
    File { file: String, problem: String },
    #[error("`data.{key}`: {problem}")]
    Config { key: String, problem: String },
    #[error("{name} is not in {path}", path = path.display())]
    NotFetched { name: &'static str, path: PathBuf },
    #[error("{sample} cannot be prepared")]
    Prepare { sample: String, source: PreprocessError },
    #[error("there is no sample {index}; the data has {len}")]
    NoSuchSample { index: usize, len: usize },
}

impl DataError {
    /// What to do about it, where that is more than the message says.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFetched { name, .. } => Some(format!(
                "`cargo xtask data fetch {name}` downloads it (`--from DIR` takes files that you have); \
                 `data.path` names another place"
            )),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("paths in a configuration are relative to the current directory".to_owned())
            }
            _ => None,
        }
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }

    pub(crate) fn bytes(file: &str, offset: u64, problem: impl Into<String>) -> Self {
        Self::Bytes { file: file.to_owned(), offset, problem: problem.into() }
    }

    pub(crate) fn line(file: &str, line: u64, problem: impl Into<String>) -> Self {
        Self::Line { file: file.to_owned(), line, problem: problem.into() }
    }

    pub(crate) fn file(file: &str, problem: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), problem: problem.into() }
    }

    pub(crate) fn config(key: &str, problem: impl Into<String>) -> Self {
        Self::Config { key: key.to_owned(), problem: problem.into() }
    }
}
