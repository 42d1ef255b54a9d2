//! What a version has done so far: counters and sums of durations, as the protocol's statistics extension and the
//! metrics tell them.
//!
//! Everything is an atomic that grows, so writing takes no lock and reading disturbs nobody. A snapshot is not one
//! moment: a request that ends meanwhile may be in one number and not yet in the next.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often something happened and how long it took together.
#[derive(Debug, Default)]
pub struct Sum {
    count: AtomicU64,
    nanos: AtomicU64,
}

/// A [`Sum`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How often.
    pub count: u64,
    /// How long in all, in nanoseconds.
    pub ns: u64,
}

impl Sum {
    /// It happened once more.
    pub fn add(&self, took: Duration) {
        self.add_all(1, took);
    }

    /// It happened `count` times more, for so long in all.
    pub fn add_all(&self, count: u64, took: Duration) {
        self.count.fetch_add(count, Relaxed);
        self.nanos.fetch_add(nanos(took), Relaxed);
    }

    /// What there is so far.
    #[must_use]
    pub fn total(&self) -> Total {
        Total { count: self.count.load(Relaxed), ns: self.nanos.load(Relaxed) }
    }
}

/// How many durations, or sizes, were how large: counts by bucket.
#[derive(Debug)]
pub struct Histogram<const BUCKETS: usize> {
    bounds: &'static [u64; BUCKETS],
    counts: [AtomicU64; BUCKETS],
    beyond: AtomicU64,
    sum: AtomicU64,
}

/// A [`Histogram`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// The largest value of each bucket and how many values are in it or a smaller one.
    pub cumulative: Vec<(u64, u64)>,
    /// How many values there are, those beyond the last bucket included.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// Nothing in it, with the largest value of each bucket, ascending.
    #[must_use]
    pub fn new(bounds: &'static [u64; BUCKETS]) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, counts, beyond: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// One more value.
    pub fn add(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(place).unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// What there is so far.
    #[must_use]
    pub fn buckets(&self) -> Buckets {
        let mut count = 0;
        let each = self.bounds.iter().zip(&self.counts).map(|(bound, inside)| {
            count += inside.load(Relaxed);
            (*bound, count)
        });
        let cumulative = each.collect();
        Buckets { cumulative, count: count + self.beyond.load(Relaxed), sum: self.sum.load(Relaxed) }
    }
}

/// Microseconds: from what a small network takes to what nobody waits for.
pub const LATENCY_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// Milliseconds that loading a model may take.
pub const LOAD_MS: [u64; 11] = [5, 10, 25, 50, 100, 500, 1_000, 5_000, 10_000, 60_000, 300_000];

/// Rows of a batch.
pub const BATCH_ROWS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// What batches of one size took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTotal {
    /// Rows of such a batch.
    pub rows: usize,
    /// Joining the requests.
    pub input: Total,
    /// The network.
    pub infer: Total,
    /// Taking the answers apart.
    pub output: Total,
}

#[derive(Debug, Default)]
struct BatchSums {
    input: AtomicU64,
    infer: AtomicU64,
    output: AtomicU64,
    count: AtomicU64,
}

/// The sizes of batches that are counted one by one; the largest pass of a predictor has 256 rows.
const COUNTED_ROWS: usize = 256;

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be read, or does not fit the model.
    Invalid,
    /// There was no room for it.
    Rejected,
    /// Its time was up before it was computed.
    Expired,
    /// The model or its device failed.
    Failed,
}

/// What a version has done since it was loaded. A version that takes the place of another one of its number goes on
/// with the numbers of that one, so that none of them goes back while it is served.
#[derive(Debug)]
pub struct Stats {
    /// Requests that were answered, and how long they took from the queue to the answer.
    pub success: Sum,
    /// Requests that were not, whatever the reason, but for those of which the client went away.
    pub fail: Sum,
    /// Time to read and preprocess what was sent, by request: before the queue, and of raw inputs as of tensors.
    pub prepare: Sum,
    /// Time in the queue, by request.
    pub queue: Sum,
    /// Time to join the inputs of a batch, by request.
    pub compute_input: Sum,
    /// Time in the executor, by request.
    pub compute_infer: Sum,
    /// Time to take the outputs apart, by request.
    pub compute_output: Sum,
    /// Requests that the response cache answered, and how long that took.
    pub cache_hit: Sum,
    /// Requests that it did not know, and how long that and keeping the answer took.
    pub cache_miss: Sum,
    /// Requests that could not be read or did not fit the model.
    pub invalid: AtomicU64,
    /// Requests at which the model or its device failed.
    pub failed: AtomicU64,
    /// Requests that found the queue full.
    pub rejected: AtomicU64,
    /// Requests whose time was up before they were computed.
    pub expired: AtomicU64,
    /// Requests whose client went away before they were computed.
    pub cancelled: AtomicU64,
    /// Rows of the requests that were answered, by the response cache too.
    pub inferences: AtomicU64,
    /// Batches that were computed.
    pub batches: AtomicU64,
    /// Microseconds from the queue to the answer.
    pub latency: Histogram<16>,
    /// Microseconds of reading and preprocessing.
    pub prepare_latency: Histogram<16>,
    /// Microseconds in the queue.
    pub queue_latency: Histogram<16>,
    /// Microseconds of a batch in the executor.
    pub infer_latency: Histogram<16>,
    /// Rows of the batches.
    pub batch_rows: Histogram<11>,
    /// Nanoseconds that loading it took, the last time; 0: not known.
    load: AtomicU64,
    by_rows: Box<[BatchSums]>,
    began: Instant,
    /// Nanoseconds from `began` to the end of the last batch, plus one; 0: there was none.
    last: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            success: Sum::default(),
            fail: Sum::default(),
            prepare: Sum::default(),
            queue: Sum::default(),
            compute_input: Sum::default(),
            compute_infer: Sum::default(),
            compute_output: Sum::default(),
            cache_hit: Sum::default(),
            cache_miss: Sum::default(),
            invalid: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            inferences: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            latency: Histogram::new(&LATENCY_US),
            prepare_latency: Histogram::new(&LATENCY_US),
            queue_latency: Histogram::new(&LATENCY_US),
            infer_latency: Histogram::new(&LATENCY_US),
            batch_rows: Histogram::new(&BATCH_ROWS),
            load: AtomicU64::new(0),
            by_rows: (0..=COUNTED_ROWS).map(|_| BatchSums::default()).collect(),
            began: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// Notes a batch that the executor answered.
    pub fn batch(&self, rows: usize, input: Duration, infer: Duration, output: Duration) {
        self.batches.fetch_add(1, Relaxed);
        self.batch_rows.add(rows as u64);
        self.infer_latency.add(micros(infer));
        // The last place is for all that are larger, which only an executor of somebody else takes.
        if let Some(sums) = self.by_rows.get(rows.min(COUNTED_ROWS)) {
            sums.count.fetch_add(1, Relaxed);
            sums.input.fetch_add(nanos(input), Relaxed);
            sums.infer.fetch_add(nanos(infer), Relaxed);
            sums.output.fetch_add(nanos(output), Relaxed);
        }
        self.last.store(nanos(self.began.elapsed()).saturating_add(1), Relaxed);
    }

    /// Notes a request of so many rows that was answered: `took` from the queue to the answer.
    pub fn answered(&self, rows: usize, took: Duration) {
        self.inferences.fetch_add(rows as u64, Relaxed);
        self.success.add(took);
        self.latency.add(micros(took));
    }

    /// Notes a request that was not answered, after so long.
    pub fn refused(&self, why: Refusal, took: Duration) {
        let counter = match why {
            Refusal::Invalid => &self.invalid,
            Refusal::Rejected => &self.rejected,
            Refusal::Expired => &self.expired,
            Refusal::Failed => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
        self.fail.add(took);
    }

    /// Notes how long reading and preprocessing a request took.
    pub fn prepared(&self, took: Duration) {
        self.prepare.add(took);
        self.prepare_latency.add(micros(took));
    }

    /// Notes how long loading the version took.
    pub fn loaded(&self, took: Duration) {
        self.load.store(nanos(took), Relaxed);
    }

    /// How long loading the version took; nothing where that was not noted.
    #[must_use]
    pub fn load(&self) -> Option<Duration> {
        Some(self.load.load(Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    /// Notes how long a request waited that was answered.
    pub fn waited(&self, queue: Duration) {
        self.queue.add(queue);
        self.queue_latency.add(micros(queue));
    }

    /// What batches of each size took, ascending; sizes that never came are left out. The last possible one, 256,
    /// holds the larger ones too.
    #[must_use]
    pub fn by_batch_size(&self) -> Vec<BatchTotal> {
        let totals = self.by_rows.iter().enumerate().filter_map(|(rows, sums)| {
            let count = sums.count.load(Relaxed);
            let total = |nanos: &AtomicU64| Total { count, ns: nanos.load(Relaxed) };
            (count > 0).then(|| BatchTotal {
                rows,
                input: total(&sums.input),
                infer: total(&sums.infer),
                output: total(&sums.output),
            })
        });
        totals.collect()
    }

    /// How long ago the last batch ended; nothing before the first.
    #[must_use]
    pub fn since_last(&self) -> Option<Duration> {
        let last = self.last.load(Relaxed).checked_sub(1)?;
        Some(self.began.elapsed().saturating_sub(Duration::from_nanos(last)))
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_that_holds_them() {
        let histogram = Histogram::new(&BATCH_ROWS);
        for value in [0, 1, 2, 3, 1024, 1025] {
            histogram.add(value);
        }
        let buckets = histogram.buckets();
        assert_eq!(buckets.cumulative[..3], [(1, 2), (2, 3), (4, 4)]);
        assert_eq!(buckets.cumulative.last(), Some(&(1024, 5)));
        assert_eq!((buckets.count, buckets.sum), (6, 2055));
    }

    #[test]
    fn batches_are_told_by_size() {
        let stats = Stats::default();
        assert_eq!((stats.since_last(), stats.by_batch_size()), (None, vec![]));
        let ns = Duration::from_nanos;
        stats.batch(3, ns(1), ns(10), ns(100));
        stats.batch(3, ns(2), ns(20), ns(200));
        stats.batch(5_000, ns(0), ns(7), ns(0));
        let total = |count, ns| Total { count, ns };
        let sizes = stats.by_batch_size();
        assert_eq!(
            sizes[0],
            BatchTotal { rows: 3, input: total(2, 3), infer: total(2, 30), output: total(2, 300) }
        );
        assert_eq!((sizes[1].rows, sizes[1].infer), (256, total(1, 7)));
        stats.answered(3, ns(5_000));
        assert_eq!((stats.inferences.load(Relaxed), stats.batches.load(Relaxed)), (3, 3));
        assert_eq!((stats.success.total(), stats.latency.buckets().sum), (total(1, 5_000), 5));
        assert!(stats.since_last().is_some());
    }
}
