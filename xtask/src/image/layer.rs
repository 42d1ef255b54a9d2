//! A layer of an image: a tar archive, packed, the same bytes for the same files whoever makes it and when.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// The content; nothing of a directory.
    bytes: Option<Vec<u8>>,
    mode: u32,
    /// User and group.
    owner: u64,
}

/// The files of a layer by path, sorted, without a leading slash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    entries: BTreeMap<String, Entry>,
}

/// A layer as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// The packed archive.
    pub(crate) bytes: Vec<u8>,
    /// The digest of the archive unpacked, as configurations name it.
    pub(crate) diff_id: String,
}

impl Layer {
    /// Adds a directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, owner: u64) {
        self.above(path);
        self.entries.insert(path.to_owned(), Entry { bytes: None, mode, owner });
    }

    /// Adds a file, and the directories above it.
    pub(crate) fn file(&mut self, path: &str, bytes: Vec<u8>, mode: u32, owner: u64) {
        self.above(path);
        self.entries.insert(path.to_owned(), Entry { bytes: Some(bytes), mode, owner });
    }

    /// Adds everything below a directory of this machine.
    pub(crate) fn tree(&mut self, path: &str, source: &Path, owner: u64) -> anyhow::Result<()> {
        let shown = || format!("cannot read {}", source.display());
        self.directory(path, 0o755, owner);
        for entry in std::fs::read_dir(source).with_context(shown)? {
            let entry = entry.with_context(shown)?;
            let name = entry.file_name();
            let name =
                name.to_str().with_context(|| format!("{} has no plain name", entry.path().display()))?;
            let inside = format!("{path}/{name}");
            let kind = entry.file_type().with_context(shown)?;
            if kind.is_dir() {
                self.tree(&inside, &entry.path(), owner)?;
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path())
                    .with_context(|| format!("cannot read {}", entry.path().display()))?;
                self.file(&inside, bytes, 0o644, owner);
            } else {
                anyhow::bail!("{} is neither a file nor a directory", entry.path().display());
            }
        }
        Ok(())
    }

    fn above(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            let directory = Entry { bytes: None, mode: 0o755, owner: 0 };
            self.entries.entry(path[..end].to_owned()).or_insert(directory);
        }
    }

    /// The archive with every time set to `time`.
    pub(crate) fn pack(&self, time: u64) -> anyhow::Result<Packed> {
        let mut archive = Builder::new(Vec::new());
        for (path, Entry { bytes, mode, owner }) in &self.entries {
            let mut header = Header::new_ustar();
            header.set_mode(*mode);
            header.set_uid(*owner);
            header.set_gid(*owner);
            header.set_mtime(time);
            header.set_size(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
            let kind = if bytes.is_some() { EntryType::Regular } else { EntryType::Directory };
            header.set_entry_type(kind);
            let path = if bytes.is_some() { path.clone() } else { format!("{path}/") };
            let content = bytes.as_deref().unwrap_or_default();
            archive
                .append_data(&mut header, &path, content)
                .with_context(|| format!("cannot pack {path}"))?;
        }
        let plain = archive.into_inner().context("cannot pack a layer")?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&plain).context("cannot pack a layer")?;
        let bytes = packed.finish().context("cannot pack a layer")?;
        Ok(Packed { bytes, diff_id: super::layout::digest(&plain) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let layer = |names: [&str; 2]| {
            let mut layer = Layer::default();
            layer.directory("tmp", 0o1777, 0);
            names.into_iter().for_each(|name| layer.file(name, name.into(), 0o644, 65532));
            layer.pack(7).unwrap()
        };
        let (one, other) = (layer(["a/b/c", "d"]), layer(["d", "a/b/c"]));
        assert_eq!(one.bytes, other.bytes);
        assert_eq!(one.diff_id, other.diff_id);
        assert_ne!(one.diff_id, super::super::layout::digest(&one.bytes));
        let plain = flate2::read::GzDecoder::new(one.bytes.as_slice());
        let mut archive = tar::Archive::new(plain);
        let entries: Vec<(String, u64, u64, u32)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().to_str().unwrap().to_owned();
                (path, header.uid().unwrap(), header.mtime().unwrap(), header.mode().unwrap())
            })
            .collect();
        let expected = [
            ("a/", 0, 7, 0o755),
            ("a/b/", 0, 7, 0o755),
            ("a/b/c", 65532, 7, 0o644),
            ("d", 65532, 7, 0o644),
            ("tmp/", 0, 7, 0o1777),
        ];
        assert_eq!(entries, expected.map(|(path, owner, time, mode)| (path.to_owned(), owner, time, mode)));
    }
}
