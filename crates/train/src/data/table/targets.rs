//! What a table's label columns ask for: classes, labels or numbers.

use network::Task;

use super::super::DataError;
use super::super::source::Target;
use super::columns::{Column, Survey};

/// Whole numbers of at most this many different values are classes unless the task says otherwise.
const MAX_INFERRED_CLASSES: usize = 20;
/// A column with more different values is no class label.
const MAX_CLASSES: usize = 1000;

/// A label column with what was found in it.
pub(super) struct Label<'a> {
    pub(super) name: &'a str,
    pub(super) column: Column,
    pub(super) survey: &'a Survey,
}

/// The targets of all rows.
#[derive(Clone, Debug)]
pub(super) enum Targets {
    Classes(Vec<u32>),
    Labels(Vec<bool>, usize),
    Values(Vec<f32>, usize),
}

impl Targets {
    pub(super) fn get(&self, row: usize) -> Option<Target> {
        Some(match self {
            Self::Classes(classes) => Target::Class(*classes.get(row)? as usize),
            Self::Labels(labels, width) => {
                Target::Labels(labels.get(row * width..(row + 1) * width)?.to_vec())
            }
            Self::Values(values, width) => {
                Target::Values(values.get(row * width..(row + 1) * width)?.to_vec())
            }
        })
    }
}

/// Decides the task where the configuration does not, and reads the targets: (task, labels, targets).
///
/// One column: words are classes; whole numbers of at most 20 different values are classes; other numbers
/// are a regression. Several columns: nothing but 0 and 1 is multi-label; other numbers are a regression.
/// Two classes make the task binary. `rows` is the number of rows.
pub(super) fn read(
    labels: &[Label<'_>],
    task: Option<Task>,
    rows: usize,
) -> Result<(Task, Vec<String>, Targets), DataError> {
    let task = match (task, labels) {
        (Some(task), _) => task,
        (None, [label]) => infer(label),
        (None, _) if labels.iter().all(is_zero_one) => Task::MultiLabel,
        (None, _) => Task::Regression,
    };
    match (task, labels) {
        (Task::Binary | Task::MultiClass, [label]) => {
            let (names, classes) = label.column.classes();
            if names.len() > MAX_CLASSES {
                let problem = format!(
                    "column `{}` has {} different values, too many for classes (limit {MAX_CLASSES}); for numbers set \
                     data.task = \"regression\"",
                    label.name,
                    names.len()
                );
                return Err(DataError::config("label", problem));
            }
            if task == Task::Binary && names.len() != 2 {
                let problem =
                    format!("`binary` needs two classes, but column `{}` has {}", label.name, names.len());
                return Err(DataError::config("task", problem));
            }
            // Two classes that were not asked for by name are a binary task.
            Ok((task, names, Targets::Classes(classes)))
        }
        (Task::Binary | Task::MultiClass, _) => {
            let problem =
                format!("`{}` takes one label column, but `data.label` names {}", task.name(), labels.len());
            Err(DataError::config("task", problem))
        }
        (Task::MultiLabel, [_]) => Err(DataError::config(
            "task",
            "`multi_label` needs several label columns of 0 and 1 in `data.label`",
        )),
        (Task::MultiLabel, _) => {
            if let Some(label) = labels.iter().find(|label| !is_zero_one(label)) {
                let problem =
                    format!("column `{}` holds other values than 0 and 1, so it is no label", label.name);
                return Err(DataError::config("label", problem));
            }
            let on = |row: usize, label: &Label<'_>| number(label, row) == 1.0;
            let values = (0..rows).flat_map(|row| labels.iter().map(move |label| on(row, label))).collect();
            Ok((task, names(labels), Targets::Labels(values, labels.len())))
        }
        (Task::Regression, _) => {
            for label in labels {
                if let (None, Some((file, line, text))) = (label.column.numbers(), label.survey.first_text())
                {
                    let problem =
                        format!("column `{}` is the target of a regression, but holds `{text}`", label.name);
                    return Err(DataError::line(file, *line, problem));
                }
            }
            let values =
                (0..rows).flat_map(|row| labels.iter().map(move |label| number(label, row) as f32)).collect();
            Ok((task, names(labels), Targets::Values(values, labels.len())))
        }
    }
}

fn infer(label: &Label<'_>) -> Task {
    let (names, _) = label.column.classes();
    let whole = label
        .column
        .numbers()
        .is_some_and(|values| values.iter().all(|value| value.is_nan() || value.fract() == 0.0));
    match (label.column.numbers(), names.len()) {
        (Some(_), count) if !whole || count > MAX_INFERRED_CLASSES => Task::Regression,
        (_, 2) => Task::Binary,
        _ => Task::MultiClass,
    }
}

fn is_zero_one(label: &Label<'_>) -> bool {
    let zero_one = |value: &f64| value.is_nan() || *value == 0.0 || *value == 1.0;
    label.column.numbers().is_some_and(|values| values.iter().all(zero_one))
}

/// The number of a row; 0 where it is missing, and such rows have been refused or left out before.
fn number(label: &Label<'_>, row: usize) -> f64 {
    let value = label.column.numbers().and_then(|values| values.get(row)).copied();
    value.filter(|value| !value.is_nan()).unwrap_or(0.0)
}

fn names(labels: &[Label<'_>]) -> Vec<String> {
    labels.iter().map(|label| label.name.to_owned()).collect()
}
