//! Elements as bytes: little-endian, row-major, without padding. It is what the binary tensor extension appends to
//! its JSON, and what gRPC carries as raw contents.
//!
//! An element of `BYTES` is its length in four bytes and then itself; a `BOOL` is one byte, 0 or 1. NaN and the
//! infinities are values like any other here, and keep their bits.

use network::{DType, Elements, Tensor, element_count};

/// How many dimensions a tensor may have.
pub(crate) const RANK: usize = 16;

/// Bytes of one element; nothing for `BYTES`, whose elements have any length.
#[must_use]
pub fn element_size(dtype: DType) -> Option<usize> {
    match dtype {
        DType::Bool | DType::U8 | DType::I8 => Some(1),
        DType::U16 | DType::I16 | DType::F16 | DType::Bf16 => Some(2),
        DType::U32 | DType::I32 | DType::F32 => Some(4),
        DType::U64 | DType::I64 | DType::F64 => Some(8),
        _ => None,
    }
}

/// Reads a tensor of `shape` and `dtype`, which must take up all of `bytes`.
///
/// # Errors
/// A sentence about what is wrong, without the tensor's name.
pub fn read(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor, String> {
    let count = count(shape)?;
    if let Some(size) = element_size(dtype) {
        let needed = count.checked_mul(size);
        if needed != Some(bytes.len()) {
            let needed =
                needed.map_or_else(|| "more than can be counted".to_owned(), |size| size.to_string());
            return Err(format!(
                "its shape {shape:?} of {dtype} needs {needed} bytes, but there are {}",
                bytes.len()
            ));
        }
    }
    let elements = match dtype {
        DType::Bool => Elements::Bool(booleans(bytes)?),
        DType::U8 => Elements::U8(bytes.to_vec()),
        DType::U16 => Elements::U16(words(bytes, u16::from_le_bytes)),
        DType::U32 => Elements::U32(words(bytes, u32::from_le_bytes)),
        DType::U64 => Elements::U64(words(bytes, u64::from_le_bytes)),
        DType::I8 => Elements::I8(words(bytes, i8::from_le_bytes)),
        DType::I16 => Elements::I16(words(bytes, i16::from_le_bytes)),
        DType::I32 => Elements::I32(words(bytes, i32::from_le_bytes)),
        DType::I64 => Elements::I64(words(bytes, i64::from_le_bytes)),
        DType::F16 => Elements::F16(words(bytes, u16::from_le_bytes)),
        DType::Bf16 => Elements::Bf16(words(bytes, u16::from_le_bytes)),
        DType::F32 => Elements::F32(words(bytes, f32::from_le_bytes)),
        DType::F64 => Elements::F64(words(bytes, f64::from_le_bytes)),
        DType::Bytes => Elements::Bytes(strings(count, bytes)?),
        other => return Err(format!("its datatype {other} cannot be read")),
    };
    Tensor::new(shape.to_vec(), elements).map_err(|error| error.to_string())
}

/// The number of elements of a shape that a client claims.
pub(crate) fn count(shape: &[usize]) -> Result<usize, String> {
    if shape.len() > RANK {
        return Err(format!("its shape has {} dimensions; at most {RANK} are read", shape.len()));
    }
    element_count(shape).ok_or_else(|| format!("its shape {shape:?} has more elements than can be counted"))
}

/// Every word of `bytes`, whose length is a multiple of the word's.
fn words<const N: usize, T>(bytes: &[u8], word: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| word(*chunk)).collect()
}

fn booleans(bytes: &[u8]) -> Result<Vec<bool>, String> {
    let read = |&byte: &u8| match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("byte {other} is no BOOL; expected 0 or 1")),
    };
    bytes.iter().map(read).collect()
}

fn strings(count: usize, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    // Each element has its length before it, so a claim beyond that cannot be true; it must not reserve memory.
    if count > bytes.len() / 4 {
        return Err(format!("its shape has {count} elements, but {} bytes hold fewer", bytes.len()));
    }
    let mut strings = Vec::with_capacity(count);
    let mut rest = bytes;
    for index in 0..count {
        let cut = || format!("element {index} of BYTES breaks off");
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| cut())?;
        let (string, after) = after.split_at_checked(length).ok_or_else(|| {
            format!("element {index} of BYTES claims {length} bytes, but {} are left", after.len())
        })?;
        strings.push(string.to_vec());
        rest = after;
    }
    if rest.is_empty() {
        Ok(strings)
    } else {
        Err(format!("{} bytes are left over after {count} elements of BYTES", rest.len()))
    }
}

/// How many bytes [`write()`] appends.
#[must_use]
pub fn size(elements: &Elements) -> usize {
    match elements {
        Elements::Bytes(strings) => strings.iter().map(|string| 4 + string.len()).sum(),
        other => other.len() * element_size(other.dtype()).unwrap_or(0),
    }
}

/// Appends the elements to `out`.
///
/// # Errors
/// A sentence about an element that has no form here: a string of 4 GiB or more.
pub fn write(elements: &Elements, out: &mut Vec<u8>) -> Result<(), String> {
    out.reserve(size(elements));
    match elements {
        Elements::Bool(values) => out.extend(values.iter().map(|&value| u8::from(value))),
        Elements::U8(values) => out.extend_from_slice(values),
        Elements::U16(values) | Elements::F16(values) | Elements::Bf16(values) => {
            append(out, values, |value| value.to_le_bytes());
        }
        Elements::U32(values) => append(out, values, |value| value.to_le_bytes()),
        Elements::U64(values) => append(out, values, |value| value.to_le_bytes()),
        Elements::I8(values) => append(out, values, |value| value.to_le_bytes()),
        Elements::I16(values) => append(out, values, |value| value.to_le_bytes()),
        Elements::I32(values) => append(out, values, |value| value.to_le_bytes()),
        Elements::I64(values) => append(out, values, |value| value.to_le_bytes()),
        Elements::F32(values) => append(out, values, |value| value.to_le_bytes()),
        Elements::F64(values) => append(out, values, |value| value.to_le_bytes()),
        Elements::Bytes(strings) => {
            for string in strings {
                let length = u32::try_from(string.len())
                    .map_err(|_| format!("a string of {} bytes is too long", string.len()))?;
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(string);
            }
        }
        other => return Err(format!("the datatype {} has no binary form here", other.dtype())),
    }
    Ok(())
}

/// Into room that is made at once: asking for it at each element would be most of the work.
fn append<const N: usize, T: Copy>(out: &mut Vec<u8>, values: &[T], word: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + N * values.len(), 0);
    let chunks = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>().0;
    for (chunk, &value) in chunks.iter_mut().zip(values) {
        *chunk = word(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_little_endian_and_strings_carry_their_length() {
        let cases: [(DType, &[usize], &[u8], Elements); 7] = [
            (DType::Bool, &[2], &[1, 0], Elements::Bool(vec![true, false])),
            (DType::I16, &[2], &[1, 0, 0xfe, 0xff], Elements::I16(vec![1, -2])),
            (DType::F16, &[1], &[0x00, 0x3c], Elements::F16(vec![0x3c00])),
            (DType::F32, &[1, 1], &[0, 0, 0x80, 0x3f], Elements::F32(vec![1.0])),
            (DType::U64, &[1], &[1, 0, 0, 0, 0, 0, 0, 0], Elements::U64(vec![1])),
            (DType::F64, &[0, 5], &[], Elements::F64(vec![])),
            (
                DType::Bytes,
                &[2],
                &[2, 0, 0, 0, b'h', 0xff, 0, 0, 0, 0],
                Elements::Bytes(vec![vec![b'h', 0xff], vec![]]),
            ),
        ];
        for (dtype, shape, bytes, elements) in cases {
            let tensor = read(dtype, shape, bytes).unwrap();
            assert_eq!(tensor.elements(), &elements, "{dtype}");
            let mut written = Vec::new();
            write(&elements, &mut written).unwrap();
            assert_eq!((written.as_slice(), size(&elements)), (bytes, bytes.len()), "{dtype}");
        }
    }

    #[test]
    fn nan_and_infinities_keep_their_bits() {
        let bits = [0x7fc0_1234u32, 0xffc0_0000, 0x7f80_0000, 0xff80_0000, 0x8000_0000];
        let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let mut written = Vec::new();
        write(read(DType::F32, &[5], &bytes).unwrap().elements(), &mut written).unwrap();
        assert_eq!(written, bytes);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cases: [(DType, &[usize], &[u8], &str); 11] = [
            (DType::F32, &[2], &[0; 7], "needs 8 bytes, but there are 7"),
            (DType::F32, &[2], &[0; 9], "needs 8 bytes, but there are 9"),
            (DType::F32, &[1 << 62, 1], &[0; 4], "needs more than can be counted"),
            (DType::F32, &[16, (1 << 60) + 2], &[0; 4], "more elements than can be counted"),
            (DType::F32, &[1; 17], &[0; 4], "17 dimensions; at most 16"),
            (DType::Bool, &[2], &[0, 2], "byte 2 is no BOOL"),
            (DType::Bytes, &[1], &[5, 0, 0, 0, b'a'], "claims 5 bytes, but 1 are left"),
            (DType::Bytes, &[1], &[255, 255, 255, 255], "claims 4294967295 bytes"),
            (DType::Bytes, &[2], &[1, 0, 0, 0, b'a', 0, 0, 0], "element 1 of BYTES breaks off"),
            (DType::Bytes, &[1], &[0, 0, 0, 0, 7], "1 bytes are left over"),
            (DType::Bytes, &[1 << 40], &[0; 8], "8 bytes hold fewer"),
        ];
        for (dtype, shape, bytes, part) in cases {
            let error = read(dtype, shape, bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
