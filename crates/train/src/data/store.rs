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

/// Enough of the content to see how long it shall be.
const HEAD: u64 = 64;

/// Bytes at positions.
#[derive(Debug)]
pub(crate) enum Store {
    Memory(Vec<u8>),
    File { path: PathBuf, file: Mutex<File>, len: u64 },
}

impl Store {
    /// Opens a file; gzip is recognised by its first two bytes. `announced` reads from the first bytes of the
    /// content how long it is, so that no more than that is unpacked; none: the beginning is already wrong.
    pub(crate) fn open(path: &Path, announced: fn(&[u8]) -> Option<u64>) -> Result<Self, DataError> {
        // Asked before it is opened: opening a pipe waits for its other end.
        let metadata = std::fs::metadata(path).map_err(DataError::io(path, "open it"))?;
        if !metadata.is_file() {
            return Err(DataError::file(&path.display().to_string(), "this is no regular file"));
        }
        let mut file = File::open(path).map_err(DataError::io(path, "open it"))?;
        let metadata = file.metadata().map_err(DataError::io(path, "read its size"))?;
        let mut head = Vec::with_capacity(2);
        file.by_ref().take(2).read_to_end(&mut head).map_err(DataError::io(path, "read it"))?;
        file.seek(SeekFrom::Start(0)).map_err(DataError::io(path, "read it"))?;
        if head == [0x1f, 0x8b] {
            return Self::unpack(&path.display().to_string(), file, announced);
        }
        if metadata.len() > IN_MEMORY {
            return Ok(Self::File { path: path.to_owned(), file: Mutex::new(file), len: metadata.len() });
        }
        let mut bytes = Vec::new();
        file.take(IN_MEMORY).read_to_end(&mut bytes).map_err(DataError::io(path, "read it"))?;
        Ok(Self::Memory(bytes))
    }

    /// Bytes that are in memory already, gzipped or not.
    pub(crate) fn from_bytes(
        name: &str,
        bytes: &[u8],
        announced: fn(&[u8]) -> Option<u64>,
    ) -> Result<Self, DataError> {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            Self::unpack(name, bytes, announced)
        } else {
            Ok(Self::Memory(bytes.to_vec()))
        }
    }

    fn unpack(name: &str, packed: impl Read, announced: fn(&[u8]) -> Option<u64>) -> Result<Self, DataError> {
        let mut bytes = Vec::new();
        let mut unpacker = MultiGzDecoder::new(packed);
        let damaged =
            |error: std::io::Error| DataError::file(name, format!("the gzip stream is damaged: {error}"));
        unpacker.by_ref().take(HEAD).read_to_end(&mut bytes).map_err(damaged)?;
        // A wrong beginning is all that its reader needs in order to refuse it; one byte over the announced
        // length is enough to see that the content is too long.
        let Some(len) = announced(&bytes) else { return Ok(Self::Memory(bytes)) };
        if len > UNPACKED {
            let problem = format!(
                "unpacks to {len} bytes, and the limit is {} GiB: unpack it first, plain files are read in place",
                UNPACKED >> 30
            );
            return Err(DataError::file(name, problem));
        }
        // The buffer grows with what really comes out, whatever the file announces.
        let rest = (len + 1).saturating_sub(bytes.len() as u64);
        unpacker.take(rest).read_to_end(&mut bytes).map_err(damaged)?;
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_on_disk_reads_like_one_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let content: Vec<u8> = (0..=255).collect();
        std::fs::write(&path, &content).unwrap();
        let file = Mutex::new(File::open(&path).unwrap());
        let on_disk = Store::File { path, file, len: 256 };
        let in_memory = Store::Memory(content.clone());
        for (offset, len) in [(0, 3), (250, 100), (256, 1), (u64::from(u32::MAX), 5), (7, 0)] {
            assert_eq!(on_disk.read_at(offset, len).unwrap(), in_memory.read_at(offset, len).unwrap());
        }
        let mut pieces = Vec::new();
        on_disk.for_each_piece(|piece| pieces.extend_from_slice(piece)).unwrap();
        assert_eq!(pieces, content);
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_refused() {
        let error = Store::open(Path::new("/dev/null"), |_| None).err().unwrap().to_string();
        assert_eq!(error, "/dev/null: this is no regular file");
    }

    #[test]
    fn no_more_is_unpacked_than_was_announced() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&vec![0; 50 << 20]).unwrap();
        let bomb = packer.finish().unwrap();
        assert!(bomb.len() < 100_000);
        let unpack = |announced| Store::from_bytes("x.gz", &bomb, announced);
        assert_eq!(unpack(|_| Some(1000)).unwrap().len(), 1001);
        assert_eq!(unpack(|_| None).unwrap().len(), HEAD);
        let error = unpack(|_| Some(u64::MAX)).err().unwrap().to_string();
        assert!(error.contains("the limit is 2 GiB"), "{error}");
        let cut = Store::from_bytes("x.gz", &bomb[..1000], |_| Some(50 << 20)).err().unwrap().to_string();
        assert!(cut.starts_with("x.gz: the gzip stream is damaged"), "{cut}");
    }
}
