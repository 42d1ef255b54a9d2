//! Fits the one way in on the training split, and on nothing else.

use std::sync::Arc;

use network::preprocess::{
    ChannelStatistics, Column, ColumnKind, ColumnRule, Fit, ImagePreprocess, TablePreprocess, fit_table,
};
use network::{Preprocess, RawInput, Row};
use rayon::prelude::*;

use super::config::{DataConfig, FitRule, SourceKind, Standardize};
use super::source::{DataKind, DataSet};
use super::{DataError, shorten};

/// A column with more names than this tells rows apart instead of describing them.
const MAX_CATEGORIES: usize = 1000;
/// Cells that are held at a time while a table is fitted: about 256 MiB.
const CELLS_AT_ONCE: usize = 8 << 20;

/// Fits the preprocessing of a data set on its training split.
///
/// # Errors
/// When a training sample cannot be read or prepared, or the configuration asks for what the data is not.
pub fn fit_preprocess(data: &DataSet, config: &DataConfig) -> Result<Preprocess, DataError> {
    match &data.kind {
        DataKind::Image { channels, height, width, max_value } => {
            let image = ImagePreprocess {
                channels: *channels,
                height: *height,
                width: *width,
                max_value: *max_value,
                mean: vec![0.0; *channels],
                std: vec![1.0; *channels],
                fit: fit_rule(config, *height, *width),
            };
            fit_image(data, config, image).map(Preprocess::Image)
        }
        DataKind::Table { columns } => {
            let columns: Vec<(String, ColumnKind)> =
                columns.iter().map(|column| (column.name.clone(), column.kind)).collect();
            let table = fit_columns(data, &columns, config)?;
            for Column { name, rule } in &table.columns {
                if let ColumnRule::Categorical { categories, .. } = rule
                    && categories.len() > MAX_CATEGORIES
                {
                    let problem = format!(
                        "column `{}` has {} different names in the training split (limit {MAX_CATEGORIES}), which tell \
                         rows apart and teach nothing; list it in data.ignore",
                        shorten(name),
                        categories.len()
                    );
                    return Err(DataError::file(&data.name, problem));
                }
            }
            Ok(Preprocess::Table(table))
        }
        DataKind::Numbers { shape } => Ok(Preprocess::Numbers { shape: shape.clone() }),
    }
}

fn fit_rule(config: &DataConfig, height: usize, width: usize) -> Fit {
    let rule = config.image.fit.unwrap_or(match config.source {
        SourceKind::Digits if (height, width) == (8, 8) => FitRule::DrawingCounts,
        // Counting needs more ink than the 8×8 pixels of the digits themselves have.
        SourceKind::Digits | SourceKind::Mnist => FitRule::DrawingCentered,
        SourceKind::FashionMnist => FitRule::Pad,
        _ => FitRule::Crop,
    });
    match rule {
        FitRule::Stretch => Fit::Stretch,
        FitRule::Crop => Fit::Crop,
        FitRule::Pad => Fit::Pad,
        FitRule::DrawingCounts => Fit::DrawingCounts { grid: 4 * height.max(width) },
        FitRule::DrawingCentered => Fit::DrawingCentered { inner: (height.min(width) * 5 / 7).max(1) },
    }
}

fn fit_image(
    data: &DataSet,
    config: &DataConfig,
    mut image: ImagePreprocess,
) -> Result<ImagePreprocess, DataError> {
    image.check().map_err(|problem| DataError::config("image", problem))?;
    if config.image.standardize == Standardize::None {
        return Ok(image);
    }
    // With mean 0 and deviation 1 the preparation gives values scaled to 0–1. Images are prepared side by
    // side, but added up in their order: a sum of floats depends on it.
    let scaled = Preprocess::Image(image.clone());
    let mut statistics = ChannelStatistics::new(image.channels);
    for indices in data.splits.train.chunks(512) {
        let images: Vec<Result<Vec<f32>, DataError>> =
            indices.par_iter().map(|&index| prepare(data, &scaled, index)).collect();
        for image in images {
            statistics.add(&image?);
        }
    }
    (image.mean, image.std) = statistics.finish();
    Ok(image)
}

/// One sample, read and prepared; the error names the sample.
pub(crate) fn prepare(data: &DataSet, preprocess: &Preprocess, index: usize) -> Result<Vec<f32>, DataError> {
    let input = data.source.read(index)?;
    let prepared = preprocess.prepare(&input);
    prepared.map_err(|source| DataError::Prepare { sample: data.source.describe(index), source })
}

/// Fits some columns at a time, so that a long table is never in memory as a whole in the form of rows.
fn fit_columns(
    data: &DataSet,
    columns: &[(String, ColumnKind)],
    config: &DataConfig,
) -> Result<TablePreprocess, DataError> {
    let at_once = (CELLS_AT_ONCE / data.splits.train.len().max(1)).max(1);
    let mut fitted: Vec<Column> = Vec::with_capacity(columns.len());
    for (group, chunk) in columns.chunks(at_once).enumerate() {
        let names: Arc<[String]> = chunk.iter().map(|(name, _)| name.clone()).collect();
        let mut rows = Vec::with_capacity(data.splits.train.len());
        for &index in &data.splits.train {
            let RawInput::Row(row) = data.source.read(index)? else {
                return Err(DataError::file(&data.source.describe(index), "expected a table row"));
            };
            let cells =
                names.iter().enumerate().filter_map(|(i, name)| row.get(name, group * at_once + i).cloned());
            rows.extend(Row::new(names.clone(), cells.collect()));
        }
        fitted.extend(fit_table(chunk, rows.iter(), &config.table).columns);
    }
    Ok(TablePreprocess { columns: fitted })
}
