//! The tree in which the layers are merged: TOML values that remember where they came from.
//!
//! A merged `toml::Table` would have forgotten the file, line and column of each value; this tree keeps
//! them, so that an error found long after parsing can still name the place.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrorKind};
use super::origin::Origin;

/// A value, where it stands, and where its key stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) key_origin: Origin,
    pub(super) origin: Origin,
    pub(super) kind: Kind,
}

/// The shapes of a TOML value.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Scalar(Scalar),
}

/// A value with no parts. Integers are wide enough for every `u64`; floats keep their text, so that a
/// value is written as it was read and not as the nearest 64-bit number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    String(String),
    Integer(i128),
    Float {
        value: f64,
        text: String,
    },
    Bool(bool),
    Datetime(String),
    /// A value from the environment or `--set` that parses as something else than a string, together
    /// with what was typed: a field that wants a string gets the text.
    Typed {
        parsed: Box<Scalar>,
        text: String,
    },
}

/// Turns byte offsets of a text into origins.
pub(super) enum Places<'a> {
    /// All of it has one origin.
    Same(Origin),
    /// A file, with its text.
    File { path: &'a Path, text: &'a str },
}

impl Places<'_> {
    pub(super) fn at(&self, offset: usize) -> Origin {
        match self {
            Places::Same(origin) => origin.clone(),
            Places::File { path, text } => {
                let before = text.get(..offset).unwrap_or(text);
                let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
                Origin::File {
                    path: path.to_path_buf(),
                    line: before.matches('\n').count() + 1,
                    column: before[line_start..].chars().count() + 1,
                }
            }
        }
    }
}

impl Node {
    /// An empty table.
    pub(super) fn empty() -> Node {
        Node { key_origin: Origin::Default, origin: Origin::Default, kind: Kind::Table(BTreeMap::new()) }
    }

    /// Parses a whole TOML document.
    pub(super) fn parse(text: &str, places: &Places<'_>) -> Result<Node, ConfigError> {
        let document = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            ConfigErrorKind::Syntax { origin: places.at(offset), message: error.message().to_owned() }
        })?;
        let origin = places.at(0);
        Node::from_table(document.get_ref(), places, origin)
    }

    /// The tree of anything serde can write as a table, all of one origin.
    pub(super) fn from_serialize<T: Serialize>(value: &T, origin: Origin) -> Result<Node, ConfigError> {
        let text = toml::to_string(value).map_err(|error| ConfigErrorKind::Refused {
            key: String::new(),
            origin: origin.clone(),
            message: format!("the configuration cannot be written as TOML: {error}"),
        })?;
        Node::parse(&text, &Places::Same(origin))
    }

    /// The value in `key=value` of `--set` or of an environment variable: TOML where it parses, otherwise
    /// the text itself. What begins like a TOML list, table or quoted string must be one.
    pub(super) fn from_typed(text: &str, origin: Origin) -> Result<Node, ConfigError> {
        let scalar =
            |scalar| Node { key_origin: origin.clone(), origin: origin.clone(), kind: Kind::Scalar(scalar) };
        match DeValue::parse(text) {
            Ok(value) => {
                let mut node = Node::from_value(&value, &Places::Same(origin.clone()), origin.clone())?;
                if let Kind::Scalar(parsed) = &node.kind
                    && !matches!(parsed, Scalar::String(_))
                {
                    let parsed = Box::new(parsed.clone());
                    node.kind = Kind::Scalar(Scalar::Typed { parsed, text: text.to_owned() });
                }
                Ok(node)
            }
            Err(error) if text.starts_with(['[', '{', '"', '\'']) => {
                Err(ConfigErrorKind::Syntax { origin, message: error.message().to_owned() }.into())
            }
            Err(_) => Ok(scalar(Scalar::String(text.to_owned()))),
        }
    }

    fn from_table(table: &DeTable<'_>, places: &Places<'_>, key_origin: Origin) -> Result<Node, ConfigError> {
        let mut children = BTreeMap::new();
        for (key, value) in table {
            let child_key = places.at(key.span().start);
            children.insert(key.get_ref().to_string(), Node::from_value(value, places, child_key)?);
        }
        Ok(Node { origin: key_origin.clone(), key_origin, kind: Kind::Table(children) })
    }

    fn from_value(
        value: &Spanned<DeValue<'_>>,
        places: &Places<'_>,
        key_origin: Origin,
    ) -> Result<Node, ConfigError> {
        let origin = places.at(value.span().start);
        let kind = match value.get_ref() {
            // The span of a table under a `[header]` is the header's own; an inline table's is its brace.
            DeValue::Table(table) => Node::from_table(table, places, key_origin.clone())?.kind,
            DeValue::Array(array) => Kind::Array(
                array
                    .iter()
                    .map(|element| Node::from_value(element, places, places.at(element.span().start)))
                    .collect::<Result<_, _>>()?,
            ),
            DeValue::String(text) => Kind::Scalar(Scalar::String(text.to_string())),
            DeValue::Boolean(value) => Kind::Scalar(Scalar::Bool(*value)),
            DeValue::Datetime(value) => Kind::Scalar(Scalar::Datetime(value.to_string())),
            DeValue::Integer(integer) => {
                let parsed = i128::from_str_radix(integer.as_str(), integer.radix());
                Kind::Scalar(Scalar::Integer(parsed.map_err(|_| ConfigErrorKind::Syntax {
                    origin: origin.clone(),
                    message: format!("the number {integer} is too large"),
                })?))
            }
            DeValue::Float(float) => {
                let text = float.as_str().to_owned();
                let value = text.parse().map_err(|_| ConfigErrorKind::Syntax {
                    origin: origin.clone(),
                    message: format!("`{text}` is not a number"),
                })?;
                Kind::Scalar(Scalar::Float { value, text })
            }
        };
        Ok(Node { key_origin, origin, kind })
    }

    /// Lays a stronger tree over this one: tables merge key by key, everything else is replaced whole.
    ///
    /// A table whose `type` or `kind` changes describes another thing, so what defaults and presets said
    /// about the former one is dropped. What a person wrote stays, and is refused by name if the new kind
    /// has no such key: a value that somebody set is never ignored in silence.
    pub(super) fn merge(&mut self, over: Node) {
        match (&mut self.kind, over.kind) {
            (Kind::Table(base), Kind::Table(stronger)) => {
                let changes = |tag: &str| match (base.get(tag), stronger.get(tag)) {
                    (Some(old), Some(new)) => old.as_str() != new.as_str(),
                    _ => false,
                };
                if changes("type") || changes("kind") {
                    base.retain(|_, child| child.origin.is_explicit());
                }
                if base.is_empty() || !self.origin.is_explicit() {
                    self.origin = over.origin;
                    self.key_origin = over.key_origin;
                }
                for (key, child) in stronger {
                    match base.get_mut(&key) {
                        Some(existing) => existing.merge(child),
                        None => {
                            base.insert(key, child);
                        }
                    }
                }
            }
            (_, kind) => {
                *self = Node { key_origin: over.key_origin, origin: over.origin, kind };
            }
        }
    }

    /// Lays a value over this tree at a dotted path; a number selects an element of an array.
    pub(super) fn set(&mut self, path: &[String], value: Node) -> Result<(), ConfigError> {
        match (&mut self.kind, path) {
            (Kind::Array(elements), [first, rest @ ..]) => {
                let length = elements.len();
                match first.parse().ok().and_then(|index: usize| elements.get_mut(index)) {
                    Some(element) => element.set(rest, value),
                    None => Err(ConfigErrorKind::Refused {
                        key: String::new(),
                        message: format!(
                            "there is no element `{first}` {}: the list has {length}, counted from 0",
                            value.origin.phrase()
                        ),
                        origin: value.origin,
                    }
                    .into()),
                }
            }
            // Below an existing list or table the path goes on; what does not exist yet is laid over here.
            (Kind::Table(children), [first, rest @ ..])
                if !rest.is_empty() && children.contains_key(first) =>
            {
                match children.get_mut(first) {
                    Some(child) => child.set(rest, value),
                    None => Ok(()),
                }
            }
            _ => {
                self.merge(path.iter().rev().fold(value, |inner, key| Node {
                    key_origin: inner.key_origin.clone(),
                    origin: inner.origin.clone(),
                    kind: Kind::Table(BTreeMap::from([(key.clone(), inner)])),
                }));
                Ok(())
            }
        }
    }

    /// The node at a dotted path.
    pub(super) fn get(&self, path: &[String]) -> Option<&Node> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        match &self.kind {
            Kind::Table(children) => children.get(first)?.get(rest),
            Kind::Array(elements) => elements.get(first.parse::<usize>().ok()?)?.get(rest),
            Kind::Scalar(_) => None,
        }
    }

    /// The text of a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Scalar::String(text) | Scalar::Typed { text, .. }) => Some(text),
            _ => None,
        }
    }
}

/// Splits `network.layers[2].units` or `network.layers.2.units` into its parts.
pub(super) fn split_key(key: &str) -> Vec<String> {
    key.split(['.', '[']).map(|part| part.strip_suffix(']').unwrap_or(part).trim().to_owned()).collect()
}
