//! What the parameters of requests, inputs and outputs mean, apart from how they travel.
//!
//! A parameter is a string, a number or a boolean. One that no extension knows is a hint to some proxy or client
//! library and means nothing here, as the protocol says; one of an extension that is not spoken is refused when it
//! asks for something, because the answer would not be what was asked for.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::types::Schedule;
use crate::error::{Kind, Result, ServeError, shown};
use crate::json;

/// What asks for the extension that this server does not speak: tensors in shared memory.
const SHARED_MEMORY: [&str; 3] = ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"];

/// An input or an output by its name: where a parameter stands, written out only for the error that says so.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// `input` or `output`.
    pub what: &'static str,
    /// Its name, as the client gave it.
    pub name: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, shown(self.name))
    }
}

/// Checks the types of all parameters of one place.
///
/// # Errors
/// 400 for a list or an object, 501 for an extension that is not spoken.
pub fn check(parameters: &Map<String, Value>, place: impl fmt::Display + Copy) -> Result<()> {
    for (name, value) in parameters {
        if matches!(value, Value::Array(_) | Value::Object(_) | Value::Null) {
            return Err(wrong(name, value, place, "a string, a number or a boolean"));
        }
        if SHARED_MEMORY.contains(&name.as_str()) {
            let message = format!("`{name}` of {place}: this server does not share memory with its clients");
            return Err(ServeError::new(Kind::Unsupported, message));
        }
    }
    Ok(())
}

fn wrong(name: &str, value: &Value, place: impl fmt::Display, expected: &str) -> ServeError {
    let kind = json::kind_of(value);
    ServeError::invalid(format_args!(
        "parameter {} of {place} must be {expected}, but is {kind}",
        shown(name)
    ))
}

/// A parameter that is true or false.
///
/// # Errors
/// 400 when it is something else.
pub fn flag(parameters: &Map<String, Value>, name: &str, place: impl fmt::Display) -> Result<Option<bool>> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(wrong(name, other, place, "a boolean")),
    }
}

/// `binary_data_size`: how many of the bytes after the JSON are this input's.
///
/// # Errors
/// 400 when it is no size.
pub fn size(parameters: &Map<String, Value>, place: impl fmt::Display) -> Result<Option<usize>> {
    let Some(value) = parameters.get("binary_data_size") else { return Ok(None) };
    let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
    size.map(Some).ok_or_else(|| wrong("binary_data_size", value, place, "a whole number of bytes"))
}

/// `classification`: how many of the largest values to answer instead of all; 0 and nothing mean all.
///
/// # Errors
/// 400 when it is no number of classes.
pub fn classes(parameters: &Map<String, Value>, place: impl fmt::Display) -> Result<usize> {
    let Some(value) = parameters.get("classification") else { return Ok(0) };
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| wrong("classification", value, place, "a number of classes"))
}

/// `priority` and `timeout`.
///
/// # Errors
/// 400 for what is no number where a number belongs.
pub fn schedule(parameters: &Map<String, Value>) -> Result<Schedule> {
    let whole = |name: &str| match parameters.get(name) {
        None => Ok(None),
        Some(value) => match (value.as_u64(), value.as_str().and_then(|text| text.parse().ok())) {
            (Some(number), _) | (None, Some(number)) => Ok(Some(number)),
            (None, None) => Err(wrong(name, value, "the request", "a whole number from 0 on")),
        },
    };
    // Sequences are for models that keep state, which none of ours does: what names them is only looked at.
    if let Some(value @ Value::Bool(_)) = parameters.get("sequence_id") {
        return Err(wrong("sequence_id", value, "the request", "a number or a string"));
    }
    flag(parameters, "sequence_start", "the request")?;
    flag(parameters, "sequence_end", "the request")?;
    Ok(Schedule {
        priority: whole("priority")?.unwrap_or(0),
        // 0 is no limit, as with Triton.
        timeout: whole("timeout")?.filter(|micros| *micros > 0).map(Duration::from_micros),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_schedules_is_read_and_the_rest_is_a_hint() {
        let given =
            json!({ "priority": 2, "timeout": 1500, "sequence_id": 7, "sequence_start": true, "x": "y" });
        let read = schedule(&map(given)).unwrap();
        let expected = Schedule { priority: 2, timeout: Some(Duration::from_micros(1500)) };
        assert_eq!(read, expected);
        assert_eq!(schedule(&map(json!({ "priority": "3" }))).unwrap().priority, 3);
        assert_eq!(schedule(&map(json!({ "timeout": 0, "sequence_id": 0 }))).unwrap(), Schedule::default());
        for wrong in [
            json!({ "priority": -1 }),
            json!({ "timeout": 1.5 }),
            json!({ "timeout": "soon" }),
            json!({ "sequence_id": false }),
            json!({ "sequence_end": 1 }),
        ] {
            assert_eq!(schedule(&map(wrong.clone())).unwrap_err().kind(), Kind::Invalid, "{wrong}");
        }
    }

    #[test]
    fn parameters_have_types() {
        let kind = |value: Value| check(&map(value), "the request").map_err(|error| error.kind());
        assert_eq!(kind(json!({ "a": 1, "b": "c", "d": false })), Ok(()));
        assert_eq!(kind(json!({ "a": [] })), Err(Kind::Invalid));
        assert_eq!(kind(json!({ "shared_memory_region": "r" })), Err(Kind::Unsupported));
        assert!(flag(&map(json!({ "binary_data": 1 })), "binary_data", "x").is_err());
        assert_eq!(size(&map(json!({ "binary_data_size": 8 })), "x").unwrap(), Some(8));
        for wrong in [json!(-8), json!(1.5), json!("8"), json!(true)] {
            assert!(size(&map(json!({ "binary_data_size": wrong })), "x").is_err());
        }
    }
}
