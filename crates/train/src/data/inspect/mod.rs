//! A look at data before anyone trains on it: what is there, and what will hurt.

mod columns;
mod duplicates;
mod pictures;
#[cfg(test)]
mod tests;
mod warnings;

use network::preprocess::decode_image;
use network::{Cell, RawInput, Task};
use rayon::prelude::*;
use serde::Serialize;

pub use self::columns::ColumnSummary;
use self::columns::Columns;
pub use self::duplicates::{Duplicates, Shared};
use self::pictures::Pictures;
pub use self::pictures::{PictureSummary, SizeCount};
use super::fingerprint::{self, Fingerprint};
use super::source::{DataKind, DataSet, Origin, Target};
use super::split::{Part, SplitRecord};
use super::{DataConfig, DataError};

/// Samples that are read at a time.
const CHUNK: usize = 1024;
/// Damaged samples that are named.
const NAMED: usize = 10;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The name of the data set.
    pub name: String,
    /// SHA-256 of the data.
    pub sha256: String,
    /// Who made it, under which licence.
    pub origin: Origin,
    /// What is told about a sample.
    pub task: Task,
    /// What a sample is.
    pub data: DataKind,
    /// How many samples there are.
    pub samples: usize,
    /// How many of them cleaning left out.
    pub left_out: usize,
    /// How they are split.
    pub split: SplitRecord,
    /// How often each class or label occurs.
    pub labels: Vec<LabelCounts>,
    /// The targets of a regression.
    pub targets: Vec<ColumnSummary>,
    /// The columns of a table, or the numbers of a sample.
    pub columns: Vec<ColumnSummary>,
    /// The pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<PictureSummary>,
    /// Samples that occur more than once.
    pub duplicates: Duplicates,
    /// How many samples cannot be read.
    pub unreadable: usize,
    /// The first of them, with the reason.
    pub unreadable_examples: Vec<String>,
    /// What will hurt.
    pub warnings: Vec<String>,
}

/// How often a class occurs in each part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// The class or label.
    pub label: String,
    /// In the training part.
    pub train: usize,
    /// In the validation part.
    pub validation: usize,
    /// In the test part.
    pub test: usize,
}

/// What one sample tells.
enum Facts {
    Picture { size: [usize; 2], channels: usize, range: (f32, f32), blank: bool },
    Cells(Vec<Cell>),
    Damaged(String),
}

/// Reads every sample once. `advance` is told how many more have been read.
///
/// # Errors
/// When the targets cannot be read; a damaged sample is counted, not an error.
pub fn inspect(
    data: &DataSet,
    config: &DataConfig,
    mut advance: impl FnMut(u64),
) -> Result<Inspection, DataError> {
    let parts = parts(data);
    let mut pictures = matches!(data.kind, DataKind::Image { .. }).then(Pictures::default);
    let mut columns = Columns::of(&data.kind);
    let mut hashes: Vec<Option<Fingerprint>> = Vec::with_capacity(data.source.len());
    let (mut unreadable, mut examples) = (0, Vec::new());
    let all: Vec<usize> = (0..data.source.len()).collect();
    for chunk in all.chunks(CHUNK) {
        let looked: Vec<_> = chunk.par_iter().map(|&index| look(data, index)).collect();
        for (&index, (hash, facts)) in chunk.iter().zip(looked) {
            hashes.push(hash);
            match facts {
                Facts::Picture { size, channels, range, blank } => {
                    pictures.get_or_insert_default().add(size, channels, range, blank);
                }
                Facts::Cells(cells) => columns.add(&cells, parts[index]),
                Facts::Damaged(reason) => {
                    unreadable += 1;
                    if examples.len() < NAMED {
                        examples.push(reason);
                    }
                }
            }
        }
        advance(chunk.len() as u64);
    }
    let targets: Vec<Target> = data.targets(&all)?;
    let mut inspection = Inspection {
        name: data.name.clone(),
        sha256: data.sha256.clone(),
        origin: data.origin.clone(),
        task: data.task,
        data: data.kind.clone(),
        samples: data.source.len(),
        left_out: parts.iter().filter(|part| part.is_none()).count(),
        split: data.splits.record.clone(),
        labels: labels(data)?,
        targets: regression_targets(data, &targets, &parts),
        columns: columns.finish(),
        pictures: pictures.map(Pictures::finish),
        duplicates: duplicates::find(data, &hashes, &targets, &parts),
        unreadable,
        unreadable_examples: examples,
        warnings: Vec::new(),
    };
    inspection.warnings = warnings::of(&inspection, config);
    Ok(inspection)
}

/// The part of each sample; none for those that cleaning left out.
fn parts(data: &DataSet) -> Vec<Option<Part>> {
    let mut parts = vec![None; data.source.len()];
    for part in Part::ALL {
        for &index in data.splits.part(part) {
            if let Some(place) = parts.get_mut(index) {
                *place = Some(part);
            }
        }
    }
    parts
}

fn look(data: &DataSet, index: usize) -> (Option<Fingerprint>, Facts) {
    let input = match data.source.read(index) {
        Ok(input) => input,
        Err(error) => return (None, Facts::Damaged(error.to_string())),
    };
    let hash = Some(fingerprint::content(&input));
    let range = |values: &mut dyn Iterator<Item = f32>| {
        values
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let input = match input {
        RawInput::EncodedImage(bytes) => match decode_image(&bytes) {
            Ok(bitmap) => RawInput::Bitmap(bitmap),
            Err(error) => return (hash, Facts::Damaged(format!("{}: {error}", data.source.describe(index)))),
        },
        other => other,
    };
    let facts = match (input, &data.kind) {
        (RawInput::Bitmap(bitmap), _) => {
            let pixels = bitmap.pixels();
            let range = range(&mut pixels.iter().map(|pixel| f32::from(*pixel)));
            let first = &pixels[..bitmap.channels()];
            let blank = pixels.chunks_exact(bitmap.channels()).all(|pixel| pixel == first);
            Facts::Picture {
                size: [bitmap.height(), bitmap.width()],
                channels: bitmap.channels(),
                range,
                blank,
            }
        }
        (RawInput::Numbers(values), DataKind::Image { channels, height, width, .. }) => {
            let range = range(&mut values.iter().copied());
            let first = values.get(..*channels).unwrap_or_default();
            let blank = values.chunks_exact(*channels).all(|pixel| pixel == first);
            Facts::Picture { size: [*height, *width], channels: *channels, range, blank }
        }
        (RawInput::Numbers(values), _) => {
            Facts::Cells(values.iter().map(|value| Cell::Number(f64::from(*value))).collect())
        }
        (RawInput::Row(row), _) => Facts::Cells(row.cells().to_vec()),
        (other, _) => Facts::Damaged(format!("{}: {}", data.source.describe(index), other.kind())),
    };
    (hash, facts)
}

fn labels(data: &DataSet) -> Result<Vec<LabelCounts>, DataError> {
    let [train, validation, test] = Part::ALL.map(|part| data.label_counts(data.splits.part(part)));
    let (train, validation, test) = (train?, validation?, test?);
    let counts = train.into_iter().zip(validation).zip(test);
    let entry = |(label, ((train, validation), test)): (&String, _)| LabelCounts {
        label: label.clone(),
        train,
        validation,
        test,
    };
    Ok(data.labels.iter().zip(counts).map(entry).collect())
}

fn regression_targets(data: &DataSet, targets: &[Target], parts: &[Option<Part>]) -> Vec<ColumnSummary> {
    if data.task != Task::Regression {
        return Vec::new();
    }
    let mut columns = Columns::named(&data.labels);
    for (target, part) in targets.iter().zip(parts) {
        if let Target::Values(values) = target {
            let cells: Vec<Cell> = values.iter().map(|value| Cell::Number(f64::from(*value))).collect();
            columns.add(&cells, *part);
        }
    }
    columns.finish()
}
