//! Samples that a model was trained on: its score on them says nothing.

use std::collections::HashSet;

use artifact::Package;
use train::data::DataSet;
use train::evaluate::{Evaluation, packed_data};

/// How many of the samples `indices` of `data` the model of a package was trained on. `None` where that cannot be
/// known: it was trained on other data, does not say on which, or that is not there any more.
#[must_use]
pub fn seen_in_training(package: &Package, data: &DataSet, indices: &[usize]) -> Option<usize> {
    let manifest = package.manifest();
    if manifest.lineage.data_sha256.as_ref() != Some(&data.sha256) {
        return None;
    }
    // The split of the package is named by its digest; another one of the same data has to be drawn again.
    let evaluation = package.evaluation().ok()?;
    let facts = serde_json::from_value::<Evaluation>(evaluation).ok().and_then(|evaluation| evaluation.data);
    let count = |train: &[usize]| {
        let train: HashSet<usize> = train.iter().copied().collect();
        indices.iter().filter(|index| train.contains(index)).count()
    };
    match facts {
        Some(facts) if facts.split == data.splits.record => Some(count(&data.splits.train)),
        _ => Some(count(&packed_data(manifest).ok()?.splits.train)),
    }
}
