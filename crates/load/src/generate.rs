//! The load: as fast as the server answers, or at a rate of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use crate::drive::{Drive, Plan};
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
    /// Answers in a second, in the middle one of the turns.
    pub per_second: f64,
    /// The middle of the times from the request to the answer, in microseconds.
    pub p50_us: f64,
    /// The time within which 99 of 100 were answered, in microseconds.
    pub p99_us: f64,
    /// The longest time, in microseconds.
    pub most_us: f64,
}

/// One turn of a load.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// From each request to its right answer.
    pub times: Vec<Duration>,
    /// Requests that were sent, those while warming up included.
    pub sent: usize,
    /// Requests that were not answered as they should be.
    pub failed: usize,
    /// How long was counted.
    pub seconds: f64,
}

impl Turn {
    /// Right answers in a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

impl Load {
    /// Some turns of one load. The times of all are put together, so that what is slow in one turn alone is seen.
    #[must_use]
    pub fn of(turns: &[Turn]) -> Self {
        let mut times: Vec<Duration> = turns.iter().flat_map(|turn| turn.times.iter().copied()).collect();
        times.sort_unstable();
        let at = |share: f64| {
            let place = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        Self {
            sent: turns.iter().map(|turn| turn.sent).sum(),
            answered: times.len(),
            failed: turns.iter().map(|turn| turn.failed).sum(),
            per_second: median(turns.iter().map(Turn::per_second)),
            p50_us: at(0.50),
            p99_us: at(0.99),
            most_us: at(1.0),
        }
    }

    /// Whether everything was answered as it should be, and something was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.failed == 0 && self.answered > 0
    }
}

/// The middle of some numbers; 0 of none.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
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

    /// Whether an answer is as it should be.
    pub(crate) fn is_right(&self, status: u16, body: &[u8]) -> bool {
        status == 200 && self.expected.as_deref().is_none_or(|expected| body == expected)
    }
}

/// So many connections that each send the next request when the last is answered, for so long, after a quarter of that
/// to warm up. What is answered within the time counts.
#[must_use]
pub fn closed(target: &Target, connections: usize, time: Duration) -> Turn {
    // A server that answers hundreds of thousands of requests a second is not waiting for the generator.
    let threads = connections.clamp(1, 2);
    let start = Instant::now();
    let (from, until) = (start + time / 4, start + time / 4 + time);
    let turns = std::thread::scope(|scope| {
        let turn = |thread: usize| {
            let share = connections / threads + usize::from(thread < connections % threads);
            move || Drive::new(target, share).send(&Plan::Closed { until }, from..until)
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(turn(thread))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
    });
    let seconds = time.as_secs_f64();
    turns.into_iter().fold(Turn { seconds, ..Turn::default() }, |mut all, turn| {
        all.times.extend(turn.times);
        all.sent += turn.sent;
        all.failed += turn.failed;
        all
    })
}

/// Requests that come by chance, so many a second in the mean (a Poisson process), whether or not the earlier ones are
/// answered, for so long, after a quarter of that to warm up. What finds all connections busy waits, and that counts.
#[must_use]
pub fn open(target: &Target, connections: usize, per_second: f64, time: Duration, seed: u64) -> Turn {
    let arrivals = arrivals(per_second, time / 4 + time, seed);
    let mut drive = Drive::new(target, connections);
    // Connecting is not what is measured.
    drive.warm_up();
    let start = Instant::now();
    let (from, until) = (start + time / 4, start + time / 4 + time);
    let turn = drive.send(&Plan::Open { start, arrivals: &arrivals }, from..until + Duration::from_secs(1));
    // The last ones are answered after the time, and that takes as long as it takes.
    Turn { seconds: from.elapsed().as_secs_f64(), ..turn }
}

impl Turn {
    pub(crate) fn count(&mut self, right: bool, took: Duration) {
        if right { self.times.push(took) } else { self.failed += 1 }
    }
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
        let times: Vec<_> = (1..=200).rev().map(Duration::from_micros).collect();
        let (fast, slow) = (times[100..].to_vec(), times[..100].to_vec());
        let turn = |times, seconds| Turn { times, sent: 125, failed: 1, seconds };
        let load = Load::of(&[turn(fast, 1.0), turn(slow, 2.0)]);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(
            close(load.p50_us, 100.0) && close(load.p99_us, 198.0) && close(load.most_us, 200.0),
            "{load:?}"
        );
        assert_eq!((load.sent, load.answered, load.failed, load.is_whole()), (250, 200, 2, false));
        assert!(close(load.per_second, 100.0), "{load:?}");
        assert_eq!(Load::of(&[]), Load::default());
        assert!(!Load::default().is_whole(), "nothing was answered");
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
