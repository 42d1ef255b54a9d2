//! SHA-256 of bytes and of files, written as 64 lower-case hexadecimal digits.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use network::background;
use sha2::{Digest, Sha256};

use crate::error::{Context, FileError};

/// The SHA-256 of `bytes`.
///
/// ```
/// let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// assert_eq!(artifact::digest::sha256_hex(b""), empty);
/// ```
#[must_use]
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// Bytes that are digested in one go.
const PART: usize = 64 * 1024;

/// The SHA-256 and the number of bytes of everything that `reader` gives. Nothing is kept in memory.
///
/// # Errors
/// What the reader returns.
pub fn sha256_reader(reader: &mut impl Read) -> io::Result<(String, u64)> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0u8; PART];
    let mut size = 0u64;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The SHA-256 and the size in bytes of a file.
///
/// # Errors
/// When it cannot be opened or read.
pub fn sha256_file(path: &Path) -> Result<(String, u64), FileError> {
    let mut file = File::open(path).context("open", path)?;
    sha256_reader(&mut file).context("read", path)
}

/// Whether `text` looks like a digest as this module writes it.
#[must_use]
pub fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A SHA-256 fed piece by piece, for content that is streamed.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        for part in bytes.as_ref().chunks(PART) {
            self.0.update(part);
            background::breathe();
        }
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> String {
        let bytes = self.0.finalize();
        bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex("abc"), abc);
        assert_eq!(sha256_reader(&mut &b"abc"[..]).unwrap(), (abc.to_owned(), 3));
        let mut hasher = Hasher::default();
        hasher.update("a");
        hasher.update("bc");
        assert_eq!(hasher.finish(), abc);
        assert!(is_sha256_hex(abc));
        assert!(!is_sha256_hex(&abc.to_uppercase()));
        assert!(!is_sha256_hex("abc"));
    }
}
