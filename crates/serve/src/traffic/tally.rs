//! What a version has done while its traffic is looked at, and what its copies said: counts that grow.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Buckets of latency: eight to each doubling, from one microsecond to about half an hour.
const BUCKETS: usize = 256;

/// What a version has done.
#[derive(Debug)]
pub(crate) struct Tally {
    requests: AtomicU64,
    errors: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

/// A [`Tally`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    latency: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency = std::array::from_fn(|_| AtomicU64::new(0));
        Self { requests: AtomicU64::new(0), errors: AtomicU64::new(0), latency }
    }
}

impl Tally {
    /// A request ended; only the latency of answers counts.
    pub(crate) fn add(&self, answered: bool, took: Duration) {
        self.requests.fetch_add(1, Relaxed);
        if !answered {
            self.errors.fetch_add(1, Relaxed);
            return;
        }
        if let Some(bucket) = self.latency.get(bucket(took)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn now(&self) -> Window {
        Window {
            requests: self.requests.load(Relaxed),
            errors: self.errors.load(Relaxed),
            latency: self.latency.iter().map(|count| count.load(Relaxed)).collect(),
        }
    }
}

impl Window {
    pub(crate) fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// A quantile of the latency in milliseconds, as the upper end of its bucket; nothing without answers.
    pub(crate) fn latency_ms(&self, quantile: f64) -> Option<f64> {
        let count: u64 = self.latency.iter().sum();
        let wanted = (count as f64 * quantile).ceil().max(1.0);
        let mut seen = 0;
        let place = self.latency.iter().position(|bucket| {
            seen += bucket;
            seen as f64 >= wanted
        })?;
        (count > 0).then(|| f64::exp2((place as f64 + 1.0) / 8.0) / 1e3)
    }
}

fn bucket(took: Duration) -> usize {
    let eighths = (took.as_secs_f64() * 1e6).max(1.0).log2() * 8.0;
    (eighths as usize).min(BUCKETS - 1)
}

/// What became of the copies that the shadow was to answer.
#[derive(Debug, Default)]
pub(crate) struct Shadowed {
    /// Copies that found the queue full; they are dropped, so that nobody waits.
    pub(crate) dropped: AtomicU64,
    /// Copies that the shadow failed to answer.
    pub(crate) failed: AtomicU64,
    compared: AtomicU64,
    agreed: AtomicU64,
    rows: AtomicU64,
    agreed_rows: AtomicU64,
    /// The bits of a float that is not negative, whose order is that of the numbers.
    largest_difference: AtomicU64,
    pub(crate) tally: Tally,
    pub(crate) answering: Tally,
}

/// [`Shadowed`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Agreement {
    pub(crate) compared: u64,
    pub(crate) agreed: u64,
    pub(crate) rows: u64,
    pub(crate) agreed_rows: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
    pub(crate) largest_difference: f64,
}

impl Shadowed {
    pub(crate) fn add(&self, rows: u64, agreed_rows: u64, largest_difference: f64) {
        self.compared.fetch_add(1, Relaxed);
        self.agreed.fetch_add(u64::from(rows == agreed_rows), Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.agreed_rows.fetch_add(agreed_rows, Relaxed);
        self.largest_difference.fetch_max(largest_difference.abs().to_bits(), Relaxed);
    }

    pub(crate) fn now(&self) -> Agreement {
        Agreement {
            compared: self.compared.load(Relaxed),
            agreed: self.agreed.load(Relaxed),
            rows: self.rows.load(Relaxed),
            agreed_rows: self.agreed_rows.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            largest_difference: f64::from_bits(self.largest_difference.load(Relaxed)),
        }
    }
}

impl Agreement {
    /// The share of rows with the same answer; a copy that failed agrees in nothing.
    pub(crate) fn share(&self) -> Option<f64> {
        let all = self.rows + self.failed;
        (all > 0).then(|| self.agreed_rows as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_known_to_a_tenth() {
        let tally = Tally::default();
        for ms in 1..=100 {
            tally.add(true, Duration::from_millis(ms));
        }
        let before = tally.now();
        for (quantile, wanted) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)] {
            let found = before.latency_ms(quantile).unwrap();
            assert!(found >= wanted && found <= wanted * 1.1, "{quantile}: {found}");
        }
        tally.add(true, Duration::from_millis(500));
        tally.add(false, Duration::from_secs(9));
        let window = tally.now();
        assert_eq!((window.requests, window.errors, window.error_rate()), (102, 1, 1.0 / 102.0));
        assert!((500.0..550.0).contains(&window.latency_ms(1.0).unwrap()));
        assert_eq!(Tally::default().now().latency_ms(0.5), None);
        tally.add(true, Duration::MAX);
        tally.add(true, Duration::ZERO);
    }

    #[test]
    fn agreement_is_by_rows() {
        let shadowed = Shadowed::default();
        assert_eq!(shadowed.now().share(), None);
        shadowed.add(3, 3, 0.25);
        shadowed.add(4, 2, 0.125);
        shadowed.failed.fetch_add(1, Relaxed);
        let now = shadowed.now();
        assert_eq!((now.compared, now.agreed, now.largest_difference), (2, 1, 0.25));
        assert_eq!(now.share(), Some(5.0 / 8.0));
    }
}
