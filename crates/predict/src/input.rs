//! Inputs as people and programs write them: JSON, CSV and image files. The command line and the server both
//! read them here, so the same text means the same input.
//!
//! What a value means follows from the model's [`Preprocess`]; whether it fits (the number of columns, the
//! categories, the size of an image) is checked where it is prepared. Errors say what was expected.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use network::preprocess::TablePreprocess;
use network::{Cell, Preprocess, RawInput, Row};
use serde_json::Value;

/// An input that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum InputError {
    #[error("the model takes {expected}, not {found}")]
    Kind { expected: String, found: String },
    #[error("{at} is {found}; expected {expected}")]
    Element { at: String, found: String, expected: String },
    #[error("{at} has {found} elements; expected {expected}")]
    Length { at: String, found: usize, expected: String },
    #[error("the text is not base64 of an image file: {reason}")]
    Base64 { reason: String },
    #[error("the CSV text cannot be read: {reason}")]
    Csv { reason: String },
    #[error("line {line} of the CSV text, column {column}: `{found}` is not a finite number")]
    CsvNumber { line: u64, column: usize, found: String },
    #[error("the column `{column}` occurs twice in the header of the CSV text")]
    CsvDoubled { column: String },
    #[error("there is no column `{column}`{hint}; the model takes the columns {expected}")]
    UnknownColumn { column: String, hint: String, expected: String },
    #[error("the CSV text has no rows; expected {expected}")]
    CsvEmpty { expected: &'static str },
}

/// Reads one input from JSON.
///
/// - For images: an array of numbers, flat or as rows (of pixels) as the data set has them, or a text with the
///   base64 of a PNG or JPEG file.
/// - For tables: an object `{"column": value}`, or an array with one value per column in their order; a value
///   is a number, a text, a truth value or null for a missing one. A name that is no column is refused.
/// - For plain numbers: an array, flat or nested as the model's input.
///
/// # Errors
/// When the value is of another form; the message says which was expected.
pub fn from_json(value: &Value, preprocess: &Preprocess) -> Result<RawInput, InputError> {
    match (preprocess, value) {
        (Preprocess::Table(table), Value::Object(fields)) => {
            let known: HashSet<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            if let Some(stray) = fields.keys().find(|name| !known.contains(name.as_str())) {
                return Err(unknown_column(stray, table, |name| fields.contains_key(name)));
            }
            let columns: Arc<[String]> = fields.keys().cloned().collect();
            let cells = fields.iter().map(|(name, value)| cell(value, || format!("column `{name}`")));
            row(columns, cells.collect::<Result<_, _>>()?)
        }
        (Preprocess::Table(table), Value::Array(values)) => {
            let columns: Arc<[String]> = table.columns.iter().map(|column| column.name.clone()).collect();
            if values.len() != columns.len() {
                return Err(InputError::Length {
                    at: "the array".to_owned(),
                    found: values.len(),
                    expected: format!("one value per column: {}", columns.join(", ")),
                });
            }
            let cells = values.iter().zip(columns.iter());
            let cells = cells.map(|(value, name)| cell(value, || format!("column `{name}`")));
            let cells = cells.collect::<Result<_, _>>()?;
            row(columns, cells)
        }
        (Preprocess::Image(_), Value::String(text)) => encoded_image(text),
        (Preprocess::Image(image), Value::Array(values)) => {
            // One channel may be written with or without a third level.
            let mut shape = vec![image.height, image.width];
            let deep = depth(value) > 2;
            if image.channels > 1 || deep {
                shape.push(image.channels);
            }
            numbers(values, &shape, "pixels from top left, row by row").map(RawInput::Numbers)
        }
        (Preprocess::Numbers { shape }, Value::Array(values)) => {
            numbers(values, shape, "numbers").map(RawInput::Numbers)
        }
        _ => Err(InputError::Kind { expected: takes(preprocess), found: kind(value).to_owned() }),
    }
}

/// Reads inputs from CSV text, one a row. For tables the first line is the header; for the other models each
/// row holds one sample's numbers, and a first line that holds no numbers is taken for a header. Tabs or
/// semicolons may stand for the commas. Columns of a table that the model does not read, such as the label, are
/// passed over.
///
/// # Errors
/// When the text is no CSV, has no rows, or a number is needed and something else stands there.
pub fn from_csv(bytes: &[u8], preprocess: &Preprocess) -> Result<Vec<RawInput>, InputError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_table = matches!(preprocess, Preprocess::Table(_));
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(is_table)
        .delimiter(delimiter(bytes))
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let unreadable = |error: csv::Error| InputError::Csv { reason: error.to_string() };
    let mut inputs = Vec::new();
    if is_table {
        let columns: Arc<[String]> =
            reader.headers().map_err(unreadable)?.iter().map(str::to_owned).collect();
        let mut seen = HashSet::new();
        if let Some(column) = columns.iter().find(|column| !seen.insert(column.as_str())) {
            return Err(InputError::CsvDoubled { column: shorten(column) });
        }
        for record in reader.records() {
            let cells = record.map_err(unreadable)?.iter().map(Cell::parse).collect();
            inputs.push(row(columns.clone(), cells)?);
        }
    } else {
        for (index, record) in reader.records().enumerate() {
            let record = record.map_err(unreadable)?;
            if index == 0 && record.iter().all(|field| field.parse::<f32>().is_err()) {
                continue;
            }
            let line = record.position().map_or(0, csv::Position::line);
            let number = |(column, field): (usize, &str)| {
                let parsed = field.parse::<f32>().ok().filter(|number| number.is_finite());
                parsed.ok_or_else(|| InputError::CsvNumber {
                    line,
                    column: column + 1,
                    found: shorten(field),
                })
            };
            inputs.push(RawInput::Numbers(record.iter().enumerate().map(number).collect::<Result<_, _>>()?));
        }
    }
    if inputs.is_empty() {
        let expected = if is_table { "a header and at least one row" } else { "at least one row of numbers" };
        return Err(InputError::CsvEmpty { expected });
    }
    Ok(inputs)
}

/// Takes the bytes of a PNG or JPEG file; they are decoded when the input is prepared.
#[must_use]
pub fn from_image(bytes: &[u8]) -> RawInput {
    RawInput::EncodedImage(bytes.into())
}

/// Whether bytes begin as a PNG or JPEG file does.
#[must_use]
pub fn is_image(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n") || bytes.starts_with(b"\xff\xd8\xff")
}

fn row(columns: Arc<[String]>, cells: Vec<Cell>) -> Result<RawInput, InputError> {
    let (found, expected) = (cells.len(), format!("{}, one per column", columns.len()));
    let row = Row::new(columns, cells);
    row.map(RawInput::Row).ok_or(InputError::Length { at: "the row".to_owned(), found, expected })
}

/// A column that the model does not have would be passed over, and a misspelt name never noticed. The name that
/// was meant is looked for among those that are not `given`.
fn unknown_column(column: &str, table: &TablePreprocess, given: impl Fn(&str) -> bool) -> InputError {
    let known: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let open = known.iter().copied().filter(|name| !given(name));
    // Comparing takes time that grows with the length.
    let nearest = if column.len() > 128 { None } else { cli::nearest(column, open) };
    let hint = nearest.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
    InputError::UnknownColumn { column: shorten(column), hint, expected: known.join(", ") }
}

fn cell(value: &Value, at: impl Fn() -> String) -> Result<Cell, InputError> {
    match value {
        Value::Null => Ok(Cell::Missing),
        Value::Bool(truth) => Ok(Cell::Text(truth.to_string())),
        Value::String(text) => Ok(Cell::parse(text)),
        Value::Number(number) => match number.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Cell::Number(number)),
            None => Err(InputError::Element {
                at: at(),
                found: format!("{number}, which is too large"),
                expected: "a finite number".to_owned(),
            }),
        },
        Value::Array(_) | Value::Object(_) => Err(InputError::Element {
            at: at(),
            found: kind(value).to_owned(),
            expected: "a number, a text or null".to_owned(),
        }),
    }
}

fn encoded_image(text: &str) -> Result<RawInput, InputError> {
    // Browsers give images as `data:image/png;base64,…`.
    let payload = match text.strip_prefix("data:") {
        Some(url) => url.split_once("base64,").map_or("", |(_, payload)| payload),
        None => text,
    };
    let bytes =
        STANDARD.decode(payload.trim()).map_err(|error| InputError::Base64 { reason: error.to_string() })?;
    if !is_image(&bytes) {
        let reason = format!("its {} bytes begin as neither PNG nor JPEG does", bytes.len());
        return Err(InputError::Base64 { reason });
    }
    Ok(RawInput::EncodedImage(bytes.into()))
}

/// Reads an array of numbers, flat or nested exactly as `shape`.
fn numbers(values: &[Value], shape: &[usize], what: &str) -> Result<Vec<f32>, InputError> {
    let count: usize = shape.iter().product();
    let nested = values.first().is_some_and(Value::is_array);
    let mut out = Vec::with_capacity(count.min(values.len().saturating_mul(count)));
    let (flat, described) = ([count], describe(shape, what));
    let shape = if nested { shape } else { &flat };
    read_level(values, shape, &mut Vec::new(), &described, &mut out)?;
    Ok(out)
}

/// Depth is bounded by `shape`, so nesting cannot run the stack out.
fn read_level(
    values: &[Value],
    shape: &[usize],
    path: &mut Vec<usize>,
    described: &str,
    out: &mut Vec<f32>,
) -> Result<(), InputError> {
    let (&expected, inner) = shape.split_first().unwrap_or((&0, &[]));
    if values.len() != expected {
        return Err(InputError::Length {
            at: place(path),
            found: values.len(),
            expected: format!("{expected}: {described}"),
        });
    }
    for (index, value) in values.iter().enumerate() {
        path.push(index);
        match value {
            Value::Array(values) if !inner.is_empty() => read_level(values, inner, path, described, out)?,
            Value::Number(number) if inner.is_empty() => {
                let number = number.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
                out.push(number.ok_or_else(|| InputError::Element {
                    at: place(path),
                    found: format!("{}, which is too large", shorten(&value.to_string())),
                    expected: "a finite 32-bit number".to_owned(),
                })?);
            }
            _ => {
                let level = if inner.is_empty() { "a number" } else { "an array" };
                return Err(InputError::Element {
                    at: place(path),
                    found: kind(value).to_owned(),
                    expected: format!("{level}: {described}"),
                });
            }
        }
        path.pop();
    }
    Ok(())
}

/// How deep arrays are nested along their first elements, as far as it matters.
fn depth(value: &Value) -> usize {
    let mut depth = 0;
    let mut value = Some(value);
    while let Some(Value::Array(values)) = value.filter(|_| depth < 4) {
        depth += 1;
        value = values.first();
    }
    depth
}

fn place(path: &[usize]) -> String {
    if path.is_empty() {
        return "the array".to_owned();
    }
    let indices: String = path.iter().map(|index| format!("[{index}]")).collect();
    format!("element {indices}")
}

fn describe(shape: &[usize], what: &str) -> String {
    let count: usize = shape.iter().product();
    let sizes = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
    match shape.len() {
        0 | 1 => format!("an array of {count} {what}"),
        _ => format!("{sizes} nested arrays, or one array, of {count} {what}"),
    }
}

fn takes(preprocess: &Preprocess) -> String {
    match preprocess {
        Preprocess::Image(_) => format!("{}, or a text with the base64 of such a file", preprocess.expects()),
        Preprocess::Table(table) => {
            let names: Vec<String> =
                table.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
            format!("an object {{\"column\": value}} with the columns {}", names.join(", "))
        }
        _ => preprocess.expects(),
    }
}

/// What a JSON value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a single number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// What separates the fields: the first of comma, tab and semicolon that the first line has.
fn delimiter(bytes: &[u8]) -> u8 {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    [b',', b'\t', b';'].into_iter().find(|separator| line.contains(separator)).unwrap_or(b',')
}

/// At most 40 characters of what somebody wrote, for messages.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
