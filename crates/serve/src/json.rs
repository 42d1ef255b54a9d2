//! JSON that strangers send: bounded depth, no unknown fields, errors that say where.

use serde_json::{Map, Value};

use crate::error::{Kind, Result, ServeError, shown, suggestion};

/// How deep arrays and objects may nest. Images need 4 (`inputs`, row, column, channel).
pub const DEPTH: usize = 100;

/// How many arrays one body may hold; each takes far more memory than the two characters that make one.
pub const ARRAYS: usize = 1 << 21;

/// Refuses JSON that nests deeper than [`DEPTH`], or holds more than [`ARRAYS`] arrays or `objects` objects,
/// before any parser recurses into it or reserves memory for it.
///
/// # Errors
/// 400 with the limit. Anything else that is wrong with the text is left to the parser.
pub fn check_structure(body: &[u8], objects: usize) -> Result<()> {
    check(body, objects, DEPTH)
}

fn check(body: &[u8], objects: usize, most_levels: usize) -> Result<()> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let mut found = [0usize; 2];
    for &byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > most_levels {
                    return Err(ServeError::invalid(format_args!(
                        "the JSON nests deeper than {most_levels} levels"
                    )));
                }
                let (index, most, what) =
                    if byte == b'[' { (0, ARRAYS, "arrays") } else { (1, objects, "objects") };
                found[index] += 1;
                if found[index] > most {
                    let message = format!("the JSON holds more than {most} {what}");
                    return Err(ServeError::new(Kind::TooLarge, message));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Refuses JSON that nests deeper than a limit below [`DEPTH`], which [`check_structure`] holds in any case.
///
/// # Errors
/// 400 with the limit.
pub fn check_depth(body: &[u8], limit: usize) -> Result<()> {
    if limit < DEPTH { check(body, usize::MAX, limit) } else { Ok(()) }
}

/// Parses `body` as one JSON object that holds at most `objects` objects, itself included; `expected` says
/// what it should hold.
///
/// # Errors
/// 400 with the place of the fault.
pub fn object(body: &[u8], expected: &str, objects: usize) -> Result<Map<String, Value>> {
    check_structure(body, objects)?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ServeError::invalid(format_args!("the body is empty; expected {expected}")));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            Err(ServeError::invalid(format_args!("the body is {}; expected {expected}", kind_of(&other))))
        }
        Err(error) => Err(malformed(&error)),
    }
}

/// A 400 for text that is not JSON, or not the JSON that was expected; it tells line and column.
#[must_use]
pub fn malformed(error: &serde_json::Error) -> ServeError {
    // A message may quote what the client sent, which may be long.
    let text = error.to_string();
    let text: String =
        if text.chars().count() > 300 { text.chars().take(300).chain(['…']).collect() } else { text };
    if error.is_data() {
        return ServeError::invalid(text);
    }
    ServeError::invalid(format_args!("the body is not valid JSON: {text}"))
}

/// Refuses fields that are not among `known`.
///
/// # Errors
/// 400 with the field, the nearest known one, and all of them.
pub fn known_fields<'a>(
    fields: impl IntoIterator<Item = &'a str>,
    known: &[&str],
    place: &str,
) -> Result<()> {
    for field in fields {
        if !known.contains(&field) {
            let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(ServeError::invalid(format_args!(
                "unknown field {} in {place}{}; the fields are {list}",
                shown(field),
                suggestion(field, known.iter().copied()).trim_end_matches('?'),
            )));
        }
    }
    Ok(())
}

/// What a JSON value is, in words.
#[must_use]
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check_structure(nested(DEPTH).as_bytes(), 1).is_ok());
        assert!(check_structure(nested(DEPTH + 1).as_bytes(), 1).is_err());
        for limit in [1, 50, DEPTH - 1] {
            assert!(check_depth(nested(limit).as_bytes(), limit).is_ok());
            assert!(check_depth(nested(limit + 1).as_bytes(), limit).is_err(), "{limit}");
        }
        assert!(check_structure("[".repeat(250_000).as_bytes(), 1).is_err());
        let quoted = format!("\"{}\\\"{}\"", "[".repeat(500), "{".repeat(500));
        assert!(check_structure(quoted.as_bytes(), 0).is_ok());
        assert!(check_structure(b"[{}, {}]", 2).is_ok());
        assert_eq!(check_structure(b"[{}, {}]", 1).unwrap_err().kind(), Kind::TooLarge);
    }

    #[test]
    fn errors_say_where_and_what() {
        let cases: [(&str, &str); 4] = [
            ("", "the body is empty; expected {}"),
            ("[1]", "the body is an array; expected {}"),
            ("{\"a\": ", "the body is not valid JSON: EOF while parsing a value at line 1 column 6"),
            ("{\"a\": 1e999}", "the body is not valid JSON: number out of range at line 1 column 11"),
        ];
        for (body, message) in cases {
            assert_eq!(object(body.as_bytes(), "{}", 9).unwrap_err().to_string(), message, "{body}");
        }
        let error = known_fields(["inptu"], &["input", "inputs"], "the request").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown field `inptu` in the request; did you mean `input`; the fields are `input`, `inputs`"
        );
    }
}
