//! The `data` of a JSON tensor: numbers, booleans or strings, flat or nested as the shape says.
//!
//! The datatype and shape are known before the data is read, so it goes straight into a typed vector,
//! without a tree of JSON values between; the nesting is followed only as deep as the shape has dimensions.

use std::fmt;

use half::f16;
use network::{DType, Elements, Tensor};
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::binary;

/// Reads `data` as a tensor of `shape` and `dtype`.
///
/// # Errors
/// A sentence about what is wrong, without the tensor's name.
pub fn tensor(dtype: DType, shape: &[usize], data: &RawValue) -> Result<Tensor, String> {
    let count = binary::count(shape)?;
    // Each element takes at least two characters, so a claim beyond that cannot be true; it must not
    // reserve memory either.
    if count > data.get().len() {
        return Err(format!("its shape {shape:?} has {count} elements, but `data` holds fewer"));
    }
    let elements = match dtype {
        DType::Bool => read(data, shape, count, Elements::Bool, as_is::<bool>),
        DType::U8 => read(data, shape, count, Elements::U8, as_is::<u8>),
        DType::U16 => read(data, shape, count, Elements::U16, as_is::<u16>),
        DType::U32 => read(data, shape, count, Elements::U32, as_is::<u32>),
        DType::U64 => read(data, shape, count, Elements::U64, as_is::<u64>),
        DType::I8 => read(data, shape, count, Elements::I8, as_is::<i8>),
        DType::I16 => read(data, shape, count, Elements::I16, as_is::<i16>),
        DType::I32 => read(data, shape, count, Elements::I32, as_is::<i32>),
        DType::I64 => read(data, shape, count, Elements::I64, as_is::<i64>),
        DType::F16 => read(data, shape, count, Elements::F16, finite_f16),
        DType::F32 => read(data, shape, count, Elements::F32, finite_f32),
        DType::F64 => read(data, shape, count, Elements::F64, as_is::<f64>),
        DType::Bytes => read(data, shape, count, Elements::Bytes, |text: String| Ok(text.into_bytes())),
        DType::Bf16 => return Err("BF16 has no form in JSON; send it in binary".to_owned()),
        other => return Err(format!("its datatype {other} cannot be read from JSON")),
    }?;
    Tensor::new(shape.to_vec(), elements).map_err(|error| error.to_string())
}

fn as_is<T>(value: T) -> Result<T, &'static str> {
    Ok(value)
}

fn finite_f32(value: f64) -> Result<f32, &'static str> {
    let narrow = value as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err("a number outside the range of FP32") }
}

fn finite_f16(value: f64) -> Result<u16, &'static str> {
    let narrow = f16::from_f64(value);
    if narrow.is_finite() { Ok(narrow.to_bits()) } else { Err("a number outside the range of FP16") }
}

fn read<'de, T: Deserialize<'de>, E>(
    data: &'de RawValue,
    shape: &[usize],
    count: usize,
    wrap: fn(Vec<E>) -> Elements,
    convert: fn(T) -> Result<E, &'static str>,
) -> Result<Elements, String> {
    let mut out = Vec::with_capacity(count);
    let nested = is_nested(data.get());
    // A flat list is a nesting with one level of all elements.
    let flat = [count];
    let levels = if nested { shape } else { &flat };
    let seed = Level { levels, out: &mut out, convert, element: std::marker::PhantomData };
    let mut deserializer = serde_json::Deserializer::from_str(data.get());
    seed.deserialize(&mut deserializer).map_err(|error| {
        // The place within `data` helps no one; the line and column of the body are not known here.
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or(&text);
        format!("`data`: {}", text.chars().take(200).collect::<String>())
    })?;
    if out.len() != count {
        return Err(format!("its shape {shape:?} has {count} elements, but `data` holds {}", out.len()));
    }
    Ok(wrap(out))
}

/// Whether the first element of the array is itself an array.
fn is_nested(text: &str) -> bool {
    let inner = text.trim_start().strip_prefix('[').unwrap_or("");
    inner.trim_start().starts_with('[')
}

/// One level of nesting: an array whose length is the first of `levels`.
struct Level<'a, T, E> {
    levels: &'a [usize],
    out: &'a mut Vec<E>,
    convert: fn(T) -> Result<E, &'static str>,
    element: std::marker::PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, E> DeserializeSeed<'de> for Level<'_, T, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, E> Visitor<'de> for Level<'_, T, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.levels {
            [size] => write!(f, "an array of {size} elements"),
            [size, rest @ ..] => write!(f, "an array of {size} arrays of shape {rest:?}"),
            [] => f.write_str("no array"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Some((&size, inner)) = self.levels.split_first() else {
            return Err(A::Error::custom("the nesting is deeper than the shape has dimensions"));
        };
        let mut found = 0usize;
        if inner.is_empty() {
            while let Some(value) = sequence.next_element::<T>()? {
                found += 1;
                if found > size {
                    return Err(A::Error::custom(format_args!("expected {size} elements, found more")));
                }
                self.out.push((self.convert)(value).map_err(A::Error::custom)?);
            }
        } else {
            loop {
                let next =
                    Level { levels: inner, out: self.out, convert: self.convert, element: self.element };
                if sequence.next_element_seed(next)?.is_none() {
                    break;
                }
                found += 1;
                if found > size {
                    return Err(A::Error::custom(format_args!("expected {size} rows, found more")));
                }
            }
        }
        if found < size {
            return Err(A::Error::custom(format_args!("expected {size} elements, found {found}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(dtype: DType, shape: &[usize], json: &str) -> Result<Elements, String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        tensor(dtype, shape, &raw).map(|tensor| tensor.into_parts().1)
    }

    #[test]
    fn flat_and_nested_are_the_same_tensor() {
        let expected = Elements::F32(vec![1.0, 2.0, 3.0, 4.5]);
        for json in ["[1, 2, 3, 4.5]", "[[1, 2], [3, 4.5]]", " [ [1,2] ,[3,4.5] ] "] {
            assert_eq!(read_json(DType::F32, &[2, 2], json).unwrap(), expected, "{json}");
        }
        assert_eq!(read_json(DType::Bytes, &[1], r#"["é\n"]"#).unwrap(), Elements::Bytes(vec!["é\n".into()]));
        assert_eq!(read_json(DType::Bool, &[2], "[true,false]").unwrap(), Elements::Bool(vec![true, false]));
        assert_eq!(
            read_json(DType::U64, &[1], "[18446744073709551615]").unwrap(),
            Elements::U64(vec![u64::MAX])
        );
        assert_eq!(read_json(DType::F16, &[2], "[1, -0.5]").unwrap(), Elements::F16(vec![0x3c00, 0xb800]));
        assert_eq!(read_json(DType::F32, &[0, 4], "[]").unwrap(), Elements::F32(vec![]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cases: [(DType, &[usize], &str, &str); 16] = [
            (DType::F32, &[2, 2], "[1, 2, 3]", "expected 4 elements, found 3"),
            (DType::F32, &[2, 2], "[1, 2, 3, 4, 5]", "expected 4 elements, found more"),
            (DType::F32, &[2, 2], "[[1, 2], [3]]", "expected 2 elements, found 1"),
            (DType::F32, &[2, 2], "[[1, 2, 3], [4]]", "expected 2 elements, found more"),
            (DType::F32, &[2, 2], "[[[1, 2]], [[3, 4]]]", "invalid type: sequence, expected f64"),
            (DType::F32, &[2, 2], "[[1, 2], 3, 4]", "expected an array of 2 elements"),
            (DType::F32, &[1], "[null]", "invalid type: null, expected f64"),
            (DType::F32, &[1], "[1e39]", "a number outside the range of FP32"),
            (DType::F16, &[1], "[65520]", "a number outside the range of FP16"),
            (DType::Bf16, &[1], "[1]", "send it in binary"),
            (DType::F32, &[1], "[\"1\"]", "invalid type: string"),
            (DType::F32, &[1], "{}", "invalid type: map, expected an array of 1 elements"),
            (DType::U8, &[1], "[256]", "invalid value: integer `256`, expected u8"),
            (DType::I64, &[1], "[1.5]", "invalid type: floating point `1.5`, expected i64"),
            (DType::F32, &[16, (1 << 60) + 2], "[1]", "more elements than can be counted"),
            (DType::F32, &[4, 1 << 60], "[1]", "but `data` holds fewer"),
        ];
        for (dtype, shape, json, part) in cases {
            let error = read_json(dtype, shape, json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
