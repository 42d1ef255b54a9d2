//! The few values that a tensor has, and the level that stands for each.
//!
//! Level 0 is the value that a sparse tensor has most of: zero wherever it occurs. Levels rise with the values.

use std::collections::BTreeMap;

use network::{DType, Elements};

use super::bits::{self, Signed};
use super::coder::Coder;
use super::dense::SYMBOLS;
use super::mixing::{Counter, HALF};
use super::numbers::{Numbers, Tree};

/// What the levels of a tensor stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Palette {
    /// Integers in a row: level + `base`.
    Range { base: Signed, low: i32, high: i32 },
    /// Whatever bit patterns, sorted; the one at `reference` is level 0.
    List { values: Vec<Signed>, reference: usize },
    /// Multiples: level × `step`, rounded to 32 bits.
    Grid { step: f32, low: i32, high: i32 },
}

/// What is learnt about palettes from tensor to tensor.
#[derive(Clone, Debug)]
pub(super) struct PaletteModel {
    kinds: Tree,
    numbers: Numbers,
    firsts: Numbers,
    steps: Numbers,
    flags: [Counter; 3],
}

impl PaletteModel {
    pub(super) fn new() -> Self {
        Self {
            kinds: Tree::new(2),
            numbers: Numbers::new(),
            firsts: Numbers::new(),
            steps: Numbers::new(),
            flags: [Counter::new(HALF); 3],
        }
    }
}

/// How often each value occurs, from the lowest to the highest; nothing when there are too many.
pub(super) fn distinct(elements: &Elements) -> Option<Vec<(Signed, usize)>> {
    let dtype = elements.dtype();
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    // Most weights are as the one before: zero.
    let mut last = None;
    let mut run = 0;
    for index in 0..elements.len() {
        let bits = bits::get(elements, index);
        if last != Some(bits) {
            if let Some(last) = last.replace(bits) {
                *counts.entry(last).or_default() += run;
            }
            run = 0;
            if counts.len() > SYMBOLS as usize {
                return None;
            }
        }
        run += 1;
    }
    if let Some(last) = last {
        *counts.entry(last).or_default() += run;
    }
    let mut values: Vec<_> =
        counts.into_iter().map(|(bits, count)| (Signed::of(dtype, bits), count)).collect();
    values.sort_by_key(|(value, _)| value.order());
    (values.len() <= SYMBOLS as usize && !values.is_empty()).then_some(values)
}

impl Palette {
    /// Every palette that can stand for these values.
    pub(super) fn candidates(dtype: DType, values: &[(Signed, usize)]) -> Vec<Self> {
        let mut found: Vec<Self> = match (bits::mantissa(dtype), dtype) {
            (None, _) => range(values).into_iter().collect(),
            (_, DType::F32) => grid(values).into_iter().collect(),
            _ => Vec::new(),
        };
        let zero = values.iter().position(|(value, _)| value.order() == 0);
        // The first of the most frequent.
        let frequent = (0..values.len()).rev().max_by_key(|&index| values[index].1);
        let reference = zero.or(frequent).unwrap_or_default();
        found.push(Self::List { values: values.iter().map(|&(value, _)| value).collect(), reference });
        found
    }

    /// The lowest and the highest level.
    pub(super) fn span(&self) -> (i32, i32) {
        match self {
            Self::Range { low, high, .. } | Self::Grid { low, high, .. } => (*low, *high),
            Self::List { values, reference } => {
                let (count, reference) = (values.len() as i32, *reference as i32);
                (-reference, (count - 1 - reference).max(0))
            }
        }
    }

    /// The bits of a level, which must be within the span.
    pub(super) fn bits(&self, dtype: DType, level: i32) -> u64 {
        match self {
            Self::Range { base, .. } => {
                let order = base.order() + i128::from(level);
                let negative = order < 0;
                let size = if negative { -1 - order } else { order };
                Signed { negative, size: size as u64 }.bits(dtype)
            }
            Self::List { values, reference } => {
                let index = (*reference as i64 + i64::from(level)).clamp(0, values.len() as i64 - 1);
                values.get(index as usize).map_or(0, |value| value.bits(dtype))
            }
            Self::Grid { step, .. } => u64::from(multiple(level, *step).to_bits()),
        }
    }

    /// The level of every value.
    pub(super) fn levels(&self, dtype: DType) -> BTreeMap<u64, i32> {
        let (low, high) = self.span();
        let top = u64::MAX >> (64 - bits::width(dtype).max(1));
        // Where two multiples are rounded to the same value, either will do.
        (low..=high).map(|level| (self.bits(dtype, level) & top, level)).collect()
    }

    /// Codes a palette; nothing when what is read cannot be one of this type.
    pub(super) fn code<C: Coder>(
        told: Option<&Self>,
        coder: &mut C,
        model: &mut PaletteModel,
        dtype: DType,
    ) -> Option<Self> {
        let kind = match told {
            Some(Self::List { .. }) | None => 0,
            Some(Self::Range { .. }) => 1,
            Some(Self::Grid { .. }) => 2,
        };
        let palette = match model.kinds.code(coder, kind) {
            0 => Self::code_list(told, coder, model, dtype)?,
            1 => {
                let told = if let Some(Self::Range { base, low, high }) = told {
                    Some((*base, *low, *high))
                } else {
                    None
                };
                let (base, low, high) = told.unwrap_or((Signed { negative: false, size: 0 }, 0, 0));
                let negative = model.flags[2].code(coder, base.negative);
                let base = Signed { negative, size: model.numbers.code(coder, base.size) };
                let (low, high) = code_span(coder, model, low, high)?;
                let orders = [base.order() + i128::from(low), base.order() + i128::from(high)];
                let fits = |&order: &i128| {
                    let size = if order < 0 { -1 - order } else { order };
                    let value = Signed { negative: order < 0, size: size as u64 };
                    size <= i128::from(u64::MAX) && fits(value, dtype)
                };
                (bits::mantissa(dtype).is_none() && orders.iter().all(fits)).then_some(Self::Range {
                    base,
                    low,
                    high,
                })?
            }
            2 => {
                let told = if let Some(Self::Grid { step, low, high }) = told {
                    Some((*step, *low, *high))
                } else {
                    None
                };
                let (step, low, high) = told.unwrap_or_default();
                let drop = coder.uniform(step.to_bits().trailing_zeros().min(31), 5);
                let kept = model.firsts.code(coder, u64::from(step.to_bits() >> drop));
                let step = u32::try_from(kept).ok().filter(|kept| kept.leading_zeros() >= drop)? << drop;
                let (low, high) = code_span(coder, model, low, high)?;
                (dtype == DType::F32).then_some(Self::Grid { step: f32::from_bits(step), low, high })?
            }
            _ => return None,
        };
        Some(palette)
    }

    fn code_list<C: Coder>(
        told: Option<&Self>,
        coder: &mut C,
        model: &mut PaletteModel,
        dtype: DType,
    ) -> Option<Self> {
        let (values, reference) = match told {
            Some(Self::List { values, reference }) => (&values[..], *reference),
            _ => (&[][..], 0),
        };
        let integer = u64::from(bits::mantissa(dtype).is_none());
        // Distances from zero on either side, nearest first; zero itself is a flag.
        let negatives: Vec<u64> =
            values.iter().rev().filter(|value| value.negative).map(|value| value.size + integer).collect();
        let positives: Vec<u64> =
            values.iter().filter(|value| value.order() > 0).map(|value| value.size).collect();
        let zero = model.flags[0].code(coder, values.iter().any(|value| value.order() == 0));
        let all = negatives.iter().chain(&positives).fold(0, |all, size| all | size);
        let drop = model.numbers.code(coder, u64::from(all.trailing_zeros() % 64)).min(63) as u32;
        let positives = code_side(&positives, coder, model, drop)?;
        let mirrored = model.flags[1].code(coder, negatives == positives);
        let negatives = if mirrored { positives.clone() } else { code_side(&negatives, coder, model, drop)? };

        let mut values = Vec::with_capacity(negatives.len() + positives.len() + 1);
        for &size in negatives.iter().rev() {
            values.push(Signed { negative: true, size: size.checked_sub(integer)? });
        }
        let place = values.len();
        values.extend(zero.then_some(Signed { negative: false, size: 0 }));
        values.extend(positives.iter().map(|&size| Signed { negative: false, size }));
        let reference =
            if zero { place } else { usize::try_from(model.numbers.code(coder, reference as u64)).ok()? };
        let sound = values.iter().all(|&value| fits(value, dtype)) && values.len() <= SYMBOLS as usize;
        (sound && reference < values.len()).then_some(Self::List { values, reference })
    }
}

/// Codes rising numbers by their differences.
fn code_side<C: Coder>(told: &[u64], coder: &mut C, model: &mut PaletteModel, drop: u32) -> Option<Vec<u64>> {
    let count = usize::try_from(model.numbers.code(coder, told.len() as u64)).ok()?;
    if count > SYMBOLS as usize {
        return None;
    }
    let mut sizes: Vec<u64> = Vec::with_capacity(count);
    for index in 0..count {
        let size = told.get(index).copied().unwrap_or_default() >> drop;
        let size = match sizes.last() {
            None => model.firsts.code(coder, size),
            Some(&last) => {
                let last = last >> drop;
                let more = model.steps.code(coder, size.wrapping_sub(last).wrapping_sub(1));
                last.checked_add(more)?.checked_add(1)?
            }
        };
        if size.leading_zeros() < drop {
            return None;
        }
        sizes.push(size << drop);
    }
    Some(sizes)
}

/// Codes the lowest level, which is at most 0, and the highest, which is at least 0.
fn code_span<C: Coder>(coder: &mut C, model: &mut PaletteModel, low: i32, high: i32) -> Option<(i32, i32)> {
    let below = model.numbers.code(coder, u64::from(low.unsigned_abs()));
    let above = model.numbers.code(coder, u64::from(high.unsigned_abs()));
    (below.checked_add(above)? < u64::from(SYMBOLS)).then(|| (-(below as i32), above as i32))
}

fn fits(value: Signed, dtype: DType) -> bool {
    let unsigned = matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64);
    let bits = if unsigned { bits::width(dtype) } else { bits::width(dtype).saturating_sub(1) };
    64 - value.size.leading_zeros() <= bits && !(unsigned && value.negative)
}

fn range(values: &[(Signed, usize)]) -> Option<Palette> {
    let (lowest, highest) = (values.first()?.0, values.last()?.0);
    if highest.order() - lowest.order() >= i128::from(SYMBOLS) {
        return None;
    }
    let zero = Signed { negative: false, size: 0 };
    let far = lowest.order() > 0 || highest.order() < 0 || lowest.order() <= -i128::from(SYMBOLS);
    let base = if far { lowest } else { zero };
    let level = |value: Signed| i32::try_from(value.order() - base.order()).ok();
    Some(Palette::Range { base, low: level(lowest)?, high: level(highest)? })
}

fn multiple(level: i32, step: f32) -> f32 {
    // Levels have at most 13 bits, so they are exact.
    level as f32 * step
}

/// The step of which all values are multiples, to the last bit.
fn grid(values: &[(Signed, usize)]) -> Option<Palette> {
    let number = |value: &Signed| f32::from_bits(value.bits(DType::F32) as u32);
    let numbers: Vec<f32> = values.iter().map(|(value, _)| number(value)).collect();
    if numbers.iter().any(|number| !number.is_finite()) {
        return None;
    }
    let nearest =
        numbers.iter().map(|number| number.abs()).filter(|&size| size > 0.0).min_by(f32::total_cmp)?;
    let level = |number: f32, step: f32| {
        let level = (number / step).round();
        let far = level.abs() >= SYMBOLS as f32;
        let level = if far { return None } else { level as i32 };
        (multiple(level, step).to_bits() == number.to_bits()).then_some(level)
    };
    for divisor in 1..=16u8 {
        let about = nearest / f32::from(divisor);
        // The division may have been rounded.
        for shift in [0i32, -1, 1, -2, 2] {
            let step = f32::from_bits(about.to_bits().saturating_add_signed(shift));
            if !step.is_normal() {
                continue;
            }
            let Some(levels) =
                numbers.iter().map(|&number| level(number, step)).collect::<Option<Vec<i32>>>()
            else {
                continue;
            };
            let low = levels.iter().copied().min().unwrap_or_default().min(0);
            let high = levels.iter().copied().max().unwrap_or_default().max(0);
            if high - low < SYMBOLS.cast_signed() {
                return Some(Palette::Grid { step, low, high });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::coder::{Decoder, Encoder};

    fn signed(negative: bool, size: u64) -> Signed {
        Signed { negative, size }
    }

    /// Writes a palette, and reads it as one of a type.
    fn read(told: &Palette, dtype: DType) -> Option<Palette> {
        let mut encoder = Encoder::default();
        // What cannot be is written until it is noticed, and zeros behind it.
        Palette::code(Some(told), &mut encoder, &mut PaletteModel::new(), dtype);
        (0..8).for_each(|_| assert_eq!(encoder.uniform_wide(0, 64), 0));
        Palette::code(None, &mut Decoder::new(&encoder.finish()), &mut PaletteModel::new(), dtype)
    }

    #[test]
    fn palettes_come_back() {
        let list = |values: &[Signed], reference| Palette::List { values: values.to_vec(), reference };
        let zero = signed(false, 0);
        let cases = [
            (Palette::Range { base: zero, low: -128, high: 127 }, DType::I8),
            (Palette::Range { base: signed(true, 999), low: 0, high: 7 }, DType::I64),
            (Palette::Grid { step: 0.037, low: -4, high: 3 }, DType::F32),
            (list(&[zero], 0), DType::U8),
            (list(&[signed(true, 7), signed(true, 0), zero, signed(false, 8)], 2), DType::F32),
            (list(&[signed(true, 8), zero, signed(false, 8)], 1), DType::F64),
            (list(&[signed(true, 127), signed(true, 0), signed(false, 1), signed(false, 127)], 3), DType::I8),
        ];
        for (palette, dtype) in cases {
            assert_eq!(read(&palette, dtype).as_ref(), Some(&palette), "{dtype}");
            let (low, high) = palette.span();
            let levels = palette.levels(dtype);
            assert_eq!(levels.len(), (high - low + 1) as usize, "{palette:?}");
        }
    }

    #[test]
    fn palettes_that_cannot_be_are_refused() {
        let zero = signed(false, 0);
        let cases = [
            ("no end below", Palette::Range { base: zero, low: i32::MIN, high: 0 }, DType::I64),
            ("no end above", Palette::Grid { step: 1.0, low: 0, high: i32::MAX }, DType::F32),
            ("too many levels", Palette::Range { base: zero, low: -2048, high: 2048 }, DType::I64),
            ("an integer of nine bits", Palette::Range { base: zero, low: 0, high: 128 }, DType::I8),
            (
                "an integer below its type",
                Palette::Range { base: signed(true, 127), low: -1, high: 0 },
                DType::I8,
            ),
            (
                "an integer above all",
                Palette::Range { base: signed(false, u64::MAX), low: 0, high: 1 },
                DType::U64,
            ),
            ("an integer below zero", Palette::Range { base: zero, low: -1, high: 0 }, DType::U8),
            ("integers of floats", Palette::Range { base: zero, low: -1, high: 0 }, DType::F32),
            ("floats of integers", Palette::Grid { step: 1.0, low: -1, high: 0 }, DType::I32),
            ("no value", Palette::List { values: Vec::new(), reference: 0 }, DType::F32),
            ("no such value", Palette::List { values: vec![signed(false, 5)], reference: 1 }, DType::F32),
            (
                "a value too wide",
                Palette::List { values: vec![signed(false, 1 << 31)], reference: 0 },
                DType::F32,
            ),
            (
                "too many values",
                Palette::List { values: (0..5000).map(|size| signed(false, size)).collect(), reference: 0 },
                DType::F32,
            ),
        ];
        for (what, palette, dtype) in cases {
            assert_eq!(read(&palette, dtype), None, "{what}");
        }
    }

    #[test]
    fn steps_are_found() {
        for (step, levels) in [(0.037f32, -4..=3), (-0.1, 2..=9), (1e-30, -7..=7), (0.3, 3..=3)] {
            let value = |level: i32| u64::from((level as f32 * step).to_bits());
            let mut values: Vec<_> = levels.map(|level| (Signed::of(DType::F32, value(level)), 1)).collect();
            values.sort_by_key(|(value, _)| value.order());
            let palette = grid(&values).unwrap_or_else(|| panic!("no step for multiples of {step}"));
            let known = palette.levels(DType::F32);
            assert!(values.iter().all(|(value, _)| known.contains_key(&value.bits(DType::F32))), "{step}");
        }
        let odd =
            [0.1f32, 0.217, 0.3456].map(|value| (Signed::of(DType::F32, u64::from(value.to_bits())), 1));
        assert_eq!(grid(&odd), None);
    }
}
