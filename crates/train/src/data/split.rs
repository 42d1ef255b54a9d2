//! Which samples are for training, validation and testing.
//!
//! Parts that the data brings along are honoured; what is missing is cut by fraction, stratified where the
//! task has classes. The validation part is always cut from the training split, never from the test data.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DataError;
use super::draws::{Purpose, shuffle, stream};

/// What a sample is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The weights are fitted to it, and so is everything else that is fitted.
    Train,
    /// Choices are made by it: when to stop, which epoch was best.
    Validation,
    /// Scored once, at the end.
    Test,
}

impl Part {
    /// All parts in their usual order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// `train`, `validation` or `test`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// What people call the parts in folder names and columns, in any case.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "validation" | "valid" | "val" | "dev" => Some(Self::Validation),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

/// How the data is split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitRules {
    /// The share of all samples that is test data, where the data has no test part of its own; 0.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<f64>,
    /// The share of the training split that is validation data, where the data has none of its own; 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// Whether each part has the same share of each class; left out: yes, where the task has classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stratified: Option<bool>,
    /// A column of the table that holds `train`, `validation` or `test`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Draws the split by this seed whatever the seed of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// The samples of each part, by index, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits {
    /// Fitted to.
    pub train: Vec<usize>,
    /// Chosen by.
    pub validation: Vec<usize>,
    /// Scored once.
    pub test: Vec<usize>,
    /// How they came about.
    pub record: SplitRecord,
}

/// How a split came about, and a digest by which to know it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// In words: `test: given; validation: 0.1 of the training split, stratified`.
    pub rule: String,
    /// The seed of the draws.
    pub seed: u64,
    /// Number of training samples.
    pub train: usize,
    /// Number of validation samples.
    pub validation: usize,
    /// Number of test samples.
    pub test: usize,
    /// SHA-256 over the indices of all parts.
    pub sha256: String,
}

impl Splits {
    /// The samples of a part.
    #[must_use]
    pub fn part(&self, part: Part) -> &[usize] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }
}

/// What is known about the samples before they are split.
pub(crate) struct Samples<'a> {
    /// The samples that take part: rows that cleaning leaves out are not among them.
    pub(crate) indices: Vec<usize>,
    /// The part that the data itself gives to a sample (by index into the source); empty: none.
    pub(crate) given: &'a [Option<Part>],
    /// The class of each sample (by index into the source), where the task has classes.
    pub(crate) classes: Option<&'a [usize]>,
}

/// Splits the samples. `keep` may leave out samples of the training split before validation is cut from it.
pub(crate) fn split(
    samples: &Samples<'_>,
    rules: &SplitRules,
    seed: u64,
    keep: impl FnOnce(Vec<usize>) -> Result<Vec<usize>, DataError>,
) -> Result<Splits, DataError> {
    let seed = rules.seed.unwrap_or(seed);
    let classes = match (rules.stratified, samples.classes) {
        (Some(true), None) => {
            let problem = "only a task with classes can be stratified; leave it out";
            return Err(DataError::config("split.stratified", problem));
        }
        (Some(false), _) => None,
        (_, classes) => classes,
    };
    let how = if classes.is_some() { "stratified" } else { "at random" };
    let given = |part: Part| -> Vec<usize> {
        let of = |index: &usize| samples.given.get(*index).copied().flatten();
        samples.indices.iter().copied().filter(|index| of(index) == Some(part)).collect()
    };

    let mut splits =
        Splits { test: given(Part::Test), validation: given(Part::Validation), ..Splits::default() };
    let apart =
        |index: &usize| !splits.test.contains_sorted(*index) && !splits.validation.contains_sorted(*index);
    let mut pool: Vec<usize> = samples.indices.iter().copied().filter(apart).collect();
    let mut words = Vec::new();
    if splits.test.is_empty() {
        let share = share(rules.test, 0.2, "split.test")?;
        (pool, splits.test) = cut(&pool, share, classes, seed, Purpose::TestSplit);
        words.push(format!("test: {share} of the samples, {how}"));
    } else {
        refuse_given(rules.test, "split.test", "test")?;
        words.push("test: given".to_owned());
    }
    let offered = pool.len();
    pool = keep(pool)?;
    let kept = pool.len();
    if splits.validation.is_empty() {
        let share = share(rules.validation, 0.1, "split.validation")?;
        (splits.train, splits.validation) = cut(&pool, share, classes, seed, Purpose::ValidationSplit);
        words.push(format!("validation: {share} of the training split, {how}"));
    } else {
        refuse_given(rules.validation, "split.validation", "validation")?;
        splits.train = pool;
        words.push("validation: given".to_owned());
    }
    for part in Part::ALL {
        if splits.part(part).is_empty() {
            let few = if kept < offered && part != Part::Test {
                format!(
                    "of {offered} samples for training `drop_duplicates` keeps the {kept} distinct ones, which"
                )
            } else {
                format!("{} samples", samples.indices.len())
            };
            let problem =
                format!("the {} part would be empty: {few} are too few for this split", part.name());
            return Err(DataError::config("split", problem));
        }
    }
    splits.record = SplitRecord {
        rule: words.join("; "),
        seed,
        train: splits.train.len(),
        validation: splits.validation.len(),
        test: splits.test.len(),
        sha256: digest(&splits),
    };
    Ok(splits)
}

fn share(given: Option<f64>, default: f64, key: &str) -> Result<f64, DataError> {
    let share = given.unwrap_or(default);
    if share > 0.0 && share < 1.0 {
        return Ok(share);
    }
    Err(DataError::config(key, format!("must lie between 0 and 1 (both excluded), but is {share}")))
}

fn refuse_given(share: Option<f64>, key: &str, part: &str) -> Result<(), DataError> {
    if share.is_none() {
        return Ok(());
    }
    Err(DataError::config(
        key,
        format!("the data has a {part} part of its own, which is used; remove this key"),
    ))
}

trait Sorted {
    fn contains_sorted(&self, index: usize) -> bool;
}

impl Sorted for Vec<usize> {
    fn contains_sorted(&self, index: usize) -> bool {
        self.binary_search(&index).is_ok()
    }
}

/// Cuts `share` of the samples off: (rest, cut), both ascending.
///
/// With classes, each class gives its share; the samples that rounding leaves over come from the classes
/// with the largest remainders, so that the size is the same as without classes.
fn cut(
    samples: &[usize],
    share: f64,
    classes: Option<&[usize]>,
    seed: u64,
    purpose: Purpose,
) -> (Vec<usize>, Vec<usize>) {
    let wanted = (samples.len() as f64 * share).round() as usize;
    let class_of = |index: usize| classes.and_then(|classes| classes.get(index)).copied().unwrap_or(0);
    let groups = samples.iter().map(|&index| class_of(index)).max().map_or(0, |class| class + 1);
    let mut members = vec![Vec::new(); groups];
    for &index in samples {
        members[class_of(index)].push(index);
    }
    let exact = |group: &Vec<usize>| group.len() as f64 * share;
    let mut takes: Vec<usize> = members.iter().map(|group| exact(group).floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..groups).collect();
    by_remainder.sort_by(|&a, &b| {
        let remainder = |class: usize| exact(&members[class]) - takes[class] as f64;
        remainder(b).total_cmp(&remainder(a)).then(a.cmp(&b))
    });
    let left = wanted.saturating_sub(takes.iter().sum());
    by_remainder
        .iter()
        .filter(|&&class| !members[class].is_empty())
        .take(left)
        .for_each(|&class| takes[class] += 1);

    let (mut rest, mut part) = (Vec::new(), Vec::new());
    for (class, group) in members.iter_mut().enumerate() {
        shuffle(group, &mut stream(seed, purpose, 0, class as u64));
        let (taken, left) = group.split_at(takes[class].min(group.len()));
        part.extend_from_slice(taken);
        rest.extend_from_slice(left);
    }
    rest.sort_unstable();
    part.sort_unstable();
    (rest, part)
}

fn digest(splits: &Splits) -> String {
    let mut digest = Sha256::new();
    for part in Part::ALL {
        let indices = splits.part(part);
        digest.update((indices.len() as u64).to_le_bytes());
        indices.iter().for_each(|index| digest.update((*index as u64).to_le_bytes()));
    }
    super::hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(
        classes: Option<&[usize]>,
        given: &[Option<Part>],
        len: usize,
        rules: &SplitRules,
        seed: u64,
    ) -> Result<Splits, DataError> {
        split(&Samples { indices: (0..len).collect(), given, classes }, rules, seed, Ok)
    }

    #[test]
    fn stratified_parts_have_each_class_in_its_share() {
        // 1,000 of class 0, 100 of class 1, 10 of class 2.
        let classes: Vec<usize> =
            (0..1110).map(|i| usize::from(i >= 1000) + usize::from(i >= 1100)).collect();
        let splits = run(Some(&classes), &[], 1110, &SplitRules::default(), 3).unwrap();
        let count = |part: Part, class| splits.part(part).iter().filter(|&&i| classes[i] == class).count();
        assert_eq!([0, 1, 2].map(|class| count(Part::Test, class)), [200, 20, 2]);
        assert_eq!([0, 1, 2].map(|class| count(Part::Validation, class)), [80, 8, 1]);
        assert_eq!(
            splits.record.rule,
            "test: 0.2 of the samples, stratified; validation: 0.1 of the training split, stratified"
        );
    }

    #[test]
    fn given_parts_are_honoured_and_validation_never_takes_test_data() {
        let given: Vec<Option<Part>> =
            (0..100).map(|i| Some(if i < 80 { Part::Train } else { Part::Test })).collect();
        let splits = run(None, &given, 100, &SplitRules::default(), 0).unwrap();
        assert_eq!(splits.test, (80..100).collect::<Vec<_>>());
        assert_eq!((splits.train.len(), splits.validation.len()), (72, 8));
        let rules = SplitRules { test: Some(0.5), ..Default::default() };
        let error = run(None, &given, 100, &rules, 0).unwrap_err().to_string();
        assert_eq!(
            error,
            "`data.split.test`: the data has a test part of its own, which is used; remove this key"
        );
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                SplitRules { test: Some(1.0), ..Default::default() },
                10,
                "`data.split.test`: must lie between 0 and 1",
            ),
            (
                SplitRules { validation: Some(-0.1), ..Default::default() },
                10,
                "`data.split.validation`: must lie",
            ),
            (SplitRules { stratified: Some(true), ..Default::default() }, 10, "only a task with classes"),
            (SplitRules::default(), 3, "the validation part would be empty: 3 samples are too few"),
        ];
        for (rules, len, message) in cases {
            let error = run(None, &[], len, &rules, 0).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn samples_that_were_dropped_are_not_counted() {
        let samples = Samples { indices: (0..60).collect(), given: &[], classes: None };
        let keep = |pool: Vec<usize>| Ok(pool[..3].to_vec());
        let error = split(&samples, &SplitRules::default(), 0, keep).unwrap_err().to_string();
        assert_eq!(
            error,
            "`data.split`: the validation part would be empty: of 48 samples for training `drop_duplicates` keeps \
             the 3 distinct ones, which are too few for this split"
        );
    }

    proptest! {
        #[test]
        fn parts_cover_everything_once(
            len in 20usize..300, seed: u64, classes in 1usize..6, test in 0.1..0.6, validation in 0.1..0.6,
        ) {
            let labels: Vec<usize> = (0..len).map(|i| i * i % classes).collect();
            let rules = SplitRules { test: Some(test), validation: Some(validation), ..Default::default() };
            let splits = run(Some(&labels), &[], len, &rules, seed).unwrap();
            let mut all = [splits.train.clone(), splits.validation.clone(), splits.test.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
            prop_assert_eq!(splits.test.len(), (len as f64 * test).round() as usize);
            prop_assert_eq!(&splits, &run(Some(&labels), &[], len, &rules, seed).unwrap());
            let fixed = SplitRules { seed: Some(seed), ..rules };
            prop_assert_eq!(&splits.record.sha256, &run(Some(&labels), &[], len, &fixed, 0).unwrap().record.sha256);
        }
    }
}
