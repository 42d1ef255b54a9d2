//! Data: from files, or from the project itself, to prepared batches.
//!
//! A reader opens what a [`DataConfig`] names ([`load`]), a split is cut, [`fit_preprocess`] fits the one way
//! in on the training split, and a [`Loader`] hands out prepared batches. Nothing here reaches the network
//! but [`fetch`]. Whatever a file holds, reading it gives data or an error that names the file and the
//! place; it neither panics nor allocates beyond the file's size.

pub mod augment;
mod cifar;
pub mod config;
mod draws;
mod embedded;
mod error;
pub mod fetch;
mod fingerprint;
mod folder;
mod generated;
mod idx;
pub mod inspect;
mod loader;
mod opened;
mod pixels;
mod prepare;
mod probe;
mod source;
pub mod split;
pub mod statistics;
mod store;
mod table;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use network::Task;

pub use self::config::{DataConfig, SourceKind};
pub(crate) use self::draws::regressor_weights;
pub use self::draws::{draw, order};
pub use self::error::DataError;
pub use self::loader::Loader;
use self::opened::Opened;
pub use self::prepare::fit_preprocess;
pub(crate) use self::prepare::prepare as sample;
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
        SourceKind::Mnist => {
            let opened = pixels::open_path(&fetched(config, "mnist")?, None, config)?;
            let citation = "Y. LeCun, C. Cortes and C. Burges. The MNIST database of handwritten digits.";
            Ok(opened.with_origin(citation, "CC BY-SA 3.0", true))
        }
        SourceKind::FashionMnist => {
            let names = FASHION.map(str::to_owned);
            let opened = pixels::open_path(&fetched(config, "fashion-mnist")?, Some(&names), config)?;
            let citation = "H. Xiao, K. Rasul and R. Vollgraf (2017). Fashion-MNIST. arXiv:1708.07747.";
            Ok(opened.with_origin(citation, "MIT", true))
        }
        SourceKind::Cifar10 => cifar::open_path(&fetched(config, "cifar10")?, config),
        SourceKind::Cifar => cifar::open_path(config.required_path()?, config),
        SourceKind::Idx => pixels::open_path(config.required_path()?, None, config),
        SourceKind::Folder => folder::open_path(config.required_path()?, config),
        SourceKind::Csv => table::open_path(config.required_path()?, config),
        SourceKind::Generated => generated::open(config),
    }
}

/// The classes of Fashion-MNIST, as its authors name them.
const FASHION: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Where `data fetch` leaves things, relative to the current directory.
pub const DATA_FOLDER: &str = "artifacts/data";

/// The folder of data that has to be fetched first.
fn fetched(config: &DataConfig, name: &'static str) -> Result<PathBuf, DataError> {
    match &config.path {
        Some(path) => Ok(path.clone()),
        None => {
            let path = Path::new(DATA_FOLDER).join(name);
            if path.is_dir() { Ok(path) } else { Err(DataError::NotFetched { name, path }) }
        }
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

/// A name or value as a message shows it.
pub(crate) fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(39).chain(['…']).collect() }
}

#[cfg(test)]
mod tests;
