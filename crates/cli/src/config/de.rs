//! Deserialises a [`Node`] and says, when that fails, which key was wrong and where it stands.
//!
//! serde's own derives report an error without its place. Here the error climbs through the tree and
//! collects the path on its way. Tagged and flattened types are buffered by serde and fail late, at the
//! table that holds them; the offending key or value is then searched for inside that table.

use std::fmt::Display;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::error::{ConfigError, ConfigErrorKind};
use super::node::{Kind, Node, Scalar};
use super::origin::Origin;

/// Reads a value of type `T` from the tree.
pub(super) fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, ConfigError> {
    T::deserialize(node).map_err(Fault::into_error)
}

/// One step of a path, innermost first while the error climbs.
#[derive(Debug)]
enum Step {
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
    origin: Option<Origin>,
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
    fn at(mut self, node: &Node) -> Self {
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

    fn inside(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    fn into_error(mut self) -> ConfigError {
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

fn visit_scalar<'de, V: Visitor<'de>>(scalar: &'de Scalar, visitor: V) -> Result<V::Value, Fault> {
    match scalar {
        Scalar::String(text) | Scalar::Datetime(text) => visitor.visit_borrowed_str(text),
        Scalar::Bool(value) => visitor.visit_bool(*value),
        Scalar::Float { value, .. } => visitor.visit_f64(*value),
        Scalar::Typed { parsed, .. } => visit_scalar(parsed, visitor),
        Scalar::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
            (Ok(value), _) => visitor.visit_i64(value),
            (_, Ok(value)) => visitor.visit_u64(value),
            _ => visitor.visit_i128(*value),
        },
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.kind {
            Kind::Scalar(scalar) => visit_scalar(scalar, visitor),
            Kind::Array(elements) => visitor.visit_seq(Elements { elements, next: 0 }),
            Kind::Table(children) => visitor.visit_map(Entries { children: children.iter(), value: None }),
        }
        .map_err(|fault| fault.at(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.kind {
            Kind::Scalar(Scalar::Typed { text, .. }) => {
                visitor.visit_borrowed_str(text).map_err(|fault: Fault| fault.at(self))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.kind {
            Kind::Scalar(Scalar::String(text)) => {
                let word: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            Kind::Table(children) if children.len() == 1 => match children.iter().next() {
                Some((name, content)) => visitor.visit_enum(Variant { name, content }),
                None => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
        .map_err(|fault| fault.at(self))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Elements<'de> {
    elements: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Fault;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(element) = self.elements.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(element).map(Some).map_err(|fault| fault.at(element).inside(Step::Index(index)))
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len() - self.next)
    }
}

struct Entries<'de> {
    children: std::collections::btree_map::Iter<'de, String, Node>,
    value: Option<(&'de str, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((key, value)) = self.children.next() else { return Ok(None) };
        self.value = Some((key, value));
        let name: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|mut fault| {
            fault.origin = Some(value.key_origin.clone());
            fault
        })
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((key, value)) = self.value.take() else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        seed.deserialize(value).map_err(|fault| fault.at(value).inside(Step::Key(key.to_owned())))
    }
}

/// `{ name = content }`: a variant with data of an externally tagged enum.
struct Variant<'de> {
    name: &'de str,
    content: &'de Node,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Fault;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Fault;
    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::custom(format!("`{}` takes no settings: write it as a string", self.name)))
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.content)
            .map_err(|fault| fault.at(self.content).inside(Step::Key(self.name.to_owned())))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.content.deserialize_any(visitor).map_err(|fault| fault.inside(Step::Key(self.name.to_owned())))
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.content.deserialize_any(visitor).map_err(|fault| fault.inside(Step::Key(self.name.to_owned())))
    }
}
