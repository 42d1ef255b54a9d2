//! Run directories: `artifacts/runs/<name>-<n>/`.
//!
//! | file | content |
//! |---|---|
//! | `config.resolved.toml` | the whole configuration, each value with its origin |
//! | `run.json` | what ran, on what, how it ended ([`RunRecord`]) |
//! | `metrics.jsonl`, `metrics.csv` | one line per epoch |
//! | `checkpoint/` | where to go on |
//! | `evaluation.json` | the scores on the test split |
//! | `report.html` | all of it for a browser |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artifact::FileError;
use serde::{Deserialize, Serialize};

use crate::data::{DataSet, SplitRecord};
use crate::fit::Finish;

/// The name of the file with the resolved configuration.
pub const CONFIG_FILE: &str = "config.resolved.toml";
/// The name of the file with the record of the run.
pub const RUN_FILE: &str = "run.json";
/// The name of the file with the scores.
pub const EVALUATION_FILE: &str = "evaluation.json";
/// The name of the page for people.
pub const REPORT_FILE: &str = "report.html";

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory {
    id: String,
    path: PathBuf,
}

/// A run that cannot be made or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RunError {
    #[error("the run's folder {path} cannot be {action}", path = path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    #[error("there is no run {name} in {root}", root = root.display())]
    Unknown { name: String, root: PathBuf },
    #[error("the run {id} is over; start a new one with `--config {config}`", config = config.display())]
    Over { id: String, config: PathBuf },
    #[error("the run {id} was on other data: {what} is {found} now and was {expected}")]
    DataChanged { id: String, what: &'static str, found: String, expected: String },
    #[error("{path} is damaged", path = path.display())]
    Record { path: PathBuf, source: serde_json::Error },
    #[error("the run's files cannot be written")]
    Write(#[from] FileError),
}

impl RunDirectory {
    /// Makes the next folder `<name>-<n>` under `root`. Two trainings that start at once get two folders.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create(root: &Path, name: &str) -> Result<Self, RunError> {
        let io = |action| {
            let path = root.to_owned();
            move |source| RunError::Io { path, action, source }
        };
        std::fs::create_dir_all(root).map_err(io("created"))?;
        let mut number = 1;
        for entry in std::fs::read_dir(root).map_err(io("listed"))? {
            let entry = entry.map_err(io("listed"))?;
            let file_name = entry.file_name();
            let taken = file_name
                .to_str()
                .and_then(|text| text.strip_prefix(name)?.strip_prefix('-')?.parse::<u64>().ok());
            number = number.max(taken.map_or(0, |taken| taken.saturating_add(1)));
        }
        loop {
            let id = format!("{name}-{number}");
            let path = root.join(&id);
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { id, path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(RunError::Io { path, action: "created", source }),
            }
        }
    }

    /// An existing run, by its name under `root` or by the path of its folder.
    ///
    /// # Errors
    /// When there is no such folder or no configuration in it.
    pub fn open(root: &Path, name: &str) -> Result<Self, RunError> {
        let by_name = root.join(name);
        let path = if by_name.join(CONFIG_FILE).is_file() { by_name } else { PathBuf::from(name) };
        let id = path.file_name().and_then(|id| id.to_str()).map(str::to_owned);
        match id {
            Some(id) if path.join(CONFIG_FILE).is_file() => Ok(Self { id, path }),
            _ => Err(RunError::Unknown { name: format!("`{name}`"), root: root.to_owned() }),
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) -> Result<(), RunError> {
        Ok(artifact::atomic::write(&self.path.join(file), bytes)?)
    }

    /// Reads `run.json`.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn record(&self) -> Result<RunRecord, RunError> {
        let path = self.path.join(RUN_FILE);
        let io = |source| RunError::Io { path: path.clone(), action: "read", source };
        let bytes = std::fs::read(&path).map_err(io)?;
        serde_json::from_slice(&bytes).map_err(|source| RunError::Record { path, source })
    }

    /// Refuses to go on with a run that is over, or on other data than it began with. A run that is trained
    /// and has no package is not over for somebody who wants to `pack` it.
    ///
    /// # Errors
    /// What stands against it.
    pub fn check_resume(&self, data: &DataSet, pack: bool) -> Result<RunRecord, RunError> {
        let record = self.record()?;
        let id = self.id.clone();
        let done = matches!(record.finish, Some(Finish::Completed | Finish::StoppedEarly));
        if done && (record.model.is_some() || !pack) {
            return Err(RunError::Over { id, config: self.path.join(CONFIG_FILE) });
        }
        let pairs = [
            ("the data's digest", &data.sha256, &record.data_sha256),
            ("the split's digest", &data.splits.record.sha256, &record.split.sha256),
        ];
        for (what, found, expected) in pairs {
            if found != expected {
                let (found, expected) = (found.clone(), expected.clone());
                return Err(RunError::DataChanged { id, what, found, expected });
            }
        }
        Ok(record)
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_record(&self, record: &RunRecord) -> Result<(), RunError> {
        self.write(RUN_FILE, json(record)?)
    }
}

/// Pretty JSON with a line break at its end.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, RunError> {
    let written = serde_json::to_vec_pretty(value);
    let path = PathBuf::from("JSON");
    let mut bytes =
        written.map_err(|error| RunError::Io { path, action: "written", source: error.into() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// `run.json`: what ran, on what, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The version of this format.
    pub format: String,
    /// The run's name.
    pub id: String,
    /// The model's name.
    pub name: String,
    /// When it began, as the caller told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// How it ended; not there while it runs, when it failed, and until the package and the report are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// The digest of the resolved configuration.
    pub config_sha256: String,
    /// The seed of every random draw.
    pub seed: u64,
    /// The device.
    pub device: String,
    /// How many threads compute.
    pub threads: usize,
    /// The name of the data set.
    pub data: String,
    /// Its digest.
    pub data_sha256: String,
    /// How it was split.
    pub split: SplitRecord,
    /// The package whose weights were the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Parameters of the network that train.
    pub parameters: u64,
    /// Epochs done.
    pub epochs: usize,
    /// The epoch whose weights were taken, from 1.
    pub best_epoch: usize,
    /// Seconds of training and validation, over all parts of the run.
    pub train_seconds: f64,
    /// Seconds of the evaluation.
    pub evaluate_seconds: f64,
    /// Scores on the test split.
    pub metrics: BTreeMap<String, f64>,
    /// The package that was made: `name@version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Versions of the crates that did the work.
    pub crates: BTreeMap<String, String>,
}

/// Versions of the crates that did the work: this one and Burn, from the lock file of the build.
#[must_use]
pub fn crate_versions() -> BTreeMap<String, String> {
    let lock = include_str!("../../../Cargo.lock");
    let mut versions = BTreeMap::from([("train".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        let Some(name) = ["burn", "burn-flex"].into_iter().find(|name| line == format!("name = \"{name}\""))
        else {
            continue;
        };
        if let Some(version) =
            lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        {
            versions.insert(name.to_owned(), version.to_owned());
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_up_and_are_found_again() {
        let root = tempfile::tempdir().unwrap();
        let ids: Vec<String> =
            (0..3).map(|_| RunDirectory::create(root.path(), "digits").unwrap().id().to_owned()).collect();
        assert_eq!(ids, ["digits-1", "digits-2", "digits-3"]);
        std::fs::create_dir(root.path().join("digits-41")).unwrap();
        std::fs::create_dir(root.path().join("digits-x")).unwrap();
        let run = RunDirectory::create(root.path(), "digits").unwrap();
        assert_eq!(run.id(), "digits-42");
        assert!(RunDirectory::open(root.path(), "digits-42").is_err());
        run.write(CONFIG_FILE, "").unwrap();
        assert_eq!(RunDirectory::open(root.path(), "digits-42").unwrap(), run);
        assert_eq!(RunDirectory::open(root.path(), run.path().to_str().unwrap()).unwrap().id(), "digits-42");
    }

    #[test]
    fn simultaneous_runs_get_different_folders() {
        let root = tempfile::tempdir().unwrap();
        let mut ids: Vec<String> = std::thread::scope(|scope| {
            let create = || RunDirectory::create(root.path(), "x").unwrap().id().to_owned();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn the_lock_file_names_burn() {
        assert_eq!(crate_versions()["burn"], "0.22.1");
    }
}
