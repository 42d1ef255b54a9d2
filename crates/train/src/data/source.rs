//! What a data set is to the rest of the crate: samples by index, and the facts about them.

use std::sync::Arc;

use network::preprocess::ColumnKind;
use network::{RawInput, Task};
use serde::{Deserialize, Serialize};

use super::DataError;
use super::split::Splits;

/// Samples by index; reading is cheap to start and may be done from several threads.
pub trait Source: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One sample as it is stored.
    ///
    /// # Errors
    /// When it cannot be read, or when there is no such sample.
    fn read(&self, index: usize) -> Result<RawInput, DataError>;

    /// What the network shall answer for it.
    ///
    /// # Errors
    /// When there is no such sample.
    fn target(&self, index: usize) -> Result<Target, DataError>;

    /// Where the sample comes from, for messages: a file, or a file and a place in it.
    fn describe(&self, index: usize) -> String;
}

/// The answer that belongs to a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The index of its class.
    Class(usize),
    /// Which labels apply.
    Labels(Vec<bool>),
    /// Numbers, in the data's units.
    Values(Vec<f32>),
}

impl Target {
    /// The class, when it is one.
    #[must_use]
    pub fn class(&self) -> Option<usize> {
        match self {
            Self::Class(class) => Some(*class),
            _ => None,
        }
    }
}

/// What one sample of the data is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DataKind {
    /// Images; the size is the one that the network reads, files of other sizes are fitted to it.
    Image {
        /// 1 for grey, 3 for colour.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// The value of a white pixel: 255, or 16 for the optical digits.
        max_value: f32,
    },
    /// Rows of a table.
    Table {
        /// The feature columns, in the order of the file.
        columns: Vec<TableColumn>,
    },
    /// Numbers that are neither.
    Numbers {
        /// The shape of one sample.
        shape: Vec<usize>,
    },
}

/// A feature column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableColumn {
    /// Its name in the header.
    pub name: String,
    /// Numbers or names.
    pub kind: ColumnKind,
}

/// Where a data set comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Who made it; empty when not known.
    pub citation: String,
    /// Its licence; empty when not known.
    pub licence: String,
}

/// A data set that is ready to be split, prepared and learned from.
#[derive(Clone)]
pub struct DataSet {
    /// A short name: `digits`, or the last part of the path.
    pub name: String,
    /// The samples.
    pub source: Arc<dyn Source>,
    /// What is to be told about them.
    pub task: Task,
    /// The classes, labels or target columns.
    pub labels: Vec<String>,
    /// What one sample is.
    pub kind: DataKind,
    /// Which samples are for what.
    pub splits: Splits,
    /// SHA-256 of the data: of the uncompressed content; for an image folder of the names and sizes of its
    /// files, because reading every file would take minutes.
    pub sha256: String,
    /// Whether samples of it may be put into a package.
    pub redistributable: bool,
    /// Who made it, under which licence.
    pub origin: Origin,
}

impl std::fmt::Debug for DataSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataSet")
            .field("name", &self.name)
            .field("len", &self.source.len())
            .field("task", &self.task)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl DataSet {
    /// The targets of `indices`, in their order.
    ///
    /// # Errors
    /// As [`Source::target`].
    pub fn targets(&self, indices: &[usize]) -> Result<Vec<Target>, DataError> {
        indices.iter().map(|&index| self.source.target(index)).collect()
    }

    /// How many of `indices` belong to each label; empty for a regression. With several labels a sample
    /// counts for each one that applies.
    ///
    /// # Errors
    /// As [`Source::target`].
    pub fn label_counts(&self, indices: &[usize]) -> Result<Vec<usize>, DataError> {
        if self.task == Task::Regression {
            return Ok(Vec::new());
        }
        let mut counts = vec![0; self.labels.len()];
        for &index in indices {
            match self.source.target(index)? {
                Target::Class(class) => {
                    if let Some(count) = counts.get_mut(class) {
                        *count += 1;
                    }
                }
                Target::Labels(labels) => {
                    counts.iter_mut().zip(labels).for_each(|(count, on)| *count += usize::from(on));
                }
                Target::Values(_) => {}
            }
        }
        Ok(counts)
    }
}
