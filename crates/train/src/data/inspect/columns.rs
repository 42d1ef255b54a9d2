//! Ranges, missing values and distinct values of columns.

use std::collections::{HashMap, HashSet};

use network::Cell;
use network::preprocess::ColumnKind;
use serde::Serialize;

use super::super::source::DataKind;
use super::super::split::Part;

/// Different numbers of a column that are remembered; more are told as `more`.
const DISTINCT: usize = 10_000;

/// What a column holds, over all samples that take part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// Numbers or names.
    pub kind: ColumnKind,
    /// Samples that were looked at.
    pub samples: usize,
    /// How many of them have no value.
    pub missing: usize,
    /// How many different values there are, at most 10,000.
    pub distinct: usize,
    /// The smallest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// The standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// Whether the numbers are 0, 1, 2, … or 1, 2, 3, … in the order of the rows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub counts_rows: bool,
    /// Categories that occur in the other parts, but not in the training part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}

/// Columns being looked at.
pub(super) struct Columns(Vec<Gathered>);

struct Gathered {
    name: String,
    kind: ColumnKind,
    samples: usize,
    missing: usize,
    numbers: HashSet<u64>,
    /// Per category, how often it occurs in the training part and elsewhere.
    names: HashMap<String, [usize; 2]>,
    min: f64,
    max: f64,
    mean: f64,
    /// Sum of squared distances from the mean (Welford).
    squares: f64,
    counts_rows: bool,
    previous: Option<f64>,
}

impl Columns {
    pub(super) fn of(kind: &DataKind) -> Self {
        match kind {
            DataKind::Table { columns } => {
                Self(columns.iter().map(|column| Gathered::new(&column.name, column.kind)).collect())
            }
            DataKind::Numbers { shape } => {
                let count = shape.iter().product::<usize>();
                Self(
                    (0..count)
                        .map(|number| Gathered::new(&format!("number {number}"), ColumnKind::Numeric))
                        .collect(),
                )
            }
            DataKind::Image { .. } => Self(Vec::new()),
        }
    }

    pub(super) fn named(names: &[String]) -> Self {
        Self(names.iter().map(|name| Gathered::new(name, ColumnKind::Numeric)).collect())
    }

    /// Adds a sample; one that cleaning left out is not looked at.
    pub(super) fn add(&mut self, cells: &[Cell], part: Option<Part>) {
        if let Some(part) = part {
            self.0.iter_mut().zip(cells).for_each(|(column, cell)| column.add(cell, part));
        }
    }

    pub(super) fn finish(self) -> Vec<ColumnSummary> {
        self.0.into_iter().map(Gathered::finish).collect()
    }
}

impl Gathered {
    fn new(name: &str, kind: ColumnKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            samples: 0,
            missing: 0,
            numbers: HashSet::new(),
            names: HashMap::new(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            mean: 0.0,
            squares: 0.0,
            counts_rows: true,
            previous: None,
        }
    }

    fn add(&mut self, cell: &Cell, part: Part) {
        self.samples += 1;
        match cell {
            Cell::Missing => self.missing += 1,
            Cell::Text(name) => {
                self.names.entry(name.clone()).or_default()[usize::from(part != Part::Train)] += 1
            }
            Cell::Number(value) => {
                if self.numbers.len() < DISTINCT {
                    self.numbers.insert(value.to_bits());
                }
                (self.min, self.max) = (self.min.min(*value), self.max.max(*value));
                let before = value - self.mean;
                self.mean += before / (self.samples - self.missing) as f64;
                self.squares += before * (value - self.mean);
                let expected = self.previous.map_or(value.clamp(0.0, 1.0), |previous| previous + 1.0);
                self.counts_rows &= *value == expected;
                self.previous = Some(*value);
            }
        }
    }

    fn finish(self) -> ColumnSummary {
        let present = self.samples - self.missing;
        let numeric = self.previous.is_some();
        let number = |value: f64| numeric.then_some(value);
        let mut unseen: Vec<String> =
            self.names.iter().filter(|(_, [train, _])| *train == 0).map(|(name, _)| name.clone()).collect();
        unseen.sort_unstable();
        ColumnSummary {
            name: self.name,
            kind: self.kind,
            samples: self.samples,
            missing: self.missing,
            distinct: self.numbers.len() + self.names.len(),
            min: number(self.min),
            max: number(self.max),
            mean: number(self.mean),
            std: number((self.squares / present.max(1) as f64).sqrt()),
            counts_rows: numeric && self.counts_rows && self.missing == 0 && present > 2,
            unseen,
        }
    }
}
