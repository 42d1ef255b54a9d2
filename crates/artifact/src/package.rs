//! One version of a model on the disk, verified before it is believed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use network::{Network, Quantization, Weights, quantization};

use crate::codec::{self, CodecError};
use crate::digest;
use crate::error::{Context, FileError};
use crate::limits::Limits;
use crate::manifest::{
    CARD_FILE, EVALUATION_FILE, FileEntry, MANIFEST_FILE, Manifest, ManifestError, WEIGHTS_FILE,
};
use crate::read::{self, ReadError};
use crate::record::{self, RecordError};

/// A verified package. It holds the manifest; the other files are read when they are asked for.
#[derive(Clone, Debug)]
pub struct Package {
    path: PathBuf,
    manifest: Manifest,
    network: Network,
    limits: Limits,
}

/// A package that cannot be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum PackageError {
    #[error("`{}` is no package: it has no `{MANIFEST_FILE}`", path.display())]
    NoManifest { path: PathBuf },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("`{}` is not valid", path.display())]
    Manifest {
        path: PathBuf,
        #[source]
        source: Box<ManifestError>,
    },
    #[error("the package `{}` is damaged: {}", path.display(), join(problems))]
    Damaged { path: PathBuf, problems: Vec<Problem> },
    #[error("`{}` is not valid", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: RecordError,
    },
    #[error("`{}` cannot be unwrapped", path.display())]
    Codec {
        path: PathBuf,
        #[source]
        source: CodecError,
    },
    #[error("`{}` is not valid", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{}` is not UTF-8 text", path.display())]
    Text { path: PathBuf },
}

impl From<FileError> for PackageError {
    fn from(error: FileError) -> Self {
        Self::Read(ReadError::File(error))
    }
}

/// One thing that is wrong with the files of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum Problem {
    Missing { file: String },
    Unknown { file: String },
    NotRegular { file: String, kind: &'static str },
    TooLarge { file: String, size: u64, limit: u64 },
    Size { file: String, expected: u64, found: u64 },
    Digest { file: String, expected: String, found: String },
    Unwrapped { file: String, expected: String, found: String },
    TooManyFiles { limit: usize },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { file } => write!(f, "`{file}` is missing"),
            Self::Unknown { file } => write!(f, "`{file}` is not in the manifest"),
            Self::NotRegular { file, kind } => write!(f, "`{file}` is {kind} instead of a regular file"),
            Self::TooLarge { file, size, limit } => {
                write!(f, "`{file}` has {size} bytes, and the limit is {limit}")
            }
            Self::Size { file, expected, found } => {
                write!(f, "`{file}` has {found} bytes instead of {expected}")
            }
            Self::Digest { file, expected, found } => {
                write!(f, "`{file}` has the SHA-256 {found} instead of {expected}")
            }
            Self::Unwrapped { file, expected, found } => {
                write!(f, "what is wrapped in `{file}` has {found} instead of {expected}")
            }
            Self::TooManyFiles { limit } => write!(f, "it has more than {limit} files"),
        }
    }
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Package {
    /// Opens a package directory: checks the manifest, that exactly the listed files are there, their sizes
    /// and digests, and that the record's tensors are those of the network and its quantization.
    ///
    /// # Errors
    /// What is wrong, with every damaged file named.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PackageError> {
        Self::open_with(path, &Limits::default())
    }

    /// As [`Package::open`], within other limits.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, PackageError> {
        let path = path.as_ref().to_owned();
        let manifest = Self::read_manifest(&path, limits)?;
        let manifest_path = path.join(MANIFEST_FILE);
        let invalid = |source: ManifestError| PackageError::Manifest {
            path: manifest_path.clone(),
            source: Box::new(source),
        };
        if manifest.files.is_empty() {
            return Err(invalid(crate::manifest::FileEntryError::NoWeights.into()));
        }
        let network = manifest.check().map_err(invalid)?;
        let problems = check_files(&path, &manifest.files, limits)?;
        if !problems.is_empty() {
            return Err(PackageError::Damaged { path, problems });
        }
        let package = Self { path, manifest, network, limits: limits.clone() };
        // Plain floats are believed as they are; whether integers and scales can be, only their values tell.
        if package.quantization().is_none() && package.weights_encoding().is_none() {
            let bytes = package.verified(WEIGHTS_FILE, limits.record_bytes)?;
            record::entries(bytes, limits)
                .and_then(|entries| record::check(&entries, &package.network, None))
                .map_err(|source| package.record_error(source))?;
        } else {
            package.weights()?;
        }
        Ok(package)
    }

    /// Reads only the manifest of a package directory, for lists; no other file is looked at.
    ///
    /// # Errors
    /// When it is missing, too large, of an unknown version or contradicts itself.
    pub fn read_manifest(path: &Path, limits: &Limits) -> Result<Manifest, PackageError> {
        let file = path.join(MANIFEST_FILE);
        let bytes = match read::read(&file, limits.manifest_bytes) {
            Err(ReadError::File(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
                return Err(PackageError::NoManifest { path: path.to_owned() });
            }
            other => other?,
        };
        Manifest::from_json(&bytes)
            .map_err(|source| PackageError::Manifest { path: file, source: Box::new(source) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The checked network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Which layers compute in int8; nothing: all are 32-bit floats.
    #[must_use]
    pub fn quantization(&self) -> Option<&Quantization> {
        self.manifest.quantization.as_ref()
    }

    /// The bytes of all its files together as they lie on the disk, the manifest not counted.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.manifest.files.iter().fold(0, |sum, entry| sum.saturating_add(entry.size_bytes))
    }

    /// Reads the tensors as they are stored: of a layer that computes in int8, the weight in 8-bit integers and
    /// its scales. The digest is verified again, of the very bytes that are decoded.
    ///
    /// # Errors
    /// When the file changed since the package was opened, or cannot be read.
    pub fn weights(&self) -> Result<Weights, PackageError> {
        let bytes = self.verified(WEIGHTS_FILE, self.limits.record_bytes)?;
        let weights = match self.weights_encoding() {
            None => record::decode_vec(bytes, &self.limits).map_err(|source| self.record_error(source))?,
            Some(entry) => self.unwrapped(&bytes, entry)?,
        };
        record::check_weights(&weights, &self.network, self.quantization())
            .map_err(|source| self.record_error(source))?;
        Ok(weights)
    }

    /// The entry of the record's file when it is wrapped.
    fn weights_encoding(&self) -> Option<&FileEntry> {
        self.manifest.files.iter().find(|entry| entry.path == WEIGHTS_FILE && !entry.encoding.is_empty())
    }

    /// The tensors in a coded record, when the record that they make is the one that the manifest promises.
    fn unwrapped(&self, bytes: &[u8], entry: &FileEntry) -> Result<Weights, PackageError> {
        let path = || self.path.join(WEIGHTS_FILE);
        let size = entry.unwrapped_size_bytes.unwrap_or_default();
        if size > self.limits.record_bytes {
            let limit = self.limits.record_bytes;
            return Err(ReadError::TooLarge { path: path(), size, limit }.into());
        }
        // A record is never smaller than its tensors.
        let limits = Limits { total_bytes: self.limits.total_bytes.min(size), ..self.limits.clone() };
        let weights =
            codec::decode(bytes, &limits).map_err(|source| PackageError::Codec { path: path(), source })?;
        let record = record::encode(&weights).map_err(|source| self.record_error(source))?;
        let found = FileEntry::of(WEIGHTS_FILE, &record);
        let describe = |size: u64, digest: &str| format!("{size} bytes and the SHA-256 {digest}");
        let expected = describe(size, entry.unwrapped_sha256.as_deref().unwrap_or_default());
        let found = describe(found.size_bytes, &found.sha256);
        if found != expected {
            let problem = Problem::Unwrapped { file: WEIGHTS_FILE.to_owned(), expected, found };
            return Err(PackageError::Damaged { path: self.path.clone(), problems: vec![problem] });
        }
        Ok(weights)
    }

    /// Reads the tensors as 32-bit floats, exactly the parameters of the network: what every device loads that
    /// does not compute in int8. An integer becomes itself times the scale of its output.
    ///
    /// # Errors
    /// As [`Package::weights`].
    pub fn f32_weights(&self) -> Result<Weights, PackageError> {
        let weights = self.weights()?;
        let Some(plan) = self.quantization() else { return Ok(weights) };
        quantization::dequantize(&self.network, plan, &weights)
            .map_err(|source| self.record_error(source.into()))
    }

    /// The content of `evaluation.json`; null when the package has none.
    ///
    /// # Errors
    /// When the file changed, cannot be read or is no JSON.
    pub fn evaluation(&self) -> Result<serde_json::Value, PackageError> {
        Ok(self.report(EVALUATION_FILE)?.unwrap_or_default())
    }

    /// The content of a JSON file of the package, such as `profile.json`; nothing when the package has none of
    /// that name.
    ///
    /// # Errors
    /// When the file changed, cannot be read or is no JSON.
    pub fn report(&self, file: &str) -> Result<Option<serde_json::Value>, PackageError> {
        if !self.has(file) {
            return Ok(None);
        }
        let bytes = self.verified(file, self.limits.file_bytes)?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|source| PackageError::Json { path: self.path.join(file), source })?;
        Ok(Some(value))
    }

    /// The model card; empty when the package has none.
    ///
    /// # Errors
    /// When the file changed, cannot be read or is no UTF-8.
    pub fn card(&self) -> Result<String, PackageError> {
        if !self.has(CARD_FILE) {
            return Ok(String::new());
        }
        let bytes = self.verified(CARD_FILE, self.limits.file_bytes)?;
        String::from_utf8(bytes).map_err(|_| PackageError::Text { path: self.path.join(CARD_FILE) })
    }

    fn has(&self, file: &str) -> bool {
        self.manifest.files.iter().any(|entry| entry.path == file)
    }

    /// The bytes of a listed file when they are those that the manifest promises.
    fn verified(&self, file: &str, limit: u64) -> Result<Vec<u8>, PackageError> {
        let damaged = |problem| PackageError::Damaged { path: self.path.clone(), problems: vec![problem] };
        let entry = self.manifest.files.iter().find(|entry| entry.path == file);
        let entry = entry.ok_or_else(|| damaged(Problem::Missing { file: file.to_owned() }))?;
        let bytes = read::read(&self.path.join(file), limit)?;
        let found = digest::sha256_hex(&bytes);
        if found != entry.sha256 {
            let (file, expected) = (file.to_owned(), entry.sha256.clone());
            return Err(damaged(Problem::Digest { file, expected, found }));
        }
        Ok(bytes)
    }

    fn record_error(&self, source: RecordError) -> PackageError {
        PackageError::Record { path: self.path.join(WEIGHTS_FILE), source }
    }
}

/// Compares a directory with the manifest's list; digests are computed only of files of the right size.
fn check_files(directory: &Path, files: &[FileEntry], limits: &Limits) -> Result<Vec<Problem>, FileError> {
    if files.len() > limits.files {
        return Ok(vec![Problem::TooManyFiles { limit: limits.files }]);
    }
    let mut problems = Vec::new();
    let mut listed: BTreeMap<&str, &FileEntry> =
        files.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    let mut count = 0;
    for item in fs::read_dir(directory).context("list", directory)? {
        let name = item.context("list", directory)?.file_name();
        let name = name.to_string_lossy();
        count += 1;
        if count > limits.files + 1 {
            problems.push(Problem::TooManyFiles { limit: limits.files });
            return Ok(problems);
        }
        if name == MANIFEST_FILE {
            continue;
        }
        match listed.remove(name.as_ref()) {
            Some(entry) => problems.extend(check_file(directory, entry, limits)?),
            None => problems.push(Problem::Unknown { file: name.into_owned() }),
        }
    }
    problems.extend(listed.into_keys().map(|file| Problem::Missing { file: file.to_owned() }));
    // The order of a directory is the file system's; messages should not depend on it.
    problems.sort_by_key(ToString::to_string);
    Ok(problems)
}

fn check_file(directory: &Path, entry: &FileEntry, limits: &Limits) -> Result<Option<Problem>, FileError> {
    let file = entry.path.clone();
    let path = directory.join(&file);
    let limit = if file == WEIGHTS_FILE { limits.record_bytes } else { limits.file_bytes };
    let found = match read::regular_size(&path, limit) {
        Ok(size) => size,
        Err(ReadError::NotRegular { kind, .. }) => return Ok(Some(Problem::NotRegular { file, kind })),
        Err(ReadError::TooLarge { size, limit, .. }) => {
            return Ok(Some(Problem::TooLarge { file, size, limit }));
        }
        Err(ReadError::File(error)) => return Err(error),
    };
    let expected = entry.size_bytes;
    if found != expected {
        return Ok(Some(Problem::Size { file, expected, found }));
    }
    // `weights.bpk` is verified where it is read, so that it is read once.
    if file == WEIGHTS_FILE {
        return Ok(None);
    }
    let mut reader = File::open(&path).context("open", &path)?;
    let (found, _) = digest::sha256_reader(&mut reader).context("read", &path)?;
    let expected = entry.sha256.clone();
    Ok((found != expected).then_some(Problem::Digest { file, expected, found }))
}
