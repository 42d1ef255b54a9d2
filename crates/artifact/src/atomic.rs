//! Files that appear whole or not at all.
//!
//! A file is written beside its destination under another name, flushed to the disk and renamed. A reader
//! sees the old content or the new one, never a part; a crash leaves at most a `.tmp-…` file behind.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Context, FileError};

/// The beginning of the names of unfinished files and directories.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Writes `bytes` to `path`, replacing what is there; missing parent directories are made.
///
/// # Errors
/// When the parent cannot be made or the file cannot be written or renamed; `path` is then as it was.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), FileError> {
    write_with(path, |file| file.write_all(bytes.as_ref()))
}

/// Writes what `fill` produces to `path`, replacing what is there; missing parent directories are made.
///
/// # Errors
/// As [`write()`], or with the error of `fill`.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<(), FileError> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).context("create directory", parent)?;
    let mut temporary = temporary_file(parent).context("create a file in", parent)?;
    fill(temporary.as_file_mut()).context("write", path)?;
    temporary.as_file().sync_all().context("write", path)?;
    temporary.persist(path).map_err(|error| error.error).context("write", path)?;
    sync_directory(parent)
}

/// Makes the names in a directory durable. On systems where a directory cannot be opened it does nothing.
///
/// # Errors
/// When the disk reports an error.
pub fn sync_directory(directory: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        let handle = File::open(directory).context("open", directory)?;
        handle.sync_all().context("flush", directory)?;
    }
    Ok(())
}

/// A new file in `parent` that is removed unless it is persisted. Readable by everyone the umask allows,
/// as a file that a person makes would be, instead of by the owner alone.
fn temporary_file(parent: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(parent)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/file.txt");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.txt");
        write(&path, "one").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"tw")?;
            Err(std::io::Error::other("the disk is full"))
        });
        assert_eq!(error.unwrap_err().to_string(), format!("cannot write `{}`", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let ours = directory.path().join("ours");
        let plain = directory.path().join("plain");
        write(&ours, "x").unwrap();
        fs::write(&plain, "x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
