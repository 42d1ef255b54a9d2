//! The state of a training on disk: `checkpoint/<step>/`.
//!
//! A checkpoint is written into a folder of its own, whose `state.json`, written last, lists the digests of
//! the other files. Then the folders before it are removed. Whatever happens in between, the newest folder
//! whose digests are right is a whole checkpoint.
//!
//! | file | content |
//! |---|---|
//! | `weights.bpk` | the parameters and running statistics |
//! | `optimizer.bpk` | the optimizer's moments |
//! | `best.bpk` | the best weights so far, when early stopping watches |
//! | `state.json` | where the training stands ([`State`]) |
//!
//! There is no random state: every draw is a function of (seed, epoch, step, sample).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artifact::{FileError, Limits, RecordError, digest, record};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::tensor::Bytes;
use network::Weights;
use serde::{Deserialize, Serialize};

use super::EpochRecord;
use super::history::{bits, exact};
use super::stopping::StoppingState;

const FORMAT: &str = "2.0";
const STATE: &str = "state.json";
const WEIGHTS: &str = "weights.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const BEST: &str = "best.bpk";

/// Where a training stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of this format.
    pub format: String,
    /// The epoch that is under way or comes next, from 0.
    pub epoch: usize,
    /// Steps of it that are done.
    pub step_in_epoch: u64,
    /// Steps since the beginning; the position in the schedule.
    pub step: u64,
    /// Sums over the samples of the epoch under way.
    pub sums: Sums,
    /// Seconds of the epoch under way.
    pub epoch_seconds: f64,
    /// What early stopping remembers.
    pub stopping: StoppingState,
    /// The epochs that are over.
    #[serde(with = "exact")]
    pub history: Vec<EpochRecord>,
    /// How the training ended; `None` while it can go on.
    pub finished: Option<super::Finish>,
    /// SHA-256 of the files beside this one.
    pub files: BTreeMap<String, String>,
}

/// What every format of `state.json` has.
#[derive(Deserialize)]
struct Version {
    format: String,
}

/// Sums over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Of losses.
    #[serde(with = "bits")]
    pub loss: f64,
    /// Of metrics.
    #[serde(with = "bits")]
    pub score: f64,
    /// The number of samples.
    pub count: usize,
}

/// A checkpoint as it was read.
pub struct Checkpoint {
    /// Where the training stands.
    pub state: State,
    /// The parameters and running statistics.
    pub weights: Weights,
    /// The best weights so far.
    pub best: Option<Weights>,
    pub(super) optimizer: Bytes,
}

/// A checkpoint that cannot be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum CheckpointError {
    #[error("the checkpoint could not be written")]
    Write(#[from] FileError),
    #[error("the checkpoint {path} could not be {action}", path = path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    #[error("a record of the checkpoint is damaged")]
    Record(#[from] RecordError),
    #[error("the optimizer's record is damaged: {0}")]
    Optimizer(String),
    #[error("{path} has no whole checkpoint{found}; start the training again", path = path.display())]
    None { path: PathBuf, found: String },
    #[error("{path} is damaged: {problem}", path = path.display())]
    Damaged { path: PathBuf, problem: String },
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    directory: PathBuf,
}

impl Checkpoints {
    /// Those in the run's folder.
    #[must_use]
    pub fn of_run(run: &Path) -> Self {
        Self { directory: run.join("checkpoint") }
    }

    /// Writes a checkpoint and then removes the older ones.
    pub(super) fn save(
        &self,
        state: &State,
        weights: &Weights,
        best: Option<&Weights>,
        optimizer: &ModuleOptimizer,
    ) -> Result<PathBuf, CheckpointError> {
        let folder = self.directory.join(format!("{:010}", state.step));
        let io = |action| {
            let path = folder.clone();
            move |source| CheckpointError::Io { path, action, source }
        };
        // A folder of the same step is one that the end of an epoch or an earlier attempt left here. Without
        // its list of digests it counts as nothing, so a half-replaced one cannot be taken for a whole one.
        std::fs::create_dir_all(&folder).map_err(io("created"))?;
        match std::fs::remove_file(folder.join(STATE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("replaced")(error)),
            _ => {}
        }
        let optimizer =
            optimizer.into_bytes().map_err(|error| CheckpointError::Optimizer(error.to_string()))?;
        let mut files = vec![(WEIGHTS, record::encode(weights)?), (OPTIMIZER, optimizer.to_vec())];
        if let Some(best) = best {
            files.push((BEST, record::encode(best)?));
        }
        let mut state = State { format: FORMAT.to_owned(), files: BTreeMap::new(), ..state.clone() };
        for (name, bytes) in files {
            artifact::atomic::write(&folder.join(name), &bytes)?;
            state.files.insert(name.to_owned(), digest::sha256_hex(&bytes));
        }
        let text = serde_json::to_vec_pretty(&state).map_err(|error| self.damaged(&folder, error))?;
        artifact::atomic::write(&folder.join(STATE), text)?;
        for older in self.folders()? {
            if older != folder {
                let io = |source| CheckpointError::Io { path: older.clone(), action: "removed", source };
                std::fs::remove_dir_all(&older).map_err(io)?;
            }
        }
        Ok(folder)
    }

    /// The newest whole checkpoint.
    ///
    /// # Errors
    /// When there is none; the message says what is wrong with those that are there.
    pub fn newest(&self) -> Result<Checkpoint, CheckpointError> {
        let mut found = String::new();
        for folder in self.folders()?.iter().rev() {
            match self.read(folder) {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(error) => found = format!(" ({error})"),
            }
        }
        Err(CheckpointError::None { path: self.directory.clone(), found })
    }

    /// The checkpoint folders, the oldest first.
    fn folders(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let io = |source| CheckpointError::Io { path: self.directory.clone(), action: "listed", source };
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            let path = entry.map_err(io)?.path();
            let is_step = |name: &std::ffi::OsStr| name.to_string_lossy().chars().all(|c| c.is_ascii_digit());
            if path.is_dir() && path.file_name().is_some_and(is_step) {
                folders.push(path);
            }
        }
        folders.sort();
        Ok(folders)
    }

    fn read(&self, folder: &Path) -> Result<Checkpoint, CheckpointError> {
        let limits = Limits::default();
        let read = |name: &str| {
            let path = folder.join(name);
            let io = |source| CheckpointError::Io { path: path.clone(), action: "read", source };
            let size = std::fs::metadata(&path).map_err(io)?.len();
            // An optimizer keeps up to three numbers per weight.
            if size > limits.record_bytes.saturating_mul(3) {
                return Err(self.damaged(&path, format!("its {size} bytes are more than any checkpoint has")));
            }
            std::fs::read(&path).map_err(io)
        };
        let text = read(STATE)?;
        let damaged = |error| self.damaged(&folder.join(STATE), error);
        // First of all, because another format may look different.
        let version: Version = serde_json::from_slice(&text).map_err(damaged)?;
        if version.format != FORMAT {
            let problem = format!("its format is {}, this program reads {FORMAT}", version.format);
            return Err(self.damaged(folder, problem));
        }
        let state: State = serde_json::from_slice(&text).map_err(damaged)?;
        let verified = |name: &str| {
            let bytes = read(name)?;
            if state.files.get(name) != Some(&digest::sha256_hex(&bytes)) {
                return Err(self.damaged(&folder.join(name), "its digest is not that of state.json"));
            }
            Ok(bytes)
        };
        let weights = record::decode(&verified(WEIGHTS)?, &limits)?;
        let best = match state.files.contains_key(BEST) {
            true => Some(record::decode(&verified(BEST)?, &limits)?),
            false => None,
        };
        let optimizer = Bytes::from_bytes_vec(verified(OPTIMIZER)?);
        Ok(Checkpoint { state, weights, best, optimizer })
    }

    fn damaged(&self, path: &Path, problem: impl ToString) -> CheckpointError {
        CheckpointError::Damaged { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// Gives an optimizer the state of a checkpoint.
pub(super) fn restore(optimizer: ModuleOptimizer, bytes: Bytes) -> Result<ModuleOptimizer, CheckpointError> {
    let record =
        OptimizerRecord::from_bytes(bytes).map_err(|error| CheckpointError::Optimizer(error.to_string()))?;
    Ok(optimizer.load_record(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_read_as_it_was_written() {
        let number = |index: usize| (index as f64 + 0.1).sqrt() / 3.0;
        let record = |index: usize| EpochRecord {
            epoch: index,
            step: 7,
            learning_rate: number(index) * 1e-3,
            train_loss: number(index + 1),
            train_score: number(index + 2),
            valid_loss: index.is_multiple_of(2).then(|| number(index + 3)),
            valid_score: Some(number(index + 4)),
            seconds: number(index + 5),
            samples_per_second: number(index + 6) * 1e4,
            best: index.is_multiple_of(3),
        };
        let state = State { history: (0..1000).map(record).collect(), ..State::default() };
        let text = serde_json::to_string(&state).unwrap();
        assert!(serde_json::from_str::<State>(&text).unwrap() == state);
    }
}
