//! What one version has seen: counts by the bins of its reference, in a window that moves and since the beginning.
//!
//! The window is a ring of slices. A slice that is older than the window is emptied when its place is needed again, so
//! counting costs one addition a feature and the window moves by a twelfth of its length at a time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use artifact::manifest::{Distribution, Observed};
use network::{Observer, Prediction};

use super::psi::{Level, chance, psi};

/// Slices of a window.
const SLICES: usize = 12;

/// On which side of the model a feature lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It is told of what goes in.
    Input,
    /// It is told of what comes out.
    Output,
}

impl Side {
    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// The counts of one version.
#[derive(Debug)]
pub struct Sketch {
    observer: Observer,
    features: Vec<Tracked>,
    bins: usize,
    slice: Duration,
    began: Instant,
    counts: Mutex<Counts>,
    /// Rows that were not looked at, for there were too many.
    skipped: AtomicU64,
}

/// One feature with a reference.
#[derive(Debug)]
struct Tracked {
    side: Side,
    /// Its place among what the observer tells of that side.
    place: usize,
    reference: Distribution,
    /// The bin of each category.
    categories: Vec<usize>,
    /// Where its counts begin among all.
    first: usize,
}

#[derive(Debug)]
struct Counts {
    slices: Vec<Slice>,
    total: Vec<u64>,
    rows: u64,
}

#[derive(Clone, Debug, Default)]
struct Slice {
    /// Which slice since the beginning.
    number: u64,
    rows: u64,
    counts: Vec<u64>,
}

/// What was counted of one feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// One per bin of the reference, the last for what is in none.
    pub counts: Vec<u64>,
    /// The index, where anything was counted.
    pub psi: Option<f64>,
    /// What chance may make of it.
    pub chance: f64,
    /// What it means.
    pub level: Level,
}

/// One feature, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The side that it is on.
    pub side: Side,
    /// What the training data looked like.
    pub reference: Distribution,
    /// What came in the window.
    pub window: Counted,
    /// What came since the beginning or the last reset.
    pub total: Counted,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Rows in the window.
    pub window: u64,
    /// Rows since the beginning or the last reset.
    pub total: u64,
    /// Rows that were not looked at since then.
    pub skipped: u64,
    /// Every feature, inputs first.
    pub features: Vec<Compared>,
}

impl Comparison {
    /// The feature that changed most in the window, where there is enough to say so.
    #[must_use]
    pub fn worst(&self) -> Option<&Compared> {
        let known = self.features.iter().filter(|feature| feature.window.level != Level::Collecting);
        let order = |a: &&Compared, b: &&Compared| {
            let index = |of: &Counted| of.psi.unwrap_or(0.0);
            a.window.level.cmp(&b.window.level).then(index(&a.window).total_cmp(&index(&b.window)))
        };
        known.max_by(order)
    }

    /// The level of that feature.
    #[must_use]
    pub fn level(&self) -> Level {
        self.worst().map_or(Level::Collecting, |worst| worst.window.level)
    }
}

impl Sketch {
    /// Counts what `observer` tells, by the bins of `reference`. A feature that only one of the two knows is left out.
    #[must_use]
    pub fn new(observer: Observer, reference: &Observed, window: Duration) -> Self {
        let (mut features, mut bins) = (Vec::new(), 0);
        let sides = [
            (Side::Input, observer.inputs(), &reference.inputs),
            (Side::Output, observer.outputs(), &reference.outputs),
        ];
        for (side, told, references) in sides {
            for (place, feature) in told.iter().enumerate() {
                let like = |reference: &&Distribution| {
                    reference.name == feature.name
                        && reference.categories.is_empty() == feature.categories.is_empty()
                };
                let Some(reference) = references.iter().find(like).cloned() else { continue };
                let categories = reference.places(feature);
                let first = bins;
                bins += reference.counts.len() + 1;
                features.push(Tracked { side, place, reference, categories, first });
            }
        }
        let slice = (window / SLICES as u32).max(Duration::from_millis(1));
        let counts = Counts { slices: vec![Slice::default(); SLICES], total: vec![0; bins], rows: 0 };
        let (counts, skipped) = (Mutex::new(counts), AtomicU64::new(0));
        Self { observer, features, bins, slice, began: Instant::now(), counts, skipped }
    }

    /// Whether there is anything to count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Counts prepared samples, one after the other in `inputs`, and their answers. Numbers that do not divide into the
    /// answers' rows are left out.
    pub fn add(&self, inputs: &[f32], answers: &[Prediction]) {
        self.add_at(self.began.elapsed(), inputs, answers);
    }

    fn add_at(&self, now: Duration, inputs: &[f32], answers: &[Prediction]) {
        let width = inputs.len() / answers.len().max(1);
        if width == 0 || inputs.len() != width * answers.len() {
            return;
        }
        // Everything is computed before the lock is taken.
        let (mut seen, mut found) = (Vec::with_capacity(answers.len() * self.features.len()), Vec::new());
        for (sample, answer) in inputs.chunks(width).zip(answers) {
            found.clear();
            self.observer.observe_input(sample, &mut found);
            let outputs = found.len();
            self.observer.observe_output(answer, &mut found);
            for feature in &self.features {
                let place = feature.place + if feature.side == Side::Output { outputs } else { 0 };
                let value = found.get(place).copied().unwrap_or(f32::NAN);
                seen.push(feature.first + feature.reference.bin(&feature.categories, value));
            }
        }
        let number = self.number(now);
        let mut counts = self.lock();
        let Counts { slices, total, rows } = &mut *counts;
        let Some(slice) = slices.get_mut((number % SLICES as u64) as usize) else { return };
        if slice.number != number || slice.counts.is_empty() {
            *slice = Slice { number, rows: 0, counts: vec![0; self.bins] };
        }
        for bin in seen {
            for count in [total.get_mut(bin), slice.counts.get_mut(bin)].into_iter().flatten() {
                *count += 1;
            }
        }
        slice.rows += answers.len() as u64;
        *rows += answers.len() as u64;
    }

    /// Notes rows that were not looked at.
    pub fn skip(&self, rows: usize) {
        self.skipped.fetch_add(rows as u64, Relaxed);
    }

    /// Forgets everything.
    pub fn reset(&self) {
        let mut counts = self.lock();
        counts.slices.fill(Slice::default());
        counts.total.fill(0);
        counts.rows = 0;
        self.skipped.store(0, Relaxed);
    }

    /// Everything as it is now; fewer than `least` rows say nothing yet.
    #[must_use]
    pub fn compare(&self, least: u64) -> Comparison {
        self.compare_at(self.began.elapsed(), least)
    }

    fn compare_at(&self, now: Duration, least: u64) -> Comparison {
        let oldest = (self.number(now) + 1).saturating_sub(SLICES as u64);
        let (mut window, mut rows) = (vec![0u64; self.bins], 0);
        let (total, all) = {
            let counts = self.lock();
            for slice in counts.slices.iter().filter(|slice| slice.number >= oldest) {
                rows += slice.rows;
                window.iter_mut().zip(&slice.counts).for_each(|(sum, count)| *sum += count);
            }
            (counts.total.clone(), counts.rows)
        };
        let compared = |feature: &Tracked| {
            let bins = feature.reference.counts.len() + 1;
            let mut reference = feature.reference.counts.clone();
            reference.push(feature.reference.other);
            let counted = |counts: &[u64], rows: u64| {
                let counts = counts.get(feature.first..feature.first + bins).unwrap_or_default().to_vec();
                let (psi, chance) = (psi(&reference, &counts), chance(&reference, &counts));
                let level = match psi.filter(|_| rows >= least.max(1)) {
                    Some(psi) => Level::of(psi, chance),
                    None => Level::Collecting,
                };
                Counted { counts, psi, chance, level }
            };
            let (window, total) = (counted(&window, rows), counted(&total, all));
            Compared { side: feature.side, reference: feature.reference.clone(), window, total }
        };
        let features = self.features.iter().map(compared).collect();
        Comparison { window: rows, total: all, skipped: self.skipped.load(Relaxed), features }
    }

    fn number(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos() / self.slice.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use network::{Postprocess, Preprocess, Task};

    use super::*;

    fn observer() -> Observer {
        let labels = ["no", "yes"].map(str::to_owned).to_vec();
        Observer::new(&Preprocess::Numbers { shape: vec![2] }, &Postprocess::new(Task::Binary, labels))
    }

    /// Numbers that look random and are the same each time.
    fn samples(count: usize, salt: u64, shift: f32) -> (Vec<f32>, Vec<Prediction>) {
        let mut state = salt | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let inputs: Vec<f32> = (0..count).flat_map(|_| [next() + shift, 3.0]).collect();
        let answer = |sample: &[f32]| {
            let p = sample[0].clamp(0.0, 1.0);
            Prediction::Class {
                class: String::new(),
                index: usize::from(p >= 0.5),
                probability: p.max(1.0 - p),
                probabilities: vec![1.0 - p, p],
                logits: vec![],
            }
        };
        let answers = inputs.chunks(2).map(answer).collect();
        (inputs, answers)
    }

    fn sketch() -> Sketch {
        let (inputs, answers) = samples(2000, 1, 0.0);
        let observer = observer();
        let columns = |told: Vec<Vec<f32>>, features: &[network::observe::Feature]| {
            let column = |place: usize| told.iter().map(|row| row[place]).collect();
            let each = features.iter().enumerate();
            each.filter_map(|(place, feature)| Distribution::of(feature, column(place))).collect()
        };
        let told = |each: &dyn Fn(&mut Vec<f32>)| {
            let mut out = Vec::new();
            each(&mut out);
            out
        };
        let seen = inputs.chunks(2).map(|sample| told(&|out| observer.observe_input(sample, out))).collect();
        let said = answers.iter().map(|answer| told(&|out| observer.observe_output(answer, out))).collect();
        let reference = Observed {
            inputs: columns(seen, observer.inputs()),
            outputs: columns(said, observer.outputs()),
            outputs_split: "validation".to_owned(),
        };
        Sketch::new(observer, &reference, Duration::from_secs(12))
    }

    fn levels(found: &Comparison) -> Vec<(&str, Level)> {
        found.features.iter().map(|feature| (feature.reference.name.as_str(), feature.window.level)).collect()
    }

    #[test]
    fn the_same_data_is_stable_and_shifted_data_is_not() {
        let sketch = sketch();
        let (inputs, answers) = samples(100, 7, 0.0);
        sketch.add(&inputs, &answers);
        assert_eq!(sketch.compare(200).level(), Level::Collecting);
        let (inputs, answers) = samples(1900, 9, 0.0);
        sketch.add(&inputs, &answers);
        let found = sketch.compare(200);
        assert_eq!((found.window, found.total, found.skipped), (2000, 2000, 0));
        assert!(levels(&found).iter().all(|(_, level)| *level == Level::Stable), "{found:?}");
        assert!(found.worst().unwrap().window.psi.unwrap() < 0.05);
        sketch.reset();
        assert_eq!(sketch.compare(1).total, 0);
        let (inputs, answers) = samples(500, 9, 0.4);
        sketch.add(&inputs, &answers);
        let found = sketch.compare(200);
        let expected = [
            ("number 0", Level::Significant),
            // It is always 3, whatever is added to the other.
            ("number 1", Level::Stable),
            ("class", Level::Significant),
            ("confidence", Level::Significant),
        ];
        assert_eq!(levels(&found), expected);
        assert!(found.features[0].window.psi.unwrap() > 1.0);
    }

    #[test]
    fn the_window_moves_and_the_total_stays() {
        let sketch = sketch();
        let (inputs, answers) = samples(300, 5, 0.9);
        let at = Duration::from_millis;
        sketch.add_at(at(500), &inputs, &answers);
        assert_eq!(sketch.compare_at(at(11_999), 1).window, 300);
        let found = sketch.compare_at(at(12_000), 1);
        assert_eq!((found.window, found.total, found.level()), (0, 300, Level::Collecting));
        assert_eq!(found.features[0].total.level, Level::Significant);
        // The place of the old slice is used again, long after.
        let (inputs, answers) = samples(10, 5, 0.0);
        sketch.add_at(at(240_100), &inputs, &answers);
        let found = sketch.compare_at(at(240_200), 1);
        assert_eq!((found.window, found.total), (10, 310));
    }

    #[test]
    fn values_that_are_none_are_drift_and_rows_that_do_not_fit_are_left_out() {
        let sketch = sketch();
        let (_, answers) = samples(300, 5, 0.0);
        sketch.add(&vec![f32::NAN; 600], &answers);
        sketch.add(&[1.0; 7], &answers);
        sketch.add(&[], &answers);
        let found = sketch.compare(1);
        assert_eq!(found.window, 300);
        assert_eq!(found.features[0].window.counts.last(), Some(&300));
        assert_eq!(found.features[0].window.level, Level::Significant);
    }

    #[test]
    fn a_reference_of_another_program_is_used_as_far_as_it_is_known() {
        let (inputs, answers) = samples(300, 5, 0.0);
        let other = |name: &str, categories: &[&str]| Distribution {
            name: name.to_owned(),
            edges: if categories.is_empty() { vec![0.5] } else { vec![] },
            categories: categories.iter().map(|name| (*name).to_owned()).collect(),
            counts: vec![1, 1],
            other: 0,
        };
        let reference = Observed {
            inputs: vec![other("number 1", &[]), other("loudness", &[])],
            // A number here and a category there.
            outputs: vec![other("class", &[]), other("confidence", &[])],
            outputs_split: String::new(),
        };
        let sketch = Sketch::new(observer(), &reference, Duration::from_secs(1));
        sketch.add(&inputs, &answers);
        let found = sketch.compare(1);
        let names: Vec<&str> = levels(&found).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["number 1", "confidence"]);
        assert_eq!(found.features[0].window.counts, [0, 300, 0]);
    }
}
