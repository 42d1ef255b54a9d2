//! The files that say who may do what, read whole and bounded, and looked at for changes.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct FileFault {
    /// Which one.
    pub file: PathBuf,
    /// Why, without anything that it holds.
    pub why: String,
}

impl FileFault {
    /// A fault of a file.
    #[must_use]
    pub fn new(file: &Path, why: impl Into<String>) -> Self {
        Self { file: file.to_owned(), why: why.into() }
    }
}

const LARGEST: u64 = 4 << 20;

/// Reads a file whole.
///
/// # Errors
/// When it cannot be read, or has more than 4 MiB.
pub fn read(file: &Path) -> Result<Vec<u8>, FileFault> {
    let fault = |error: std::io::Error| FileFault::new(file, format!("it cannot be read: {error}"));
    let mut bytes = Vec::new();
    File::open(file).map_err(fault)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > LARGEST {
        return Err(FileFault::new(file, "it has more than 4 MiB"));
    }
    Ok(bytes)
}

/// Reads a file of text whole.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(file: &Path) -> Result<String, FileFault> {
    String::from_utf8(read(file)?).map_err(|_| FileFault::new(file, "it is no UTF-8 text"))
}

/// What a file looked like, to see whether it has changed.
type Look = Option<(SystemTime, u64)>;

/// Files as they were when they were looked at last.
#[derive(Debug, Default)]
pub struct Watched(Vec<(PathBuf, Look)>);

impl Watched {
    /// Looks at files; the next [`Watched::changed`] compares with what is seen here.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().map(|file| (look(&file), file)).map(|(seen, file)| (file, seen)).collect())
    }

    /// Whether a file has changed since the last look.
    pub fn changed(&mut self) -> bool {
        // All are looked at, so that several that changed together are one change.
        self.0.iter_mut().fold(false, |changed, (file, seen)| {
            let now = look(file);
            changed | (std::mem::replace(seen, now) != now)
        })
    }
}

fn look(file: &Path) -> Look {
    let seen = std::fs::metadata(file).ok()?;
    Some((seen.modified().ok()?, seen.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, "1").unwrap();
        let mut watched = Watched::new([a.clone(), b.clone()]);
        assert!(!watched.changed());
        std::fs::write(&b, "1").unwrap();
        std::fs::write(&a, "22").unwrap();
        assert!(watched.changed() && !watched.changed());
        std::fs::remove_file(&b).unwrap();
        assert!(watched.changed() && !watched.changed());
    }

    #[test]
    fn files_are_named_when_they_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        assert!(read(&file).unwrap_err().to_string().contains("keys.toml: it cannot be read"));
        std::fs::write(&file, [0xff]).unwrap();
        assert!(read_text(&file).unwrap_err().to_string().ends_with("no UTF-8 text"));
        std::fs::write(&file, vec![b'a'; (4 << 20) + 1]).unwrap();
        assert!(read(&file).unwrap_err().to_string().ends_with("more than 4 MiB"));
    }
}
