//! Content hashes of samples: what duplicates and leakage are found by.

use std::collections::HashSet;

use network::{Cell, RawInput};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::DataError;
use super::source::{Source, Target};

/// The first half of a SHA-256: enough to tell samples apart, and half the memory.
pub(crate) type Fingerprint = [u8; 16];

/// The hash of a sample's stored content, without its target. Image files are the same when their bytes are.
pub(crate) fn content(input: &RawInput) -> Fingerprint {
    let mut digest = Sha256::new();
    match input {
        RawInput::Numbers(values) => values.iter().for_each(|value| digest.update(value.to_le_bytes())),
        RawInput::Bitmap(bitmap) => digest.update(bitmap.pixels()),
        RawInput::EncodedImage(bytes) => digest.update(bytes),
        RawInput::Row(row) => row.cells().iter().for_each(|cell| match cell {
            Cell::Missing => digest.update([0]),
            Cell::Number(number) => {
                digest.update([1]);
                digest.update(number.to_le_bytes());
            }
            Cell::Text(text) => {
                digest.update([2]);
                digest.update((text.len() as u64).to_le_bytes());
                digest.update(text);
            }
        }),
        RawInput::Prepared(tensor) => {
            tensor.as_f32().unwrap_or_default().iter().for_each(|value| digest.update(value.to_le_bytes()));
        }
    }
    half(digest)
}

/// The hash of a sample's content together with its target.
pub(crate) fn with_target(content: Fingerprint, target: &Target) -> Fingerprint {
    let mut digest = Sha256::new();
    digest.update(content);
    match target {
        Target::Class(class) => digest.update((*class as u64).to_le_bytes()),
        Target::Labels(labels) => labels.iter().for_each(|&on| digest.update([u8::from(on)])),
        Target::Values(values) => values.iter().for_each(|value| digest.update(value.to_le_bytes())),
    }
    half(digest)
}

fn half(digest: Sha256) -> Fingerprint {
    let mut half = [0; 16];
    half.copy_from_slice(&digest.finalize()[..16]);
    half
}

/// The samples without those that equal an earlier one in content and target.
pub(crate) fn without_duplicates(source: &dyn Source, samples: Vec<usize>) -> Result<Vec<usize>, DataError> {
    let hash = |&index: &usize| Ok(with_target(content(&source.read(index)?), &source.target(index)?));
    let hashes: Vec<Result<Fingerprint, DataError>> = samples.par_iter().map(hash).collect();
    let mut seen = HashSet::with_capacity(samples.len());
    let mut kept = Vec::with_capacity(samples.len());
    for (index, hash) in samples.into_iter().zip(hashes) {
        if seen.insert(hash?) {
            kept.push(index);
        }
    }
    Ok(kept)
}
