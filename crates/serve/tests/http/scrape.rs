//! Reads what a scrape gives, strictly: whatever is not as the formats have it is a failure.

use std::collections::{BTreeMap, BTreeSet};

/// A family, as its lines of help and type tell it.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
}

/// A scrape that was well formed.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) families: BTreeMap<String, Family>,
    /// By name and labels, as `name{a="b"}` with the labels in order.
    pub(crate) samples: BTreeMap<String, f64>,
    /// The names of the labels of each family, without `le`.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

fn is_name(text: &str) -> bool {
    let first = text.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    first && text.chars().all(|other| other.is_ascii_alphanumeric() || other == '_')
}

/// The labels between the brackets, and what follows them.
fn labels(text: &str) -> (Vec<(String, String)>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (Vec::new(), text) };
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {text}"));
        assert!(is_name(name), "{text}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("no end: {text}")) {
                (place, '"') => break place,
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    other @ ('\\' | '"') => other,
                    other => panic!("\\{other} in {text}"),
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
        match rest.split_at(1) {
            (",", after) => rest = after,
            ("}", after) => return (labels, after),
            other => panic!("{other:?} in {text}"),
        }
    }
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "NaN" => f64::NAN,
        text => text.parse().unwrap_or_else(|_| panic!("no number: {text:?}")),
    }
}

impl Scrape {
    /// Reads Prometheus' own form, or with `open` that of OpenMetrics.
    pub(crate) fn read(text: &str, open: bool) -> Self {
        let text = match text.strip_suffix("# EOF\n") {
            Some(text) if open => text,
            None if !open => text,
            _ => panic!("the end of OpenMetrics, and of nothing else, is `# EOF`"),
        };
        assert!(text.ends_with('\n'));
        let mut scrape =
            Self { families: BTreeMap::new(), samples: BTreeMap::new(), labels: BTreeMap::new() };
        let mut family = String::new();
        let mut helped = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty(), "{line}");
                helped = name.to_owned();
                let family = Family { kind: String::new(), help: help.to_owned() };
                assert!(scrape.families.insert(name.to_owned(), family).is_none(), "told twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram", "unknown"].contains(&kind), "{line}");
                assert_eq!(name, helped, "the type follows the help");
                scrape.families.get_mut(name).unwrap().kind = kind.to_owned();
                family = name.to_owned();
            } else {
                scrape.sample(line, &family, open);
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn sample(&mut self, line: &str, family: &str, open: bool) {
        let end = line.find(['{', ' ']).unwrap();
        let name = &line[..end];
        let kind = self.families[family].kind.as_str();
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} among {family}"));
        let fits = match kind {
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            "counter" if open => suffix == "_total",
            _ => suffix.is_empty(),
        };
        assert!(fits, "{line} is no {kind}");
        let (labels, rest) = labels(&line[end..]);
        let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(!value.contains(' '), "{line}");
        let names: BTreeSet<String> = labels.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), labels.len(), "a label twice: {line}");
        assert_eq!(names.contains("le"), suffix == "_bucket" && kind == "histogram", "{line}");
        let own: BTreeSet<String> = names.into_iter().filter(|name| name != "le").collect();
        assert_eq!(*self.labels.entry(family.to_owned()).or_insert_with(|| own.clone()), own, "{line}");
        let key = key(name, labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let value = number(value);
        assert!(kind == "gauge" || value >= 0.0, "{line}");
        assert!(self.samples.insert(key, value).is_none(), "twice: {line}");
    }

    /// Buckets hold those before them, the last holds all, and the count says so too.
    fn check_histograms(&self) {
        let histograms = self.families.iter().filter(|(_, family)| family.kind == "histogram");
        let mut checked = 0;
        for (name, _) in histograms {
            let start = format!("{name}_count");
            for (key, count) in self.samples.iter().filter(|(key, _)| key.split('{').next() == Some(&start)) {
                let inside = key.strip_prefix(&start).unwrap().trim_matches(['{', '}']);
                let mut buckets: Vec<(f64, f64)> = Vec::new();
                let prefix = format!("{name}_bucket{{");
                for (key, value) in self.samples.iter().filter(|(key, _)| key.starts_with(&prefix)) {
                    let (labels, _) = labels(&key[prefix.len() - 1..]);
                    let bound = &labels.iter().find(|(name, _)| name == "le").unwrap().1;
                    let others = labels.iter().filter(|(name, _)| name != "le");
                    let others = self::key("", others.map(|(name, value)| (name.as_str(), value.as_str())));
                    if others.trim_matches(['{', '}']) == inside {
                        buckets.push((number(bound), *value));
                    }
                }
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.len() > 5 && buckets.is_sorted_by(|a, b| a.1 <= b.1), "{key}: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{key}");
                assert!(self.samples.contains_key(&key.replace("_count", "_sum")), "{key}");
                checked += 1;
            }
        }
        assert!(checked > 0);
    }

    /// The value of a sample.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let key = key(name, labels.iter().copied());
        *self.samples.get(&key).unwrap_or_else(|| panic!("no {key} in {:#?}", self.samples.keys()))
    }
}

fn key<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<&str, &str> = labels.collect();
    if sorted.is_empty() {
        return name.to_owned();
    }
    let inside: Vec<String> = sorted.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{name}{{{}}}", inside.join(","))
}
