//! Tables: CSV and TSV files with a header, held as typed columns.
//!
//! A file is read twice: once to see what its columns are, once for the values. Numbers take 8 bytes and
//! names 4, so a table of ten million cells needs less than 100 MiB.

mod columns;
mod records;
mod targets;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use network::preprocess::{ColumnKind, MissingRule};
use network::{RawInput, Row};

use self::columns::{Column, Survey};
use self::records::Input;
use self::targets::{Label, Targets};
use super::config::{Columns, DataConfig};
use super::opened::Opened;
use super::source::{DataKind, Source, TableColumn, Target};
use super::split::Part;
use super::{DataError, shorten};

/// The rows of a table.
struct TableSource {
    files: Vec<String>,
    /// The line of each row and the file that it is in.
    lines: Vec<(u64, u8)>,
    header: Arc<[String]>,
    features: Vec<Column>,
    targets: Targets,
}

impl Source for TableSource {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn read(&self, index: usize) -> Result<RawInput, DataError> {
        let row =
            (index < self.len()).then(|| self.features.iter().map(|column| column.cell(index)).collect());
        let row = row.and_then(|cells| Row::new(self.header.clone(), cells));
        row.map(RawInput::Row).ok_or(DataError::NoSuchSample { index, len: self.len() })
    }

    fn target(&self, index: usize) -> Result<Target, DataError> {
        self.targets.get(index).ok_or(DataError::NoSuchSample { index, len: self.len() })
    }

    fn describe(&self, index: usize) -> String {
        match self.lines.get(index) {
            Some((line, file)) => format!("line {line} of {}", self.files[usize::from(*file)]),
            None => DataError::NoSuchSample { index, len: self.len() }.to_string(),
        }
    }
}

/// Opens a file, and `data.test_path` as its test part where that is set.
pub(crate) fn open_path(path: &Path, config: &DataConfig) -> Result<Opened, DataError> {
    let name = path.file_stem().map_or_else(|| "table".into(), |name| name.to_string_lossy().into_owned());
    let inputs: Vec<Input<'_>> =
        std::iter::once(path).chain(config.test_path.as_deref()).map(Input::File).collect();
    let Some(label) = &config.label else {
        let header = inputs[0].read(delimiter(&inputs[0], config)?, |_, _| Ok(()))?;
        let problem =
            format!("say which column is to be predicted; {} has {}", inputs[0].name(), list(&header));
        return Err(DataError::config("label", problem));
    };
    open(&name, &inputs, label, config)
}

/// Opens a table that is part of the project.
pub(crate) fn open_embedded(
    name: &str,
    file: &'static str,
    bytes: &'static [u8],
    label: &str,
    config: &DataConfig,
) -> Result<Opened, DataError> {
    open(name, &[Input::Bytes(file, bytes)], &Columns::One(label.to_owned()), config)
}

fn delimiter(input: &Input<'_>, config: &DataConfig) -> Result<u8, DataError> {
    match config.delimiter {
        None => input.delimiter(),
        Some(delimiter) if delimiter.is_ascii() && !"\"\r\n".contains(delimiter) => Ok(delimiter as u8),
        Some(delimiter) => Err(DataError::config(
            "delimiter",
            format!("{delimiter:?} cannot separate fields; expected one ASCII character"),
        )),
    }
}

fn open(name: &str, inputs: &[Input<'_>], label: &Columns, config: &DataConfig) -> Result<Opened, DataError> {
    let delimiters: Vec<u8> =
        inputs.iter().map(|input| delimiter(input, config)).collect::<Result<_, _>>()?;
    let (header, surveys) = survey(inputs, &delimiters)?;
    let roles = Roles::new(&header, label, config, &inputs[0].name())?;
    let mut columns = Vec::with_capacity(header.len());
    for (index, (name, survey)) in header.iter().zip(&surveys).enumerate() {
        let used = roles.features.contains(&index) || roles.labels.contains(&index);
        if used && survey.is_empty() {
            let problem = format!("the column `{name}` has no value in any row; list it in `data.ignore`");
            return Err(DataError::file(&inputs[0].name(), problem));
        }
        let kind = used.then(|| survey.kind(name, config.types.get(name).copied())).transpose()?;
        columns.push(kind.map(Column::new));
    }
    let Values { mut columns, lines, given } = values(inputs, &delimiters, &header, columns, &roles)?;
    if lines.is_empty() {
        return Err(DataError::file(&inputs[0].name(), "there is a header, but no row"));
    }
    let files: Vec<String> = inputs.iter().map(Input::name).collect();
    let labels: Vec<Label<'_>> = roles
        .labels
        .iter()
        .filter_map(|&index| {
            Some(Label { name: &header[index], column: columns[index].take()?, survey: &surveys[index] })
        })
        .collect();
    let kinds = roles.features.iter().map(|&index| TableColumn {
        name: header[index].clone(),
        kind: match columns[index] {
            Some(Column::Codes { .. }) => ColumnKind::Categorical,
            _ => ColumnKind::Numeric,
        },
    });
    let kind = DataKind::Table { columns: kinds.collect() };
    let features: Vec<Column> = roles.features.iter().filter_map(|&index| columns[index].take()).collect();
    let dropped = missing(&features, &labels, config, &lines, &files)?;
    let (task, names, targets) = targets::read(&labels, config.task, lines.len())?;
    let sha256 = inputs.iter().map(Input::sha256).collect::<Result<Vec<_>, _>>()?.join("+");
    let header = roles.features.iter().map(|&index| header[index].clone()).collect();
    let source = TableSource { files, lines, header, features, targets };
    let mut opened = Opened::new(name, source, names, kind, sha256);
    (opened.task, opened.given, opened.dropped) = (task, given, dropped);
    Ok(opened)
}

/// First pass: the header and what each column holds.
fn survey(inputs: &[Input<'_>], delimiters: &[u8]) -> Result<(Vec<String>, Vec<Survey>), DataError> {
    let mut surveys: Vec<Survey> = Vec::new();
    let mut header: Option<Vec<String>> = None;
    for (input, &delimiter) in inputs.iter().zip(delimiters) {
        let file = input.name();
        let found = input.read(delimiter, |line, fields| {
            surveys.resize_with(fields.len().max(surveys.len()), Survey::default);
            surveys.iter_mut().zip(fields).for_each(|(survey, field)| survey.add(&file, line, field));
            Ok(())
        })?;
        match &header {
            Some(header) if *header != found => {
                let problem = format!(
                    "its columns are {}, but {} has {}",
                    list(&found),
                    inputs[0].name(),
                    list(header)
                );
                return Err(DataError::line(&file, 1, problem));
            }
            _ => header = Some(found),
        }
    }
    let header = header.unwrap_or_default();
    surveys.resize_with(header.len(), Survey::default);
    Ok((header, surveys))
}

/// Which columns are what.
struct Roles {
    labels: Vec<usize>,
    features: Vec<usize>,
    part: Option<usize>,
}

impl Roles {
    fn new(header: &[String], label: &Columns, config: &DataConfig, file: &str) -> Result<Self, DataError> {
        let find = |key: &str, name: &str| {
            header.iter().position(|column| column == name).ok_or_else(|| {
                DataError::config(key, format!("{file} has no column `{name}`; it has {}", list(header)))
            })
        };
        let labels: Vec<usize> =
            label.names().iter().map(|name| find("label", name)).collect::<Result<_, _>>()?;
        if labels.is_empty() || labels.iter().enumerate().any(|(i, label)| labels[..i].contains(label)) {
            return Err(DataError::config("label", "name at least one column, and none twice"));
        }
        let ignored: Vec<usize> =
            config.ignore.iter().map(|name| find("ignore", name)).collect::<Result<_, _>>()?;
        for name in config.types.keys() {
            find("types", name)?;
        }
        let part = config.split.column.as_deref().map(|name| find("split.column", name)).transpose()?;
        if let Some(both) = labels.iter().find(|label| ignored.contains(label) || part == Some(**label)) {
            let problem =
                format!("the column `{}` cannot be left out or tell the split as well", header[*both]);
            return Err(DataError::config("label", problem));
        }
        let other =
            |index: &usize| !labels.contains(index) && !ignored.contains(index) && part != Some(*index);
        let features: Vec<usize> = (0..header.len()).filter(other).collect();
        if features.is_empty() {
            return Err(DataError::file(file, "no column is left to learn from"));
        }
        Ok(Self { labels, features, part })
    }
}

struct Values {
    columns: Vec<Option<Column>>,
    lines: Vec<(u64, u8)>,
    given: Vec<Option<Part>>,
}

/// Second pass: the values.
fn values(
    inputs: &[Input<'_>],
    delimiters: &[u8],
    header: &[String],
    columns: Vec<Option<Column>>,
    roles: &Roles,
) -> Result<Values, DataError> {
    let mut values = Values { columns, lines: Vec::new(), given: Vec::new() };
    for (number, (input, &delimiter)) in inputs.iter().zip(delimiters).enumerate() {
        let file = input.name();
        input.read(delimiter, |line, fields| {
            for (index, column) in values.columns.iter_mut().enumerate() {
                let Some(column) = column else { continue };
                let field = fields.get(index).copied().unwrap_or_default();
                if column.push(field).is_none() {
                    // Only possible when the file changed between the passes.
                    let problem =
                        format!("column `{}` must be a number, but is `{}`", header[index], shorten(field));
                    return Err(DataError::line(&file, line, problem));
                }
            }
            values.lines.push((line, number as u8));
            let part = match roles.part.and_then(|index| fields.get(index)) {
                Some(field) => Some(Part::parse(field).ok_or_else(|| {
                    let problem =
                        format!("`{}` is no part; expected `train`, `validation` or `test`", shorten(field));
                    DataError::line(&file, line, problem)
                })?),
                None => (number > 0).then_some(Part::Test),
            };
            values.given.push(part);
            Ok(())
        })?;
    }
    Ok(values)
}

/// The rows that cleaning leaves out. A label must be there unless such rows are dropped.
fn missing(
    features: &[Column],
    labels: &[Label<'_>],
    config: &DataConfig,
    lines: &[(u64, u8)],
    files: &[String],
) -> Result<Vec<usize>, DataError> {
    let drop = config.table.missing == MissingRule::Drop;
    let mut dropped = Vec::new();
    for (row, (line, file)) in lines.iter().enumerate() {
        let unlabelled = labels.iter().find(|label| label.column.is_missing(row));
        if let (false, Some(label)) = (drop, unlabelled) {
            let problem = format!(
                "the label `{}` is missing; fill it in, remove the row, or set data.table.missing = \"drop\"",
                label.name
            );
            return Err(DataError::line(&files[usize::from(*file)], *line, problem));
        }
        if unlabelled.is_some() || (drop && features.iter().any(|column| column.is_missing(row))) {
            dropped.push(row);
        }
    }
    Ok(dropped)
}

/// Column names for a message, not all of a long header.
fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(20).map(|name| format!("`{}`", shorten(name))).collect();
    let more = if names.len() > 20 { format!(" and {} more", names.len() - 20) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
