//! A deserialisation error that collects its path while it climbs out of the tree.

use std::fmt::Display;

use serde::de::{Error, Expected, Unexpected};

use super::error::{ConfigError, ConfigErrorKind};
use super::node::{Kind, Node, Scalar};
use super::origin::Origin;

/// One step of a path, innermost first while the error climbs.
#[derive(Debug)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

#[derive(Debug)]
enum Problem {
    Unknown { key: String, known: &'static [&'static str] },
    Missing { key: &'static str },
    Word { found: String, known: &'static [&'static str] },
    Wrong { found: Found, expected: String },
    Custom(String),
}

/// What serde found instead of what it wanted: in words, and as the text of a scalar where it is one.
#[derive(Debug)]
struct Found {
    words: String,
    scalar: Option<Scalar>,
}

/// An error on its way up.
#[derive(Debug)]
pub(super) struct Fault {
    // Boxed, because every call on the good path carries room for it.
    problem: Box<Problem>,
    path: Vec<Step>,
    pub(super) origin: Option<Origin>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // serde re-wraps an error as text only where a type asks for it; words are enough then.
        match &*self.problem {
            Problem::Unknown { key, .. } => write!(formatter, "unknown key `{key}`"),
            Problem::Missing { key } => write!(formatter, "missing key `{key}`"),
            Problem::Word { found, .. } => write!(formatter, "`{found}` does not exist"),
            Problem::Wrong { found, expected } => {
                write!(formatter, "expected {expected}, found {}", found.words)
            }
            Problem::Custom(message) => formatter.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Fault { problem: Box::new(problem), path: Vec::new(), origin: None }
    }
}

impl Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Problem::Custom(message.to_string()).into()
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Problem::Wrong { found: Found::new(found), expected: humane(&expected.to_string()) }.into()
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::invalid_type(found, expected)
    }
    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let found = Found { words: format!("a list of {length}"), scalar: None };
        Problem::Wrong { found, expected: humane(&expected.to_string()) }.into()
    }
    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Problem::Word { found: found.to_owned(), known }.into()
    }
    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Problem::Unknown { key: field.to_owned(), known }.into()
    }
    fn missing_field(field: &'static str) -> Self {
        Problem::Missing { key: field }.into()
    }
}

/// serde names Rust's types; a person who writes TOML thinks of numbers and lists.
fn humane(expected: &str) -> String {
    let words = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "u128" | "usize" => "a whole number, 0 or more",
        "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a whole number, 1 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") || other.starts_with("internally tagged enum ") => "a table",
        other if other.starts_with("enum ") => "a word",
        other => other,
    };
    words.to_owned()
}

impl Found {
    fn new(found: Unexpected<'_>) -> Self {
        let (words, scalar) = match found {
            Unexpected::Bool(value) => (value.to_string(), Some(Scalar::Bool(value))),
            Unexpected::Unsigned(value) => (value.to_string(), Some(Scalar::Integer(value.into()))),
            Unexpected::Signed(value) => (value.to_string(), Some(Scalar::Integer(value.into()))),
            Unexpected::Float(value) => {
                (value.to_string(), Some(Scalar::Float { value, text: String::new() }))
            }
            Unexpected::Str(text) => {
                let shown: String = text.chars().take(60).collect();
                (format!("the string {shown:?}"), Some(Scalar::String(text.to_owned())))
            }
            Unexpected::Seq => ("a list".to_owned(), None),
            Unexpected::Map => ("a table".to_owned(), None),
            Unexpected::Unit | Unexpected::Option => ("nothing".to_owned(), None),
            other => (other.to_string(), None),
        };
        Found { words, scalar }
    }

    fn is(&self, scalar: &Scalar) -> bool {
        match (&self.scalar, scalar) {
            (found, Scalar::Typed { parsed, .. }) => found.as_ref() == Some(parsed),
            (Some(Scalar::Float { value: a, .. }), Scalar::Float { value: b, .. }) => a == b,
            (found, scalar) => found.as_ref() == Some(scalar),
        }
    }
}

impl Fault {
    /// Called by each node the error passes; the first one knows the place.
    pub(super) fn at(mut self, node: &Node) -> Self {
        if self.origin.is_some() {
            return self;
        }
        let matches = |key: Option<&str>, child: &Node| match (&*self.problem, &child.kind) {
            (Problem::Unknown { key: unknown, .. }, _) => key == Some(unknown.as_str()),
            (Problem::Word { found, .. }, _) => child.as_str() == Some(found.as_str()),
            (Problem::Wrong { found, .. }, Kind::Scalar(scalar)) => found.is(scalar),
            _ => false,
        };
        let mut hits = Vec::new();
        search(node, &mut Vec::new(), &matches, &mut hits);
        // A direct child is where an unknown key stands; deeper down only one match is a certain one.
        let direct = matches!(*self.problem, Problem::Unknown { .. })
            .then(|| hits.iter().position(|(path, _)| path.len() == 1))
            .flatten();
        let hit = match (direct, hits.len()) {
            (Some(index), _) => Some(hits.swap_remove(index)),
            (None, 1) => hits.pop(),
            _ => None,
        };
        let Some((mut path, found)) = hit else {
            self.origin = Some(node.origin.clone());
            return self;
        };
        self.origin = Some(found.origin.clone());
        if matches!(*self.problem, Problem::Unknown { .. }) {
            self.origin = Some(found.key_origin.clone());
            path.pop();
        }
        self.path = path.into_iter().rev().collect();
        self
    }

    pub(super) fn inside(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    pub(super) fn into_error(mut self) -> ConfigError {
        let origin = self.origin.take().unwrap_or(Origin::Default);
        let mut path = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.extend([".", key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match *self.problem {
            Problem::Unknown { key, known } => {
                let key = if path.is_empty() { key } else { format!("{path}.{key}") };
                ConfigErrorKind::UnknownKey { key, origin, known: owned(known) }
            }
            Problem::Missing { key } => {
                ConfigErrorKind::MissingKey { key: key.to_owned(), table: path, origin }
            }
            Problem::Word { found, known } => {
                ConfigErrorKind::UnknownWord { key: path, origin, found, known: owned(known) }
            }
            Problem::Wrong { found, expected } => {
                ConfigErrorKind::WrongValue { key: path, origin, found: found.words, expected }
            }
            Problem::Custom(message) => ConfigErrorKind::Refused { key: path, origin, message },
        }
        .into()
    }
}

type Hit<'a> = (Vec<Step>, &'a Node);

fn search<'a>(
    node: &'a Node,
    path: &mut Vec<(Option<&'a str>, usize)>,
    matches: &impl Fn(Option<&str>, &Node) -> bool,
    hits: &mut Vec<Hit<'a>>,
) {
    let mut visit = |key: Option<&'a str>, index: usize, child: &'a Node| {
        path.push((key, index));
        if matches(key, child) {
            let steps = path.iter().map(|(key, index)| match key {
                Some(key) => Step::Key((*key).to_owned()),
                None => Step::Index(*index),
            });
            hits.push((steps.collect(), child));
        }
        search(child, path, matches, hits);
        path.pop();
    };
    match &node.kind {
        Kind::Table(children) => children.iter().for_each(|(key, child)| visit(Some(key), 0, child)),
        Kind::Array(elements) => {
            elements.iter().enumerate().for_each(|(index, child)| visit(None, index, child))
        }
        Kind::Scalar(_) => {}
    }
}
