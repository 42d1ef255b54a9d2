//! Rows of tensors: cut out and joined along the first dimension, whatever the element type.

use std::ops::Range;

use crate::tensor::{DType, Elements, Tensor, element_count};

macro_rules! each_type {
    ($($variant:ident),*) => {
        impl Elements {
            /// No elements yet, and room for `capacity`.
            #[must_use]
            pub fn with_capacity(dtype: DType, capacity: usize) -> Self {
                match dtype {
                    $(DType::$variant => Self::$variant(Vec::with_capacity(capacity)),)*
                }
            }

            /// Appends the elements of `other` in `range`. Nothing is appended, and the answer is `false`, when the
            /// types differ or `other` has fewer elements.
            #[must_use]
            pub fn append(&mut self, other: &Self, range: Range<usize>) -> bool {
                match (self, other) {
                    $((Self::$variant(to), Self::$variant(from)) => match from.get(range) {
                        Some(part) => to.extend_from_slice(part),
                        None => return false,
                    },)*
                    _ => return false,
                }
                true
            }
        }
    };
}

each_type!(Bool, U8, U16, U32, U64, I8, I16, I32, I64, F16, Bf16, F32, F64, Bytes);

impl Tensor {
    /// The size of the first dimension, the rows of a batch; 1 without dimensions.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape().first().copied().unwrap_or(1)
    }

    /// Some rows of it, as a tensor of their own; nothing when it has fewer.
    #[must_use]
    pub fn slice_rows(&self, rows: Range<usize>) -> Option<Self> {
        Self::join_rows(&[(self, rows)])
    }

    /// Rows of several tensors one after the other; nothing when there are none, when their types or other dimensions
    /// differ, or when a tensor has fewer rows than are asked of it.
    #[must_use]
    pub fn join_rows(parts: &[(&Self, Range<usize>)]) -> Option<Self> {
        let (first, _) = parts.first()?;
        let inner = first.shape().get(1..)?;
        let width = element_count(inner)?;
        let rows = parts.iter().try_fold(0usize, |sum, (_, rows)| sum.checked_add(rows.len()))?;
        let mut elements = Elements::with_capacity(first.dtype(), rows.checked_mul(width)?);
        for (tensor, rows) in parts {
            if tensor.shape().get(1..)? != inner || rows.end > tensor.rows() || rows.start > rows.end {
                return None;
            }
            if !elements.append(tensor.elements(), rows.start * width..rows.end * width) {
                return None;
            }
        }
        Self::new(std::iter::once(rows).chain(inner.iter().copied()).collect(), elements).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], elements: Elements) -> Tensor {
        Tensor::new(shape.to_vec(), elements).unwrap()
    }

    #[test]
    fn rows_are_cut_out_and_joined() {
        let a = tensor(&[3, 2], Elements::I32(vec![1, 2, 3, 4, 5, 6]));
        let b = tensor(&[1, 2], Elements::I32(vec![7, 8]));
        assert_eq!(a.slice_rows(1..3).unwrap(), tensor(&[2, 2], Elements::I32(vec![3, 4, 5, 6])));
        let joined = Tensor::join_rows(&[(&b, 0..1), (&a, 2..3), (&a, 0..0)]).unwrap();
        assert_eq!(joined, tensor(&[2, 2], Elements::I32(vec![7, 8, 5, 6])));
        let text = tensor(&[2], Elements::Bytes(vec![b"x".to_vec(), b"yz".to_vec()]));
        assert_eq!(
            text.slice_rows(1..2).unwrap(),
            tensor(&[1], Elements::Bytes(vec![b"yz".to_vec()])),
            "a dimension of its own is the batch"
        );
    }

    #[test]
    fn what_does_not_fit_is_nothing() {
        let a = tensor(&[2, 2], Elements::I32(vec![1, 2, 3, 4]));
        let other_type = tensor(&[2, 2], Elements::I64(vec![1, 2, 3, 4]));
        let other_shape = tensor(&[1, 4], Elements::I32(vec![1, 2, 3, 4]));
        let no_dimension = tensor(&[], Elements::I32(vec![1]));
        assert_eq!(a.slice_rows(1..3), None);
        assert_eq!(Tensor::join_rows(&[]), None);
        assert_eq!(Tensor::join_rows(&[(&a, 0..1), (&other_type, 0..1)]), None);
        assert_eq!(Tensor::join_rows(&[(&a, 0..1), (&other_shape, 0..1)]), None);
        assert_eq!(no_dimension.slice_rows(0..1), None);
        #[expect(clippy::reversed_empty_ranges, reason = "what a mistake would give")]
        let reversed = a.slice_rows(2..1);
        assert_eq!(reversed, None);
    }
}
