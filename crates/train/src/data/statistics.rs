//! What the training split looks like: the reference by which live traffic is judged later.

use std::collections::BTreeMap;

use artifact::manifest::{ClassShare, FeatureReference, QUANTILE_LEVELS, ReferenceStatistics};
use network::preprocess::{ColumnKind, ImagePreprocess};
use network::{Cell, Preprocess, RawInput};
use rayon::prelude::*;

use super::DataError;
use super::prepare::prepare;
use super::source::{DataKind, DataSet};

/// Samples that are looked at, evenly spread: quantiles do not become better with more.
pub(crate) const MAX_SAMPLES: usize = 20_000;
/// Categories of a column that are kept by name; the rest is counted as [`OTHER`].
const MAX_CATEGORIES: usize = 100;
/// Stands for all categories that are not kept by name.
pub const OTHER: &str = "(other)";
/// Steps over the range of a pixel, for its quantiles: 16 for each of 8 bits, and 255 for each of the 16 shades
/// of the optical digits, so that the values of both are kept exactly.
const BINS: usize = 16 * 255;

/// Quantiles of every feature and shares of every class over the training split, before preprocessing.
///
/// The features are the columns of a table, in their units; the channels of an image, as pixels in the
/// data's units (0–255) after the image was brought to the network's size; or the numbers of a sample.
///
/// # Errors
/// When a sample cannot be read.
pub fn reference(data: &DataSet, preprocess: &Preprocess) -> Result<ReferenceStatistics, DataError> {
    let train = &data.splits.train;
    let samples = spread(train, MAX_SAMPLES);
    let features = match (&data.kind, preprocess) {
        (DataKind::Image { max_value, .. }, Preprocess::Image(image)) => {
            pixels(data, image, *max_value, &samples)?
        }
        (DataKind::Table { columns }, _) => {
            let mut cells: Vec<Vec<Cell>> = vec![Vec::with_capacity(samples.len()); columns.len()];
            for &index in &samples {
                if let RawInput::Row(row) = data.source.read(index)? {
                    cells.iter_mut().zip(row.cells()).for_each(|(column, cell)| column.push(cell.clone()));
                }
            }
            columns
                .iter()
                .zip(cells)
                .map(|(column, cells)| of_column(&column.name, column.kind, cells))
                .collect()
        }
        _ => numbers(data, &samples)?,
    };
    let counts = data.label_counts(train)?;
    Ok(ReferenceStatistics {
        samples: train.len() as u64,
        quantile_levels: QUANTILE_LEVELS.to_vec(),
        features,
        class_shares: ClassShare::from_counts(&data.labels, &counts, train.len()),
        observed: None,
    })
}

/// At most so many of them, evenly spread.
pub(crate) fn spread(indices: &[usize], most: usize) -> Vec<usize> {
    let count = indices.len().min(most);
    (0..count).filter_map(|step| indices.get(step * indices.len() / count.max(1)).copied()).collect()
}

fn of_column(name: &str, kind: ColumnKind, cells: Vec<Cell>) -> FeatureReference {
    let missing = cells.iter().filter(|cell| **cell == Cell::Missing).count();
    match kind {
        ColumnKind::Numeric => {
            let values = cells
                .into_iter()
                .filter_map(|cell| if let Cell::Number(value) = cell { Some(value) } else { None });
            FeatureReference::numeric(name, values.collect(), missing)
        }
        ColumnKind::Categorical => {
            let mut counts = BTreeMap::new();
            for cell in cells {
                let name = match cell {
                    Cell::Missing => continue,
                    Cell::Number(number) => number.to_string(),
                    Cell::Text(text) => text,
                };
                *counts.entry(name).or_insert(0) += 1;
            }
            FeatureReference::categorical(name, &frequent(counts), missing)
        }
    }
}

/// The most frequent categories, the rest as one: a column of nearly unique names (or of people's words) has
/// no place in a manifest.
fn frequent(counts: BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    if counts.len() <= MAX_CATEGORIES {
        return counts;
    }
    let mut sorted: Vec<(String, usize)> = counts.into_iter().collect();
    // Stable, so that ties stay in alphabetical order.
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest = sorted.split_off(MAX_CATEGORIES).iter().map(|(_, count)| count).sum();
    sorted.into_iter().chain([(OTHER.to_owned(), rest)]).collect()
}

/// Histograms of the pixels of each channel, from which values at equal steps of rank stand for all of them.
fn pixels(
    data: &DataSet,
    image: &ImagePreprocess,
    max_value: f32,
    samples: &[usize],
) -> Result<Vec<FeatureReference>, DataError> {
    let channels = image.channels;
    let mut scaled = image.clone();
    (scaled.mean, scaled.std) = (vec![0.0; channels], vec![1.0; channels]);
    let scaled = Preprocess::Image(scaled);
    let mut histograms = vec![vec![0u64; BINS + 1]; channels];
    for chunk in samples.chunks(512) {
        let images: Vec<Result<Vec<f32>, DataError>> =
            chunk.par_iter().map(|&index| prepare(data, &scaled, index)).collect();
        for image in images {
            let image = image?;
            let size = (image.len() / channels.max(1)).max(1);
            for (histogram, plane) in histograms.iter_mut().zip(image.chunks(size)) {
                plane
                    .iter()
                    .for_each(|value| histogram[(value.clamp(0.0, 1.0) * BINS as f32).round() as usize] += 1);
            }
        }
    }
    let feature = |(channel, histogram): (usize, Vec<u64>)| {
        let total: u64 = histogram.iter().sum();
        let mut values = Vec::new();
        let mut below = 0u64;
        for (bin, &count) in histogram.iter().enumerate() {
            // The ranks `k / 1000` that fall into this bin.
            let first = (below * 1000).div_ceil(total.max(1));
            below += count;
            let last = (below * 1000).div_ceil(total.max(1));
            let value = f64::from(bin as f32 / BINS as f32 * max_value);
            values.extend(std::iter::repeat_n(value, (last - first) as usize));
            if count > 0 && below == total {
                values.push(value);
            }
        }
        FeatureReference::numeric(&format!("channel {channel}"), values, 0)
    };
    Ok(histograms.into_iter().enumerate().map(feature).collect())
}

fn numbers(data: &DataSet, samples: &[usize]) -> Result<Vec<FeatureReference>, DataError> {
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for &index in samples {
        if let RawInput::Numbers(values) = data.source.read(index)? {
            columns.resize_with(values.len().max(columns.len()), Vec::new);
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(f64::from(value)));
        }
    }
    Ok(columns
        .into_iter()
        .enumerate()
        .map(|(i, values)| FeatureReference::numeric(&format!("number {i}"), values, 0))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataConfig, SourceKind, fit_preprocess, load};

    #[test]
    fn rare_categories_are_counted_together() {
        let counts: BTreeMap<String, usize> =
            (0..150).map(|i| (format!("{i:03}"), if i < 2 { 5 } else { 1 })).collect();
        let kept = frequent(counts);
        assert_eq!((kept.len(), kept["000"], kept[OTHER]), (101, 5, 50));
    }

    fn of(source: SourceKind) -> ReferenceStatistics {
        let config = DataConfig::new(source);
        let data = load(&config, 1).unwrap();
        reference(&data, &fit_preprocess(&data, &config).unwrap()).unwrap()
    }

    #[test]
    fn digits_have_one_channel_from_0_to_16() {
        let statistics = of(SourceKind::Digits);
        let channel = &statistics.features[0];
        assert_eq!(
            (channel.name.as_str(), channel.quantiles[0], channel.quantiles[10]),
            ("channel 0", 0.0, 16.0)
        );
        // Half of the pixels are 0 or 1 (the median of the data set is 1).
        assert_eq!(channel.quantiles[5], 1.0);
        assert_eq!(statistics.class_shares.len(), 10);
        assert!((statistics.class_shares.iter().map(|share| share.share).sum::<f64>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn tables_have_one_feature_per_column() {
        let statistics = of(SourceKind::BreastCancer);
        assert_eq!(statistics.features.len(), 30);
        let radius = &statistics.features[0];
        assert!(radius.name == "mean_radius" && (12.0..15.0).contains(&radius.quantiles[5]), "{radius:?}");
        assert_eq!(of(SourceKind::Generated).class_shares, []);
    }
}
