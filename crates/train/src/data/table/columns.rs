//! Typed columns: what kind each one is, and its values in compact form.

use std::collections::{BTreeMap, HashMap};

use network::Cell;
use network::preprocess::ColumnKind;

use super::super::{DataError, shorten};

/// From this share of numbers on, a column with a word in it is taken for numbers with a mistake.
const MOSTLY_NUMBERS: f64 = 0.9;

/// What one column holds, gathered in a first pass over the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    numbers: u64,
    texts: u64,
    /// The first word: file, line and value.
    first_text: Option<(String, u64, String)>,
}

impl Survey {
    pub(super) fn add(&mut self, file: &str, line: u64, field: &str) {
        match Cell::parse(field) {
            Cell::Missing => {}
            Cell::Number(_) => self.numbers += 1,
            Cell::Text(text) => {
                self.texts += 1;
                self.first_text.get_or_insert_with(|| (file.to_owned(), line, shorten(&text)));
            }
        }
    }

    /// The kind of the column: as configured, or inferred.
    ///
    /// Only numbers: numeric. Only words, or words and a few numbers: categorical. A few words among
    /// numbers are a mistake somewhere in the file, and the error says where.
    pub(super) fn kind(&self, name: &str, configured: Option<ColumnKind>) -> Result<ColumnKind, DataError> {
        let values = self.numbers + self.texts;
        match (configured, &self.first_text) {
            (Some(ColumnKind::Numeric), Some((file, line, text))) => {
                let problem =
                    format!("column `{name}` must be a number (`data.types.{name}`), but is `{text}`");
                Err(DataError::line(file, *line, problem))
            }
            (Some(kind), _) => Ok(kind),
            (None, None) => Ok(ColumnKind::Numeric),
            (None, Some((file, line, text))) if self.numbers as f64 >= MOSTLY_NUMBERS * values as f64 => {
                let problem = format!(
                    "column `{name}` is a number in {} of {values} rows, but `{text}` here; correct it, or set \
                     data.types.{name} = \"categorical\"",
                    self.numbers
                );
                Err(DataError::line(file, *line, problem))
            }
            (None, Some(_)) => Ok(ColumnKind::Categorical),
        }
    }

    /// Whether the column has no value at all.
    pub(super) fn is_empty(&self) -> bool {
        self.numbers + self.texts == 0
    }

    /// Where the first word stands, for a column that should hold numbers only.
    pub(super) fn first_text(&self) -> Option<&(String, u64, String)> {
        self.first_text.as_ref()
    }
}

/// The values of a column.
#[derive(Clone, Debug)]
pub(super) enum Column {
    /// Not a number: missing.
    Numbers(Vec<f64>),
    /// Indices into `names`; `u32::MAX`: missing.
    Codes { codes: Vec<u32>, names: Vec<String>, index: HashMap<String, u32> },
}

const MISSING: u32 = u32::MAX;

impl Column {
    pub(super) fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Numeric => Self::Numbers(Vec::new()),
            ColumnKind::Categorical => {
                Self::Codes { codes: Vec::new(), names: Vec::new(), index: HashMap::new() }
            }
        }
    }

    /// Appends a field; `None` when it is a word and the column holds numbers.
    pub(super) fn push(&mut self, field: &str) -> Option<()> {
        match (self, Cell::parse(field)) {
            (Self::Numbers(values), Cell::Number(value)) => values.push(value),
            (Self::Numbers(values), Cell::Missing) => values.push(f64::NAN),
            (Self::Numbers(_), Cell::Text(_)) => return None,
            (Self::Codes { codes, .. }, Cell::Missing) => codes.push(MISSING),
            (Self::Codes { codes, names, index }, cell) => {
                // `1` and `1.0` are one category, as they are when a request gives the number.
                let name = if let Cell::Number(number) = cell {
                    number.to_string()
                } else {
                    field.trim().to_owned()
                };
                let next = names.len() as u32;
                codes.push(*index.entry(name.clone()).or_insert_with(|| {
                    names.push(name);
                    next
                }));
            }
        }
        Some(())
    }

    pub(super) fn cell(&self, row: usize) -> Cell {
        match self {
            Self::Numbers(values) => match values.get(row) {
                Some(value) if !value.is_nan() => Cell::Number(*value),
                _ => Cell::Missing,
            },
            Self::Codes { codes, names, .. } => {
                let name = codes.get(row).and_then(|code| names.get(*code as usize));
                name.map_or(Cell::Missing, |name| Cell::Text(name.clone()))
            }
        }
    }

    pub(super) fn is_missing(&self, row: usize) -> bool {
        match self {
            Self::Numbers(values) => values.get(row).is_none_or(|value| value.is_nan()),
            Self::Codes { codes, .. } => codes.get(row).is_none_or(|code| *code == MISSING),
        }
    }

    /// The values as classes: the names in their order (numbers by size, words by letters) and the class of
    /// each row; a missing value has class `u32::MAX`.
    pub(super) fn classes(&self) -> (Vec<String>, Vec<u32>) {
        match self {
            Self::Numbers(values) => {
                let mut distinct: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
                distinct.sort_by(f64::total_cmp);
                distinct.dedup();
                let find = |value: &f64| {
                    distinct.binary_search_by(|probe| probe.total_cmp(value)).map_or(MISSING, |i| i as u32)
                };
                (distinct.iter().map(ToString::to_string).collect(), values.iter().map(find).collect())
            }
            Self::Codes { codes, names, .. } => {
                let sorted: BTreeMap<&str, usize> =
                    names.iter().enumerate().map(|(code, name)| (name.as_str(), code)).collect();
                let mut rank = vec![0u32; names.len()];
                sorted.values().enumerate().for_each(|(place, &code)| rank[code] = place as u32);
                let of = |code: &u32| rank.get(*code as usize).copied().unwrap_or(MISSING);
                (sorted.keys().map(|name| (*name).to_owned()).collect(), codes.iter().map(of).collect())
            }
        }
    }

    /// The numbers of a numeric column.
    pub(super) fn numbers(&self) -> Option<&[f64]> {
        if let Self::Numbers(values) = self { Some(values) } else { None }
    }
}
