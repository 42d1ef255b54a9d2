//! Samples that occur more than once, within a part and across parts.

use std::collections::HashMap;

use serde::Serialize;

use super::super::fingerprint::Fingerprint;
use super::super::source::{DataSet, Target};
use super::super::split::Part;

/// Pairs that are named.
const NAMED: usize = 5;

/// Samples of equal content: the same numbers, pixels or file, whatever their target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Training samples that equal an earlier training sample.
    pub within_train: usize,
    /// The same for validation.
    pub within_validation: usize,
    /// The same for test.
    pub within_test: usize,
    /// Samples that lie in two parts: leakage.
    pub across: Vec<Shared>,
    /// Samples that equal an earlier one, but have another target.
    pub contradictions: usize,
    /// Some samples that lie in two parts, or else some equal ones.
    pub examples: Vec<[String; 2]>,
}

/// Content that two parts share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// The part that is learned from or chosen by.
    pub known: Part,
    /// The part that should not know it.
    pub judged: Part,
    /// How many samples of `judged` are also in `known`.
    pub samples: usize,
}

pub(super) fn find(
    data: &DataSet,
    hashes: &[Option<Fingerprint>],
    targets: &[Target],
    parts: &[Option<Part>],
) -> Duplicates {
    let mut found = Duplicates::default();
    // Per content: the first sample of each part.
    let mut first: HashMap<Fingerprint, [Option<usize>; 3]> = HashMap::with_capacity(hashes.len());
    let mut inside = Vec::new();
    for (index, (hash, part)) in hashes.iter().zip(parts).enumerate() {
        let (Some(hash), Some(part)) = (hash, part) else { continue };
        let places = first.entry(*hash).or_default();
        if places.iter().flatten().min().is_some_and(|&earlier| targets.get(earlier) != targets.get(index)) {
            found.contradictions += 1;
        }
        match &mut places[*part as usize] {
            place @ None => *place = Some(index),
            Some(earlier) => {
                inside.push([*earlier, index]);
                match part {
                    Part::Train => found.within_train += 1,
                    Part::Validation => found.within_validation += 1,
                    Part::Test => found.within_test += 1,
                }
            }
        }
    }
    let mut pairs = Vec::new();
    for (known, judged) in
        [(Part::Train, Part::Test), (Part::Train, Part::Validation), (Part::Validation, Part::Test)]
    {
        let in_known = |hash: &Fingerprint| first.get(hash).and_then(|places| places[known as usize]);
        let shared: Vec<[usize; 2]> = data
            .splits
            .part(judged)
            .iter()
            .filter_map(|&index| Some([in_known(&hashes.get(index).copied().flatten()?)?, index]))
            .collect();
        if !shared.is_empty() {
            found.across.push(Shared { known, judged, samples: shared.len() });
        }
        pairs.extend(shared);
    }
    pairs.extend(inside);
    found.examples =
        pairs.iter().take(NAMED).map(|pair| pair.map(|index| data.source.describe(index))).collect();
    found
}
