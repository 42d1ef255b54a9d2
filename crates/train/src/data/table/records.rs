//! Reads the records of a CSV or TSV file and refuses what is no table, naming file and line.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder, Terminator};
use sha2::{Digest, Sha256};

use super::super::{DataError, hex};

/// A header with more columns than this is no header.
const MAX_COLUMNS: usize = 65_536;

/// A record that is longer than this is none: the file is no table, or a quote is open.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// Why reading stopped: a record is longer than [`MAX_RECORD_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("a record is too long")]
struct RecordTooLong;

/// Appended to every file as a record of its own. A quote that was never closed swallows it, and that is
/// how the mistake is noticed: to the CSV format itself the rest of the file is one long field.
const SENTINEL: &str = "\u{1}end of file\u{1}";

/// A table to read, possibly several times.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    File(&'a Path),
    Bytes(&'static str, &'static [u8]),
}

impl Input<'_> {
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Bytes(name, _) => (*name).to_owned(),
        }
    }

    fn open(&self) -> Result<Box<dyn BufRead>, DataError> {
        Ok(match *self {
            Self::File(path) => {
                // Asked before it is opened: opening a pipe waits for its other end, and a device has no end.
                let metadata = std::fs::metadata(path).map_err(DataError::io(path, "open it"))?;
                if !metadata.is_file() {
                    let what = if metadata.is_dir() { "a folder" } else { "no regular file" };
                    let problem = format!("this is {what}; expected a CSV or TSV file");
                    return Err(DataError::file(&self.name(), problem));
                }
                let file = File::open(path).map_err(DataError::io(path, "open it"))?;
                Box::new(BufReader::with_capacity(1 << 16, file))
            }
            Self::Bytes(_, bytes) => Box::new(bytes),
        })
    }

    /// SHA-256 of the file.
    pub(super) fn sha256(&self) -> Result<String, DataError> {
        let mut reader = self.open()?;
        let mut digest = Sha256::new();
        loop {
            let piece = reader.fill_buf().map_err(self.reading())?;
            if piece.is_empty() {
                return Ok(hex(&digest.finalize()));
            }
            digest.update(piece);
            let len = piece.len();
            reader.consume(len);
        }
    }

    fn reading(&self) -> impl FnOnce(std::io::Error) -> DataError + use<> {
        let name = self.name();
        move |source| DataError::Io { path: name.into(), action: "read it", source }
    }

    /// What separates the fields: tab for `.tsv`, otherwise the most frequent of comma, semicolon and tab in
    /// the first line, outside quotes.
    pub(super) fn delimiter(&self) -> Result<u8, DataError> {
        if let Self::File(path) = self
            && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"))
        {
            return Ok(b'\t');
        }
        let mut line = Vec::new();
        self.open()?.take(1 << 20).read_until(b'\n', &mut line).map_err(self.reading())?;
        let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
        let mut quoted = false;
        for byte in line {
            quoted ^= byte == b'"';
            if let Some((_, count)) = counts.iter_mut().find(|(delimiter, _)| !quoted && *delimiter == byte) {
                *count += 1;
            }
        }
        // `max_by_key` takes the last of equals; reversed, a comma wins.
        Ok(counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| *delimiter))
    }

    /// Reads the header, then gives every record to `visit` with the line on which it starts.
    pub(super) fn read(
        &self,
        delimiter: u8,
        mut visit: impl FnMut(u64, &[&str]) -> Result<(), DataError>,
    ) -> Result<Vec<String>, DataError> {
        let file = self.name();
        let end = format!("\n{SENTINEL}\n");
        let seen = Rc::new(RefCell::new(VecDeque::new()));
        let start = Rc::new(Cell::new(0));
        let mut ended = 0;
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .terminator(Terminator::CRLF)
            .from_reader(Newlines {
                inner: self.open()?.chain(end.as_bytes()),
                offset: 0,
                seen: seen.clone(),
                start: start.clone(),
            });
        let mut record = ByteRecord::new();
        let mut header: Vec<String> = Vec::new();
        loop {
            let more = reader.read_byte_record(&mut record).map_err(|error| match error.into_kind() {
                csv::ErrorKind::Io(source)
                    if source.get_ref().is_some_and(|error| error.is::<RecordTooLong>()) =>
                {
                    // The newline that ends the record before, and blank lines after it.
                    let line = 1 + ended + passed(&seen, start.get() + 1);
                    let problem = format!(
                        "this record is longer than {} MiB; the file is no table, or a quote is opened here and \
                         never closed",
                        MAX_RECORD_BYTES >> 20
                    );
                    DataError::line(&file, line, problem)
                }
                csv::ErrorKind::Io(source) => self.reading()(source),
                other => DataError::file(&file, format!("{other:?}")),
            })?;
            start.set(reader.position().byte());
            ended += passed(&seen, start.get().saturating_sub(1));
            let inside = record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
            let line = (1 + ended).saturating_sub(inside);
            let last = record.iter().next_back().unwrap_or_default();
            if !more || (record.len() == 1 && last == SENTINEL.as_bytes()) {
                break;
            }
            if last.strip_suffix(b"\n").unwrap_or(last).ends_with(SENTINEL.as_bytes()) {
                // The newline after the sentinel lies inside this record instead of ending it.
                return Err(DataError::line(
                    &file,
                    line + 1,
                    "a quote is opened in this record and never closed",
                ));
            }
            let fields = fields(&file, line, &record, &header)?;
            if header.is_empty() {
                header = check_header(&file, line, &fields)?;
            } else if fields.len() != header.len() {
                let problem = format!("{} fields, but the header has {} columns", fields.len(), header.len());
                return Err(DataError::line(&file, line, problem));
            } else {
                visit(line, &fields)?;
            }
        }
        if header.is_empty() {
            return Err(DataError::file(
                &file,
                "the file is empty; expected a header with the names of the columns",
            ));
        }
        Ok(header)
    }
}

/// Notes where the newlines are. The csv crate counts lines too, but it is off by the blank lines before a
/// record, and by one where lines end in CR LF. Stops where a record is too long to be held.
struct Newlines<R> {
    inner: R,
    offset: u64,
    /// Where the record begins that is being read.
    start: Rc<Cell<u64>>,
    seen: Rc<RefCell<VecDeque<u64>>>,
}

impl<R: Read> Read for Newlines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.offset.saturating_sub(self.start.get()) > MAX_RECORD_BYTES {
            return Err(std::io::Error::other(RecordTooLong));
        }
        let len = self.inner.read(buffer)?;
        let newlines = buffer[..len].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.seen.borrow_mut().extend(newlines.map(|(index, _)| self.offset + index as u64));
        self.offset += len as u64;
        Ok(len)
    }
}

/// Takes the newlines before `offset` out and counts them.
fn passed(seen: &RefCell<VecDeque<u64>>, offset: u64) -> u64 {
    let mut seen = seen.borrow_mut();
    let count = seen.partition_point(|newline| *newline < offset);
    seen.drain(..count);
    count as u64
}

fn fields<'a>(
    file: &str,
    line: u64,
    record: &'a ByteRecord,
    header: &[String],
) -> Result<Vec<&'a str>, DataError> {
    let text = |(index, field): (usize, &'a [u8])| {
        std::str::from_utf8(field).map_err(|error| {
            let column = header
                .get(index)
                .map_or_else(|| format!("field {}", index + 1), |name| format!("column `{name}`"));
            let problem = format!(
                "{column} is not UTF-8 (from its byte {} on); save the file as UTF-8",
                error.valid_up_to()
            );
            DataError::line(file, line, problem)
        })
    };
    record.iter().enumerate().map(text).collect()
}

fn check_header(file: &str, line: u64, fields: &[&str]) -> Result<Vec<String>, DataError> {
    if fields.len() > MAX_COLUMNS {
        let problem = format!("{} columns; the limit is {MAX_COLUMNS}", fields.len());
        return Err(DataError::line(file, line, problem));
    }
    let mut seen = std::collections::HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let name = field.trim();
        if name.is_empty() {
            let problem = format!("column {} has no name; the first line must name every column", index + 1);
            return Err(DataError::line(file, line, problem));
        }
        if name.parse::<f64>().is_ok_and(|number| number.is_finite() && number.fract() != 0.0) {
            let problem = format!(
                "`{name}` looks like a value; the first line must be a header with the names of the columns"
            );
            return Err(DataError::line(file, line, problem));
        }
        if !seen.insert(name) {
            return Err(DataError::line(
                file,
                line,
                format!("the column `{name}` occurs twice in the header"),
            ));
        }
    }
    Ok(fields.iter().map(|field| field.trim().to_owned()).collect())
}
