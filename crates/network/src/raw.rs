//! One input as a person has it, before any preprocessing.

use std::sync::Arc;

use crate::tensor::Tensor;

/// One sample before preprocessing: the same type for a training row, a request and a file.
#[derive(Clone, Debug, PartialEq)]
pub enum RawInput {
    /// Numbers in the data set's own units. For images: rows × columns (× channels), in the range of
    /// the data set (0–255, or 0–16 for the optical digits). For tables: one number per column, in the
    /// order of the columns.
    Numbers(Vec<f32>),
    /// Decoded 8-bit pixels.
    Bitmap(Bitmap),
    /// The bytes of a PNG or JPEG file.
    EncodedImage(Arc<[u8]>),
    /// One row of a table.
    Row(Row),
    /// An already prepared sample, without the batch dimension; it passes through unchanged.
    Prepared(Tensor),
}

impl RawInput {
    /// What kind of input this is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Numbers(_) => "an array of numbers",
            Self::Bitmap(_) | Self::EncodedImage(_) => "an image",
            Self::Row(_) => "a table row",
            Self::Prepared(_) => "a prepared tensor",
        }
    }
}

/// 8-bit pixels, rows × columns × channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Bitmap {
    /// A bitmap of 1 (grey) or 3 (RGB) channels; `None` when the sizes do not fit the pixels or are 0.
    #[must_use]
    pub fn new(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Option<Self> {
        let expected = height.checked_mul(width)?.checked_mul(channels)?;
        let valid = expected > 0 && expected == pixels.len() && (channels == 1 || channels == 3);
        valid.then_some(Self { height, width, channels, pixels })
    }
    /// Number of rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }
    /// Number of columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }
    /// 1 for grey, 3 for RGB.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }
    /// The pixels, rows × columns × channels.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Empty in the file, `null` in JSON.
    Missing,
    /// A finite number.
    Number(f64),
    /// Anything else.
    Text(String),
}

impl Cell {
    /// Reads a field of a text file: blank, `?`, `NA`, `N/A`, `NaN` and `null` (any case) are missing,
    /// what parses as a finite number is one.
    #[must_use]
    pub fn parse(field: &str) -> Self {
        let field = field.trim();
        const MISSING: [&str; 6] = ["", "?", "na", "n/a", "nan", "null"];
        if MISSING.iter().any(|word| field.eq_ignore_ascii_case(word)) {
            return Self::Missing;
        }
        match field.parse::<f64>() {
            Ok(number) if number.is_finite() => Self::Number(number),
            _ => Self::Text(field.to_owned()),
        }
    }
}

/// One row: cells under a header that rows of one table share.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    columns: Arc<[String]>,
    cells: Vec<Cell>,
}

impl Row {
    /// A row; `None` when the number of cells is not the number of columns.
    #[must_use]
    pub fn new(columns: Arc<[String]>, cells: Vec<Cell>) -> Option<Self> {
        (columns.len() == cells.len()).then_some(Self { columns, cells })
    }
    /// The header.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
    /// The cells in the order of the header.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }
    /// The cell of a column; `hint` is where it is expected to stand.
    #[must_use]
    pub fn get(&self, column: &str, hint: usize) -> Option<&Cell> {
        if self.columns.get(hint).is_some_and(|name| name == column) {
            return self.cells.get(hint);
        }
        self.columns.iter().position(|name| name == column).and_then(|index| self.cells.get(index))
    }
}
