//! The load: as fast as the server answers, or at a rate of its own.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use crate::http::Connection;

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Load {
    /// Requests that were sent, those while warming up included.
    pub sent: usize,
    /// Requests that were answered as they should be, within the time.
    pub answered: usize,
    /// Requests that were not: refused, broken off, or answered with something else than the first time.
    pub failed: usize,
    /// Answers in a second.
    pub per_second: f64,
    /// The middle of the times from the request to the answer, in microseconds.
    pub p50_us: f64,
    /// The time within which 99 of 100 were answered, in microseconds.
    pub p99_us: f64,
    /// The longest time, in microseconds.
    pub most_us: f64,
}

impl Load {
    pub(crate) fn of(mut times: Vec<Duration>, sent: usize, failed: usize, seconds: f64) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let place = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        Self {
            sent,
            answered: times.len(),
            failed,
            per_second: times.len() as f64 / seconds.max(f64::MIN_POSITIVE),
            p50_us: at(0.50),
            p99_us: at(0.99),
            most_us: at(1.0),
        }
    }
}

/// Where the load goes: the same request again and again. The answer is known, for a server that mixes up its clients
/// must not look fast.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Head and body.
    pub request: Vec<u8>,
    /// The body of the right answer; `None`: every answer with status 200 is right.
    pub expected: Option<Vec<u8>>,
}

impl Target {
    /// A target whose right answer is what it answers now.
    ///
    /// # Errors
    /// When it does not answer with status 200.
    pub fn learn(address: SocketAddr, request: Vec<u8>) -> std::io::Result<Self> {
        let mut connection = Connection::new(address);
        let answer = connection.ask(&request)?;
        if answer.status != 200 {
            let body: String = String::from_utf8_lossy(answer.body).chars().take(300).collect();
            return Err(std::io::Error::other(format!("the server answers {}: {body}", answer.status)));
        }
        let expected = Some(answer.body.to_vec());
        Ok(Self { address, request, expected })
    }

    fn ask(&self, connection: &mut Connection) -> bool {
        connection.ask(&self.request).is_ok_and(|answer| {
            answer.status == 200 && self.expected.as_deref().is_none_or(|expected| answer.body == expected)
        })
    }
}

/// So many connections that each send the next request when the last is answered, for so long, after a quarter of that
/// to warm up.
#[must_use]
pub fn closed(target: &Target, connections: usize, time: Duration) -> Load {
    let start = Instant::now();
    let (from, until) = (start + time / 4, start + time / 4 + time);
    let results = Mutex::new(Results::default());
    std::thread::scope(|scope| {
        for _ in 0..connections.max(1) {
            scope.spawn(|| {
                let mut connection = Connection::new(target.address);
                let (mut times, mut asked, mut failed) = (Vec::new(), 0, 0);
                loop {
                    let sent = Instant::now();
                    if sent >= until {
                        break;
                    }
                    let right = target.ask(&mut connection);
                    asked += 1;
                    // What ends too late was not answered within the time.
                    if sent >= from && Instant::now() < until {
                        if right { times.push(sent.elapsed()) } else { failed += 1 }
                    }
                    if !right {
                        // A server that refuses is not made busier by asking it without a pause.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                add(&results, times, asked, failed);
            });
        }
    });
    sum(results, time.as_secs_f64())
}

/// Requests that come by chance, so many a second in the mean (a Poisson process), whether or not the earlier ones are
/// answered. What finds all connections busy waits, and that counts.
#[must_use]
pub fn open(target: &Target, connections: usize, per_second: f64, time: Duration, seed: u64) -> Load {
    let arrivals = arrivals(per_second, time, seed);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Results::default());
    let start = Instant::now() + Duration::from_millis(10);
    std::thread::scope(|scope| {
        for _ in 0..connections.max(1) {
            scope.spawn(|| {
                let mut connection = Connection::new(target.address);
                let (mut times, mut asked, mut failed) = (Vec::new(), 0, 0);
                while let Some(arrival) = arrivals.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let due = start + *arrival;
                    let early = due.saturating_duration_since(Instant::now());
                    std::thread::sleep(early);
                    // The system wakes sleepers some tens of microseconds late, which is not the server's time.
                    let arrived = if early.is_zero() { due } else { Instant::now() };
                    let right = target.ask(&mut connection);
                    asked += 1;
                    if right { times.push(arrived.elapsed()) } else { failed += 1 }
                }
                add(&results, times, asked, failed);
            });
        }
    });
    sum(results, start.elapsed().as_secs_f64())
}

/// What all connections found.
#[derive(Default)]
struct Results {
    times: Vec<Duration>,
    sent: usize,
    failed: usize,
}

fn add(results: &Mutex<Results>, times: Vec<Duration>, sent: usize, failed: usize) {
    if let Ok(mut results) = results.lock() {
        results.times.extend(times);
        results.sent += sent;
        results.failed += failed;
    }
}

fn sum(results: Mutex<Results>, seconds: f64) -> Load {
    let Results { times, sent, failed } = results.into_inner().unwrap_or_default();
    Load::of(times, sent, failed, seconds)
}

/// When requests come: the times between them are drawn from an exponential distribution.
fn arrivals(per_second: f64, time: Duration, seed: u64) -> Vec<Duration> {
    let mut draws = ChaCha8Rng::seed_from_u64(seed);
    let (mut now, mut arrivals) = (0.0, Vec::new());
    if per_second <= 0.0 {
        return arrivals;
    }
    loop {
        // In (0, 1], of which a logarithm exists.
        let uniform = ((draws.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        now -= uniform.ln() / per_second;
        if now >= time.as_secs_f64() {
            return arrivals;
        }
        arrivals.push(Duration::from_secs_f64(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_times() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        let load = Load::of(times, 250, 3, 2.0);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(
            close(load.p50_us, 100.0) && close(load.p99_us, 198.0) && close(load.most_us, 200.0),
            "{load:?}"
        );
        assert_eq!((load.sent, load.answered, load.failed), (250, 200, 3));
        assert!(close(load.per_second, 100.0), "{load:?}");
        assert_eq!(Load::of(vec![], 0, 0, 1.0), Load::default());
    }

    #[test]
    fn arrivals_come_at_their_rate_and_not_in_step() {
        let time = Duration::from_secs(10);
        let all = arrivals(1_000.0, time, 1);
        assert!((9_500..10_500).contains(&all.len()), "{}", all.len());
        assert!(all.is_sorted() && all.last().unwrap() < &time);
        let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The standard deviation of an exponential distribution is its mean.
        assert!((spread.sqrt() / mean - 1.0).abs() < 0.1, "{mean} {spread}");
        assert_eq!(all, arrivals(1_000.0, time, 1));
        assert!(arrivals(0.0, time, 1).is_empty());
    }
}
