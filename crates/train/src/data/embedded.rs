//! The data that comes with the project. Origin and licence stand beside the files, in `data/*/README.md`.

use super::DataError;
use super::config::DataConfig;
use super::opened::Opened;
use super::{pixels, table};

const DIGITS_IMAGES: &[u8] = include_bytes!("../../data/digits/digits-images-idx3-ubyte.gz");
const DIGITS_LABELS: &[u8] = include_bytes!("../../data/digits/digits-labels-idx1-ubyte.gz");
const BREAST_CANCER: &[u8] = include_bytes!("../../data/breast-cancer/breast-cancer.csv");

const CC_BY: &str = "CC BY 4.0";

/// The UCI optical digits: values 0–16.
pub(crate) fn digits(config: &DataConfig) -> Result<Opened, DataError> {
    let opened = pixels::open_embedded("digits", DIGITS_IMAGES, DIGITS_LABELS, 16.0, config)?;
    let citation = "E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine Learning \
                    Repository. https://doi.org/10.24432/C50P49";
    Ok(opened.with_origin(citation, CC_BY, true))
}

/// The Wisconsin diagnostic breast cancer table.
pub(crate) fn breast_cancer(config: &DataConfig) -> Result<Opened, DataError> {
    let opened =
        table::open_embedded("breast-cancer", "breast-cancer.csv", BREAST_CANCER, "diagnosis", config)?;
    let citation = "W. Wolberg, O. Mangasarian, N. Street and W. Street (1993). Breast Cancer Wisconsin (Diagnostic). \
                    UCI Machine Learning Repository. https://doi.org/10.24432/C5DW2B";
    Ok(opened.with_origin(citation, CC_BY, true))
}
