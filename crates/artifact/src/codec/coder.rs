//! The entropy coder: bits and small numbers with their probabilities become bytes and come back.
//!
//! The arithmetic is `constriction`'s range coder (32-bit words, 64-bit state). Everything above it is written
//! once against [`Coder`]: an encoder is told each value and returns it, a decoder ignores what it is told and
//! returns what it reads, and [`Cost`] only adds up what a value would take. So the three cannot disagree.

use std::borrow::Borrow;
use std::num::NonZeroU32;

use constriction::Queue;
use constriction::backends::ReadWords;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{EncoderSituation, RangeDecoder, RangeEncoder};
use constriction::stream::{Decode, Encode};

use super::logistic;

/// Probabilities are fractions of 2¹⁶.
pub(super) const PRECISION: usize = 16;
/// The largest probability; the smallest is 1.
pub(super) const CERTAIN: u32 = (1 << PRECISION) - 1;

/// What a model is written against.
pub(super) trait Coder {
    /// Codes one bit that is set with the probability `one` / 2¹⁶, from 1 to [`CERTAIN`].
    fn bit(&mut self, bit: bool, one: u32) -> bool;

    /// Codes a number below 2^`bits` of which nothing is known; at most 16 bits.
    fn uniform(&mut self, value: u32, bits: u32) -> u32;

    /// Whether what was read so far cannot have been written: everything that follows is zeros.
    fn failed(&self) -> bool {
        false
    }

    /// Codes a number of up to 64 bits of which nothing is known.
    fn uniform_wide(&mut self, value: u64, bits: u32) -> u64 {
        let mut left = bits;
        let mut result = 0;
        while left > 0 {
            let count = left.min(16);
            left -= count;
            let chunk = u32::try_from((value >> left) & 0xffff).unwrap_or_default() & ((1 << count) - 1);
            result |= u64::from(self.uniform(chunk, count)) << left;
        }
        result
    }
}

/// A bit and its probability, as `constriction` wants to see them: a set bit comes first.
#[derive(Clone, Copy)]
struct Bit {
    one: u32,
}

impl EntropyModel<PRECISION> for Bit {
    type Symbol = bool;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for Bit {
    fn left_cumulative_and_probability(&self, symbol: impl Borrow<bool>) -> Option<(u32, NonZeroU32)> {
        let (left, size) =
            if *symbol.borrow() { (0, self.one) } else { (self.one, (1 << PRECISION) - self.one) };
        Some((left, NonZeroU32::new(size)?))
    }
}

impl DecoderModel<PRECISION> for Bit {
    fn quantile_function(&self, quantile: u32) -> (bool, u32, NonZeroU32) {
        let bit = quantile < self.one;
        let (left, size) = if bit { (0, self.one) } else { (self.one, (1 << PRECISION) - self.one) };
        (bit, left, NonZeroU32::new(size).unwrap_or(NonZeroU32::MIN))
    }
}

/// A number of `bits` bits, all equally likely.
#[derive(Clone, Copy)]
struct Uniform {
    bits: u32,
}

impl Uniform {
    fn size(self) -> NonZeroU32 {
        NonZeroU32::new(1 << (PRECISION as u32 - self.bits)).unwrap_or(NonZeroU32::MIN)
    }
}

impl EntropyModel<PRECISION> for Uniform {
    type Symbol = u32;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for Uniform {
    fn left_cumulative_and_probability(&self, symbol: impl Borrow<u32>) -> Option<(u32, NonZeroU32)> {
        Some((*symbol.borrow() << (PRECISION as u32 - self.bits), self.size()))
    }
}

impl DecoderModel<PRECISION> for Uniform {
    fn quantile_function(&self, quantile: u32) -> (u32, u32, NonZeroU32) {
        let shift = PRECISION as u32 - self.bits;
        let symbol = quantile >> shift;
        (symbol, symbol << shift, self.size())
    }
}

/// Writes.
#[derive(Default)]
pub(super) struct Encoder {
    range: RangeEncoder<u32, u64>,
}

impl Coder for Encoder {
    fn bit(&mut self, bit: bool, one: u32) -> bool {
        // Only a probability of zero can fail, and a vector takes every word.
        let written = self.range.encode_symbol(bit, Bit { one: one.clamp(1, CERTAIN) });
        debug_assert!(written.is_ok());
        bit
    }

    fn uniform(&mut self, value: u32, bits: u32) -> u32 {
        let written = self.range.encode_symbol(value, Uniform { bits });
        debug_assert!(written.is_ok());
        value
    }
}

impl Encoder {
    /// The bytes: whole words, and then as few bytes as tell the last interval from its neighbours.
    pub(super) fn finish(self) -> Vec<u8> {
        let (words, state, situation) = self.range.into_raw_parts();
        let (tail, carry) = shortest(state.lower(), state.range().get());
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        // Words that were held back because a carry could still reach them.
        if let EncoderSituation::Inverted(count, first) = situation {
            let (first, next) = if carry { (first.wrapping_add(1), 0) } else { (first, u32::MAX) };
            bytes.extend(first.to_be_bytes());
            (1..count.get()).for_each(|_| bytes.extend(u32::to_be_bytes(next)));
        }
        bytes.extend(tail);
        bytes
    }
}

/// The shortest bytes that, followed by zeros, lie in the interval, and whether they carry into the word before.
fn shortest(lower: u64, range: u64) -> (Vec<u8>, bool) {
    let lower = u128::from(lower);
    let fits = |length: u32| {
        let unit = 1u128 << (64 - 8 * length);
        let value = lower.div_ceil(unit) * unit;
        (value - lower < u128::from(range)).then_some((length, value))
    };
    let (length, value) = (0..=8).find_map(fits).unwrap_or((8, lower));
    let bytes = value.to_be_bytes();
    (bytes[8..8 + length as usize].to_vec(), value >> 64 != 0)
}

/// Words are read ahead, so two behind the end are zeros.
const AHEAD: usize = 2;

/// The words of a stream.
struct Words<'a> {
    bytes: &'a [u8],
    read: usize,
}

/// More was read than an encoder could have written.
#[derive(Debug)]
struct PastTheEnd;

impl ReadWords<u32, Queue> for Words<'_> {
    type ReadError = PastTheEnd;

    fn read(&mut self) -> Result<Option<u32>, PastTheEnd> {
        if self.read >= self.bytes.len() / 4 + AHEAD {
            return Err(PastTheEnd);
        }
        let rest = self.bytes.get(self.read * 4..).unwrap_or_default();
        self.read += 1;
        let mut word = [0; 4];
        let count = rest.len().min(4);
        word[..count].copy_from_slice(&rest[..count]);
        Ok(Some(u32::from_be_bytes(word)))
    }
}

/// Reads.
pub(super) struct Decoder<'a> {
    range: Option<RangeDecoder<u32, u64, Words<'a>>>,
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { range: RangeDecoder::with_backend(Words { bytes, read: 0 }).ok(), bytes }
    }

    fn read<M: DecoderModel<PRECISION, Probability = u32>>(&mut self, model: M) -> Option<M::Symbol> {
        let read = self.range.as_mut()?.decode_symbol(model).ok();
        if read.is_none() {
            self.range = None;
        }
        read
    }

    /// Whether the stream ends here, and exactly as an encoder would have ended it.
    pub(super) fn finish(self) -> bool {
        let Some(range) = self.range else { return false };
        let (words, state, _) = range.into_raw_parts();
        let whole = words.read.saturating_sub(AHEAD) * 4;
        let (tail, _) = shortest(state.lower(), state.range().get());
        self.bytes.get(whole..) == Some(&tail)
    }
}

impl Coder for Decoder<'_> {
    fn bit(&mut self, _: bool, one: u32) -> bool {
        self.read(Bit { one: one.clamp(1, CERTAIN) }).unwrap_or_default()
    }

    fn uniform(&mut self, _: u32, bits: u32) -> u32 {
        self.read(Uniform { bits }).unwrap_or_default()
    }

    fn failed(&self) -> bool {
        self.range.is_none()
    }
}

/// Adds up what values would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    /// In 1/4096 of a bit.
    pub(super) units: u64,
}

impl Coder for Cost {
    fn bit(&mut self, bit: bool, one: u32) -> bool {
        let one = one.clamp(1, CERTAIN);
        self.units += u64::from(logistic::cost(if bit { one } else { (1 << PRECISION) - one }));
        bit
    }

    fn uniform(&mut self, value: u32, bits: u32) -> u32 {
        self.units += u64::from(bits) << logistic::FRACTION;
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Bit(bool, u32),
        Uniform(u64, u32),
    }

    fn play(coder: &mut impl Coder, steps: &[Step], told: bool) -> Vec<u64> {
        let step = |step: &Step| match *step {
            Step::Bit(bit, one) => u64::from(coder.bit(bit && told, one)),
            Step::Uniform(value, bits) => coder.uniform_wide(if told { value } else { 0 }, bits),
        };
        steps.iter().map(step).collect()
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let one = prop_oneof![1..=CERTAIN, Just(1), Just(CERTAIN)];
        let bit = (any::<bool>(), one).prop_map(|(bit, one)| Step::Bit(bit, one));
        let number = (any::<u64>(), 0u32..=64).prop_map(|(value, bits)| {
            let kept = if bits == 0 { 0 } else { value >> (64 - bits) };
            Step::Uniform(kept, bits)
        });
        prop_oneof![3 => bit, 1 => number]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(steps in proptest::collection::vec(any_step(), 0..200)) {
            let mut encoder = Encoder::default();
            let written = play(&mut encoder, &steps, true);
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(play(&mut decoder, &steps, false), written.clone());
            prop_assert!(!decoder.failed());
            prop_assert!(decoder.finish());

            // No byte is wasted: the stream is as long as its information, rounded up.
            let mut cost = Cost::default();
            play(&mut cost, &steps, true);
            let exact = cost.units as f64 / f64::from(8 << logistic::FRACTION);
            prop_assert!((bytes.len() as f64) < exact * 1.001 + 1.5, "{} bytes for {exact}", bytes.len());

            // Whatever stands behind the end is noticed.
            for garbage in [0u8, 1, 255] {
                let longer: Vec<u8> = bytes.iter().copied().chain([garbage]).collect();
                let mut decoder = Decoder::new(&longer);
                let same = play(&mut decoder, &steps, false) == written;
                prop_assert!(!(same && decoder.finish()), "{garbage} behind the end");
            }
            // So is what is missing.
            for length in bytes.len().saturating_sub(9)..bytes.len() {
                let mut decoder = Decoder::new(&bytes[..length]);
                let same = play(&mut decoder, &steps, false) == written;
                prop_assert!(!(same && decoder.finish()), "{length} of {} bytes", bytes.len());
            }
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut decoder = Decoder::new(&bytes);
            let mut count = 0u32;
            while !decoder.failed() {
                decoder.uniform(0, 16);
                count += 1;
                prop_assert!(count < 100);
            }
            prop_assert_eq!(decoder.uniform(0, 16), 0);
        }
    }
}
