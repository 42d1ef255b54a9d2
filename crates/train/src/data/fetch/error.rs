//! What can go wrong while data is fetched.

use std::path::{Path, PathBuf};

/// Data that could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum FetchError {
    #[error("{path}: cannot {action}", path = path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    #[error("{folder} has no file `{file}`", folder = folder.display())]
    NotInFolder { folder: PathBuf, file: String },
    #[error("{file} is not the right file: the {what} is {actual}, but {expected} was expected")]
    Digest { file: String, what: &'static str, expected: &'static str, actual: String },
    #[error("{file}: the gzip stream is damaged: {reason}")]
    Gzip { file: String, reason: String },
    #[error("{file} is larger than the limit of {limit} bytes")]
    TooLarge { file: String, limit: u64 },
    #[error("{url} answered with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url}: {reason}")]
    Transport { url: String, reason: String },
    #[error("`{file}` could not be downloaded: {}", failures.join("; "))]
    AllMirrors { file: String, failures: Vec<String> },
    #[error("{archive}: {problem}")]
    Archive { archive: String, problem: String },
}

impl FetchError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::AllMirrors { .. } => Some(
                "the same command goes on where it stopped; `--from DIR` takes files that were fetched in another way",
            ),
            Self::NotInFolder { .. } => {
                Some("`--from` names the folder that holds the files under their official names")
            }
            Self::Digest { .. } | Self::Gzip { .. } => Some("nothing of it was kept; fetch the file again"),
            _ => None,
        }
    }

    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }

    /// The same with the file that the person knows, instead of its copy.
    pub(super) fn named(self, path: &Path) -> Self {
        let file = path.display().to_string();
        match self {
            Self::Digest { what, expected, actual, .. } => Self::Digest { file, what, expected, actual },
            Self::Gzip { reason, .. } => Self::Gzip { file, reason },
            Self::TooLarge { limit, .. } => Self::TooLarge { file, limit },
            other => other,
        }
    }
}
