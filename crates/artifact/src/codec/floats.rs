//! Floats of which hardly two are equal: exponents by how frequent they are, signs and mantissas as they are,
//! without the bits that are zero at the end of every mantissa.

use network::DType;

use super::bits;
use super::coder::Coder;
use super::mixing::{Counter, HALF};
use super::numbers::{Numbers, Tree};
use super::tensor::Side;

/// Codes all elements; nothing when the stream ends early or the type has no exponent.
pub(super) fn code<C: Coder>(
    coder: &mut C,
    numbers: &mut Numbers,
    dtype: DType,
    side: &mut Side<'_>,
) -> Option<()> {
    let mantissa = bits::mantissa(dtype)?;
    let width = bits::width(dtype);
    let drop = match side {
        Side::Write(elements, _) => {
            let all = (0..elements.len()).fold(0, |all, index| all | bits::get(elements, index));
            all.trailing_zeros().min(mantissa)
        }
        Side::Read(_) => 0,
    };
    let drop = u32::try_from(numbers.code(coder, u64::from(drop))).ok().filter(|&drop| drop <= mantissa)?;
    let kept = mantissa - drop;
    let mut model = Model {
        exponents: Tree::new(width - 1 - mantissa),
        zero: Counter::new(HALF),
        negative: Counter::new(HALF),
        mantissa,
        drop,
        kept,
    };
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
    exponents: Tree,
    zero: Counter,
    negative: Counter,
    mantissa: u32,
    drop: u32,
    kept: u32,
}

impl Model {
    fn code<C: Coder>(&mut self, coder: &mut C, value: u64) -> u64 {
        // Zero is not one exponent among others: it needs no mantissa.
        if self.zero.code(coder, value == 0) {
            return 0;
        }
        let Self { mantissa, drop, kept, .. } = *self;
        let exponent_bits = self.exponents.bits();
        let exponent = (value >> mantissa) & ((1 << exponent_bits) - 1);
        let exponent = u64::from(self.exponents.code(coder, exponent as u32));
        let negative = u64::from(self.negative.code(coder, value >> (mantissa + exponent_bits) & 1 == 1));
        let rest = coder.uniform_wide((value >> drop) & ((1 << kept) - 1), kept);
        negative << (mantissa + exponent_bits) | exponent << mantissa | rest << drop
    }
}
