//! How the training data looked in the few numbers that are watched of every sample ([`network::observe`]), as counts
//! by bin, so that a server can count the same and compare.

use network::observe::{Feature, MAX_WATCHED};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bins of a number: as many of the same number of samples each.
const BINS: usize = 10;
/// Categories that are kept by name, the most frequent ones; the rest is counted together.
const CATEGORIES: usize = 32;
/// More bins than any of ours have.
const MAX_BINS: usize = 256;
/// What a count may be: beyond it, floats do not tell neighbours apart.
const MAX_COUNT: u64 = 1 << 53;

/// How often which values occurred.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Observed {
    /// Of the prepared inputs, over the training split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Distribution>,
    /// Of the model's own answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Distribution>,
    /// The split that these answers are for: `validation`, or `train` where that is too small.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outputs_split: String,
}

/// Counts of one feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// The feature, by its name in [`network::observe`].
    pub name: String,
    /// Of a number: where the bins end, ascending. A bin holds what is above the edge before it and not above its own;
    /// the last one has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<f32>,
    /// Of a category: the names, one per bin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// How many samples are in each bin.
    pub counts: Vec<u64>,
    /// How many are in none: categories that are not listed, values that are no numbers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Observed {
    /// Checks that bins and counts fit each other; a package may have been made by hand.
    ///
    /// # Errors
    /// The first feature that does not fit.
    pub fn check(&self) -> Result<(), String> {
        for (side, features) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            // A class besides its confidence is one more than is watched of anything.
            if features.len() > MAX_WATCHED + 1 {
                return Err(format!(
                    "{side}: there are {} features, and at most {MAX_WATCHED}",
                    features.len()
                ));
            }
            for (index, feature) in features.iter().enumerate() {
                if features.iter().take(index).any(|earlier| earlier.name == feature.name) {
                    return Err(format!("{side}: there are two features `{}`", feature.name));
                }
                feature.check().map_err(|what| format!("{side}: `{}`: {what}", feature.name))?;
            }
        }
        Ok(())
    }
}

/// Values of features that come row by row, until they make distributions.
#[derive(Debug)]
pub struct Columns<'a> {
    features: &'a [Feature],
    values: Vec<Vec<f32>>,
}

impl<'a> Columns<'a> {
    /// Of these features, without a row.
    #[must_use]
    pub fn new(features: &'a [Feature]) -> Self {
        Self { features, values: vec![Vec::new(); features.len()] }
    }

    /// Adds a row: a value for each feature, in their order.
    pub fn push(&mut self, row: Vec<f32>) {
        self.values.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }

    /// The distribution of each feature; none where there was no row.
    #[must_use]
    pub fn distributions(self) -> Vec<Distribution> {
        let columns = self.features.iter().zip(self.values);
        columns.filter_map(|(feature, values)| Distribution::of(feature, values)).collect()
    }
}

impl Distribution {
    /// The counts of `values` as [`network::Observer`] tells them; nothing where there are none.
    #[must_use]
    pub fn of(feature: &Feature, values: Vec<f32>) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let bins = match feature.categories.is_empty() {
            true => Self { edges: edges(&values), ..Self::default() },
            false => Self { categories: frequent(&feature.categories, &values), ..Self::default() },
        };
        let mut this = Self { name: feature.name.clone(), ..bins };
        let categories = this.categories.len();
        this.counts = vec![0; if categories == 0 { this.edges.len() + 1 } else { categories }];
        let places = this.places(feature);
        for value in values {
            let bin = this.bin(&places, value);
            *this.counts.get_mut(bin).unwrap_or(&mut this.other) += 1;
        }
        Some(this)
    }

    /// The bin of each of a feature's categories; of a number, nothing.
    #[must_use]
    pub fn places(&self, feature: &Feature) -> Vec<usize> {
        let place = |name: &String| self.categories.iter().position(|kept| kept == name);
        feature.categories.iter().map(|name| place(name).unwrap_or(self.counts.len())).collect()
    }

    /// The bin of a value, given what [`Distribution::places`] says; the number of bins for what is in none.
    #[must_use]
    pub fn bin(&self, places: &[usize], value: f32) -> usize {
        if !value.is_finite() {
            self.counts.len()
        } else if self.categories.is_empty() {
            self.edges.partition_point(|edge| *edge < value)
        } else {
            places.get(value as usize).copied().unwrap_or(self.counts.len())
        }
    }

    /// All samples.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(self.other, |sum, count| sum.saturating_add(*count))
    }

    fn check(&self) -> Result<(), String> {
        let bins = self.counts.len();
        if self.name.is_empty() {
            return Err("it has no name".to_owned());
        }
        if bins > MAX_BINS {
            return Err(format!("it has {bins} bins, and at most {MAX_BINS}"));
        }
        if self.categories.is_empty() && bins != self.edges.len() + 1 {
            return Err(format!(
                "{} edges need {} counts, but there are {bins}",
                self.edges.len(),
                self.edges.len() + 1
            ));
        }
        if !self.categories.is_empty() && (bins != self.categories.len() || !self.edges.is_empty()) {
            let expected = self.categories.len();
            return Err(format!(
                "{expected} categories need {expected} counts and no edges, but there are {bins}"
            ));
        }
        if !self.edges.iter().all(|edge| edge.is_finite()) || !self.edges.is_sorted_by(|a, b| a < b) {
            return Err("its edges must be finite and ascending".to_owned());
        }
        match self.total() {
            0 => Err("it counts nothing".to_owned()),
            total if total > MAX_COUNT => Err(format!("it counts more than {MAX_COUNT} samples")),
            _ => Ok(()),
        }
    }
}

/// Edges between bins of equal numbers of values. Each lies halfway between two values that occur, so that what is
/// computed a little differently elsewhere falls into the same bin; values that occur often share a bin alone. Where the
/// first or last bin is one single value, what lies beyond it is another bin, which is empty.
fn edges(values: &[f32]) -> Vec<f32> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let (Some(&least), Some(&greatest)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let mut edges: Vec<f32> = Vec::new();
    for step in 1..BINS {
        let below = sorted.get((step * sorted.len() / BINS).saturating_sub(1)).copied().unwrap_or(least);
        let next = sorted.get(sorted.partition_point(|value| *value <= below));
        let Some(&next) = next else { break };
        let middle = between(below, next);
        if edges.last().is_none_or(|last| *last < middle) {
            edges.push(middle);
        }
    }
    // Half of the way to the next value, on the other side; of a value that never changes, a thousandth of it.
    let alone = (greatest.abs() * 1e-3).max(1e-6);
    let second = sorted.get(sorted.partition_point(|value| *value <= least)).copied();
    let before = second.map_or(least - alone, |second| least - (between(least, second) - least));
    if edges.first().is_none_or(|first| second.is_none_or(|second| *first < second))
        && before < least
        && before.is_finite()
    {
        edges.insert(0, before);
    }
    let last_but_one = sorted.partition_point(|value| *value < greatest).checked_sub(1);
    let last_but_one = last_but_one.and_then(|place| sorted.get(place)).copied();
    let after =
        last_but_one.map_or(greatest + alone, |other| greatest + (greatest - between(other, greatest)));
    if edges.last().is_none_or(|last| last_but_one.is_none_or(|other| *last >= other))
        && after > greatest
        && after.is_finite()
    {
        edges.push(after);
    }
    edges
}

/// Halfway from one number to a larger one: at least the one, below the other.
fn between(low: f32, high: f32) -> f32 {
    let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
    if middle < high && middle >= low { middle } else { low }
}

/// The categories that are kept, in their order.
fn frequent(categories: &[String], values: &[f32]) -> Vec<String> {
    if categories.len() <= CATEGORIES {
        return categories.to_vec();
    }
    let mut counts = vec![0u64; categories.len()];
    for value in values.iter().filter(|value| value.is_finite()) {
        if let Some(count) = counts.get_mut(*value as usize) {
            *count += 1;
        }
    }
    let mut order: Vec<usize> = (0..categories.len()).collect();
    // Stable, so that ties stay in their order.
    order.sort_by_key(|place| std::cmp::Reverse(counts.get(*place).copied().unwrap_or(0)));
    order.truncate(CATEGORIES);
    order.sort_unstable();
    order.into_iter().filter_map(|place| categories.get(place).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(categories: &[&str]) -> Feature {
        let categories = categories.iter().map(|name| (*name).to_owned()).collect();
        Feature { name: "x".to_owned(), categories }
    }

    fn numbers(values: &[f32]) -> Distribution {
        let found = Distribution::of(&feature(&[]), values.to_vec()).unwrap();
        found.check().unwrap();
        assert_eq!(found.total(), values.len() as u64);
        found
    }

    #[test]
    fn deciles_lie_between_the_values() {
        let values: Vec<f32> = (1..=100u8).rev().map(f32::from).collect();
        let found = numbers(&values);
        assert_eq!(found.edges, [10.5, 20.5, 30.5, 40.5, 50.5, 60.5, 70.5, 80.5, 90.5]);
        assert_eq!(found.counts, [10; 10]);
        assert_eq!([10.0, 10.6, -5.0, 1e9, f32::NAN].map(|value| found.bin(&[], value)), [0, 1, 0, 9, 10]);
    }

    #[test]
    fn frequent_values_have_a_bin_alone_and_so_has_what_lies_beyond_them() {
        // Half of all is 0: less than 0 has never been seen.
        let values: Vec<f32> = [0.0; 50].into_iter().chain((1..=50u8).map(f32::from)).collect();
        let found = numbers(&values);
        assert_eq!((found.edges[..2].to_vec(), found.counts[..2].to_vec()), (vec![-0.5, 0.5], vec![0, 50]));
        // What never changes: below, that, above.
        let found = numbers(&[5.0; 7]);
        assert_eq!(
            (found.counts.as_slice(), found.bin(&[], 4.0), found.bin(&[], 6.0)),
            (&[0, 7, 0][..], 0, 2)
        );
        let found = numbers(&[0.0, 1.0, 0.0, 1.0, 1.0]);
        assert_eq!(
            (found.edges.as_slice(), found.counts.as_slice()),
            (&[-0.5, 0.5, 1.5][..], &[0, 2, 3, 0][..])
        );
        assert_eq!(numbers(&[f32::NAN, 1.0]).other, 1);
        assert_eq!(numbers(&[f32::NAN]).counts, [0]);
        numbers(&[f32::MAX, f32::MIN, f32::MAX]);
        numbers(&[1.0, f32::from_bits(1.0f32.to_bits() + 1)]);
        assert_eq!(Distribution::of(&feature(&[]), vec![]), None);
    }

    #[test]
    fn rare_categories_are_counted_together() {
        let found = Distribution::of(&feature(&["a", "b"]), vec![1.0, 1.0, 0.0, f32::NAN]).unwrap();
        assert_eq!((found.counts.as_slice(), found.other), (&[1, 2][..], 1));
        let names: Vec<String> = (0..40).map(|index| format!("c{index}")).collect();
        let many = Feature { name: "x".to_owned(), categories: names };
        // The last ones are the frequent ones.
        let values = (0..40u8).flat_map(|index| vec![f32::from(index); usize::from(index / 8 + 1)]).collect();
        let found = Distribution::of(&many, values).unwrap();
        assert_eq!((found.categories.len(), found.other, found.categories[0].as_str()), (32, 8, "c8"));
        let places = found.places(&many);
        assert_eq!([0.0, 8.0, 39.0, 40.0].map(|value| found.bin(&places, value)), [32, 0, 31, 32]);
        found.check().unwrap();
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = numbers(&[1.0, 2.0, 3.0]);
        let fault = |change: fn(&mut Distribution)| {
            let mut bad = good.clone();
            change(&mut bad);
            let observed = Observed { inputs: vec![bad], ..Observed::default() };
            observed.check().unwrap_err()
        };
        type Change = fn(&mut Distribution);
        let wrong: [(Change, &str); 6] = [
            (|bad| bad.edges.reverse(), "inputs: `x`: its edges must be finite and ascending"),
            (|bad| bad.edges[0] = f32::NAN, "finite"),
            (|bad| bad.counts.truncate(1), "counts, but there are"),
            (|bad| bad.counts.fill(0), "counts nothing"),
            (|bad| bad.counts[0] = u64::MAX, "more than"),
            (|bad| bad.categories.push("a".to_owned()), "1 categories need 1 counts and no edges"),
        ];
        for (change, part) in wrong {
            let fault = fault(change);
            assert!(fault.contains(part), "{fault}");
        }
        let twice = Observed { outputs: vec![good.clone(), good], ..Observed::default() };
        assert_eq!(twice.check().unwrap_err(), "outputs: there are two features `x`");
    }
}
