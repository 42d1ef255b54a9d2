//! Bytes that are read at a position: in memory when they fit comfortably, from the file otherwise.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::read::MultiGzDecoder;

use super::DataError;

/// Plain files up to this size are held in memory; larger ones are read where they lie.
const IN_MEMORY: u64 = 256 << 20;
/// A compressed file must unpack to no more than this, because it has to be held in memory.
const UNPACKED: u64 = 2 << 30;

/// Bytes at positions.
#[derive(Debug)]
pub(crate) enum Store {
    Memory(Vec<u8>),
    File { path: PathBuf, file: Mutex<File>, len: u64 },
}

impl Store {
    /// Opens a file; gzip is recognised by its first two bytes.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let mut file = File::open(path).map_err(DataError::io(path, "open it"))?;
        let metadata = file.metadata().map_err(DataError::io(path, "read its size"))?;
        if !metadata.is_file() {
            return Err(DataError::file(&path.display().to_string(), "expected a file"));
        }
        let mut head = Vec::with_capacity(2);
        file.by_ref().take(2).read_to_end(&mut head).map_err(DataError::io(path, "read it"))?;
        file.seek(SeekFrom::Start(0)).map_err(DataError::io(path, "read it"))?;
        if head == [0x1f, 0x8b] {
            return Self::unpack(&path.display().to_string(), file);
        }
        if metadata.len() > IN_MEMORY {
            return Ok(Self::File { path: path.to_owned(), file: Mutex::new(file), len: metadata.len() });
        }
        let mut bytes = Vec::new();
        file.take(IN_MEMORY).read_to_end(&mut bytes).map_err(DataError::io(path, "read it"))?;
        Ok(Self::Memory(bytes))
    }

    /// Bytes that are in memory already, gzipped or not.
    pub(crate) fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, DataError> {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            Self::unpack(name, bytes)
        } else {
            Ok(Self::Memory(bytes.to_vec()))
        }
    }

    fn unpack(name: &str, packed: impl Read) -> Result<Self, DataError> {
        let mut bytes = Vec::new();
        // The buffer grows with what really comes out, whatever the file claims.
        let result = MultiGzDecoder::new(packed).take(UNPACKED + 1).read_to_end(&mut bytes);
        if let Err(error) = result {
            let problem = format!("the gzip stream is damaged after {} unpacked bytes: {error}", bytes.len());
            return Err(DataError::file(name, problem));
        }
        if bytes.len() as u64 > UNPACKED {
            let problem = format!(
                "unpacks to more than {} GiB: unpack it first, plain files are read in place",
                UNPACKED >> 30
            );
            return Err(DataError::file(name, problem));
        }
        Ok(Self::Memory(bytes))
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// The `len` bytes from `offset` on; fewer at the end of the file.
    pub(crate) fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, DataError> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(len).min(bytes.len());
                Ok(bytes[start..end].to_vec())
            }
            Self::File { path, file, .. } => {
                // A thread that panicked while it held the lock left nothing behind but a file position.
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset)).map_err(DataError::io(path, "read it"))?;
                let mut bytes = Vec::new();
                (&mut *file)
                    .take(len as u64)
                    .read_to_end(&mut bytes)
                    .map_err(DataError::io(path, "read it"))?;
                Ok(bytes)
            }
        }
    }

    /// Feeds all bytes to `sink`, a piece at a time.
    pub(crate) fn for_each_piece(&self, mut sink: impl FnMut(&[u8])) -> Result<(), DataError> {
        if let Self::Memory(bytes) = self {
            sink(bytes);
            return Ok(());
        }
        let mut offset = 0;
        while offset < self.len() {
            let piece = self.read_at(offset, 1 << 20)?;
            if piece.is_empty() {
                break;
            }
            offset += piece.len() as u64;
            sink(&piece);
        }
        Ok(())
    }
}
