//! Tables: impute, clip, scale, one-hot; and how those are fitted on the training split.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PreprocessError;
use crate::raw::{Cell, RawInput, Row};

/// What happens to the feature columns of a table, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TablePreprocess {
    /// The columns that a row must have.
    pub columns: Vec<Column>,
}

/// One feature column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// How its values become numbers.
    pub rule: ColumnRule,
}

/// How the values of one column become numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ColumnRule {
    /// `(clip(x) − offset) · factor`: one feature.
    Numeric {
        /// Stands in for a missing value; none: a missing value is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        impute: Option<f64>,
        /// Values outside are moved to the nearer end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clip: Option<[f64; 2]>,
        /// Subtracted first.
        offset: f64,
        /// Multiplied afterwards.
        factor: f64,
    },
    /// One-hot: one feature per category.
    Categorical {
        /// The categories seen in the training split, sorted.
        categories: Vec<String>,
        /// What a value does that is none of them.
        unknown: UnknownRule,
        /// Stands in for a missing value; none: a missing value is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        impute: Option<String>,
    },
}

/// What an unseen category does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownRule {
    /// All features of the column are 0.
    #[default]
    Zeros,
    /// The row is refused.
    Refuse,
}

/// Whether a column holds numbers or names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Numbers.
    Numeric,
    /// Names out of a set.
    Categorical,
}

/// How numeric columns are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Mean 0, standard deviation 1.
    #[default]
    Standardize,
    /// Minimum 0, maximum 1.
    MinMax,
    /// As they are.
    None,
}

/// What happens to missing values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingRule {
    /// Numbers become the median, categories the most frequent one.
    #[default]
    Impute,
    /// Rows with a missing value are left out of the data, and refused when served.
    Drop,
}

/// The rules from which [`fit_table`] makes a [`TablePreprocess`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TableRules {
    /// Scaling of numeric columns.
    pub scaling: Scaling,
    /// Missing values.
    pub missing: MissingRule,
    /// Clip numeric columns to these quantiles of the training split, such as `[0.01, 0.99]`.
    pub clip_quantiles: Option<[f64; 2]>,
    /// Unseen categories.
    pub unknown: UnknownRule,
}

impl TablePreprocess {
    /// The number of features of a prepared row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.iter().map(|column| column.rule.width()).sum()
    }

    /// The names of the features of a prepared row: the column, or `column=category`.
    #[must_use]
    pub fn feature_names(&self) -> Vec<String> {
        let mut names = Vec::with_capacity(self.width());
        for column in &self.columns {
            match &column.rule {
                ColumnRule::Numeric { .. } => names.push(column.name.clone()),
                ColumnRule::Categorical { categories, .. } => {
                    names.extend(categories.iter().map(|category| format!("{}={category}", column.name)));
                }
            }
        }
        names
    }

    /// Checks that the fields fit each other; a package may have been made by hand.
    ///
    /// # Errors
    /// The first column that does not fit.
    pub fn check(&self) -> Result<(), String> {
        let mut names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("there are two columns `{}`", pair[0]));
        }
        self.columns.iter().try_for_each(|column| match &column.rule {
            ColumnRule::Numeric { impute, clip, offset, factor } => {
                let mut values = [Some(*offset), Some(*factor), *impute].into_iter().flatten();
                let ordered = clip.is_none_or(|[low, high]| low <= high);
                if values.all(f64::is_finite) && ordered {
                    return Ok(());
                }
                Err(format!("column `{}`: its numbers must be finite, and `clip` in order", column.name))
            }
            ColumnRule::Categorical { categories, impute, .. } => match impute {
                Some(impute) if !categories.contains(impute) => {
                    Err(format!("column `{}`: `{impute}` is none of its categories", column.name))
                }
                _ => Ok(()),
            },
        })
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn append(&self, input: &RawInput, out: &mut Vec<f32>) -> Result<(), PreprocessError> {
        match input {
            RawInput::Row(row) => self.append_row(row, out),
            RawInput::Numbers(values) => {
                if values.len() != self.columns.len() {
                    let expected = format!("{} (one per column: {})", self.columns.len(), self.names());
                    return Err(PreprocessError::Count { expected, found: values.len() });
                }
                for (column, &value) in self.columns.iter().zip(values) {
                    let cell = if value.is_nan() { Cell::Missing } else { Cell::Number(f64::from(value)) };
                    column.append(&cell, out)?;
                }
                Ok(())
            }
            other => {
                let expected = format!("a table row with the columns {}", self.names());
                Err(PreprocessError::Kind { expected, found: other.kind() })
            }
        }
    }

    fn append_row(&self, row: &Row, out: &mut Vec<f32>) -> Result<(), PreprocessError> {
        for (index, column) in self.columns.iter().enumerate() {
            let Some(cell) = row.get(&column.name, index) else {
                // A misspelt column shows up as a missing one and an unknown one: name the unknown one,
                // it is what the caller wrote.
                let known = |name: &String| self.columns.iter().any(|column| column.name == *name);
                let stray = row.columns().iter().find(|name| !known(name));
                return Err(match stray {
                    Some(stray) if row.columns().len() >= self.columns.len() => {
                        PreprocessError::UnknownColumn { column: stray.clone(), expected: self.names() }
                    }
                    _ => {
                        PreprocessError::MissingColumn { column: column.name.clone(), expected: self.names() }
                    }
                });
            };
            column.append(cell, out)?;
        }
        Ok(())
    }
}

impl ColumnRule {
    fn width(&self) -> usize {
        match self {
            Self::Numeric { .. } => 1,
            Self::Categorical { categories, .. } => categories.len(),
        }
    }
}

impl Column {
    fn append(&self, cell: &Cell, out: &mut Vec<f32>) -> Result<(), PreprocessError> {
        let missing = || PreprocessError::MissingValue { column: self.name.clone() };
        match &self.rule {
            ColumnRule::Numeric { impute, clip, offset, factor } => {
                let value = match cell {
                    Cell::Number(number) => *number,
                    Cell::Missing => impute.ok_or_else(missing)?,
                    Cell::Text(text) => {
                        return Err(PreprocessError::NotANumber {
                            column: self.name.clone(),
                            found: text.clone(),
                        });
                    }
                };
                // Not `clamp`: a package that was tampered with may hold bounds for which it panics.
                let value = clip.map_or(value, |[low, high]| value.max(low).min(high));
                let scaled = ((value - offset) * factor) as f32;
                if !scaled.is_finite() {
                    let found = value.to_string();
                    return Err(PreprocessError::NotANumber { column: self.name.clone(), found });
                }
                out.push(scaled);
            }
            ColumnRule::Categorical { categories, unknown, impute } => {
                let name = match cell {
                    Cell::Text(text) => text.clone(),
                    Cell::Number(number) => number.to_string(),
                    Cell::Missing => impute.clone().ok_or_else(missing)?,
                };
                let found = categories.iter().position(|category| *category == name);
                if found.is_none() && *unknown == UnknownRule::Refuse {
                    let expected = categories.join(", ");
                    return Err(PreprocessError::UnknownCategory {
                        column: self.name.clone(),
                        found: name,
                        expected,
                    });
                }
                out.extend((0..categories.len()).map(|index| if Some(index) == found { 1.0 } else { 0.0 }));
            }
        }
        Ok(())
    }
}

/// Fits the preprocessing of a table on the rows of the training split.
///
/// `columns` are the feature columns with their kinds. Numeric columns without a spread keep factor 1.
#[must_use]
pub fn fit_table<'a>(
    columns: &[(String, ColumnKind)],
    rows: impl Iterator<Item = &'a Row> + Clone,
    rules: &TableRules,
) -> TablePreprocess {
    let columns = columns
        .iter()
        .enumerate()
        .map(|(index, (name, kind))| {
            let cells = rows.clone().filter_map(|row| row.get(name, index));
            let rule = match kind {
                ColumnKind::Numeric => fit_numeric(cells, rules),
                ColumnKind::Categorical => fit_categorical(cells, rules),
            };
            Column { name: name.clone(), rule }
        })
        .collect();
    TablePreprocess { columns }
}

fn fit_numeric<'a>(cells: impl Iterator<Item = &'a Cell>, rules: &TableRules) -> ColumnRule {
    let mut values: Vec<f64> =
        cells.filter_map(|cell| if let Cell::Number(number) = cell { Some(*number) } else { None }).collect();
    values.sort_by(f64::total_cmp);
    let clip = rules.clip_quantiles.map(|[low, high]| [quantile(&values, low), quantile(&values, high)]);
    if let Some([low, high]) = clip {
        values.iter_mut().for_each(|value| *value = value.max(low).min(high));
    }
    let median = quantile(&values, 0.5);
    let count = values.len().max(1) as f64;
    let (offset, spread) = match rules.scaling {
        Scaling::None => (0.0, 1.0),
        Scaling::MinMax => {
            let low = values.first().copied().unwrap_or(0.0);
            (low, values.last().copied().unwrap_or(1.0) - low)
        }
        Scaling::Standardize => {
            let mean = values.iter().sum::<f64>() / count;
            (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
        }
    };
    let factor = if spread > 0.0 && spread.is_finite() { 1.0 / spread } else { 1.0 };
    let impute = (rules.missing == MissingRule::Impute).then_some(median);
    ColumnRule::Numeric { impute, clip, offset, factor }
}

fn fit_categorical<'a>(cells: impl Iterator<Item = &'a Cell> + Clone, rules: &TableRules) -> ColumnRule {
    let names = cells.filter_map(|cell| match cell {
        Cell::Missing => None,
        Cell::Number(number) => Some(number.to_string()),
        Cell::Text(text) => Some(text.clone()),
    });
    let categories: BTreeSet<String> = names.clone().collect();
    let categories: Vec<String> = categories.into_iter().collect();
    let mut counts = vec![0usize; categories.len()];
    for name in names {
        if let Ok(index) = categories.binary_search(&name) {
            counts[index] += 1;
        }
    }
    // Ties go to the first in sorted order, so that the result does not depend on the order of the rows.
    let most = counts.iter().enumerate().max_by_key(|(index, count)| (**count, usize::MAX - index));
    let impute =
        (rules.missing == MissingRule::Impute).then(|| most.map(|(index, _)| categories[index].clone()));
    ColumnRule::Categorical { categories, unknown: rules.unknown, impute: impute.flatten() }
}

/// The `q`-quantile of sorted values with linear interpolation; 0 when there are none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Preprocess;

    fn rows(header: &[&str], lines: &[&str]) -> Vec<Row> {
        let header: std::sync::Arc<[String]> = header.iter().map(|name| (*name).to_owned()).collect();
        lines
            .iter()
            .map(|line| Row::new(header.clone(), line.split(',').map(Cell::parse).collect()).unwrap())
            .collect()
    }

    fn fitted(rules: &TableRules) -> Preprocess {
        let rows = rows(&["age", "town"], &["1,rome", "2,oslo", "?,rome", "3,"]);
        let columns = [("age".to_owned(), ColumnKind::Numeric), ("town".to_owned(), ColumnKind::Categorical)];
        Preprocess::Table(fit_table(&columns, rows.iter(), rules))
    }

    fn prepare(preprocess: &Preprocess, header: &[&str], line: &str) -> Result<Vec<f32>, PreprocessError> {
        preprocess.prepare(&RawInput::Row(rows(header, &[line]).remove(0)))
    }

    #[test]
    fn standardises_imputes_and_encodes() {
        let table = fitted(&TableRules::default());
        // The ages 1, 2 and 3 have the mean 2 and the standard deviation √(2/3).
        let factor = (3.0f64 / 2.0).sqrt() as f32;
        let prepared = prepare(&table, &["age", "town"], "3,oslo").unwrap();
        assert!((prepared[0] - factor).abs() < 1e-6, "{prepared:?}");
        assert_eq!(prepared[1..], [1.0, 0.0]);
        // Missing age is the median 2 = the mean; missing town the most frequent; order does not matter.
        assert_eq!(prepare(&table, &["town", "age"], "?,?").unwrap(), [0.0, 0.0, 1.0]);
        assert_eq!(prepare(&table, &["age", "town"], "2,paris").unwrap(), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn scales_to_unit_range_and_clips() {
        let rules =
            TableRules { scaling: Scaling::MinMax, clip_quantiles: Some([0.0, 0.5]), ..Default::default() };
        let table = fitted(&rules);
        for (age, expected) in [("1", 0.0), ("2", 1.0), ("9", 1.0), ("-4", 0.0)] {
            assert_eq!(prepare(&table, &["age", "town"], &format!("{age},rome")).unwrap()[0], expected);
        }
    }

    #[test]
    fn refusals_name_the_column() {
        let rules =
            TableRules { missing: MissingRule::Drop, unknown: UnknownRule::Refuse, ..Default::default() };
        let table = fitted(&rules);
        let cases = [
            (
                ["age", "town"],
                "?,rome",
                "column `age` has no value, and the model was trained without missing values there",
            ),
            (["age", "town"], "old,rome", "column `age` must be a number, but is `old`"),
            (["age", "town"], "1,paris", "column `town` must be one of oslo, rome, but is `paris`"),
            (
                ["aeg", "town"],
                "1,rome",
                "there is no column `aeg`; the model takes the columns `age`, `town`",
            ),
        ];
        for (header, line, message) in cases {
            assert_eq!(prepare(&table, &header, line).unwrap_err().to_string(), message);
        }
        let error = prepare(&table, &["town"], "rome").unwrap_err();
        assert_eq!(error.to_string(), "column `age` is missing; the model takes the columns `age`, `town`");
    }
}
