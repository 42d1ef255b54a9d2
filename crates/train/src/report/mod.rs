//! `report.html`: one page about a run, for a browser without a network.
//!
//! Everything is inside: styles, charts as SVG, pictures as data addresses. There is no script. Whatever
//! comes from data or configuration goes through `html::escape`.

mod chart;
mod confusion;
mod html;
mod mistakes;
mod sections;
mod style;

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
    let parts = [
        sections::header(page),
        sections::tiles(page.evaluation),
        sections::curves(page),
        sections::classes(page.evaluation),
        sections::targets(page.evaluation),
        confusion::section(page.evaluation),
        sections::calibration(page.evaluation),
        mistakes::section(page)?,
        sections::network(page),
        sections::timings(page),
        sections::config(page),
    ];
    let title = html::escape(&format!("{} · Brazier", page.record.id));
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{}</style>\n</head>\n\
         <body>\n<main>\n{}</main>\n</body>\n</html>\n",
        style::CSS,
        parts.concat()
    ))
}

#[cfg(test)]
mod tests;
