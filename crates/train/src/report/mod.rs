//! `report.html`: one page about a run, for a browser without a network.
//!
//! Everything is inside: styles, charts as SVG, pictures as data addresses. There is no script. Whatever
//! comes from data or configuration goes through [`html::escape`]. Other pages are made of the same pieces:
//! [`document`], [`html`], [`chart`].

pub mod chart;
mod confusion;
mod frame;
pub mod html;
mod mistakes;
mod scatter;
mod sections;
mod style;
mod ticks;

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
    Ok(document(&format!("{} · Brazier", page.record.id), &parts.concat()))
}

/// A whole page in the style of all reports; `title` is text, `body` is HTML.
#[must_use]
pub fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>{}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        html::escape(title),
        style::CSS,
    )
}

#[cfg(test)]
mod tests;
