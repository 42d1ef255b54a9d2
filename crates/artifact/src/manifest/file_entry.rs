//! The files of a package, each with its size and digest.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MANIFEST_FILE, WEIGHTS_FILE};
use crate::codec::ENCODING;
use crate::digest::is_sha256_hex;

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Its name; a package has no directories.
    pub path: String,
    /// Its size as it lies on the disk.
    pub size_bytes: u64,
    /// Its SHA-256 as it lies on the disk, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// What it is wrapped in (compression, encryption), inside out; empty: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encoding: Vec<String>,
    /// The size of what is inside, where it is wrapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwrapped_size_bytes: Option<u64>,
    /// The SHA-256 of what is inside, where it is wrapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwrapped_sha256: Option<String>,
}

impl FileEntry {
    /// Checks that a file of this name cannot leave the directory.
    pub(crate) fn check_name(path: &str) -> Result<(), FileEntryError> {
        if is_plain(path) { Ok(()) } else { Err(FileEntryError::Path { path: path.to_owned() }) }
    }

    /// The entry of a file that holds `content` in a wrapper, as the bytes `wrapped`.
    #[must_use]
    pub fn wrapped(path: &str, encoding: &str, wrapped: &[u8], content: &[u8]) -> Self {
        Self {
            encoding: vec![encoding.to_owned()],
            unwrapped_size_bytes: Some(content.len() as u64),
            unwrapped_sha256: Some(crate::digest::sha256_hex(content)),
            ..Self::of(path, wrapped)
        }
    }

    /// The entry of a file that is not wrapped.
    #[must_use]
    pub fn of(path: &str, bytes: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            size_bytes: bytes.len() as u64,
            sha256: crate::digest::sha256_hex(bytes),
            encoding: Vec::new(),
            unwrapped_size_bytes: None,
            unwrapped_sha256: None,
        }
    }
}

/// A list of files that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum FileEntryError {
    #[error("`{path}` is not a plain file name of letters, digits, `.`, `_` and `-`")]
    Path { path: String },
    #[error("`{path}` is listed twice")]
    Duplicate { path: String },
    #[error("`{path}` cannot be listed: the manifest has no digest of itself")]
    Manifest { path: String },
    #[error("the digest of `{path}` is not 64 lower-case hexadecimal digits")]
    Digest { path: String },
    #[error("`{path}` is wrapped in `{encoding}`, which this version of Brazier cannot open")]
    Encoding { path: String, encoding: String },
    #[error("`{path}` is wrapped in `{encoding}`, and its entry lacks size or digest of what is inside")]
    Unwrapped { path: String, encoding: String },
    #[error("`{WEIGHTS_FILE}` is not listed")]
    NoWeights,
}

/// Names that are safe on every system and cannot leave the directory.
fn is_plain(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    path.len() <= 128
        && path.starts_with(|first: char| first.is_ascii_alphanumeric())
        && path.bytes().all(allowed)
}

/// Checks the list. An empty one is that of a manifest which is not published yet.
pub(super) fn check_all(files: &[FileEntry]) -> Result<(), FileEntryError> {
    let mut seen = BTreeSet::new();
    for FileEntry { path, sha256, encoding, unwrapped_size_bytes, unwrapped_sha256, .. } in files {
        let path = path.clone();
        if !is_plain(&path) {
            return Err(FileEntryError::Path { path });
        }
        // File systems that ignore case would take both for one file.
        if path.eq_ignore_ascii_case(MANIFEST_FILE) {
            return Err(FileEntryError::Manifest { path });
        }
        if !is_sha256_hex(sha256) {
            return Err(FileEntryError::Digest { path });
        }
        if let [encoding, outer @ ..] = &encoding[..] {
            let known = encoding == ENCODING && path == WEIGHTS_FILE;
            if let Some(encoding) = if known { outer.first() } else { Some(encoding) } {
                return Err(FileEntryError::Encoding { path, encoding: encoding.clone() });
            }
            let digest = unwrapped_sha256.as_deref().is_some_and(is_sha256_hex);
            if !digest || unwrapped_size_bytes.is_none() {
                return Err(FileEntryError::Unwrapped { path, encoding: encoding.clone() });
            }
        }
        if !seen.insert(path.to_ascii_lowercase()) {
            return Err(FileEntryError::Duplicate { path });
        }
    }
    if !files.is_empty() && !seen.contains(WEIGHTS_FILE) {
        return Err(FileEntryError::NoWeights);
    }
    Ok(())
}
