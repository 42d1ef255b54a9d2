//! Which samples a finished model is scored on: those of its package, or others.

use std::path::Path;

use artifact::Manifest;

use super::{PackedDataError, data_config_for, data_for, data_with_seed, packed_config, packed_data};
use crate::data::{DataConfig, DataSet, Part};

/// What a person may ask for.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// A part of the data that the package was trained and scored on.
    Packed(Part),
    /// All of a file or folder; it is read as the training data was, or by its kind.
    Path {
        /// Where it is.
        path: &'a Path,
        /// The column to predict, for models that were not trained on a table.
        label: Option<&'a str>,
    },
    /// A part of the data of another configuration.
    Config {
        /// Its data table.
        data: &'a DataConfig,
        /// Its seed, which draws the split.
        seed: u64,
        /// Which part.
        part: Part,
    },
}

/// Samples to score.
#[derive(Debug)]
pub struct Chosen {
    /// The data, with the classes in the order of the model's.
    pub data: DataSet,
    /// Which of its samples.
    pub indices: Vec<usize>,
    /// The name of the part: `train`, `validation`, `test` or `all`.
    pub split: &'static str,
}

/// Loads the samples that were asked for, as the model of the package takes them.
///
/// # Errors
/// When the data cannot be read, does not fit the model, or is not that of the package any more.
pub fn choose(choice: Choice<'_>, manifest: &Manifest) -> Result<Chosen, PackedDataError> {
    let of = |data: DataSet, part: Part| {
        let indices = data.splits.part(part).to_vec();
        Chosen { data, indices, split: part.name() }
    };
    match choice {
        Choice::Packed(part) => Ok(of(packed_data(manifest)?, part)),
        Choice::Config { data, seed, part } => Ok(of(data_with_seed(data, seed, manifest)?, part)),
        Choice::Path { path, label } => {
            let config = data_config_for(path, packed_config(manifest).ok().as_ref(), label)?;
            let data = data_for(&config, manifest)?;
            let splits = &data.splits;
            let mut indices = [splits.train.as_slice(), &splits.validation, &splits.test].concat();
            indices.sort_unstable();
            Ok(Chosen { data, indices, split: "all" })
        }
    }
}
