//! The IDX format of MNIST: a magic number, big-endian sizes, then the elements in row-major order.
//!
//! ```text
//! 0   0 0 <element type> <number of dimensions>
//! 4   one u32 (big-endian) per dimension; the first counts the items
//! …   elements (big-endian)
//! ```

use std::path::Path;

use sha2::{Digest, Sha256};

use super::DataError;
use super::store::Store;

/// No data set that is known has more; a header is believed only as far as this.
const MAX_DIMENSIONS: u8 = 8;

/// The element types that the format knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

impl Element {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x08 => Self::U8,
            0x09 => Self::I8,
            0x0B => Self::I16,
            0x0C => Self::I32,
            0x0D => Self::F32,
            0x0E => Self::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The numbers in `bytes`; a rest that is no whole element is left out.
    fn decode(self, bytes: &[u8]) -> Vec<f64> {
        match self {
            Self::U8 => bytes.iter().map(|&byte| f64::from(byte)).collect(),
            Self::I8 => bytes.iter().map(|&byte| f64::from(byte.cast_signed())).collect(),
            Self::I16 => arrays(bytes).map(|array| f64::from(i16::from_be_bytes(array))).collect(),
            Self::I32 => arrays(bytes).map(|array| f64::from(i32::from_be_bytes(array))).collect(),
            Self::F32 => arrays(bytes).map(|array| f64::from(f32::from_be_bytes(array))).collect(),
            Self::F64 => arrays(bytes).map(f64::from_be_bytes).collect(),
        }
    }
}

fn arrays<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok())
}

/// The length that a header announces; none when it is no header.
fn announced(head: &[u8]) -> Option<u64> {
    let &[0, 0, code, dimensions, ..] = head else { return None };
    let sizes = head.get(4..4 + 4 * usize::from(dimensions))?;
    let elements = arrays(sizes)
        .try_fold(1u64, |product, array| product.checked_mul(u32::from_be_bytes(array).into()))?;
    let bytes = elements.checked_mul(Element::from_code(code)?.size() as u64)?;
    bytes.checked_add(4 + 4 * u64::from(dimensions))
}

/// An opened IDX file whose header fits its length.
#[derive(Debug)]
pub(crate) struct IdxFile {
    name: String,
    element: Element,
    items: usize,
    shape: Vec<usize>,
    item_bytes: usize,
    header: u64,
    store: Store,
}

impl IdxFile {
    /// Opens a plain or gzipped file.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        Self::parse(path.display().to_string(), Store::open(path, announced)?)
    }

    /// Reads bytes that are in memory.
    pub(crate) fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, DataError> {
        Self::parse(name.to_owned(), Store::from_bytes(name, bytes, announced)?)
    }

    fn parse(name: String, store: Store) -> Result<Self, DataError> {
        let head = store.read_at(0, 4)?;
        let &[zero, also_zero, code, dimensions] = head.as_slice() else {
            let problem = format!(
                "the file ends after {} bytes, inside the IDX header of 4 bytes and more",
                head.len()
            );
            return Err(DataError::bytes(&name, head.len() as u64, problem));
        };
        if (zero, also_zero) != (0, 0) {
            return Err(DataError::bytes(
                &name,
                0,
                "an IDX file begins with two zero bytes; this is another format",
            ));
        }
        let element = Element::from_code(code).ok_or_else(|| {
            let problem = format!("unknown element type 0x{code:02x}; expected 08, 09, 0b, 0c, 0d or 0e");
            DataError::bytes(&name, 2, problem)
        })?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            let problem = format!("{dimensions} dimensions; expected 1 to {MAX_DIMENSIONS}");
            return Err(DataError::bytes(&name, 3, problem));
        }
        let sizes = store.read_at(4, 4 * usize::from(dimensions))?;
        if sizes.len() < 4 * usize::from(dimensions) {
            let problem = format!("the file ends inside its header of {dimensions} dimensions");
            return Err(DataError::bytes(&name, store.len(), problem));
        }
        let sizes: Vec<usize> = arrays(&sizes).map(|array| u32::from_be_bytes(array) as usize).collect();
        if let Some(position) = sizes.iter().position(|&size| size == 0) {
            return Err(DataError::bytes(&name, 4 + 4 * position as u64, "a dimension of size 0"));
        }
        let (items, shape) = (sizes[0], sizes[1..].to_vec());
        let item_bytes = shape.iter().try_fold(element.size(), |product, &size| product.checked_mul(size));
        let header = 4 + 4 * sizes.len() as u64;
        let expected =
            item_bytes.and_then(|bytes| bytes.checked_mul(items)).and_then(|n| header.checked_add(n as u64));
        let (Some(item_bytes), true) = (item_bytes, expected == Some(store.len())) else {
            let expected =
                expected.map_or("more bytes than can be counted".to_owned(), |n| format!("{n} bytes"));
            let problem = format!(
                "the header announces {} elements of {} bytes, so {expected} in all, but the file has {}",
                sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × "),
                element.size(),
                store.len(),
            );
            return Err(DataError::bytes(&name, 4, problem));
        };
        Ok(Self { name, element, items, shape, item_bytes, header, store })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn element(&self) -> Element {
        self.element
    }

    /// The number of items: the first dimension.
    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// The other dimensions.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes of one item as they are stored; for `U8` these are its elements.
    pub(crate) fn item_bytes(&self, index: usize) -> Result<Vec<u8>, DataError> {
        if index >= self.items {
            return Err(DataError::NoSuchSample { index, len: self.items });
        }
        let offset = self.header + index as u64 * self.item_bytes as u64;
        let bytes = self.store.read_at(offset, self.item_bytes)?;
        if bytes.len() < self.item_bytes {
            return Err(DataError::bytes(&self.name, offset, "the file became shorter while it was read"));
        }
        Ok(bytes)
    }

    /// The elements of one item.
    pub(crate) fn item(&self, index: usize) -> Result<Vec<f64>, DataError> {
        Ok(self.element.decode(&self.item_bytes(index)?))
    }

    /// The items as class numbers: a file of one dimension with whole numbers from 0 to 65,535.
    pub(crate) fn labels(&self) -> Result<Vec<u16>, DataError> {
        if !self.shape.is_empty() {
            let problem = format!("labels have 1 dimension, but this file has {}", self.shape.len() + 1);
            return Err(DataError::bytes(&self.name, 3, problem));
        }
        let mut labels = Vec::new();
        let mut rest = Vec::new();
        let mut problem = None;
        let mut skipped = 0;
        self.store.for_each_piece(|piece| {
            // The header is passed over, and elements that a piece cuts in two are put together again.
            let skip = (self.header as usize - skipped).min(piece.len());
            skipped += skip;
            rest.extend_from_slice(&piece[skip..]);
            let whole = rest.len() / self.element.size() * self.element.size();
            for value in self.element.decode(&rest[..whole]) {
                if value.fract() != 0.0 || !(0.0..=f64::from(u16::MAX)).contains(&value) {
                    problem.get_or_insert((labels.len(), value));
                }
                labels.push(value as u16);
            }
            rest.drain(..whole);
        })?;
        match problem {
            None => Ok(labels),
            Some((index, value)) => {
                let offset = self.header + (index * self.element.size()) as u64;
                let problem =
                    format!("the label {value} is no class number; expected a whole number from 0 to 65535");
                Err(DataError::bytes(&self.name, offset, problem))
            }
        }
    }

    /// Adds the whole uncompressed content to a digest.
    pub(crate) fn digest(&self, digest: &mut Sha256) -> Result<(), DataError> {
        self.store.for_each_piece(|piece| digest.update(piece))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn file(element: u8, dims: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, element, dims.len() as u8];
        dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn reads_every_element_type() {
        let cases: [(u8, Vec<u8>, [f64; 2]); 6] = [
            (0x08, vec![1, 255], [1.0, 255.0]),
            (0x09, vec![1, 255], [1.0, -1.0]),
            (0x0B, [1i16.to_be_bytes(), (-2i16).to_be_bytes()].concat(), [1.0, -2.0]),
            (0x0C, [1i32.to_be_bytes(), (-70_000i32).to_be_bytes()].concat(), [1.0, -70_000.0]),
            (0x0D, [0.5f32.to_be_bytes(), (-2f32).to_be_bytes()].concat(), [0.5, -2.0]),
            (0x0E, [0.1f64.to_be_bytes(), (-2f64).to_be_bytes()].concat(), [0.1, -2.0]),
        ];
        for (code, data, expected) in cases {
            let idx = IdxFile::from_bytes("x", &file(code, &[1, 2], &data)).unwrap();
            assert_eq!(idx.item(0).unwrap(), expected);
            assert!(idx.item(1).is_err());
        }
    }

    #[test]
    fn gzip_and_plain_are_the_same() {
        let plain = file(0x08, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&plain).unwrap();
        let idx = IdxFile::from_bytes("x.gz", &gzip.finish().unwrap()).unwrap();
        assert_eq!((idx.items(), idx.shape()), (2, &[3][..]));
        assert_eq!(idx.item_bytes(1).unwrap(), [4, 5, 6]);
    }

    #[test]
    fn refusals_name_file_and_offset() {
        let cases: [(Vec<u8>, &str); 8] = [
            (vec![], "x: at byte 0: the file ends after 0 bytes"),
            (vec![0, 0, 8], "x: at byte 3: the file ends"),
            (b"\x89PNG....".to_vec(), "x: at byte 0: an IDX file begins with two zero bytes"),
            (file(0x07, &[1], &[0]), "x: at byte 2: unknown element type 0x07"),
            (file(0x08, &[], &[0]), "x: at byte 3: 0 dimensions"),
            (file(0x08, &[2, 0], &[]), "x: at byte 8: a dimension of size 0"),
            (file(0x08, &[u32::MAX, u32::MAX, u32::MAX], &[1]), "more bytes than can be counted"),
            (
                file(0x08, &[2, 2], &[1, 2, 3]),
                "the header announces 2 × 2 elements of 1 bytes, so 16 bytes in all, but the file has 15",
            ),
        ];
        for (bytes, message) in cases {
            let error = IdxFile::from_bytes("x", &bytes).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let labels = IdxFile::from_bytes("x", &file(0x0B, &[2], &[0, 1, 255, 255])).unwrap().labels();
        assert!(
            labels.unwrap_err().to_string().starts_with("x: at byte 10: the label -1 is no class number")
        );
    }

    proptest! {
        #[test]
        fn mutated_bytes_never_panic(
            mut bytes in Just(file(0x08, &[3, 2, 2], &[7; 12])),
            changes in prop::collection::vec((0usize..28, any::<u8>()), 0..6),
            cut in 0usize..29,
        ) {
            for (position, value) in changes {
                bytes[position % 28] = value;
            }
            bytes.truncate(cut);
            if let Ok(idx) = IdxFile::from_bytes("x", &bytes) {
                prop_assert!(idx.items() * idx.item_bytes <= bytes.len());
                let _ = (idx.item(0), idx.item(usize::MAX), idx.labels());
            }
        }
    }
}
