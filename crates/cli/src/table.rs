//! Tables of text for people: columns as wide as they must be, numbers to the right.

use std::fmt;

use console::measure_text_width;

/// How the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// A table. It displays with two spaces between columns, a line under the header, and no trailing spaces.
///
/// ```
/// let mut table = cli::Table::new(["model", "accuracy"]).numbers([1]);
/// table.row(["digits@1", "99.2 %"]);
/// assert_eq!(table.to_string(), "model     accuracy\n────────  ────────\ndigits@1    99.2 %\n");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        let header: Vec<String> = header.into_iter().map(Into::into).collect();
        let align = vec![Align::Left; header.len()];
        Table { header, align, rows: Vec::new() }
    }

    /// Moves the columns with these indices to the right, as numbers stand.
    #[must_use]
    pub fn numbers(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        for column in columns {
            if let Some(align) = self.align.get_mut(column) {
                *align = Align::Right;
            }
        }
        self
    }

    /// Adds a row; missing cells are empty, cells beyond the header are left out. Control characters are
    /// replaced, so that a name read from a file cannot play with the terminal.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| printable(&cell.into())).collect();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.header]);
            cells.filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        for row in [&self.header, &rule].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for ((cell, &width), align) in row.iter().zip(&widths).zip(&self.align) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let padding = " ".repeat(width.saturating_sub(measure_text_width(cell)));
                match align {
                    Align::Left => line.extend([cell, padding.as_str()]),
                    Align::Right => line.extend([padding.as_str(), cell]),
                }
            }
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_what_is_seen() {
        let mut table = Table::new(["layer", "output", "parameters"]).numbers([2]);
        table.row(["conv1", "[8, 8, 8]", "80"]);
        table.row(["größe", "", "1,234,567"]);
        table.row(["bad\u{1b}[2Jname"]);
        insta::assert_snapshot!(table.to_string(), @r"
        layer        output     parameters
        ───────────  ─────────  ──────────
        conv1        [8, 8, 8]          80
        größe                    1,234,567
        bad�[2Jname
        ");
    }
}
