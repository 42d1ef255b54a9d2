//! The elements of a tensor as bit patterns, whatever their type.

use network::{DType, Elements};

/// Types in the order in which a file numbers them.
pub(super) const TYPES: [DType; 10] = [
    DType::F32,
    DType::I8,
    DType::U8,
    DType::F64,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
];

/// Bits of one element; 0 for a type that a record cannot hold.
pub(super) fn width(dtype: DType) -> u32 {
    match dtype {
        DType::I8 | DType::U8 => 8,
        DType::I16 | DType::U16 => 16,
        DType::F32 | DType::I32 | DType::U32 => 32,
        DType::F64 | DType::I64 | DType::U64 => 64,
        _ => 0,
    }
}

/// Bits behind the exponent of a float; nothing for integers.
pub(super) fn mantissa(dtype: DType) -> Option<u32> {
    match dtype {
        DType::F32 => Some(23),
        DType::F64 => Some(52),
        _ => None,
    }
}

/// The bits of one element.
pub(super) fn get(elements: &Elements, index: usize) -> u64 {
    match elements {
        Elements::F32(values) => u64::from(values[index].to_bits()),
        Elements::F64(values) => values[index].to_bits(),
        Elements::I8(values) => u64::from(values[index].cast_unsigned()),
        Elements::I16(values) => u64::from(values[index].cast_unsigned()),
        Elements::I32(values) => u64::from(values[index].cast_unsigned()),
        Elements::I64(values) => values[index].cast_unsigned(),
        Elements::U8(values) => u64::from(values[index]),
        Elements::U16(values) => u64::from(values[index]),
        Elements::U32(values) => u64::from(values[index]),
        Elements::U64(values) => values[index],
        _ => 0,
    }
}

/// Replaces the bits of one element; higher bits are ignored.
#[allow(clippy::cast_possible_truncation, reason = "the higher bits are not those of the type")]
pub(super) fn set(elements: &mut Elements, index: usize, bits: u64) {
    match elements {
        Elements::F32(values) => values[index] = f32::from_bits(bits as u32),
        Elements::F64(values) => values[index] = f64::from_bits(bits),
        Elements::I8(values) => values[index] = (bits as u8).cast_signed(),
        Elements::I16(values) => values[index] = (bits as u16).cast_signed(),
        Elements::I32(values) => values[index] = (bits as u32).cast_signed(),
        Elements::I64(values) => values[index] = bits.cast_signed(),
        Elements::U8(values) => values[index] = bits as u8,
        Elements::U16(values) => values[index] = bits as u16,
        Elements::U32(values) => values[index] = bits as u32,
        Elements::U64(values) => values[index] = bits,
        _ => {}
    }
}

/// That many zeros; nothing when there is no memory for them or a record cannot hold the type.
pub(super) fn zeros(dtype: DType, count: usize) -> Option<Elements> {
    fn zeros<T: Copy + Default>(count: usize) -> Option<Vec<T>> {
        let mut values = Vec::new();
        values.try_reserve_exact(count).ok()?;
        values.resize(count, T::default());
        Some(values)
    }
    Some(match dtype {
        DType::F32 => Elements::F32(zeros(count)?),
        DType::F64 => Elements::F64(zeros(count)?),
        DType::I8 => Elements::I8(zeros(count)?),
        DType::I16 => Elements::I16(zeros(count)?),
        DType::I32 => Elements::I32(zeros(count)?),
        DType::I64 => Elements::I64(zeros(count)?),
        DType::U8 => Elements::U8(zeros(count)?),
        DType::U16 => Elements::U16(zeros(count)?),
        DType::U32 => Elements::U32(zeros(count)?),
        DType::U64 => Elements::U64(zeros(count)?),
        _ => return None,
    })
}

/// A number with its sign beside it: the sign of a float and its other bits, and for integers how far they are from
/// zero on their side (−1 is the nearest). So bit patterns can be sorted by what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Signed {
    pub(super) negative: bool,
    pub(super) size: u64,
}

impl Signed {
    pub(super) fn of(dtype: DType, bits: u64) -> Self {
        let top = 1u64 << (width(dtype).max(1) - 1);
        let negative = bits & top != 0 && is_signed(dtype);
        let size = match (negative, mantissa(dtype)) {
            (false, _) => bits,
            (true, Some(_)) => bits ^ top,
            // Two's complement: all bits turned.
            (true, None) => !bits & (top - 1),
        };
        Self { negative, size }
    }

    pub(super) fn bits(self, dtype: DType) -> u64 {
        let top = 1u64 << (width(dtype).max(1) - 1);
        match (self.negative, mantissa(dtype)) {
            (false, _) => self.size,
            (true, Some(_)) => self.size | top,
            (true, None) => !self.size,
        }
    }

    /// From the lowest to the highest number.
    pub(super) fn order(self) -> i128 {
        if self.negative { -1 - i128::from(self.size) } else { i128::from(self.size) }
    }
}

fn is_signed(dtype: DType) -> bool {
    !matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_is_that_of_the_numbers() {
        let floats = [f32::NEG_INFINITY, -1.5, -f32::MIN_POSITIVE, -0.0, 0.0, 1e-45, 0.5, f32::MAX, f32::NAN];
        let order = |value: &f32| Signed::of(DType::F32, u64::from(value.to_bits())).order();
        assert!(floats.iter().map(order).is_sorted());
        let integers: Vec<i128> = (i8::MIN..=i8::MAX)
            .map(|value| Signed::of(DType::I8, u64::from(value.cast_unsigned())).order())
            .collect();
        assert_eq!(integers, (-128..=127).collect::<Vec<i128>>());
    }

    proptest! {
        #[test]
        fn patterns_come_back(bits in any::<u64>(), which in 0..TYPES.len()) {
            let dtype = TYPES[which];
            let bits = bits >> (64 - width(dtype));
            let mut elements = zeros(dtype, 2).unwrap();
            set(&mut elements, 1, bits);
            prop_assert_eq!((get(&elements, 0), get(&elements, 1)), (0, bits));
            prop_assert_eq!(elements.dtype(), dtype);
            set(&mut elements, 0, Signed::of(dtype, bits).bits(dtype));
            prop_assert_eq!(get(&elements, 0), bits);
        }
    }
}
