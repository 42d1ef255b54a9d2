//! The data that a package was trained and scored on, found again.

use artifact::Manifest;
use network::Preprocess;

use super::align::{AlignError, align};
use crate::data::{self, DataConfig, DataError, DataSet, SourceKind};

/// Data of a package that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum PackedDataError {
    #[error("the package {model} does not say on which data it was scored")]
    Unknown { model: String },
    #[error("the package's data table cannot be read")]
    Table(#[source] serde_json::Error),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Align(#[from] AlignError),
    #[error("the data is not that of the package: its SHA-256 is {found}, not {expected}")]
    Changed { expected: String, found: String },
}

/// The [data] table of the run that made the package.
///
/// # Errors
/// When the package has none, or one that this program does not understand.
pub fn packed_config(manifest: &Manifest) -> Result<DataConfig, PackedDataError> {
    let settings = manifest.evaluation.as_ref().filter(|settings| !settings.data.is_null());
    let settings = settings.ok_or_else(|| PackedDataError::Unknown { model: manifest.name.clone() })?;
    serde_json::from_value(settings.data.clone()).map_err(PackedDataError::Table)
}

/// Loads the data that a package was trained and scored on, split as it was then.
///
/// # Errors
/// When the package does not name it, it cannot be read, or it is not the same any more.
pub fn packed_data(manifest: &Manifest) -> Result<DataSet, PackedDataError> {
    let data = data_for(&packed_config(manifest)?, manifest)?;
    match &manifest.lineage.data_sha256 {
        Some(expected) if *expected != data.sha256 => {
            Err(PackedDataError::Changed { expected: expected.clone(), found: data.sha256 })
        }
        _ => Ok(data),
    }
}

/// Loads any data for a package: split with the package's seed, with the classes in the order of the model's.
///
/// # Errors
/// When it cannot be read or does not fit the model.
pub fn data_for(config: &DataConfig, manifest: &Manifest) -> Result<DataSet, PackedDataError> {
    data_with_seed(config, manifest.lineage.seed.unwrap_or(0), manifest)
}

/// As [`data_for`], split with another seed.
///
/// # Errors
/// As [`data_for`].
pub fn data_with_seed(
    config: &DataConfig,
    seed: u64,
    manifest: &Manifest,
) -> Result<DataSet, PackedDataError> {
    let data = data::load(&sized(config, &manifest.preprocess), seed)?;
    Ok(align(data, &manifest.postprocess)?)
}

/// The size of images is the model's, whatever the data has: the predictor fits each image to it, in the way
/// that the package says.
fn sized(config: &DataConfig, preprocess: &Preprocess) -> DataConfig {
    let mut config = config.clone();
    let pictures =
        !matches!(config.source, SourceKind::Csv | SourceKind::BreastCancer | SourceKind::Generated);
    if let (true, Preprocess::Image(image)) = (pictures, preprocess) {
        config.image.size = Some([image.height, image.width]);
        config.image.channels = Some(image.channels);
    }
    config
}

#[cfg(test)]
mod tests {
    use network::preprocess::{Fit, ImagePreprocess};

    use super::*;
    use crate::data::load;
    use crate::evaluate::data_config_for;

    #[test]
    fn a_folder_of_mixed_sizes_is_read_in_the_size_of_the_model() {
        let root = tempfile::tempdir().unwrap();
        // Two pixels of grey as PNG, then four: the headers differ, which is all that loading looks at.
        for (index, class) in ["cat", "dog"].iter().cycle().take(40).enumerate() {
            let folder = root.path().join(class);
            std::fs::create_dir_all(&folder).unwrap();
            let side = 2 + index as u32 % 5;
            image::GrayImage::new(side, side + 1).save(folder.join(format!("{index}.png"))).unwrap();
        }
        let config = data_config_for(root.path(), Some(&DataConfig::new(SourceKind::Digits)), None).unwrap();
        let error = load(&config, 1).unwrap_err().to_string();
        assert!(error.contains("images of different sizes"), "{error}");
        let (mean, std, fit) = (vec![0.0; 3], vec![1.0; 3], Fit::Pad);
        let image = ImagePreprocess { channels: 3, height: 7, width: 9, max_value: 255.0, mean, std, fit };
        let preprocess = Preprocess::Image(image);
        let data = load(&sized(&config, &preprocess), 1).unwrap();
        let prepared = preprocess.prepare(&data.source.read(1).unwrap()).unwrap();
        assert_eq!(prepared.len(), 3 * 7 * 9);
        // A table has no such keys.
        let table = DataConfig::new(SourceKind::Csv);
        assert_eq!(sized(&table, &preprocess), table);
    }
}
