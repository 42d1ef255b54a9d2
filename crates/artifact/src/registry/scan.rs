//! What lies in a registry: models, versions, and what does not belong there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::state::{STATE_FILE, State};
use super::{LOCK_FILE, Registry, RegistryError};
use crate::atomic::TEMPORARY_PREFIX;
use crate::error::{Context, FileError};
use crate::manifest::MANIFEST_FILE;
use crate::model_ref::{check_name, parse_version};

/// Everything in a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The models that have a version, by name.
    pub models: Vec<ModelEntry>,
    /// What was ignored.
    pub warnings: Vec<Warning>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// Its name.
    pub name: String,
    /// Its versions, ascending; never empty.
    pub versions: Vec<u64>,
    /// Its aliases by name.
    pub aliases: std::collections::BTreeMap<String, u64>,
}

/// Something that was ignored, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Where it lies.
    pub path: PathBuf,
    /// Why it is no model or version.
    pub reason: String,
    /// Whether something of ours is damaged, such as a file with aliases that cannot be read; otherwise it
    /// just does not belong there.
    pub damage: bool,
}

/// What the server keeps beside the versions of a model: how it directs the traffic between them.
const TRAFFIC_FILE: &str = "traffic.json";

impl Registry {
    /// Lists models, versions and aliases. What is no model or version is ignored with a warning, so that
    /// one stray directory does not stop a server.
    ///
    /// # Errors
    /// When the root cannot be listed.
    pub fn scan(&self) -> Result<Scan, RegistryError> {
        let mut scan = Scan::default();
        for (name, path, kind) in list(&self.root)? {
            if name.starts_with('.') && !kind.is_dir() {
                continue;
            }
            if !kind.is_dir() {
                scan.warn(path, "it is no directory");
                continue;
            }
            if let Err(error) = check_name(&name) {
                scan.warn(path, error);
                continue;
            }
            let found = match versions(&path) {
                Ok(found) => found,
                Err(error) => {
                    scan.warn(path, chain(&error));
                    continue;
                }
            };
            scan.warnings.extend(found.warnings);
            let aliases = match State::read(&path) {
                Ok(state) => state.aliases,
                Err(error) => {
                    let (path, reason) = (path.join(STATE_FILE), chain(&error));
                    scan.warnings.push(Warning { path, reason, damage: true });
                    Default::default()
                }
            };
            if !found.versions.is_empty() {
                let aliases = aliases.into_iter().map(|(alias, state)| (alias, state.version)).collect();
                scan.models.push(ModelEntry { name, versions: found.versions, aliases });
            }
        }
        Ok(scan)
    }
}

impl Scan {
    fn warn(&mut self, path: PathBuf, reason: impl ToString) {
        self.warnings.push(Warning { path, reason: reason.to_string(), damage: false });
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[derive(Default)]
pub(super) struct Versions {
    pub(super) versions: Vec<u64>,
    pub(super) warnings: Vec<Warning>,
}

/// The versions in a model's directory; a missing directory has none.
pub(super) fn versions(model: &Path) -> Result<Versions, FileError> {
    let mut found = Versions::default();
    for (name, path, kind) in list(model)? {
        let reason = match parse_version(&name) {
            _ if [STATE_FILE, LOCK_FILE, TRAFFIC_FILE].contains(&name.as_str()) => continue,
            // The lists of versions are used while others publish: their unfinished work is no news, but
            // a directory that a stopped writer left should be seen by somebody.
            None if name.starts_with(TEMPORARY_PREFIX) => {
                "it is unfinished: a writer is at work, or was stopped and left it behind".to_owned()
            }
            None => "versions are named by whole numbers from 1, without leading zeros".to_owned(),
            Some(_) if !kind.is_dir() => "it is no directory".to_owned(),
            Some(version) if path.join(MANIFEST_FILE).is_file() => {
                found.versions.push(version);
                continue;
            }
            Some(_) => format!("it has no `{MANIFEST_FILE}`"),
        };
        found.warnings.push(Warning { path, reason, damage: false });
    }
    found.versions.sort_unstable();
    Ok(found)
}

/// The highest number in a model's directory, of whatever is named like a version.
pub(super) fn highest(model: &Path) -> Result<u64, FileError> {
    let numbers = list(model)?.into_iter().filter_map(|(name, ..)| parse_version(&name));
    Ok(numbers.max().unwrap_or(0))
}

/// Names, paths and kinds in a directory, sorted; links are not followed.
fn list(directory: &Path) -> Result<Vec<(String, PathBuf, fs::FileType)>, FileError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("list", directory)?,
    };
    let mut items = Vec::new();
    for entry in entries {
        let entry = entry.context("list", directory)?;
        let kind = match entry.file_type() {
            // It went away meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.context("read", &entry.path())?,
        };
        items.push((entry.file_name().to_string_lossy().into_owned(), entry.path(), kind));
    }
    items.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(items)
}
