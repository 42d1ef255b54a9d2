//! Floats of which hardly two are equal: exponents by how frequent they are, signs and mantissas as they are,
//! without the bits that are zero at the end of every mantissa.

use network::{DType, Elements};

use super::bits;
use super::coder::Coder;
use super::mixing::{Counter, HALF};
use super::numbers::{Numbers, Tree};
use super::tensor::Side;

/// What all elements have in common.
#[derive(Clone, Copy, Default)]
struct Common {
    /// Zeros at the end of every mantissa.
    drop: u32,
    /// The lowest exponent, and the length of the largest difference to it.
    lowest: u64,
    exponent_bits: u32,
    has_zeros: bool,
    has_negatives: bool,
}

impl Common {
    fn of(elements: &Elements, mantissa: u32, width: u32) -> Self {
        let (mut all, mut lowest, mut highest, mut has_zeros) = (0, u64::MAX, 0, false);
        for index in 0..elements.len() {
            let value = bits::get(elements, index);
            all |= value;
            has_zeros |= value == 0;
            if value != 0 {
                let exponent = (value & !(1 << (width - 1))) >> mantissa;
                (lowest, highest) = (lowest.min(exponent), highest.max(exponent));
            }
        }
        let lowest = lowest.min(highest);
        Self {
            drop: all.trailing_zeros().min(mantissa),
            lowest,
            exponent_bits: 64 - (highest - lowest).leading_zeros(),
            has_zeros,
            has_negatives: all >> (width - 1) == 1,
        }
    }

    /// Codes it; nothing when there is no such float.
    fn code<C: Coder>(self, coder: &mut C, numbers: &mut Numbers, mantissa: u32, width: u32) -> Option<Self> {
        let most = width - 1 - mantissa;
        let drop = u32::try_from(numbers.code(coder, u64::from(self.drop))).ok()?;
        let lowest = numbers.code(coder, self.lowest);
        let exponent_bits = u32::try_from(numbers.code(coder, u64::from(self.exponent_bits))).ok()?;
        let has_zeros = coder.uniform(u32::from(self.has_zeros), 1) == 1;
        let has_negatives = coder.uniform(u32::from(self.has_negatives), 1) == 1;
        let possible = drop <= mantissa && exponent_bits <= most && lowest >> most == 0;
        possible.then_some(Self { drop, lowest, exponent_bits, has_zeros, has_negatives })
    }
}

/// Codes all elements; nothing when the stream ends early or the type has no exponent.
pub(super) fn code<C: Coder>(
    coder: &mut C,
    numbers: &mut Numbers,
    dtype: DType,
    side: &mut Side<'_>,
) -> Option<()> {
    let mantissa = bits::mantissa(dtype)?;
    let width = bits::width(dtype);
    let common = match side {
        Side::Write(elements, _) => Common::of(elements, mantissa, width),
        Side::Read(_) => Common::default(),
    };
    let common = common.code(coder, numbers, mantissa, width)?;
    let exponents = Tree::new(common.exponent_bits);
    let mut model = Model { common, mantissa, width, exponents, zero: Counter::new(HALF) };
    match side {
        Side::Write(elements, _) => {
            for index in 0..elements.len() {
                model.code(coder, bits::get(elements, index));
            }
        }
        Side::Read(elements) => {
            for index in 0..elements.len() {
                let value = model.code(coder, 0);
                bits::set(elements, index, value);
                if coder.failed() {
                    return None;
                }
            }
        }
    }
    Some(())
}

struct Model {
    common: Common,
    mantissa: u32,
    width: u32,
    exponents: Tree,
    zero: Counter,
}

impl Model {
    fn code<C: Coder>(&mut self, coder: &mut C, value: u64) -> u64 {
        let Common { drop, lowest, has_zeros, has_negatives, .. } = self.common;
        // Zero is not one exponent among others: it needs no mantissa.
        if has_zeros && self.zero.code(coder, value == 0) {
            return 0;
        }
        let sign = self.width - 1;
        let exponent = (value & !(1 << sign)) >> self.mantissa;
        let exponent = lowest + u64::from(self.exponents.code(coder, exponent.wrapping_sub(lowest) as u32));
        // Sign and mantissa in one, because they are equally unknown.
        let kept = self.mantissa - drop;
        let rest = (value >> drop) & ((1 << kept) - 1) | value >> sign << kept;
        let rest = coder.uniform_wide(rest, kept + u32::from(has_negatives));
        // An exponent beyond the highest is only read from a damaged file; its high bits are lost.
        let exponent = (exponent << self.mantissa) & !(1 << sign);
        rest >> kept << sign | exponent | (rest & ((1 << kept) - 1)) << drop
    }
}
