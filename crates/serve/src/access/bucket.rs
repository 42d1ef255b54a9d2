//! How often somebody may ask: a bucket of tokens that fills up again by the second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Requests a second, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: f64,
    /// Requests at once, after a while without any.
    pub burst: u32,
}

impl Rate {
    /// A rate, from what a file says; without a burst that of one second.
    ///
    /// # Errors
    /// What would be right.
    pub fn new(per_second: f64, burst: Option<u32>) -> Result<Self, &'static str> {
        // What is not a number fails the comparison too.
        if !(0.001..=1e6).contains(&per_second) {
            return Err("`rate` must be from 0.001 to 1000000 requests a second");
        }
        // Within the range of the type, as the rate is.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 1000000")]
        let burst = burst.unwrap_or_else(|| per_second.ceil() as u32);
        if !(1..=10_000_000).contains(&burst) {
            return Err("`burst` must be from 1 to 10000000 requests");
        }
        Ok(Self { per_second, burst })
    }
}

/// The tokens of one client.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: Mutex::new((f64::from(rate.burst), now)) }
    }

    /// Its rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, at) = *level;
        let filled = tokens + now.saturating_duration_since(at).as_secs_f64() * self.rate.per_second;
        let filled = filled.min(f64::from(self.rate.burst));
        let enough = filled >= 1.0;
        // Time never goes back, or tokens would be given twice.
        *level = (if enough { filled - 1.0 } else { filled }, at.max(now));
        if enough { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - filled) / self.rate.per_second)) }
    }

    fn is_full(&self, now: Instant) -> bool {
        let (tokens, at) = *self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = tokens + now.saturating_duration_since(at).as_secs_f64() * self.rate.per_second;
        filled >= f64::from(self.rate.burst)
    }
}

/// The buckets of clients that are not known beforehand, such as the subjects of tokens.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    most: usize,
    by_name: Mutex<HashMap<String, Arc<Bucket>>>,
    /// That of all who came when there was no room.
    others: Arc<Bucket>,
}

impl Buckets {
    /// With a bucket for each of at most so many clients; those beyond share one.
    #[must_use]
    pub fn new(rate: Rate, most: usize, now: Instant) -> Self {
        Self { rate, most, by_name: Mutex::default(), others: Arc::new(Bucket::new(rate, now)) }
    }

    /// The rate of each.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// The bucket of a client.
    #[must_use]
    pub fn of(&self, name: &str, now: Instant) -> Arc<Bucket> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = by_name.get(name) {
            return Arc::clone(bucket);
        }
        if by_name.len() >= self.most {
            // A full bucket is what its owner would get anyway.
            by_name.retain(|_, bucket| !bucket.is_full(now));
        }
        if by_name.len() >= self.most {
            return Arc::clone(&self.others);
        }
        let bucket = Arc::new(Bucket::new(self.rate, now));
        by_name.insert(name.to_owned(), Arc::clone(&bucket));
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let start = Instant::now();
        let bucket = Bucket::new(Rate::new(2.0, Some(3)).unwrap(), start);
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let taken =
            |seconds: f64, times: usize| (0..times).filter(|_| bucket.take(at(seconds)).is_ok()).count();
        assert_eq!(taken(0.0, 10), 3);
        assert_eq!(bucket.take(at(0.0)).unwrap_err(), Duration::from_millis(500));
        assert_eq!(bucket.take(at(0.25)).unwrap_err(), Duration::from_millis(250));
        assert_eq!(taken(0.5, 10), 1);
        assert_eq!(taken(1.5, 10), 2);
        assert_eq!(taken(1000.0, 10), 3, "no more than the burst, however long it was quiet");
        assert_eq!(taken(1.0, 10), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn rates_that_cannot_work_are_refused() {
        for (rate, burst) in
            [(0.0, None), (-1.0, None), (f64::NAN, None), (f64::INFINITY, None), (1e7, None), (1.0, Some(0))]
        {
            assert!(Rate::new(rate, burst).is_err(), "{rate} {burst:?}");
        }
        assert_eq!(Rate::new(0.1, None).unwrap().burst, 1);
        assert_eq!(Rate::new(2.5, None).unwrap().burst, 3);
    }

    #[test]
    fn buckets_are_bounded_and_those_in_use_are_kept() {
        let now = Instant::now();
        let buckets = Buckets::new(Rate::new(1.0, Some(1)).unwrap(), 2, now);
        let (a, b) = (buckets.of("a", now), buckets.of("b", now));
        a.take(now).unwrap();
        b.take(now).unwrap();
        let (c, d) = (buckets.of("c", now), buckets.of("d", now));
        assert!(Arc::ptr_eq(&c, &d), "there is no room, so they share one");
        assert!(Arc::ptr_eq(&buckets.of("a", now), &a), "who is over the limit stays so");
        let later = now + Duration::from_secs(2);
        assert!(!Arc::ptr_eq(&buckets.of("c", later), &c));
    }
}
