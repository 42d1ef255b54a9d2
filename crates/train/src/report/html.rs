//! The few pieces that every section of a report is made of.

/// Text that is safe inside elements and quoted attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are not allowed in HTML at all.
            control if control.is_control() && !matches!(control, '\n' | '\t') => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// A section with a heading; `body` is HTML. An empty one leaves no trace.
#[must_use]
pub fn section(title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{}</h2>\n{body}\n</section>\n", escape(title))
}

/// A table; cells are text. Columns from `numbers` on stand to the right. What follows a line break in a cell stands
/// small below the rest.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let class = |column: usize| if column >= numbers { " class=\"number\"" } else { "" };
    let mut out = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    for (column, cell) in header.iter().enumerate() {
        out += &format!("<th scope=\"col\"{}>{}</th>", class(column), escape(cell));
    }
    out += "</tr></thead>\n<tbody>\n";
    for row in rows {
        out += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let text = match cell.split_once('\n') {
                Some((text, below)) => format!("{}<small>{}</small>", escape(text), escape(below)),
                None => escape(cell),
            };
            out += &format!("<td{}>{text}</td>", class(column));
        }
        out += "</tr>\n";
    }
    out + "</tbody>\n</table></div>"
}

/// A share as percent.
#[must_use]
pub fn percent(value: f64) -> String {
    format!("{:.2} %", 100.0 * value)
}

/// A duration in the unit that fits it.
#[must_use]
pub fn seconds(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{:.0} ms", value * 1e3),
        value if value < 120.0 => format!("{value:.1} s"),
        value => format!("{:.0} min {:.0} s", (value / 60.0).floor(), value % 60.0),
    }
}

/// A count with thin spaces between groups of three.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}
