//! Raw inputs with their logits, so that a model can be checked when it is loaded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use network::{Bitmap, Cell, RawInput, Row, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// At most so many samples are kept.
pub const MAX_SAMPLES: usize = 16;

/// A raw input and what the network answered when the package was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The input, before any preprocessing.
    pub input: SampleInput,
    /// The network's raw outputs for it.
    pub logits: Vec<f32>,
}

/// A raw input as a manifest keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SampleInput {
    /// Numbers in the data set's own units.
    Numbers {
        /// In the order that the model takes.
        values: Vec<f32>,
    },
    /// One row of a table.
    Row {
        /// The header.
        columns: Vec<String>,
        /// One per column.
        cells: Vec<SampleCell>,
    },
    /// Decoded 8-bit pixels.
    Pixels {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// 1 for grey, 3 for RGB.
        channels: usize,
        /// Rows × columns × channels bytes, in base64.
        base64: String,
    },
    /// The bytes of a PNG or JPEG file.
    Image {
        /// The file, in base64.
        base64: String,
    },
    /// A prepared tensor without the batch dimension, for models whose inputs are never raw.
    Prepared {
        /// The shape.
        shape: Vec<usize>,
        /// Row-major.
        values: Vec<f32>,
    },
}

/// One cell of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SampleCell {
    /// No value.
    Missing(()),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// A sample that cannot be kept or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum SampleError {
    #[error("its base64 text is damaged")]
    Base64,
    #[error("{height} × {width} × {channels} pixels do not fit {bytes} bytes")]
    Pixels { height: usize, width: usize, channels: usize, bytes: usize },
    #[error("it has {cells} cells under {columns} columns")]
    Row { columns: usize, cells: usize },
    #[error("its values do not fit its shape")]
    Shape,
    #[error("it has {found} logits, and the network gives {expected}")]
    Logits { found: usize, expected: usize },
    #[error("it holds a number that is not finite")]
    NotFinite,
    #[error("only tensors of 32-bit floats can be kept")]
    Dtype,
}

impl Sample {
    pub(super) fn check(&self, outputs: usize) -> Result<(), SampleError> {
        if self.logits.len() != outputs {
            return Err(SampleError::Logits { found: self.logits.len(), expected: outputs });
        }
        let numbers = match &self.input {
            SampleInput::Numbers { values } | SampleInput::Prepared { values, .. } => values.as_slice(),
            _ => &[],
        };
        if numbers.iter().chain(&self.logits).any(|value| !value.is_finite()) {
            return Err(SampleError::NotFinite);
        }
        self.input.to_raw().map(|_| ())
    }
}

impl SampleInput {
    /// Keeps a raw input.
    ///
    /// # Errors
    /// When it is a prepared tensor of other elements than 32-bit floats.
    pub fn from_raw(input: &RawInput) -> Result<Self, SampleError> {
        Ok(match input {
            RawInput::Numbers(values) => Self::Numbers { values: values.clone() },
            RawInput::Bitmap(bitmap) => Self::Pixels {
                height: bitmap.height(),
                width: bitmap.width(),
                channels: bitmap.channels(),
                base64: STANDARD.encode(bitmap.pixels()),
            },
            RawInput::EncodedImage(bytes) => Self::Image { base64: STANDARD.encode(bytes) },
            RawInput::Row(row) => Self::Row {
                columns: row.columns().to_vec(),
                cells: row.cells().iter().map(SampleCell::from).collect(),
            },
            RawInput::Prepared(tensor) => {
                let values = tensor.as_f32().ok_or(SampleError::Dtype)?.to_vec();
                Self::Prepared { shape: tensor.shape().to_vec(), values }
            }
        })
    }

    /// The raw input that was kept.
    ///
    /// # Errors
    /// When the fields contradict each other.
    pub fn to_raw(&self) -> Result<RawInput, SampleError> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| SampleError::Base64);
        Ok(match self {
            Self::Numbers { values } => RawInput::Numbers(values.clone()),
            Self::Row { columns, cells } => {
                let error = SampleError::Row { columns: columns.len(), cells: cells.len() };
                let cells = cells.iter().map(Cell::from).collect();
                RawInput::Row(Row::new(columns.clone().into(), cells).ok_or(error)?)
            }
            &Self::Pixels { height, width, channels, ref base64 } => {
                let pixels = decode(base64)?;
                let error = SampleError::Pixels { height, width, channels, bytes: pixels.len() };
                RawInput::Bitmap(Bitmap::new(height, width, channels, pixels).ok_or(error)?)
            }
            Self::Image { base64 } => RawInput::EncodedImage(decode(base64)?.into()),
            Self::Prepared { shape, values } => {
                let tensor = Tensor::from_f32(shape.clone(), values.clone());
                RawInput::Prepared(tensor.map_err(|_| SampleError::Shape)?)
            }
        })
    }
}

impl From<&Cell> for SampleCell {
    fn from(cell: &Cell) -> Self {
        match cell {
            Cell::Missing => Self::Missing(()),
            Cell::Number(number) => Self::Number(*number),
            Cell::Text(text) => Self::Text(text.clone()),
        }
    }
}

impl From<&SampleCell> for Cell {
    fn from(cell: &SampleCell) -> Self {
        match cell {
            SampleCell::Missing(()) => Self::Missing,
            SampleCell::Number(number) => Self::Number(*number),
            SampleCell::Text(text) => Self::Text(text.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_kind_comes_back_from_json() {
        let columns: Arc<[String]> = Arc::from(["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        let cells = vec![Cell::Missing, Cell::Number(0.1), Cell::Text("x".to_owned())];
        let inputs = [
            RawInput::Numbers(vec![0.1, 16.0, -3.0e-20]),
            RawInput::Bitmap(Bitmap::new(1, 2, 3, vec![0, 1, 2, 253, 254, 255]).unwrap()),
            RawInput::EncodedImage(Arc::from(&b"\x89PNG"[..])),
            RawInput::Row(Row::new(columns, cells).unwrap()),
            RawInput::Prepared(Tensor::from_f32(vec![1, 2], vec![0.5, 0.25]).unwrap()),
        ];
        for input in inputs {
            let kept = SampleInput::from_raw(&input).unwrap();
            let json = crate::json::to_vec(&kept).unwrap();
            let back: SampleInput = serde_json::from_slice(&json).unwrap();
            assert_eq!(back.to_raw().unwrap(), input, "{}", String::from_utf8_lossy(&json));
        }
    }

    #[test]
    fn contradictions_are_errors() {
        let cases = [
            (
                r#"{"kind": "pixels", "height": 2, "width": 2, "channels": 1, "base64": "AAA="}"#,
                "2 × 2 × 1 pixels do not fit 2 bytes",
            ),
            (r#"{"kind": "image", "base64": "?"}"#, "its base64 text is damaged"),
            (r#"{"kind": "row", "columns": ["a"], "cells": []}"#, "it has 0 cells under 1 columns"),
            (r#"{"kind": "prepared", "shape": [2], "values": [1]}"#, "its values do not fit its shape"),
        ];
        for (json, message) in cases {
            let sample: SampleInput = serde_json::from_str(json).unwrap();
            assert_eq!(sample.to_raw().unwrap_err().to_string(), message);
        }
    }
}
