//! Levels most of which are zero: where the others are, their signs and their sizes, each bit predicted from what
//! is known already.
//!
//! A bit that says whether a weight is zero is predicted by several contexts at once: how often earlier units use
//! the same input and the pixels around it, how busy this unit is against an average one, which of its neighbours
//! in the picture are zero, and how many weights the layer before has for the input. Signs and sizes are binary
//! too, as in DeepCABAC (Wiedemann et al. 2020, section III), but with contexts that are mixed.

use super::coder::Coder;
use super::logistic::{self, log2, squash, stretch};
use super::mixing::{Counter, HALF, Mixer, share};
use super::numbers::Tree;
use super::view::View;

/// Levels farther from zero are not coded here.
pub(super) const FARTHEST: i32 = 255;

/// Where the levels of a unit come from and go to.
pub(super) trait Rows {
    /// Fills in the levels when they are known.
    fn load(&mut self, unit: usize, row: &mut [i32]);
    /// Takes the levels when they are not.
    fn store(&mut self, unit: usize, row: &[i32]);
}

/// What a tensor's levels can be, and what is known of them before.
pub(super) struct Setting<'a> {
    pub(super) view: View,
    /// The levels are from `low` ≤ 0 to `high` ≥ 0.
    pub(super) low: i32,
    pub(super) high: i32,
    /// For each input, how many weights the layer before has for it.
    pub(super) before: Option<&'a [u32]>,
    /// The share of levels that are not zero, in 1/2¹⁶; an encoder knows it.
    pub(super) density: u32,
}

/// Codes all levels, and returns how many of each unit are not zero; nothing when the stream ends early.
pub(super) fn code<C: Coder>(coder: &mut C, setting: &Setting<'_>, rows: &mut impl Rows) -> Option<Vec<u32>> {
    let Setting { view, low, high, before, density } = *setting;
    // A whole logit is exact enough, the models learn the rest.
    let class = ((2 << logistic::FRACTION) - stretch(density)) >> logistic::FRACTION;
    let class = coder.uniform(class.clamp(0, 15) as u32, 4) as i32;
    let expected = squash(((2 - class) << logistic::FRACTION) - 2048);

    let mut places = Places::new(view, before, expected);
    let mut sizes = Sizes::new(low, high, view.inputs);
    let mut row = vec![0; view.inputs];
    let mut busy = Vec::with_capacity(view.units);
    for unit in 0..view.units {
        rows.load(unit, &mut row);
        places.begin(unit);
        sizes.begin();
        for input in 0..view.inputs {
            let around = Around::of(&row, input, &view, places.x, places.y);
            let present = places.code(coder, row[input] != 0, input, &around);
            let level = if present { sizes.code(coder, row[input], input, &around) } else { 0 };
            row[input] = level;
        }
        if coder.failed() {
            return None;
        }
        rows.store(unit, &row);
        busy.push(u32::try_from(places.hits).unwrap_or(u32::MAX));
    }
    Some(busy)
}

/// Levels near an input that are known already: its neighbours to the left and above, and in the channel before.
#[derive(Clone, Copy, Default)]
struct Around {
    left: i32,
    up: i32,
    up_left: i32,
    up_right: i32,
    left2: i32,
    up2: i32,
    back: i32,
    /// How many of the four a knight's move away are not zero.
    knights: usize,
}

impl Around {
    fn of(row: &[i32], input: usize, view: &View, x: usize, y: usize) -> Self {
        let width = view.width;
        if width == 0 {
            let left = if input > 0 { row[input - 1] } else { 0 };
            return Self { left, ..Self::default() };
        }
        let at = |dx: isize, dy: usize| match x.checked_add_signed(dx) {
            Some(column) if column < width && dy <= y => row[input + column - x - dy * width],
            _ => 0,
        };
        let knights = [at(2, 1), at(-2, 1), at(1, 2), at(-1, 2)];
        Self {
            left: at(-1, 0),
            up: at(0, 1),
            up_left: at(-1, 1),
            up_right: at(1, 1),
            left2: at(-2, 0),
            up2: at(0, 2),
            back: if input >= view.plane { row[input - view.plane] } else { 0 },
            knights: knights.iter().filter(|&&level| level != 0).count(),
        }
    }
}

/// Predictions of whether a level is zero.
const PLACES: usize = 10;
/// Contexts whose counters learn by themselves.
const LEARNT: usize = 6;
/// Steps of a logit in a context.
const STEPS: usize = 32;

/// Where the levels are that are not zero.
struct Places<'a> {
    view: View,
    before: Option<&'a [u32]>,
    before_total: u64,
    mixers: [Mixer<PLACES>; 2],
    counters: [Vec<Counter>; LEARNT],
    overall: Counter,
    /// How many earlier units use each input, and the eight pixels around it.
    uses: Vec<u32>,
    uses_around: Vec<u32>,
    unit: u64,
    /// Of this unit so far: levels that are not zero, and what all earlier units together had by here.
    hits: u64,
    usual: u64,
    last: Option<usize>,
    x: usize,
    y: usize,
}

impl<'a> Places<'a> {
    fn new(view: View, before: Option<&'a [u32]>, expected: u32) -> Self {
        // What the models of real networks end up with, in hundredths.
        let mixer = Mixer::new(11, [15, 8, 18, 10, 12, 17, 10, 14, 8, 18]);
        let sizes = [128, 4 * STEPS, 10 * STEPS, 9 * STEPS, 10 * STEPS, 10 * 16];
        Self {
            view,
            before,
            before_total: before.iter().flat_map(|units| *units).map(|&count| u64::from(count)).sum(),
            mixers: [mixer.clone(), mixer],
            counters: sizes.map(|size| vec![Counter::new(HALF); size]),
            overall: Counter::new(expected),
            uses: vec![0; view.inputs],
            uses_around: vec![0; view.inputs],
            unit: 0,
            hits: 0,
            usual: 0,
            last: None,
            x: 0,
            y: 0,
        }
    }

    fn begin(&mut self, unit: usize) {
        (self.unit, self.hits, self.usual) = (unit as u64, 0, 0);
        (self.last, self.x, self.y) = (None, 0, 0);
    }

    fn code<C: Coder>(&mut self, coder: &mut C, present: bool, input: usize, around: &Around) -> bool {
        let overall = self.overall.probability();
        let base = stretch(overall);
        let own = u64::from(self.uses[input]);
        // The input and the pixels around it, in all units before this one.
        let input_logit = if self.view.width > 0 {
            share(3 * own + u64::from(self.uses_around[input]), 11 * self.unit, overall, 6)
        } else {
            share(own, self.unit, overall, 6)
        };
        // How busy this unit is against the average unit, or against the average weight while there are few units.
        let relative = if self.unit == 0 {
            0
        } else {
            log2((self.hits + 3) * self.unit) - log2(self.usual + 3 * self.unit)
        };
        let alone =
            log2((self.hits + 3) << 10) - log2(((input as u64 * u64::from(overall)) >> 6) + (3 << 10));
        let unit_logit = input_logit + if self.unit < 3 { alone } else { relative };
        let (prior, prior_logit) = self.prior(input, base);

        let set = |level: i32| usize::from(level != 0);
        let direct = [around.left, around.up, around.up_left, around.up_right, around.back];
        let close = direct.iter().filter(|&&level| level != 0).count().min(3);
        let pattern = set(around.left)
            | set(around.up) << 1
            | set(around.up_left) << 2
            | set(around.up_right) << 3
            | set(around.left2) << 4
            | set(around.up2) << 5
            | set(around.back) << 6;
        let weighed = 2 * (set(around.left) + set(around.up) + set(around.back))
            + set(around.up_left)
            + set(around.up_right)
            + set(around.left2)
            + set(around.up2)
            + around.knights;
        let weighed = weighed.min(9);
        let since = bucket(self.last.map_or(input, |last| input - last) as u64);
        let busyness = ((relative + 6 * 4096) / 3072).clamp(0, 15) as usize;
        let contexts = [
            pattern,
            step(unit_logit) * 4 + close,
            prior * STEPS + step(unit_logit),
            since * STEPS + step(input_logit),
            weighed * STEPS + step(input_logit),
            weighed * 16 + busyness,
        ];
        let mut learnt = [0; LEARNT];
        for ((logit, counters), &context) in learnt.iter_mut().zip(&mut self.counters).zip(&contexts) {
            let counter = &mut counters[context];
            if counter.is_fresh() {
                *counter = Counter::new(overall);
            }
            *logit = counter.logit();
        }
        let [a, b, c, d, e, f] = learnt;
        let bias = 1 << logistic::FRACTION;
        let inputs = [input_logit, unit_logit, a, b, c, d, e, f, prior_logit, bias];
        let [by_place, by_prior] = &mut self.mixers;
        let logit = i32::midpoint(by_place.mix(inputs, close), by_prior.mix(inputs, prior));
        let present = coder.bit(present, squash(logit));

        self.mixers.iter_mut().for_each(|mixer| mixer.update(present, 2));
        self.overall.update(present, 30, 2000);
        for (counters, &context) in self.counters.iter_mut().zip(&contexts) {
            counters[context].update(present, 2, 1000);
        }
        self.usual += own;
        if present {
            self.hit(input);
        }
        if self.view.width > 0 {
            self.x += 1;
            if self.x == self.view.width {
                (self.x, self.y) =
                    (0, if (input + 1).is_multiple_of(self.view.plane) { 0 } else { self.y + 1 });
            }
        }
        present
    }

    /// What the layer before tells of an input: a context, and a logit.
    fn prior(&self, input: usize, base: i32) -> (usize, i32) {
        let Some(before) = self.before else { return (9, base) };
        let own = u64::from(before[input]);
        if self.before_total == 0 {
            return (bucket(own), base);
        }
        let scaled = own.saturating_mul(self.view.inputs as u64).saturating_mul(16);
        let above = log2(scaled.saturating_add(self.before_total));
        (bucket(own), base + above - log2(self.before_total.saturating_mul(17)))
    }

    fn hit(&mut self, input: usize) {
        self.hits += 1;
        self.last = Some(input);
        self.uses[input] += 1;
        let (width, plane) = (self.view.width, self.view.plane);
        if width == 0 {
            return;
        }
        let height = plane / width;
        let corner = input - self.y * width - self.x;
        for y in self.y.saturating_sub(1)..(self.y + 2).min(height) {
            for x in self.x.saturating_sub(1)..(self.x + 2).min(width) {
                if (x, y) != (self.x, self.y) {
                    self.uses_around[corner + y * width + x] += 1;
                }
            }
        }
    }
}

/// A logit as a context.
fn step(logit: i32) -> usize {
    ((logit + 24 * 2048) / 2048).clamp(0, STEPS as i32 - 1) as usize
}

/// A count as one of nine contexts.
fn bucket(count: u64) -> usize {
    if count < 3 { count as usize } else { (2 + (count - 1).ilog2() as usize).min(8) }
}

const SIGNS: usize = 5;
const SIZES: usize = 5;
/// Sizes are counted up to here; beyond, they are symbols of eight bits.
const COUNTED: i32 = 24;

/// Signs and sizes of the levels that are not zero.
struct Sizes {
    low: i32,
    high: i32,
    sign_mixer: Mixer<SIGNS>,
    signs: [Vec<Counter>; SIGNS],
    size_mixer: Mixer<SIZES>,
    sizes: [Vec<Counter>; SIZES],
    beyond: Tree,
    /// Sum of the signs of earlier units, and how many there are, for each input.
    balance: Vec<(i32, u32)>,
    unit_balance: i32,
    unit_sum: u64,
    unit_hits: u64,
    last: i32,
}

impl Sizes {
    fn new(low: i32, high: i32, inputs: usize) -> Self {
        let counters = |size: usize| vec![Counter::new(HALF); size];
        Self {
            low,
            high,
            sign_mixer: Mixer::new(1, [0, 90, 18, -25, 28]),
            signs: [1, 9, 7, 9, 27].map(counters),
            size_mixer: Mixer::new(COUNTED as usize, [10, 20, 38, 13, 10]),
            sizes: [1, 8, 8, 16, 9].map(|contexts| counters(COUNTED as usize * 2 * contexts)),
            beyond: Tree::new(8),
            balance: vec![(0, 0); inputs],
            unit_balance: 0,
            unit_sum: 0,
            unit_hits: 0,
            last: 0,
        }
    }

    fn begin(&mut self) {
        (self.unit_balance, self.unit_sum, self.unit_hits, self.last) = (0, 0, 0, 0);
    }

    fn code<C: Coder>(&mut self, coder: &mut C, level: i32, input: usize, around: &Around) -> i32 {
        let negative = match (self.low, self.high) {
            (0, _) => false,
            (_, 0) => true,
            _ => self.code_sign(coder, level < 0, input, around),
        };
        let farthest = if negative { -self.low } else { self.high };
        let size = self.code_size(coder, level.abs(), farthest, negative, input, around);
        let level = if negative { -size } else { size };
        let (balance, count) = &mut self.balance[input];
        *balance = balance.saturating_add(level.signum());
        *count = count.saturating_add(1);
        self.unit_balance = self.unit_balance.saturating_add(level.signum());
        self.unit_hits += 1;
        self.unit_sum += u64::from(size.unsigned_abs());
        self.last = level;
        level
    }

    fn code_sign<C: Coder>(&mut self, coder: &mut C, negative: bool, input: usize, around: &Around) -> bool {
        let sign = |level: i32| (level.signum() + 1) as usize;
        let contexts = [
            0,
            sign(around.left) * 3 + sign(around.up),
            (self.balance[input].0.clamp(-3, 3) + 3) as usize,
            (self.unit_balance.clamp(-4, 4) + 4) as usize,
            sign(self.last) * 9 + sign(around.up_left) * 3 + sign(around.up_right),
        ];
        predicted(coder, negative, &mut self.sign_mixer, &mut self.signs, contexts, 0, 12)
    }

    /// Codes a size of at least 1 and at most `farthest`.
    fn code_size<C: Coder>(
        &mut self,
        coder: &mut C,
        size: i32,
        farthest: i32,
        negative: bool,
        input: usize,
        around: &Around,
    ) -> i32 {
        let near = around.left.unsigned_abs().max(around.up.unsigned_abs()).min(7) as usize;
        let mean =
            (self.unit_sum * 2).checked_div(self.unit_hits).map_or(0, |mean| 1 + mean.min(14)) as usize;
        let last = self.last.unsigned_abs().min(7) as usize;
        let used = bucket(u64::from(self.balance[input].1));
        let mut counted = 1;
        while counted < farthest.min(COUNTED) {
            let place = counted as usize;
            let class = place * 2 + usize::from(negative);
            let contexts = [class, class * 8 + last, class * 8 + near, class * 16 + mean, class * 9 + used];
            let more =
                predicted(coder, size > counted, &mut self.size_mixer, &mut self.sizes, contexts, place, 8);
            if !more {
                return counted;
            }
            counted += 1;
        }
        if counted < farthest {
            let rest = self.beyond.code(coder, (size - counted).max(0).cast_unsigned());
            counted = (counted + rest.cast_signed()).min(farthest);
        }
        counted
    }
}

/// Codes a bit with a counter for each context, mixed.
fn predicted<C: Coder, const N: usize>(
    coder: &mut C,
    bit: bool,
    mixer: &mut Mixer<N>,
    counters: &mut [Vec<Counter>; N],
    contexts: [usize; N],
    set: usize,
    rate: i64,
) -> bool {
    let mut inputs = [0; N];
    for ((input, counters), &context) in inputs.iter_mut().zip(counters.iter()).zip(&contexts) {
        *input = counters[context].logit();
    }
    let bit = coder.bit(bit, squash(mixer.mix(inputs, set)));
    mixer.update(bit, rate);
    for (counters, &context) in counters.iter_mut().zip(&contexts) {
        counters[context].update(bit, 2, 250);
    }
    bit
}
