//! Which samples are looked at: drawn from the training split, with every class that it has among them.

use std::collections::BTreeMap;

use network::RawInput;
use predict::{PredictError, Predictor};
use train::data::{DataError, DataSet, draw};

use crate::quantize::QuantizeError;

/// Samples as the network reads them, row after row.
///
/// # Errors
/// When a sample cannot be read or prepared.
pub(crate) fn prepared<E: From<DataError> + From<PredictError>>(
    predictor: &Predictor,
    data: &DataSet,
    indices: &[usize],
) -> Result<Vec<f32>, E> {
    let mut rows = Vec::new();
    for batch in indices.chunks(256) {
        let inputs: Vec<RawInput> =
            batch.iter().map(|&index| data.source.read(index)).collect::<Result<_, _>>()?;
        let prepared = predictor.prepare(&inputs).map_err(PredictError::from)?;
        rows.extend_from_slice(prepared.tensor.as_f32().unwrap_or_default());
    }
    Ok(rows)
}

/// Samples to calibrate with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drawn {
    /// Indices into the data set, ascending.
    pub(crate) indices: Vec<usize>,
    /// What they cannot know.
    pub(crate) warnings: Vec<String>,
}

/// `count` samples of the training split, or all where there are fewer. Where samples have a class, each class has
/// its share, and at least one sample.
///
/// # Errors
/// When there are fewer samples than classes, or a target cannot be read.
pub(crate) fn stratified(data: &DataSet, count: usize, seed: u64) -> Result<Drawn, QuantizeError> {
    let train = &data.splits.train;
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &index in train {
        let Some(class) = data.source.target(index)?.class() else {
            return Ok(Drawn { indices: draw(train, count, seed), warnings: Vec::new() });
        };
        classes.entry(class).or_default().push(index);
    }
    if count < classes.len() {
        return Err(QuantizeError::FewSamples { samples: count, classes: classes.len() });
    }
    let sizes: Vec<usize> = classes.values().map(Vec::len).collect();
    let shares = shares(&sizes, count);
    let mut indices: Vec<usize> =
        classes.values().zip(shares).flat_map(|(members, share)| draw(members, share, seed)).collect();
    indices.sort_unstable();
    let missing = data.labels.iter().enumerate().filter(|(class, _)| !classes.contains_key(class));
    let warning = |(_, label): (usize, &String)| {
        format!("class `{label}` has no sample in the training split, so no range knows of it")
    };
    let warnings = if train.is_empty() { Vec::new() } else { missing.map(warning).collect() };
    Ok(Drawn { indices, warnings })
}

/// How many of each size make `count` together: each its share rounded down, but at least 1 and at most all; then one
/// more for those who lost most by rounding.
fn shares(sizes: &[usize], count: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    let count = count.min(total);
    let exact = |size: usize| size as f64 * count as f64 / total.max(1) as f64;
    let mut shares: Vec<usize> = sizes.iter().map(|&size| (exact(size) as usize).clamp(1, size)).collect();
    let mut sum: usize = shares.iter().sum();
    while sum != count {
        // Whoever is furthest from its share gives or takes the next one.
        let lack = |&index: &usize| exact(sizes[index]) - shares[index] as f64;
        let all = 0..sizes.len();
        let next = if sum < count {
            all.filter(|&index| shares[index] < sizes[index]).max_by(|a, b| lack(a).total_cmp(&lack(b)))
        } else {
            all.filter(|&index| shares[index] > 1).min_by(|a, b| lack(a).total_cmp(&lack(b)))
        };
        let Some(next) = next else { break };
        if sum < count {
            shares[next] += 1;
            sum += 1;
        } else {
            shares[next] -= 1;
            sum -= 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_those_of_the_classes_and_nobody_is_left_out() {
        assert_eq!(shares(&[100, 100, 100], 30), [10, 10, 10]);
        assert_eq!(shares(&[1000, 1, 1], 10), [8, 1, 1]);
        assert_eq!(shares(&[2, 3], 10), [2, 3]);
        assert_eq!(shares(&[50, 25, 25], 3), [1, 1, 1]);
        assert_eq!(shares(&[], 5), [0usize; 0]);
    }

    proptest! {
        #[test]
        fn shares_add_up(sizes in proptest::collection::vec(1usize..500, 1..12), more in 0usize..600) {
            let count = sizes.len() + more;
            let shares = shares(&sizes, count);
            prop_assert_eq!(shares.iter().sum::<usize>(), count.min(sizes.iter().sum()));
            prop_assert!(shares.iter().zip(&sizes).all(|(share, size)| (1..=*size).contains(share)));
        }
    }
}
