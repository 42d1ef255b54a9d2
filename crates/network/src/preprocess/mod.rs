//! The one way in: from a raw input to the numbers that the network reads.
//!
//! A [`Preprocess`] is fitted on the training split, stored in the package and used everywhere: training,
//! evaluation, calibration, the command line and the server.

mod drawing;
mod image;
mod table;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::image::{ChannelStatistics, Fit, ImagePreprocess, decode_image, image_pixels};
pub use self::table::{
    Column, ColumnKind, ColumnRule, MissingRule, Scaling, TablePreprocess, TableRules, UnknownRule, fit_table,
};
use crate::raw::RawInput;

/// How raw inputs become prepared ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Preprocess {
    /// Images: decode, convert, fit to size, scale, standardise. Gives `[channels, height, width]`.
    Image(ImagePreprocess),
    /// Table rows: impute, clip, scale, one-hot. Gives `[features]`.
    Table(TablePreprocess),
    /// Numbers that the network reads as they are.
    Numbers {
        /// The shape of one sample.
        shape: Vec<usize>,
    },
}

/// An input that cannot be prepared. The messages say what would be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum PreprocessError {
    #[error("the model takes {expected}, not {found}")]
    Kind { expected: String, found: &'static str },
    #[error("the model takes {expected} numbers, but {found} were given")]
    Count { expected: String, found: usize },
    #[error("number {index} is not finite")]
    NotFinite { index: usize },
    #[error("number {index} is {value}, but pixels lie between 0 and {max}")]
    Range { index: usize, value: f32, max: f32 },
    #[error("a prepared sample must be FP32 {expected:?}, but is {found}")]
    Prepared { expected: Vec<usize>, found: String },
    #[error(
        "the image cannot be read: {reason}; expected a PNG or JPEG file of at most {limit} pixels a side"
    )]
    Image { reason: String, limit: u32 },
    #[error("column `{column}` is missing; the model takes the columns {expected}")]
    MissingColumn { column: String, expected: String },
    #[error("there is no column `{column}`; the model takes the columns {expected}")]
    UnknownColumn { column: String, expected: String },
    #[error("column `{column}` has no value, and the model was trained without missing values there")]
    MissingValue { column: String },
    #[error("column `{column}` must be a number, but is `{found}`")]
    NotANumber { column: String, found: String },
    #[error("column `{column}` must be one of {expected}, but is `{found}`")]
    UnknownCategory { column: String, found: String, expected: String },
}

impl Preprocess {
    /// The shape of one prepared sample.
    #[must_use]
    pub fn output_shape(&self) -> Vec<usize> {
        match self {
            Self::Image(image) => vec![image.channels, image.height, image.width],
            Self::Table(table) => vec![table.width()],
            Self::Numbers { shape } => shape.clone(),
        }
    }

    /// Checks that the fields fit each other; a package may have been made by hand.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Image(image) => image.check(),
            Self::Table(table) => table.check(),
            Self::Numbers { shape } if crate::element_count(shape).is_none_or(|count| count == 0) => {
                Err(format!("`shape` is {shape:?}; every dimension must be at least 1"))
            }
            Self::Numbers { .. } => Ok(()),
        }
    }

    /// What a person must give, in words.
    #[must_use]
    pub fn expects(&self) -> String {
        match self {
            Self::Image(image) => image.expects(),
            Self::Table(table) => format!("a table row with {} columns", table.columns.len()),
            Self::Numbers { shape } => format!("an array of numbers of shape {shape:?}"),
        }
    }

    /// Prepares one input and appends the result to `out` (row-major, [`Preprocess::output_shape`]).
    ///
    /// # Errors
    /// When the input is of the wrong kind or size or holds a value that cannot be used; `out` is then
    /// as it was.
    pub fn prepare_into(&self, input: &RawInput, out: &mut Vec<f32>) -> Result<(), PreprocessError> {
        let start = out.len();
        let result = self.append(input, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Prepares one input.
    ///
    /// # Errors
    /// As [`Preprocess::prepare_into`].
    pub fn prepare(&self, input: &RawInput) -> Result<Vec<f32>, PreprocessError> {
        let mut out = Vec::new();
        self.prepare_into(input, &mut out)?;
        Ok(out)
    }

    fn append(&self, input: &RawInput, out: &mut Vec<f32>) -> Result<(), PreprocessError> {
        if let RawInput::Prepared(tensor) = input {
            let expected = self.output_shape();
            let values = tensor.as_f32().filter(|_| tensor.shape() == expected);
            let Some(values) = values else {
                let found = format!("{} {:?}", tensor.dtype(), tensor.shape());
                return Err(PreprocessError::Prepared { expected, found });
            };
            finite(values)?;
            out.extend_from_slice(values);
            return Ok(());
        }
        match self {
            Self::Image(image) => image.append(input, out),
            Self::Table(table) => table.append(input, out),
            Self::Numbers { shape } => {
                let RawInput::Numbers(values) = input else {
                    return Err(PreprocessError::Kind { expected: self.expects(), found: input.kind() });
                };
                if values.len() != shape.iter().product::<usize>() {
                    let expected = format!("{shape:?} = {}", shape.iter().product::<usize>());
                    return Err(PreprocessError::Count { expected, found: values.len() });
                }
                finite(values)?;
                out.extend_from_slice(values);
                Ok(())
            }
        }
    }
}

fn finite(values: &[f32]) -> Result<(), PreprocessError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(PreprocessError::NotFinite { index }),
        None => Ok(()),
    }
}
