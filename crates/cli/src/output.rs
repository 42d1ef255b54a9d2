//! Where a command's words go: results to stdout, everything else to stderr.
//!
//! A result is what was asked for: a table, a prediction, a path. With `--json` it is one line of JSON
//! instead. Status lines, warnings and progress go to stderr, so that a result can be piped on; `--quiet`
//! leaves out status and progress, never the result.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

use crate::style::{self, Paint};

/// The version of the shape of `--json` output, its first field.
pub const JSON_VERSION: u32 = 1;

/// What a command prints for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// People.
    Human,
    /// Programs: one JSON object a line.
    Json,
}

/// A result could not be printed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The reader went away, as `head` does; [`crate::run`] ends quietly.
    #[error("the output was closed by its reader")]
    Closed,
    /// Any other failure.
    #[error("cannot write to the standard output")]
    Write(#[source] std::io::Error),
    /// The result has no JSON form.
    #[error("the result cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

/// Prints. Cheap to clone; clones share the terminal.
#[derive(Clone, Debug)]
pub struct Printer {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) bars: Arc<MultiProgress>,
}

impl Printer {
    /// A printer that prints in `format` and, if `quiet`, prints results and errors only.
    pub fn new(format: Format, quiet: bool) -> Self {
        let bars = Arc::new(MultiProgress::new());
        if quiet || format == Format::Json || !std::io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        Printer { format, quiet, bars }
    }

    /// The format that was asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// True with `--quiet`.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// True when a person watches stderr, so that a live display makes sense.
    pub fn is_live(&self) -> bool {
        !self.quiet && self.format == Format::Human && std::io::stderr().is_terminal()
    }

    /// The colours of stdout.
    pub fn paint(&self) -> Paint {
        Paint::new(self.format == Format::Human && style::stdout_has_color())
    }

    /// The colours of stderr.
    pub fn paint_status(&self) -> Paint {
        Paint::new(self.format == Format::Human && style::stderr_has_color())
    }

    /// Prints a result: `human` for people, one line of JSON for programs.
    ///
    /// # Errors
    /// The output is closed or full.
    pub fn result<T: Serialize, D: Display>(
        &self,
        value: &T,
        human: impl FnOnce() -> D,
    ) -> Result<(), OutputError> {
        let text = match self.format {
            Format::Human => human().to_string(),
            Format::Json => json_line(value).map_err(OutputError::Json)?,
        };
        self.stdout(&text)
    }

    /// Prints text that is the result whatever the format: a generated file, a copied log.
    ///
    /// # Errors
    /// The output is closed or full.
    pub fn stdout(&self, text: &str) -> Result<(), OutputError> {
        let written = self.bars.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            if !text.ends_with('\n') && !text.is_empty() {
                stdout.write_all(b"\n")?;
            }
            stdout.flush()
        });
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => OutputError::Closed,
            _ => OutputError::Write(error),
        })
    }

    /// Says what goes on, on stderr. Silent with `--quiet`, and with `--json`, where progress is events.
    pub fn status(&self, text: impl Display) {
        if !self.quiet && self.format == Format::Human {
            self.stderr(&text.to_string());
        }
    }

    /// Something worth a line of its own on stderr: an epoch has ended. `human` is for people, `event` with
    /// `--json`; nothing with `--quiet`.
    pub fn milestone<T: Serialize, D: Display>(&self, event: &T, human: impl FnOnce() -> D) {
        match self.format {
            _ if self.quiet => {}
            Format::Human => self.stderr(&human().to_string()),
            Format::Json => self.event(event),
        }
    }

    pub(crate) fn event<T: Serialize>(&self, event: &T) {
        // An event that has no JSON form must not stop the work that it tells of.
        match json_line(event) {
            Ok(line) => self.stderr(&line),
            Err(error) => tracing::warn!(%error, "a progress event was not printed"),
        }
    }

    /// Warns on stderr, in every format; silent with `--quiet`.
    pub fn warn(&self, text: impl Display) {
        if !self.quiet {
            self.stderr(&format!("{} {text}", self.paint_status().yellow("warning:")));
        }
    }

    /// Prints lines on stderr without tearing a progress bar. stderr is for people; when it is gone there
    /// is nobody to tell.
    pub(crate) fn stderr(&self, text: &str) {
        self.bars.suspend(|| {
            let mut stderr = std::io::stderr().lock();
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
        });
    }
}

/// `value` as one line that begins with the version of its shape. What is no object is put into one.
pub fn json_line<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    // The fields keep the order of the struct, which a detour over `serde_json::Value` would sort.
    Ok(match text.strip_prefix('{') {
        Some("}") => format!("{{\"json_version\":{JSON_VERSION}}}"),
        Some(fields) => format!("{{\"json_version\":{JSON_VERSION},{fields}"),
        None if text.starts_with('[') => format!("{{\"json_version\":{JSON_VERSION},\"items\":{text}}}"),
        None => format!("{{\"json_version\":{JSON_VERSION},\"value\":{text}}}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_an_object_that_begins_with_its_version() {
        #[derive(Serialize)]
        struct Row {
            name: &'static str,
            accuracy: f64,
        }
        let row = Row { name: "digits", accuracy: 0.99 };
        assert_eq!(json_line(&row).unwrap(), r#"{"json_version":1,"name":"digits","accuracy":0.99}"#);
        assert_eq!(json_line(&[1, 2]).unwrap(), r#"{"json_version":1,"items":[1,2]}"#);
        assert_eq!(json_line(&"x").unwrap(), r#"{"json_version":1,"value":"x"}"#);
        assert_eq!(json_line(&serde_json::json!({})).unwrap(), r#"{"json_version":1}"#);
    }
}
