//! Reading a file that may be hostile: only regular files, never more than a limit.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Context, FileError};

/// A file that is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum ReadError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{}` is {kind}, and only regular files are read", path.display())]
    NotRegular { path: PathBuf, kind: &'static str },
    #[error("`{}` has {size} bytes, and the limit is {limit}", path.display())]
    TooLarge { path: PathBuf, size: u64, limit: u64 },
}

/// The size of a regular file; symbolic links are not followed.
pub(crate) fn regular_size(path: &Path, limit: u64) -> Result<u64, ReadError> {
    let metadata = fs::symlink_metadata(path).context("read", path)?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        let kind = match () {
            () if kind.is_symlink() => "a symbolic link",
            () if kind.is_dir() => "a directory",
            () => "a special file",
        };
        return Err(ReadError::NotRegular { path: path.to_owned(), kind });
    }
    let size = metadata.len();
    if size > limit {
        return Err(ReadError::TooLarge { path: path.to_owned(), size, limit });
    }
    Ok(size)
}

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, is no regular file (symbolic links are not followed), or has more bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let size = regular_size(path, limit)?;
    let file = File::open(path).context("open", path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    // The file may grow between the two calls.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).context("read", path)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { path: path.to_owned(), size: bytes.len() as u64, limit });
    }
    Ok(bytes)
}
