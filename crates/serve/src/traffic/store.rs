//! What of a model's traffic survives a restart: `traffic.json` beside its versions, replaced by one rename.

use std::path::Path;

use artifact::ReadError;
use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// So many steps are remembered.
const HISTORY: usize = 100;

/// No file of ours is larger.
const MAX_BYTES: u64 = 1 << 20;

/// The name of the file.
const FILE: &str = "traffic.json";

/// What is kept of one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// What the settings said when this was written: they count again only when they change.
    pub(super) configured: Option<Plan>,
    /// What holds.
    pub(super) plan: Plan,
    /// Which of the steps of `plan.auto` holds.
    pub(super) step: usize,
    /// What happened, the latest last.
    pub(super) history: Vec<Event>,
}

/// Something that happened to the traffic of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    /// When, in RFC 3339.
    pub(super) at: Option<String>,
    /// What: `set`, `step`, `promoted`, `rolled_back`, …
    pub(super) what: String,
    /// More of it, for people.
    pub(super) why: String,
}

impl Kept {
    pub(super) fn note(&mut self, event: Event) {
        self.history.push(event);
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
    }

    /// Reads what was kept; a file that cannot be read counts as none, with the reason.
    pub(super) fn read(model: &Path) -> Result<Option<Self>, String> {
        let path = model.join(FILE);
        // A link or a pipe in its place is not ours, and reading that might never end.
        let bytes = match artifact::read(&path, MAX_BYTES) {
            Err(ReadError::File(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            read => read.map_err(|error| crate::load::chain(&error))?,
        };
        let kept: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        kept.plan.check()?;
        Ok(Some(kept))
    }

    /// # Errors
    /// When it cannot be written, as in a read-only registry; what was there stays.
    pub(super) fn write(&self, model: &Path) -> Result<(), String> {
        if !model.is_dir() {
            return Err("the model has no directory".to_owned());
        }
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        artifact::atomic::write(&model.join(FILE), bytes).map_err(|error| crate::load::chain(&error))
    }
}
