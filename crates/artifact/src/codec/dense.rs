//! Levels few of which are zero: each is a symbol of a few bits, told from the highest bit down.
//!
//! Every bit is predicted by several counters at once, which differ in what they know of the size of levels nearby:
//! of the same unit (whose scale its largest weight has set), of the same input in earlier units, and of the two
//! levels just before.

use super::coder::Coder;
use super::logistic::{log2, squash};
use super::mixing::{Counter, HALF, Mixer};
use super::sparse::{Rows, Setting};

/// The most symbols that are coded here.
pub(super) const SYMBOLS: u32 = 1 << 12;

const MODELS: usize = 4;
/// Sizes are told apart by half octaves up to here.
const CLASSES: usize = 24;

/// Codes all levels; nothing when the stream ends early.
pub(super) fn code<C: Coder>(coder: &mut C, setting: &Setting<'_>, rows: &mut impl Rows) -> Option<()> {
    let Setting { view, low, high, .. } = *setting;
    let symbols = u32::try_from(i64::from(high) - i64::from(low) + 1).ok()?;
    let mut model = Model::new(symbols);
    let mut row = vec![0; view.inputs];
    // The sum of sizes of earlier units, for each input.
    let mut sums = vec![0u64; view.inputs];
    for unit in 0..view.units {
        rows.load(unit, &mut row);
        let (mut sum, mut last, mut before_last) = (0u64, 0u64, 0u64);
        for input in 0..view.inputs {
            let classes = [
                0,
                class(sum, input as u64),
                class(sums[input], unit as u64),
                class(last + before_last, if input < 2 { 0 } else { 2 }),
            ];
            let symbol = row[input].wrapping_sub(low).cast_unsigned();
            let level = model.code(coder, symbol, classes).cast_signed().saturating_add(low).min(high);
            row[input] = level;
            let size = u64::from(level.unsigned_abs());
            sum += size;
            sums[input] += size;
            (last, before_last) = (size, last);
        }
        if coder.failed() {
            return None;
        }
        rows.store(unit, &row);
    }
    Some(())
}

/// The mean of sizes as a context: 0 where there are none.
fn class(sum: u64, count: u64) -> usize {
    match (sum * 16).checked_div(count) {
        None => 0,
        Some(mean) => (1 + (log2(mean + 1) >> 11) as usize).min(CLASSES - 1),
    }
}

struct Model {
    bits: u32,
    mixer: Mixer<MODELS>,
    counters: [Vec<Counter>; MODELS],
}

impl Model {
    fn new(symbols: u32) -> Self {
        let bits = symbols.next_power_of_two().ilog2();
        let counters = |classes: usize| vec![Counter::new(HALF); classes << bits];
        Self {
            bits,
            mixer: Mixer::new(1 << bits, [20, 35, 30, 25]),
            counters: [1, CLASSES, CLASSES, CLASSES].map(counters),
        }
    }

    fn code<C: Coder>(&mut self, coder: &mut C, symbol: u32, classes: [usize; MODELS]) -> u32 {
        let mut node = 1usize;
        for place in (0..self.bits).rev() {
            let contexts = classes.map(|class| (class << self.bits) + node);
            let mut inputs = [0; MODELS];
            for ((input, counters), &context) in inputs.iter_mut().zip(&self.counters).zip(&contexts) {
                *input = counters[context].logit();
            }
            let logit = self.mixer.mix(inputs, node);
            let bit = coder.bit(symbol >> place & 1 == 1, squash(logit));
            self.mixer.update(bit, 2);
            for (counters, &context) in self.counters.iter_mut().zip(&contexts) {
                counters[context].update(bit, 1, 1000);
            }
            node = node * 2 + usize::from(bit);
        }
        (node - (1 << self.bits)) as u32
    }
}
