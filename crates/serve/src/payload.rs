//! The forms in which `/predict` takes inputs, and how each becomes [`RawInput`]s.
//!
//! What a number, an image or a row means to a model is decided by [`predict::input`], which the command
//! line uses too; this module only opens the envelope. It knows content types, but not HTTP.

use actix_web::web::Bytes;
use futures_util::{FutureExt as _, stream};
use network::{Preprocess, RawInput};
use predict::input::{self, is_image};
use serde_json::Value;

use crate::error::{Kind, Result, ServeError, shown};
use crate::json;

/// A body whose form is known and whose content is not yet looked at.
#[derive(Debug)]
pub enum Payload {
    /// `{"input": X}` or `{"inputs": [X, …]}`; Vertex AI's `{"instances": [X, …], "parameters": {"top": K}}` too.
    Json(Bytes),
    /// A header and rows.
    Csv(Bytes),
    /// The bytes of a PNG or JPEG file.
    Image(Bytes),
    /// The file parts of a form.
    Files(Vec<File>),
}

/// One part of a multipart form.
#[derive(Debug)]
pub struct File {
    /// The form field.
    pub field: String,
    /// Its content type, when the part has one.
    pub content_type: Option<String>,
    /// Its content.
    pub bytes: Bytes,
}

/// Inputs, and whether the client gave one or a list; the answer has the same form.
#[derive(Debug)]
pub struct Inputs {
    /// At least one.
    pub rows: Vec<RawInput>,
    /// A list is answered with a list, even of one.
    pub list: bool,
    /// How many of the most probable classes to list, where the body says it.
    pub top: Option<usize>,
}

/// What a body may be, for messages.
pub const FORMS: &str = "application/json ({\"input\": X} or {\"inputs\": [X, …]}), image/png, image/jpeg, \
                         text/csv, or multipart/form-data with such files";

/// Chooses the form by content type (lower case, without parameters).
///
/// # Errors
/// 415 with the list of what is read.
pub fn classify(content_type: &str, body: Bytes) -> Result<Payload> {
    match content_type {
        "application/json" => Ok(Payload::Json(body)),
        "text/csv" | "text/tab-separated-values" => Ok(Payload::Csv(body)),
        "image/png" | "image/jpeg" | "image/jpg" => Ok(Payload::Image(body)),
        "application/octet-stream" if is_image(&body) => Ok(Payload::Image(body)),
        "" => Err(ServeError::new(
            Kind::MediaType,
            format!("the request has no content type; expected {FORMS}"),
        )),
        other => Err(ServeError::new(
            Kind::MediaType,
            format!("content type {} is not read here; expected {FORMS}", shown(other)),
        )),
    }
}

impl Payload {
    /// Reads the inputs for a model with this preprocessing; at most `max_rows`.
    ///
    /// # Errors
    /// 400 for what cannot be read, 413 for more rows than allowed.
    pub fn inputs(self, preprocess: &Preprocess, max_rows: usize) -> Result<Inputs> {
        let inputs = match self {
            Self::Json(body) => from_json(&body, preprocess, max_rows)?,
            Self::Csv(body) => Inputs { rows: from_csv(&body, preprocess, max_rows)?, list: true, top: None },
            Self::Image(body) => {
                Inputs { rows: vec![from_image(&body, preprocess)?], list: false, top: None }
            }
            Self::Files(files) => from_files(files, preprocess, max_rows)?,
        };
        match inputs.rows.len() {
            0 => Err(ServeError::invalid("there are no inputs; expected at least one")),
            rows if rows > max_rows => Err(too_many(rows, max_rows)),
            _ => Ok(inputs),
        }
    }
}

/// Refuses pictures that together have more pixels than allowed, before any of them is unpacked.
///
/// # Errors
/// 413 for too many. What is no picture counts for none.
pub fn check_pixels(rows: &[RawInput], most: u64) -> Result<()> {
    let mut pixels = 0u64;
    for row in rows {
        if let RawInput::EncodedImage(bytes) = row {
            // What cannot be read is refused by whoever prepares it, with its place among the inputs.
            pixels = pixels.saturating_add(network::preprocess::image_pixels(bytes).unwrap_or(0));
        }
    }
    if pixels > most {
        let message = format!("the pictures have {pixels} pixels; those of one request may have {most}");
        return Err(ServeError::new(Kind::TooLarge, message));
    }
    Ok(())
}

/// 413 for a batch that is too long.
pub(crate) fn too_many(rows: usize, max_rows: usize) -> ServeError {
    let message = format!("{rows} inputs were given; one request may hold {max_rows}");
    ServeError::new(Kind::TooLarge, message)
}

fn from_json(body: &[u8], preprocess: &Preprocess, max_rows: usize) -> Result<Inputs> {
    let expected = "{\"input\": X} or {\"inputs\": [X, …]}";
    let mut fields = json::object(body, expected, max_rows.saturating_add(2))?;
    let known = ["input", "inputs", "instances", "parameters"];
    json::known_fields(fields.keys().map(String::as_str), &known, "the request")?;
    let top = fields.remove("parameters").map_or(Ok(None), |parameters| top(&parameters))?;
    let mut given = ["input", "inputs", "instances"]
        .into_iter()
        .filter_map(|field| fields.remove(field).map(|value| (field, value)));
    match (given.next(), given.next()) {
        (Some(("input", input)), None) => {
            let row = input::from_json(&input, preprocess)
                .map_err(|error| ServeError::invalid(format_args!("`input`: {error}")))?;
            Ok(Inputs { rows: vec![row], list: false, top })
        }
        (Some((_, Value::Array(inputs))), None) => {
            if inputs.len() > max_rows {
                return Err(too_many(inputs.len(), max_rows));
            }
            let read =
                |(index, input)| input::from_json(input, preprocess).map_err(|error| at(index, &error));
            let rows = inputs.iter().enumerate().map(read).collect::<Result<_>>()?;
            Ok(Inputs { rows, list: true, top })
        }
        (Some((field, other)), None) => Err(ServeError::invalid(format_args!(
            "`{field}` must be an array of inputs, but is {}; for one input use `input`",
            json::kind_of(&other)
        ))),
        (Some((one, _)), Some((other, _))) => Err(ServeError::invalid(format_args!(
            "the request has both `{one}` and `{other}`; give one of them"
        ))),
        (None, _) => Err(ServeError::invalid(format_args!("the request is empty; expected {expected}"))),
    }
}

/// Reads `{"top": K}`.
fn top(parameters: &Value) -> Result<Option<usize>> {
    let Value::Object(fields) = parameters else {
        let found = json::kind_of(parameters);
        return Err(ServeError::invalid(format_args!("`parameters` must be an object, but is {found}")));
    };
    json::known_fields(fields.keys().map(String::as_str), &["top"], "`parameters`")?;
    let Some(value) = fields.get("top") else { return Ok(None) };
    let top = value.as_u64().and_then(|top| usize::try_from(top).ok()).filter(|top| *top > 0);
    top.map(Some).ok_or_else(|| {
        ServeError::invalid(format_args!(
            "`top` must be a whole number from 1 on, but is {}",
            shown(&value.to_string())
        ))
    })
}

/// A 400 that says which of several inputs is wrong.
pub(crate) fn at(index: usize, error: &dyn std::fmt::Display) -> ServeError {
    ServeError::invalid(format_args!("`inputs[{index}]`: {error}"))
}

fn from_csv(body: &[u8], preprocess: &Preprocess, max_rows: usize) -> Result<Vec<RawInput>> {
    // There are no more rows than lines, and counting lines takes no memory. One line is the header. The parser takes a
    // carriage return for the end of a line, too.
    let end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let lines = body.split(end).filter(|line| !line.trim_ascii().is_empty()).count();
    if lines > max_rows.saturating_add(1) {
        return Err(too_many(lines - 1, max_rows));
    }
    input::from_csv(body, preprocess).map_err(ServeError::invalid)
}

/// Splits a form into its parts, of which there may be `most`; its content type tells what is between them. The body is in
/// memory already, so nothing is waited for.
///
/// # Errors
/// 400 for what is no form, or one without a part; 413 for too many parts.
pub fn files(content_type: &str, body: Bytes, most: usize) -> Result<Vec<File>> {
    let malformed =
        |error: multer::Error| ServeError::invalid(format_args!("the form cannot be read: {error}"));
    let boundary = multer::parse_boundary(content_type).map_err(malformed)?;
    let parts = async {
        let mut form = multer::Multipart::new(stream::iter([Ok::<_, std::io::Error>(body)]), boundary);
        let mut files = Vec::new();
        while let Some(part) = form.next_field().await.map_err(malformed)? {
            if files.len() == most {
                return Err(too_many(files.len() + 1, most));
            }
            let field = part.name().unwrap_or("").to_owned();
            let content_type = part.content_type().map(|mime| mime.essence_str().to_ascii_lowercase());
            files.push(File { field, content_type, bytes: part.bytes().await.map_err(malformed)? });
        }
        Ok(files)
    };
    let files = parts.now_or_never().ok_or_else(|| ServeError::internal("a form was waited for"))??;
    if files.is_empty() {
        return Err(ServeError::invalid("the form has no file; expected at least one PNG, JPEG or CSV file"));
    }
    Ok(files)
}

fn from_image(body: &Bytes, preprocess: &Preprocess) -> Result<RawInput> {
    if !matches!(preprocess, Preprocess::Image(_)) {
        return Err(ServeError::invalid(format_args!(
            "the model takes {}, not an image",
            preprocess.expects()
        )));
    }
    Ok(input::from_image(body))
}

fn from_files(files: Vec<File>, preprocess: &Preprocess, max_rows: usize) -> Result<Inputs> {
    let several = files.len() > 1;
    let (mut rows, mut list) = (Vec::with_capacity(files.len()), several);
    for file in files {
        let File { field, content_type, bytes } = file;
        let named =
            |error: ServeError| ServeError::new(error.kind(), format!("part {}: {error}", shown(&field)));
        // Clients that do not know a file's type call it a stream of bytes, or nothing.
        let stated = content_type.as_deref().unwrap_or("application/octet-stream");
        let guessed =
            if stated == "application/octet-stream" && !is_image(&bytes) { "text/csv" } else { stated };
        match classify(guessed, bytes).map_err(named)? {
            Payload::Image(bytes) => rows.push(from_image(&bytes, preprocess).map_err(named)?),
            Payload::Csv(bytes) => {
                rows.extend(from_csv(&bytes, preprocess, max_rows).map_err(named)?);
                list = true;
            }
            Payload::Json(_) | Payload::Files(_) => {
                let message = format!("part {} must be a PNG, JPEG or CSV file", shown(&field));
                return Err(ServeError::new(Kind::MediaType, message));
            }
        }
    }
    Ok(Inputs { rows, list, top: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever ends a line, rows are counted before any of them is made.
    #[test]
    fn rows_of_csv_are_bounded_before_they_are_read() {
        let preprocess = Preprocess::Numbers { shape: vec![1] };
        for end in ["\n", "\r\n", "\r", "\n\r\n"] {
            let rows = |count: usize| format!("1{end}").repeat(count);
            assert_eq!(from_csv(rows(4).as_bytes(), &preprocess, 4).unwrap().len(), 4, "{end:?}");
            // Not even a row that could not be read is looked at.
            let error = from_csv(format!("x{end}{}", rows(5)).as_bytes(), &preprocess, 4).unwrap_err();
            assert_eq!(error.kind(), Kind::TooLarge, "{end:?}: {error}");
        }
    }
}
