//! Inputs from files and the standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use cli::ErrorExt as _;
use network::{Preprocess, RawInput};
use predict::input;

/// The largest input that is read. The largest image that is decoded is smaller.
const MAX_BYTES: u64 = 256 << 20;

/// One input and what to call it.
pub(super) struct Input {
    /// The file, and the row where a file has several.
    pub(super) name: String,
    /// Its content.
    pub(super) raw: RawInput,
}

enum Form {
    Image,
    Csv,
    Json,
}

/// Reads all inputs, in order; a CSV file gives one per row.
pub(super) fn read_all(paths: &[PathBuf], preprocess: &Preprocess) -> anyhow::Result<Vec<Input>> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(anyhow!("`-` stands for the standard input and can be given once")).usage();
    }
    let mut inputs = Vec::new();
    for path in paths {
        let (name, bytes) = if is_stdin(path) {
            ("the standard input".to_owned(), limited(std::io::stdin().lock(), "the standard input")?)
        } else {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot read `{name}`")).usage()?;
            let bytes = limited(file, &name).with_context(|| format!("cannot read `{name}`"))?;
            (name, bytes)
        };
        let rows = read(path, &bytes, preprocess)
            .with_context(|| format!("cannot read {} as an input", quoted(&name)))?;
        let several = rows.len() > 1;
        let numbered = |(index, raw): (usize, RawInput)| {
            let name = if several { format!("{name}, row {}", index + 1) } else { name.clone() };
            Input { name, raw }
        };
        inputs.extend(rows.into_iter().enumerate().map(numbered));
    }
    Ok(inputs)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn quoted(name: &str) -> String {
    if name == "the standard input" { name.to_owned() } else { format!("`{name}`") }
}

fn limited(reader: impl Read, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{name} has more than {} MiB; an input has at most that", MAX_BYTES >> 20);
    }
    Ok(bytes)
}

fn read(path: &Path, bytes: &[u8], preprocess: &Preprocess) -> anyhow::Result<Vec<RawInput>> {
    match form(path, bytes)? {
        Form::Image => Ok(vec![input::from_image(bytes)]),
        Form::Csv => Ok(input::from_csv(bytes, preprocess)?),
        Form::Json => {
            let value: serde_json::Value = serde_json::from_slice(bytes).context("it is not valid JSON")?;
            match (preprocess, unwrapped(value, preprocess)) {
                // Several rows of a table; one row may be an array too, but never of objects.
                (Preprocess::Table(_), serde_json::Value::Array(rows))
                    if rows.first().is_some_and(serde_json::Value::is_object) =>
                {
                    let row = |(index, row)| {
                        input::from_json(row, preprocess).with_context(|| format!("row {}", index + 1))
                    };
                    rows.iter().enumerate().map(row).collect()
                }
                (_, value) => Ok(vec![input::from_json(&value, preprocess)?]),
            }
        }
    }
}

/// `{"input": X}`, as the server takes it, is X; unless `input` is a column of the model.
fn unwrapped(value: serde_json::Value, preprocess: &Preprocess) -> serde_json::Value {
    let column = matches!(preprocess, Preprocess::Table(table) if table.columns.iter().any(|column| column.name == "input"));
    match value {
        serde_json::Value::Object(mut fields) if !column && fields.len() == 1 => match fields.remove("input")
        {
            Some(input) => input,
            None => serde_json::Value::Object(fields),
        },
        other => other,
    }
}

/// The form by the file's extension, else by how its content begins.
fn form(path: &Path, bytes: &[u8]) -> anyhow::Result<Form> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("png" | "jpg" | "jpeg") => return Ok(Form::Image),
        Some("csv" | "tsv") => return Ok(Form::Csv),
        Some("json") => return Ok(Form::Json),
        _ => {}
    }
    if input::is_image(bytes) {
        return Ok(Form::Image);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        bail!("it is neither a PNG or JPEG image nor text; expected an image, CSV or JSON");
    };
    match text.trim_start_matches('\u{feff}').trim_start().chars().next() {
        None => bail!("it is empty; expected an image, CSV or JSON"),
        // A quoted text is JSON unless something follows it, as in a quoted CSV header.
        Some('"') if !text.trim().contains([',', '\n', ';', '\t']) => Ok(Form::Json),
        Some('[' | '{') => Ok(Form::Json),
        Some(_) => Ok(Form::Csv),
    }
}
