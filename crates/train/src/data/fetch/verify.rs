//! Compares a file with the digest by which it is known.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::catalogue::{Check, RemoteFile};
use super::error::FetchError;
use crate::data::hex;

/// Reads the file once and compares.
pub(super) fn verify(path: &Path, file: &RemoteFile) -> Result<(), FetchError> {
    let reader =
        BufReader::with_capacity(1 << 16, File::open(path).map_err(FetchError::io(path, "open it"))?);
    let name = path.display().to_string();
    let actual = match file.check {
        Check::File(_) => digest(reader, file.limit, &name).map_err(|error| match error {
            Ok(error) => error,
            Err(error) => FetchError::io(path, "read it")(error),
        })?,
        Check::Content(_) => {
            digest(MultiGzDecoder::new(reader), file.limit, &name).map_err(|error| match error {
                Ok(error) => error,
                Err(error) => FetchError::Gzip { file: name.clone(), reason: error.to_string() },
            })?
        }
    };
    let expected = file.check.sha256();
    if actual == expected {
        return Ok(());
    }
    Err(FetchError::Digest { file: name, what: file.check.what(), expected, actual })
}

/// SHA-256 of at most `limit` bytes. Errors: too much, or what the reader says.
fn digest(
    mut reader: impl Read,
    limit: u64,
    name: &str,
) -> Result<String, Result<FetchError, std::io::Error>> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0u64;
    loop {
        let len = match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Err(error)),
        };
        total += len as u64;
        if total > limit {
            return Err(Ok(FetchError::TooLarge { file: name.to_owned(), limit }));
        }
        digest.update(&buffer[..len]);
    }
}
