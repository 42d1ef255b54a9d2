//! `report.html`: one page about a run, for a browser without a network.

use crate::evaluate::Evaluation;
use crate::fit::EpochRecord;
use crate::prepare::Prepared;
use crate::run::RunRecord;

/// What the page tells.
pub struct Page<'a> {
    /// The run.
    pub record: &'a RunRecord,
    /// The resolved configuration as text.
    pub config_text: &'a str,
    /// Data and network.
    pub prepared: &'a Prepared,
    /// Every epoch.
    pub history: &'a [EpochRecord],
    /// The scores on the test split.
    pub evaluation: &'a Evaluation,
}

/// A page that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A sample that cannot be shown.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
}

/// Writes the page.
///
/// # Errors
/// When a sample that is to be shown cannot be read.
pub fn render(page: &Page<'_>) -> Result<String, ReportError> {
    Ok(format!("<pre>{}</pre>", page.record.id))
}
