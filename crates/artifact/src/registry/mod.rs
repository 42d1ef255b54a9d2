//! All models of a directory: `<root>/<name>/<version>/`, and one small file per model for its aliases.
//!
//! Readers take no lock: a version directory appears by one rename and never changes, and the file with the
//! aliases is replaced by one rename. Writers of one model exclude each other with a file lock, which the
//! system releases when a process dies.

mod aliases;
mod publish;
mod scan;
mod state;
mod verify;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use self::aliases::AliasMove;
pub use self::publish::{Draft, Encoding, Published};
pub use self::scan::{ModelEntry, Scan, Warning};
use self::state::State;
pub use self::state::{AliasState, StateError};
pub use self::verify::{Verification, Verified};
use crate::codec::CodecError;
use crate::error::{Context, FileError};
use crate::limits::Limits;
use crate::manifest::{Manifest, ManifestError};
use crate::model_ref::{ModelRef, NameError, PRODUCTION, Selector, check_name};
use crate::package::{Package, PackageError};
use crate::record::RecordError;

const LOCK_FILE: &str = ".lock";

/// A directory of models.
#[derive(Clone, Debug)]
pub struct Registry {
    root: PathBuf,
    limits: Limits,
}

/// What a reference stands for at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The model.
    pub name: String,
    /// The version.
    pub version: u64,
    /// The directory of the package.
    pub path: PathBuf,
}

/// What a registry cannot do, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RegistryError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("`{}` is no directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("there is no model `{name}` in `{}`; it has {}", root.display(), known_names(known))]
    UnknownModel { name: String, root: PathBuf, known: Vec<String> },
    #[error("`{name}` has no version {version}; it has {}", known_versions(known))]
    UnknownVersion { name: String, version: u64, known: Vec<u64> },
    #[error("`{name}` has no alias `{alias}`; it has {}", known_names(known))]
    UnknownAlias { name: String, alias: String, known: Vec<String> },
    #[error(
        "the alias `{alias}` of `{name}` points at version {version}, which does not exist any more; it has {}",
        known_versions(known)
    )]
    Dangling { name: String, alias: String, version: u64, known: Vec<u64> },
    #[error("the alias `{alias}` of `{name}` has no earlier version that still exists")]
    NoHistory { name: String, alias: String },
    #[error(
        "`{name}@{version}` cannot be removed while {} at it; promote another version first",
        pointing(aliases)
    )]
    InUse { name: String, version: u64, aliases: Vec<String> },
    #[error("`{name}` has no version number left")]
    Exhausted { name: String },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("the manifest of `{name}` is not valid")]
    Manifest {
        name: String,
        #[source]
        source: Box<ManifestError>,
    },
    #[error("the weights of `{name}` cannot be packed")]
    Weights {
        name: String,
        #[source]
        source: RecordError,
    },
    #[error("the weights of `{name}` cannot be coded")]
    Codec {
        name: String,
        #[source]
        source: CodecError,
    },
    #[error("the evaluation of `{name}` cannot be packed")]
    Evaluation {
        name: String,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    File(#[from] FileError),
}

impl RegistryError {
    /// Whether something was asked for that the registry does not have: the caller's mistake, not the disk's.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::UnknownModel { .. } | Self::UnknownVersion { .. } | Self::UnknownAlias { .. })
    }
}

fn known_names(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    const SHOWN: usize = 10;
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<String> = names[..names.len() - more].iter().map(|name| format!("`{name}`")).collect();
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

fn known_versions(versions: &[u64]) -> String {
    known_names(&versions.iter().map(ToString::to_string).collect::<Vec<_>>()).replace('`', "")
}

fn pointing(aliases: &[String]) -> String {
    let verb = if aliases.len() == 1 { "points" } else { "point" };
    format!("{} {verb}", known_names(aliases))
}

impl Registry {
    /// Opens a directory of models. It need not exist: then it has no models, and publishing makes it.
    ///
    /// # Errors
    /// When there is something else than a directory.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        Self::open_with(root, Limits::default())
    }

    /// As [`Registry::open`], with other limits for the packages.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn open_with(root: impl Into<PathBuf>, limits: Limits) -> Result<Self, RegistryError> {
        let root = root.into();
        if fs::metadata(&root).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(RegistryError::NotADirectory { path: root });
        }
        Ok(Self { root, limits })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The limits within which packages are read.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The names of the models that have a version, sorted.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn models(&self) -> Result<Vec<String>, RegistryError> {
        Ok(self.scan()?.models.into_iter().map(|model| model.name).collect())
    }

    /// The versions of a model, ascending; none when there is no such model.
    ///
    /// # Errors
    /// When the name cannot be one or the directory cannot be listed.
    pub fn versions(&self, name: &str) -> Result<Vec<u64>, RegistryError> {
        check_name(name)?;
        Ok(scan::versions(&self.root.join(name))?.versions)
    }

    /// Finds the version that a reference means.
    ///
    /// # Errors
    /// When there is no such model, version or alias; the error lists what there is.
    pub fn resolve(&self, reference: &ModelRef) -> Result<Resolved, RegistryError> {
        let ModelRef { name, selector } = reference;
        let known = self.versions(name)?;
        let Some(&newest) = known.last() else {
            let (name, root) = (name.clone(), self.root.clone());
            return Err(RegistryError::UnknownModel { name, root, known: self.models()? });
        };
        let version = match selector {
            Selector::Version(version) => *version,
            Selector::Latest => newest,
            Selector::Alias(alias) => self.alias(name, alias, &known)?,
            Selector::Default => match self.alias(name, PRODUCTION, &known) {
                Err(RegistryError::UnknownAlias { .. }) => newest,
                other => other?,
            },
        };
        if !known.contains(&version) {
            return Err(RegistryError::UnknownVersion { name: name.clone(), version, known });
        }
        Ok(Resolved { name: name.clone(), version, path: self.version_path(name, version) })
    }

    /// Resolves a reference and opens the package, verified.
    ///
    /// # Errors
    /// As [`Registry::resolve`] and [`Package::open`].
    pub fn package(&self, reference: &ModelRef) -> Result<Package, RegistryError> {
        let resolved = self.resolve(reference)?;
        let package = Package::open_with(&resolved.path, &self.limits)?;
        self.check_place(&resolved, package.manifest())?;
        Ok(package)
    }

    /// Resolves a reference and reads its manifest; the other files are not looked at.
    ///
    /// # Errors
    /// As [`Registry::resolve`] and [`Package::read_manifest`].
    pub fn manifest(&self, reference: &ModelRef) -> Result<Manifest, RegistryError> {
        let resolved = self.resolve(reference)?;
        let manifest = Package::read_manifest(&resolved.path, &self.limits)?;
        self.check_place(&resolved, &manifest)?;
        Ok(manifest)
    }

    /// Removes a version. Its number is never given again.
    ///
    /// # Errors
    /// When it does not exist or an alias points at it.
    pub fn remove(&self, name: &str, version: u64) -> Result<(), RegistryError> {
        let model = self.existing(name, version)?;
        let _lock = Lock::take(&model)?;
        let mut state = State::read(&model)?;
        let pointing = state.aliases.iter().filter(|(_, alias)| alias.version == version);
        let aliases: Vec<String> = pointing.map(|(alias, _)| alias.clone()).collect();
        if !aliases.is_empty() {
            return Err(RegistryError::InUse { name: name.to_owned(), version, aliases });
        }
        state.last_version = state.last_version.max(scan::highest(&model)?);
        state.write(&model)?;
        // It disappears by one rename; what is left of it is not a version any more.
        let path = model.join(version.to_string());
        let grave = tempfile::Builder::new()
            .prefix(crate::atomic::TEMPORARY_PREFIX)
            .tempdir_in(&model)
            .context("create a directory in", &model)?;
        fs::rename(&path, grave.path().join("removed")).context("remove", &path)?;
        grave.close().context("remove", &path)?;
        crate::atomic::sync_directory(&model)?;
        Ok(())
    }

    fn version_path(&self, name: &str, version: u64) -> PathBuf {
        self.root.join(name).join(version.to_string())
    }

    /// The model's directory, when the version is there.
    fn existing(&self, name: &str, version: u64) -> Result<PathBuf, RegistryError> {
        self.resolve(&ModelRef { name: name.to_owned(), selector: Selector::Version(version) })?;
        Ok(self.root.join(name))
    }

    fn alias(&self, name: &str, alias: &str, known: &[u64]) -> Result<u64, RegistryError> {
        let state = State::read(&self.root.join(name))?;
        let Some(found) = state.aliases.get(alias) else {
            let (name, alias) = (name.to_owned(), alias.to_owned());
            return Err(RegistryError::UnknownAlias {
                name,
                alias,
                known: state.aliases.into_keys().collect(),
            });
        };
        let version = found.version;
        if !known.contains(&version) {
            let (name, alias, known) = (name.to_owned(), alias.to_owned(), known.to_vec());
            return Err(RegistryError::Dangling { name, alias, version, known });
        }
        Ok(version)
    }

    /// A package that was copied to another place would be served under a name that it does not have.
    fn check_place(&self, resolved: &Resolved, manifest: &Manifest) -> Result<(), RegistryError> {
        if manifest.name == resolved.name && manifest.version == resolved.version {
            return Ok(());
        }
        let source = Box::new(ManifestError::Place {
            found: format!("{}@{}", manifest.name, manifest.version),
            expected: format!("{}@{}", resolved.name, resolved.version),
        });
        let path = resolved.path.join(crate::manifest::MANIFEST_FILE);
        Err(PackageError::Manifest { path, source }.into())
    }
}

/// Excludes other writers of a model, in this process and in others, until it is dropped.
struct Lock {
    _file: File,
}

impl Lock {
    fn take(model: &Path) -> Result<Self, FileError> {
        let path = model.join(LOCK_FILE);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.context("open", &path)?;
        file.lock().context("lock", &path)?;
        Ok(Self { _file: file })
    }
}
