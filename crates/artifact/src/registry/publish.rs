//! Making a version: written beside its place, then renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use network::Weights;

use super::state::State;
use super::{Lock, Registry, RegistryError, scan};
use crate::atomic;
use crate::card;
use crate::codec;
use crate::error::{Context, FileError};
use crate::manifest::{
    CARD_FILE, EVALUATION_FILE, FileEntry, FormatVersion, MANIFEST_FILE, Manifest, WEIGHTS_FILE,
};
use crate::model_ref::check_name;
use crate::package::Package;
use crate::record;

/// What becomes a package.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The manifest. Its format, name, version and files are filled in, its metrics are rounded.
    pub manifest: Manifest,
    /// The tensors, exactly those of the manifest's network, int8 layers as its quantization says.
    pub weights: Weights,
    /// The content of `evaluation.json`.
    pub evaluation: serde_json::Value,
    /// The model card; empty: made from the manifest.
    pub card: String,
    /// What else is kept of how the model was made and measured: JSON files by their names, such as
    /// `profile.json`.
    pub reports: BTreeMap<String, serde_json::Value>,
    /// How the tensors are written.
    pub encoding: Encoding,
}

impl Draft {
    /// A draft with nothing but what it must have: no evaluation and no reports, a card made from the manifest, and
    /// a plain record.
    #[must_use]
    pub fn new(manifest: Manifest, weights: Weights) -> Self {
        Self {
            manifest,
            weights,
            evaluation: serde_json::Value::Null,
            card: String::new(),
            reports: BTreeMap::new(),
            encoding: Encoding::Plain,
        }
    }
}

/// How the tensors of a package lie on the disk. They are the same for everybody who opens it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As a plain record, which Burn reads by itself.
    #[default]
    Plain,
    /// Wrapped in the [`codec`]: smaller, much so where weights are pruned, clustered or quantized.
    Coded,
}

/// A new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The model.
    pub name: String,
    /// The version that it got.
    pub version: u64,
    /// The directory of the package.
    pub path: PathBuf,
}

impl Registry {
    /// Packs a draft as the next version of a model. Either the whole package appears or nothing does; two
    /// callers at once, in one process or in two, get two versions. Before it appears it is opened in the
    /// way in which everybody will open it.
    ///
    /// # Errors
    /// When the draft contradicts itself, a weight is not finite, or a file cannot be written.
    pub fn publish(&self, name: &str, draft: Draft) -> Result<Published, RegistryError> {
        check_name(name)?;
        let Draft { mut manifest, weights, evaluation, card, reports, encoding } = draft;
        manifest.format = FormatVersion::CURRENT;
        manifest.name = name.to_owned();
        manifest.version = 1;
        manifest.files.clear();
        for value in manifest.metrics.values_mut() {
            *value = Manifest::round_metric(*value);
        }
        let network = manifest
            .check()
            .map_err(|source| RegistryError::Manifest { name: name.to_owned(), source: Box::new(source) })?;
        let record = record::check_weights(&weights, &network, manifest.quantization.as_ref())
            .and_then(|()| record::check_finite(&weights))
            .and_then(|()| record::encode(&weights))
            .map_err(|source| RegistryError::Weights { name: name.to_owned(), source })?;
        let coded = match encoding {
            Encoding::Plain => None,
            Encoding::Coded => {
                let coded = codec::encode(&weights);
                Some(coded.map_err(|source| RegistryError::Codec { name: name.to_owned(), source })?)
            }
        };
        drop(weights);
        let json = |value: &serde_json::Value| {
            crate::json::to_vec(value)
                .map_err(|source| RegistryError::Evaluation { name: name.to_owned(), source })
        };
        let evaluation = json(&evaluation)?;
        let reports: Vec<(&String, Vec<u8>)> = reports
            .iter()
            .map(|(file, value)| Ok((file, json(value)?)))
            .collect::<Result<_, RegistryError>>()?;

        let model = self.root.join(name);
        fs::create_dir_all(&model).context("create directory", &model)?;
        // The large file is written before the lock is taken.
        let mut staging = Staging::new(&model)?;
        let entry = match &coded {
            None => FileEntry::of(WEIGHTS_FILE, &record),
            Some(coded) => FileEntry::wrapped(WEIGHTS_FILE, codec::ENCODING, coded, &record),
        };
        staging.write_entry(entry, coded.as_deref().unwrap_or(&record))?;
        drop((record, coded));
        staging.write(EVALUATION_FILE, &evaluation)?;
        for (file, bytes) in &reports {
            FileEntry::check_name(file).map_err(|source| RegistryError::Manifest {
                name: name.to_owned(),
                source: Box::new(source.into()),
            })?;
            staging.write(file, bytes)?;
        }

        let _lock = Lock::take(&model)?;
        let mut state = State::read(&model)?;
        let highest = state.last_version.max(scan::highest(&model)?);
        let exhausted = || RegistryError::Exhausted { name: name.to_owned() };
        let version = highest.checked_add(1).ok_or_else(exhausted)?;
        manifest.version = version;
        let card = if card.is_empty() { card::card(&manifest) } else { card };
        staging.write(CARD_FILE, card.as_bytes())?;
        manifest.files = std::mem::take(&mut staging.files);
        let bytes = manifest
            .to_json()
            .map_err(|source| RegistryError::Manifest { name: name.to_owned(), source: Box::new(source) })?;
        staging.write(MANIFEST_FILE, &bytes)?;
        Package::open_with(staging.path(), &self.limits)?;
        // The number is taken before the package appears: a crash in between leaves a gap, never a reuse.
        state.last_version = version;
        state.write(&model)?;
        let path = model.join(version.to_string());
        staging.finish(&path)?;
        atomic::sync_directory(&model)?;
        Ok(Published { name: name.to_owned(), version, path })
    }
}

/// A directory that is removed unless it is finished.
struct Staging {
    directory: tempfile::TempDir,
    files: Vec<FileEntry>,
}

impl Staging {
    fn new(model: &Path) -> Result<Self, FileError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(atomic::TEMPORARY_PREFIX);
        // As a directory that a person makes: a server of another user may have to read it.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let directory = builder.tempdir_in(model).context("create a directory in", model)?;
        Ok(Self { directory, files: Vec::new() })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.write_entry(FileEntry::of(name, bytes), bytes)
    }

    fn write_entry(&mut self, entry: FileEntry, bytes: &[u8]) -> Result<(), FileError> {
        let path = self.path().join(&entry.path);
        let mut file = File::create_new(&path).context("create", &path)?;
        file.write_all(bytes).context("write", &path)?;
        file.sync_all().context("write", &path)?;
        self.files.push(entry);
        Ok(())
    }

    fn finish(self, path: &Path) -> Result<(), FileError> {
        atomic::sync_directory(self.path())?;
        fs::rename(self.path(), path).context("rename a directory to", path)?;
        // It is not there under its old name any more, so there is nothing to remove.
        let _ = self.directory.keep();
        Ok(())
    }
}
