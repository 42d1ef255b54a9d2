//! Data: from files, or from the project itself, to prepared batches.
//!
//! A reader opens what a [`DataConfig`] names ([`load`]), a split is cut, [`fit_preprocess`] fits the one way
//! in on the training split, and a [`Loader`] hands out prepared batches. Nothing here reaches the network
//! but [`fetch`]. Whatever a file holds, reading it gives data or an error that names the file and the
//! place; it neither panics nor allocates beyond the file's size.

pub mod augment;
pub mod config;
mod draws;
mod embedded;
mod error;
mod fingerprint;
mod idx;
mod loader;
mod opened;
mod pixels;
mod prepare;
mod source;
pub mod split;
mod store;
mod table;

use std::fmt::Write;

use network::Task;

pub use self::config::{DataConfig, SourceKind};
pub use self::draws::order;
pub use self::error::DataError;
pub use self::loader::Loader;
use self::opened::Opened;
pub use self::prepare::fit_preprocess;
pub use self::source::{DataKind, DataSet, Origin, Source, TableColumn, Target};
pub use self::split::{Part, SplitRecord, SplitRules, Splits};

/// Opens, cleans and splits the data that a configuration names. `seed` draws the split unless the
/// configuration has a seed for that.
///
/// # Errors
/// When the configuration does not fit the data, or the data is damaged or not there.
pub fn load(config: &DataConfig, seed: u64) -> Result<DataSet, DataError> {
    config.check()?;
    let opened = open(config)?.configured(config)?;
    let Opened { name, source, task, labels, kind, given, dropped, sha256, redistributable, origin } = opened;
    let indices = (0..source.len()).filter(|index| dropped.binary_search(index).is_err()).collect();
    let classes: Option<Vec<usize>> = match task {
        Task::Binary | Task::MultiClass => {
            let class = |index| Ok(source.target(index)?.class().unwrap_or(0));
            Some((0..source.len()).map(class).collect::<Result<_, DataError>>()?)
        }
        _ => None,
    };
    let samples = split::Samples { indices, given: &given, classes: classes.as_deref() };
    let splits = split::split(&samples, &config.split, seed, |pool| {
        if config.drop_duplicates { fingerprint::without_duplicates(&*source, pool) } else { Ok(pool) }
    })?;
    Ok(DataSet { name, source, task, labels, kind, splits, sha256, redistributable, origin })
}

fn open(config: &DataConfig) -> Result<Opened, DataError> {
    match config.source {
        SourceKind::Digits => embedded::digits(config),
        SourceKind::BreastCancer => embedded::breast_cancer(config),
        SourceKind::Idx => pixels::open_path(config.required_path()?, None, config),
        SourceKind::Csv => table::open_path(config.required_path()?, config),
        _ => Err(DataError::config("source", "not yet")),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
