//! What lies in the directory at one moment, told so that two looks can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

use artifact::registry::Warning;
use artifact::{Registry, RegistryError};

use crate::error::{ServeError, shown};

/// What is in a registry.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// By name.
    pub(super) models: BTreeMap<String, Found>,
    /// Models whose directory is there and cannot be read now: nothing is known of them.
    pub(super) unreadable: BTreeSet<String>,
    /// What does not belong there.
    pub(super) warnings: Vec<Warning>,
}

/// One model.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Its versions, with what would change if one of them did.
    pub(super) versions: BTreeMap<u64, Fingerprint>,
    /// Its aliases; `None` when the file that holds them cannot be read.
    pub(super) aliases: Option<BTreeMap<String, u64>>,
}

/// Names, sizes and times of the files of a version: another package, or a repaired one, has another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<(OsString, u64, Option<SystemTime>)>);

impl Disk {
    /// Looks.
    ///
    /// # Errors
    /// When the root is not there or cannot be listed, which must not be taken for an empty registry: what is served
    /// goes on being served while a disk is away.
    pub(super) fn look(registry: &Registry) -> Result<Self, RegistryError> {
        let root = registry.root();
        if !root.is_dir() {
            return Err(RegistryError::NotADirectory { path: root.to_owned() });
        }
        let scan = registry.scan()?;
        let damaged = |path: &Path| {
            scan.warnings.iter().any(|warning| warning.damage && warning.path.parent() == Some(path))
        };
        let mut disk = Self::default();
        for entry in &scan.models {
            let path = root.join(&entry.name);
            let fingerprint = |number: u64| (number, Fingerprint::of(&path.join(number.to_string())));
            let versions = entry.versions.iter().copied().map(fingerprint).collect();
            let aliases = (!damaged(&path)).then(|| entry.aliases.clone());
            disk.models.insert(entry.name.clone(), Found { versions, aliases });
        }
        for warning in &scan.warnings {
            let is_model = warning.path.parent() == Some(root) && warning.path.is_dir();
            if let Some(name) = warning.path.file_name().and_then(|name| name.to_str()).filter(|_| is_model) {
                disk.unreadable.insert(name.to_owned());
            }
        }
        disk.warnings = scan.warnings;
        Ok(disk)
    }
}

impl Disk {
    /// What was found of one model. What cannot be read is not taken for nothing, or what is served of it would end.
    ///
    /// # Errors
    /// 503 for a model whose directory cannot be read.
    pub(super) fn take(mut self, name: &str) -> Result<Found, ServeError> {
        if self.unreadable.contains(name) {
            let name = shown(name);
            return Err(ServeError::unavailable(format_args!(
                "the directory of {name} cannot be read now; what is served of it goes on"
            )));
        }
        Ok(self.models.remove(name).unwrap_or_default())
    }
}

impl Fingerprint {
    /// That of a version's directory; empty when it is not there.
    pub(super) fn of(directory: &Path) -> Self {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| {
                let data = entry.metadata().ok();
                let size = data.as_ref().map_or(0, std::fs::Metadata::len);
                (entry.file_name(), size, data.and_then(|data| data.modified().ok()))
            })
            .collect();
        files.sort();
        Self(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_away_is_not_an_empty_one() {
        let place = tempfile::tempdir().unwrap();
        let registry = Registry::open(place.path().join("models")).unwrap();
        assert!(Disk::look(&registry).is_err());
        std::fs::create_dir(registry.root()).unwrap();
        assert!(Disk::look(&registry).unwrap().models.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let disk = || Disk { unreadable: ["digits".to_owned()].into(), ..Disk::default() };
        let error = disk().take("digits").unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Unavailable, "{error}");
        assert!(disk().take("prices").unwrap().versions.is_empty(), "it has disappeared");
    }

    #[test]
    fn versions_are_told_apart_from_what_is_none() {
        let place = tempfile::tempdir().unwrap();
        let registry = Registry::open(place.path()).unwrap();
        let write = |file: &str, text: &str| {
            let path = place.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for version in ["1", "2", "02", "0", "new", "1.5", "-1", ".tmp-3"] {
            write(&format!("digits/{version}/manifest.json"), "{}");
        }
        // A directory that is being filled, and a file with aliases that is not one.
        write("digits/3/weights.bpk", "x");
        write("flowers/1/manifest.json", "{}");
        write("flowers/registry.json", "not JSON");
        let disk = Disk::look(&registry).unwrap();
        assert_eq!(disk.models["digits"].versions.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(disk.models["digits"].aliases, Some(BTreeMap::new()));
        assert_eq!(disk.models["flowers"].aliases, None, "unknown, not none");
        assert!(disk.unreadable.is_empty(), "{:?}", disk.unreadable);
        let before = disk.models["digits"].versions[&1].clone();
        assert_eq!(Disk::look(&registry).unwrap().models["digits"].versions[&1], before);
        write("digits/1/manifest.json", "{ }");
        assert_ne!(Disk::look(&registry).unwrap().models["digits"].versions[&1], before);
    }
}
