//! What the training data looked like, so that live traffic can be compared with it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::observed::Observed;

/// The levels at which the quantiles of numeric features are kept.
pub const QUANTILE_LEVELS: [f64; 11] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0];

/// Statistics of the training split: for people before any preprocessing, and in `observed` as a server can repeat them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReferenceStatistics {
    /// How many samples were looked at.
    pub samples: u64,
    /// The levels of the quantiles below, ascending from 0 to 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quantile_levels: Vec<f64>,
    /// One entry per column of a table, per channel of an image, or per number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureReference>,
    /// How often each class or label occurs; empty for regression.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class_shares: Vec<ClassShare>,
    /// The same data, and the model's answers, in the few numbers that a server watches of every request, by bin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
}

/// One feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureReference {
    /// The column, or `channel 0`, `channel 1`, …
    pub name: String,
    /// The share of samples without a value, in [0, 1].
    #[serde(default)]
    pub missing: f64,
    /// Of a numeric feature: its quantiles at the common levels, in the data's units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<f64>,
    /// Of a categorical feature: the share of each category among the values that are there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub categories: BTreeMap<String, f64>,
}

/// How often one class occurs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassShare {
    /// The class or label.
    pub class: String,
    /// The share of samples that have it, in [0, 1].
    pub share: f64,
}

impl FeatureReference {
    /// A numeric feature from its values. What is not finite counts as missing, and so do `missing` more
    /// samples. Quantiles are interpolated linearly and keep 9 significant digits.
    #[must_use]
    pub fn numeric(name: &str, mut values: Vec<f64>, missing: usize) -> Self {
        let given = values.len() + missing;
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let quantiles = match values.is_empty() {
            true => Vec::new(),
            false => QUANTILE_LEVELS.iter().map(|&level| short(quantile(&values, level))).collect(),
        };
        let missing = share(given - values.len(), given);
        Self { name: name.to_owned(), missing, quantiles, categories: BTreeMap::new() }
    }

    /// A categorical feature from the number of times each category occurs.
    #[must_use]
    pub fn categorical(name: &str, counts: &BTreeMap<String, usize>, missing: usize) -> Self {
        let present: usize = counts.values().sum();
        let categories =
            counts.iter().map(|(category, &count)| (category.clone(), share(count, present))).collect();
        let missing = share(missing, present + missing);
        Self { name: name.to_owned(), missing, quantiles: Vec::new(), categories }
    }
}

impl ClassShare {
    /// The shares of classes that occur `counts` times among `samples`.
    #[must_use]
    pub fn from_counts(classes: &[String], counts: &[usize], samples: usize) -> Vec<Self> {
        let entry =
            |(class, &count): (&String, &usize)| Self { class: class.clone(), share: share(count, samples) };
        classes.iter().zip(counts).map(entry).collect()
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { short(part as f64 / whole as f64) }
}

/// Nine significant digits are enough to compare distributions, and they keep the manifest readable.
fn short(value: f64) -> f64 {
    format!("{value:.8e}").parse().unwrap_or(value)
}

/// `sorted` is not empty.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let position = level * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_known_values() {
        let values = (0..=100).rev().map(f64::from).chain([f64::NAN]).collect();
        let feature = FeatureReference::numeric("x", values, 2);
        assert_eq!(feature.quantiles, [0.0, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 100.0]);
        assert_eq!(feature.missing, 0.028_846_153_8);
        assert_eq!(FeatureReference::numeric("x", vec![0.1 + 0.2], 0).quantiles, [0.3; 11]);
        let empty = FeatureReference::numeric("x", vec![], 0);
        assert_eq!((empty.quantiles.len(), empty.missing), (0, 0.0));
    }

    #[test]
    fn shares() {
        let counts = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 3)]);
        let feature = FeatureReference::categorical("x", &counts, 4);
        assert_eq!((feature.categories["b"], feature.missing), (0.75, 0.5));
        let classes = ["no".to_owned(), "yes".to_owned()];
        let shares = ClassShare::from_counts(&classes, &[1, 3], 4);
        assert_eq!(shares[1], ClassShare { class: "yes".to_owned(), share: 0.75 });
    }
}
