//! The text that a scrape reads: Prometheus 0.0.4, or OpenMetrics 1.0 where it is asked for.
//!
//! A family is told once, with its help and its type, and its samples follow it. The names are the same in both forms;
//! a counter whose name does not end in `_total` (those of Triton) is of an unknown type in OpenMetrics, which knows no
//! other counters.

use std::fmt::Write as _;

use crate::stats::Buckets;

/// The form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `text/plain; version=0.0.4`.
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Form {
    /// The form that an `Accept` header asks for: OpenMetrics only where it is named and liked no less than text.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut plain) = (None, None);
        for item in accept.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or("").to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            let place = match name.as_str() {
                "application/openmetrics-text" => &mut open,
                "text/plain" => &mut plain,
                _ => continue,
            };
            *place = Some(place.map_or(weight, |other: f32| other.max(weight)));
        }
        match open {
            Some(weight) if weight > 0.0 && weight >= plain.unwrap_or(0.0) => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of values by size.
    Histogram,
}

impl Kind {
    /// Its name in both forms.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The text as it is written.
#[derive(Debug)]
pub struct Text {
    form: Form,
    out: String,
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'a> {
    text: &'a mut Text,
    name: &'static str,
    labels: &'static [&'static str],
}

impl Text {
    /// Nothing yet.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, out: String::with_capacity(16 << 10) }
    }

    /// Begins a family; `labels` are the names of the labels that each of its samples has.
    pub fn family(
        &mut self,
        name: &'static str,
        kind: Kind,
        labels: &'static [&'static str],
        help: &str,
    ) -> Samples<'_> {
        let (family, kind) = match (self.form, kind, name.strip_suffix("_total")) {
            (Form::OpenMetrics, Kind::Counter, Some(family)) => (family, kind.name()),
            (Form::OpenMetrics, Kind::Counter, None) => (name, "unknown"),
            _ => (name, kind.name()),
        };
        let _ = write!(self.out, "# HELP {family} ");
        escape(&mut self.out, help, self.form == Form::OpenMetrics);
        let _ = write!(self.out, "\n# TYPE {family} {kind}\n");
        Samples { text: self, name, labels }
    }

    /// The whole of it.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl Samples<'_> {
    /// One sample, with the values of its labels in the order of their names.
    pub fn count(&mut self, labels: &[&str], value: u64) {
        self.start("", labels, None);
        let _ = writeln!(self.text.out, " {value}");
    }

    /// The same of a number that is no count.
    pub fn number(&mut self, labels: &[&str], value: f64) {
        self.start("", labels, None);
        let _ = writeln!(self.text.out, " {}", Number(value));
    }

    /// A histogram whose values are told as so many parts of the unit: microseconds as seconds are 1e6.
    pub fn histogram(&mut self, labels: &[&str], buckets: &Buckets, parts: f64) {
        for (bound, count) in &buckets.cumulative {
            self.start("_bucket", labels, Some(*bound as f64 / parts));
            let _ = writeln!(self.text.out, " {count}");
        }
        self.start("_bucket", labels, Some(f64::INFINITY));
        let _ = writeln!(self.text.out, " {}", buckets.count);
        self.start("_sum", labels, None);
        let _ = writeln!(self.text.out, " {}", Number(buckets.sum as f64 / parts));
        self.start("_count", labels, None);
        let _ = writeln!(self.text.out, " {}", buckets.count);
    }

    fn start(&mut self, suffix: &str, values: &[&str], bound: Option<f64>) {
        debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
        let out = &mut self.text.out;
        out.push_str(self.name);
        out.push_str(suffix);
        if values.is_empty() && bound.is_none() {
            return;
        }
        let mut before = '{';
        for (name, value) in self.labels.iter().zip(values) {
            out.push(before);
            before = ',';
            out.push_str(name);
            out.push_str("=\"");
            escape(out, value, true);
            out.push('"');
        }
        if let Some(bound) = bound {
            let _ = write!(out, "{before}le=\"{}\"", Number(bound));
        }
        out.push('}');
    }
}

/// A number as both forms write it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            // OpenMetrics wants the bounds of buckets to look like floating-point numbers.
            value => write!(f, "{value:?}"),
        }
    }
}

/// Writes text without what would end it: backslash, line feed and, where it is quoted, the quote.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_scrape_gets_the_form_it_asks_for() {
        let open =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let cases = [
            (open, Form::OpenMetrics),
            ("", Form::Prometheus),
            ("*/*", Form::Prometheus),
            ("application/openmetrics-text; version=1.0.0", Form::OpenMetrics),
            ("application/openmetrics-text;q=0", Form::Prometheus),
            ("text/plain, application/openmetrics-text;q=0.5", Form::Prometheus),
            ("text/html,;;q=x", Form::Prometheus),
        ];
        for (accept, expected) in cases {
            assert_eq!(Form::accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn both_forms_have_the_names_that_dashboards_ask_for() {
        let write = |form| {
            let mut text = Text::new(form);
            text.family("a_total", Kind::Counter, &["x"], "A \\ \"b\".").count(&["1\n\"\\"], 3);
            text.family("nv_b", Kind::Counter, &[], "B.").count(&[], 4);
            let buckets = Buckets { cumulative: vec![(100, 1), (250, 1)], count: 2, sum: 1_000_100 };
            text.family("c_seconds", Kind::Histogram, &[], "C.").histogram(&[], &buckets, 1e6);
            text.family("d", Kind::Gauge, &[], "D.").number(&[], f64::NAN);
            text.finish()
        };
        let plain = write(Form::Prometheus);
        assert_eq!(
            plain,
            "# HELP a_total A \\\\ \"b\".\n# TYPE a_total counter\na_total{x=\"1\\n\\\"\\\\\"} 3\n\
             # HELP nv_b B.\n# TYPE nv_b counter\nnv_b 4\n\
             # HELP c_seconds C.\n# TYPE c_seconds histogram\nc_seconds_bucket{le=\"0.0001\"} 1\n\
             c_seconds_bucket{le=\"0.00025\"} 1\nc_seconds_bucket{le=\"+Inf\"} 2\nc_seconds_sum 1.0001\n\
             c_seconds_count 2\n# HELP d D.\n# TYPE d gauge\nd NaN\n"
        );
        let open = write(Form::OpenMetrics);
        assert!(open.contains("# TYPE a counter\na_total{") && open.contains("# TYPE nv_b unknown\nnv_b 4"));
        assert!(open.ends_with("# EOF\n"));
    }

    proptest! {
        #[test]
        fn no_value_of_a_label_can_break_a_line(value in "\\PC*|[\\\\\"\n,{}]*") {
            let mut text = Text::new(Form::Prometheus);
            text.family("a", Kind::Gauge, &["x"], "A.").count(&[&value], 1);
            let written = text.finish();
            let line = written.lines().nth(2).unwrap();
            prop_assert_eq!(written.matches('\n').count(), 3);
            let inside = line.strip_prefix("a{x=\"").unwrap().strip_suffix("\"} 1").unwrap();
            let mut back = String::new();
            let mut characters = inside.chars();
            while let Some(character) = characters.next() {
                prop_assert_ne!(character, '"');
                back.push(match character {
                    '\\' => match characters.next().unwrap() { 'n' => '\n', other => other },
                    other => other,
                });
            }
            prop_assert_eq!(back, value);
        }
    }
}
