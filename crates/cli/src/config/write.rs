//! Writes a tree as TOML with the origin of each value as a comment.

use std::fmt::Write;

use super::Entry;
use super::node::{Kind, Node, Scalar};
use super::origin::Origin;

/// Lists the values under `full`; the origins are those of the same keys in `merged`.
pub(super) fn entries(full: &Node, merged: Option<&Node>, key: String, out: &mut Vec<Entry>) {
    match &full.kind {
        Kind::Table(children) if !children.is_empty() => {
            for (name, child) in children {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                entries(child, beside(merged, name), key, out);
            }
        }
        Kind::Array(elements) if is_array_of_tables(elements) => {
            for (index, element) in elements.iter().enumerate() {
                entries(element, beside(merged, &index.to_string()), format!("{key}[{index}]"), out);
            }
        }
        _ if key.is_empty() => {}
        _ => out.push(Entry { key, value: value_text(full), origin: origin_of(merged) }),
    }
}

fn beside<'a>(merged: Option<&'a Node>, step: &str) -> Option<&'a Node> {
    merged.and_then(|node| node.get(std::slice::from_ref(&step.to_owned())))
}

fn origin_of(merged: Option<&Node>) -> Origin {
    merged.map_or(Origin::Default, |node| node.origin.clone())
}

fn is_array_of_tables(elements: &[Node]) -> bool {
    !elements.is_empty() && elements.iter().all(|element| matches!(element.kind, Kind::Table(_)))
}

/// The document: values first, then the tables, at every level.
pub(super) fn document(full: &Node, merged: &Node) -> String {
    let mut out =
        String::from("# The resolved configuration. Each comment says where the value came from.\n");
    table(full, Some(merged), "", &mut out);
    out
}

fn table(node: &Node, merged: Option<&Node>, header: &str, out: &mut String) {
    let Kind::Table(children) = &node.kind else { return };
    let is_section = |child: &Node| match &child.kind {
        Kind::Table(_) => true,
        Kind::Array(elements) => is_array_of_tables(elements),
        Kind::Scalar(_) => false,
    };
    for (name, child) in children.iter().filter(|(_, child)| !is_section(child)) {
        let origin = origin_of(beside(merged, name));
        // Writing to a `String` cannot fail.
        let _ =
            writeln!(out, "{} = {}  # {}", key_text(name), value_text(child), one_line(&origin.to_string()));
    }
    for (name, child) in children.iter().filter(|(_, child)| is_section(child)) {
        let header = match header {
            "" => key_text(name),
            _ => format!("{header}.{}", key_text(name)),
        };
        let merged = beside(merged, name);
        match &child.kind {
            Kind::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    let _ = writeln!(out, "\n[[{header}]]");
                    table(element, beside(merged, &index.to_string()), &header, out);
                }
            }
            _ => {
                let _ = writeln!(out, "\n[{header}]");
                table(child, merged, &header, out);
            }
        }
    }
}

/// A path may hold any character, a comment no line break.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn key_text(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.to_owned() } else { string_text(key) }
}

/// A basic string on one line; the escapes of TOML are those of JSON where both need one.
fn string_text(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A value on one line, tables inside lists as inline tables.
pub(super) fn value_text(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(scalar) => scalar_text(scalar),
        Kind::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(value_text).collect();
            format!("[{}]", elements.join(", "))
        }
        Kind::Table(children) if children.is_empty() => "{}".to_owned(),
        Kind::Table(children) => {
            let pairs: Vec<String> = children
                .iter()
                .map(|(name, child)| format!("{} = {}", key_text(name), value_text(child)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

fn scalar_text(scalar: &Scalar) -> String {
    match scalar {
        Scalar::String(text) => string_text(text),
        Scalar::Integer(value) => value.to_string(),
        Scalar::Float { text, .. } => text.clone(),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Datetime(text) => text.clone(),
        Scalar::Typed { parsed, .. } => scalar_text(parsed),
    }
}
