//! A soak: clients of every kind for as long as it is told, while versions come and go. Judged are the answers, each of
//! which is known, the memory, and how the server ends.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bench::BenchError;
use crate::http::Connection;
use crate::process::Process;
use crate::requests::{JSON, post};
use crate::trial::{Stage, Tally, Verdict, is_well, ready, versions};

/// How it is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program `serve`.
    pub serve: PathBuf,
    /// How long.
    pub time: Duration,
    /// Clients that behave.
    pub clients: usize,
    /// Between two new versions.
    pub reload_every: Duration,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Board {
    /// How long it took.
    pub seconds: f64,
    /// Requests that were answered as the predictor does.
    pub right: u64,
    /// Requests that were refused with 503 or 504.
    pub refused: u64,
    /// Requests that were wrong, and refused as such.
    pub malformed: u64,
    /// Connections that were left without waiting for an answer.
    pub left: u64,
    /// New versions that took the traffic.
    pub reloads: u64,
    /// The time within which 99 of 100 were answered while no version was loaded, in microseconds.
    pub p99_us: f64,
    /// The same while one was.
    pub p99_reload_us: f64,
    /// Megabytes that were resident in the middle of the first third, and at the end.
    pub resident_mb: [f64; 2],
    /// By how many megabytes the memory grew in the last two thirds, by the line that fits best.
    pub growth_mb: f64,
    /// What was judged.
    pub verdicts: Vec<Verdict>,
}

impl Board {
    /// Whether everything was as it must be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.passed)
    }
}

/// By how much the time of the slowest of a hundred requests may grow while a version is loaded.
const SLOWER: f64 = 1.2;
/// Requests of each kind without which that is not judged: a short soak on a busy machine says nothing about it.
const ENOUGH: u64 = 20_000;
/// More than what allocators and caches need to settle, and less than any leak leaves.
const GROWTH_MB: f64 = 16.0;

/// Runs a soak.
///
/// # Errors
/// When the server cannot be started.
pub fn run(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Board, BenchError> {
    let stage = Stage::new()?;
    let server = stage.serve(&options.serve, "[drain]\ndelay_ms = 100\n")?;
    let place = Mutex::new(server.address);
    let (tally, malformed, left) = (Tally::default(), AtomicU64::new(0), AtomicU64::new(0));
    let (mut reloads, mut stuck) = (0, None);
    let mut samples: Vec<(f64, f64)> = Vec::new();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..options.clients.max(1) {
            let (tally, stage, place) = (&tally, &stage, &place);
            scope.spawn(move || tally.good(stage, place, client));
        }
        scope.spawn(|| bad(&tally, server.address, stage.name(), &malformed));
        scope.spawn(|| leaving(&tally, server.address, stage.name(), &left));
        let mut next = began + options.reload_every;
        let mut told = 0;
        while began.elapsed() < options.time {
            std::thread::sleep(Duration::from_millis(100).min(options.time));
            if let Some(bytes) = server.resident() {
                samples.push((began.elapsed().as_secs_f64(), bytes as f64 / f64::from(1 << 20)));
            }
            if Instant::now() >= next && stuck.is_none() {
                next = Instant::now() + options.reload_every;
                // The first one is there already.
                stuck = reload(&stage, &tally, &server, reloads + 2).err();
                reloads += u64::from(stuck.is_none());
            }
            let tens = began.elapsed().as_secs() / 10;
            if tens > told {
                told = tens;
                let right = tally.right.load(Ordering::Relaxed);
                tell(&format!("{} s: {right} answers, {reloads} reloads", began.elapsed().as_secs()));
            }
        }
        tally.stop.store(true, Ordering::Relaxed);
    });
    let seconds = began.elapsed().as_secs_f64();
    let mut verdicts = tally.verdicts();
    let growth_mb = growth(&samples, options.time.as_secs_f64() / 3.0);
    let stuck = stuck.map_or_else(|| reloads.to_string(), |why| why.to_string());
    verdicts.push(Verdict::new("new versions take the traffic", &stuck, stuck == reloads.to_string()));
    verdicts.push(Verdict::new(
        "the memory does not grow",
        format_args!("{growth_mb:.1} MB in the last two thirds"),
        growth_mb < GROWTH_MB,
    ));
    verdicts.push(Verdict::new("the server is alive and ready", "", is_well(server.address)));
    let code = server.terminate();
    verdicts.push(Verdict::new("it ends when asked, with code 0", format_args!("{code:?}"), code == Some(0)));
    let [p99_us, p99_reload_us] = tally.p99_us();
    // Of fewer requests the slowest of a hundred are a matter of chance.
    if tally.timed().into_iter().all(|count| count >= ENOUGH) {
        let ratio = p99_reload_us / p99_us.max(1.0);
        verdicts.push(Verdict::new(
            "no request is slower for a reload",
            format_args!("p99 is {ratio:.2} times the usual"),
            ratio <= SLOWER,
        ));
    }
    let at = |place: usize| samples.get(place).map_or(0.0, |sample| sample.1);
    Ok(Board {
        seconds,
        right: tally.right.load(Ordering::Relaxed),
        refused: tally.refused.load(Ordering::Relaxed),
        malformed: malformed.into_inner(),
        left: left.into_inner(),
        reloads,
        p99_us,
        p99_reload_us,
        resident_mb: [at(samples.len() / 6), at(samples.len().saturating_sub(1))],
        growth_mb,
        verdicts,
    })
}

/// Brings a version that was made before, waits until it takes the traffic, and removes the ones before.
fn reload(stage: &Stage, tally: &Tally, server: &Process, version: u64) -> Result<(), BenchError> {
    let made = stage.make(version)?;
    let known = versions(server.address, stage.name());
    tally.special.store(true, Ordering::Release);
    std::fs::rename(made, stage.versions().join(version.to_string()))?;
    let began = Instant::now();
    while !ready(&versions(server.address, stage.name())).contains(&version) {
        if began.elapsed() > Duration::from_secs(60) {
            return Err(std::io::Error::other("a new version is not ready after a minute").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    tally.special.store(false, Ordering::Release);
    for older in known {
        stage.registry.remove(stage.name(), older.number)?;
    }
    Ok(())
}

/// Sends what is wrong; every answer must be a refusal that says so.
fn bad(tally: &Tally, address: SocketAddr, name: &str, count: &AtomicU64) {
    let path = format!("/v2/models/{name}/infer");
    let shape =
        br#"{"inputs":[{"name":"input","shape":[4,1152921504606846978],"datatype":"FP32","data":[1]}]}"#;
    let deep = "[".repeat(5_000);
    let bodies: [&[u8]; 6] = [b"", b"{", b"{\"inputs\":[]}", shape, deep.as_bytes(), b"\xff\xfe"];
    let mut connection = Connection::new(address);
    for round in 0usize.. {
        if tally.stop.load(Ordering::Relaxed) {
            return;
        }
        let Some(body) = bodies.get(round % bodies.len()) else { return };
        match connection.ask(&post(&path, JSON, body)) {
            Ok(answer) if (400..500).contains(&answer.status) || answer.status == 503 => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => tally.fault(&tally.wrong, &format!("({} for body {})", answer.status, round % 6)),
            Err(error) => tally.fault(&tally.failed, &format!("({error} for body {})", round % 6)),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asks and goes, at every stage of a request, with a FIN and without.
fn leaving(tally: &Tally, address: SocketAddr, name: &str, count: &AtomicU64) {
    let path = format!("/models/{name}/predict");
    let whole = post(&path, JSON, format!("{{\"input\":[{}]}}", ["0"; 64].join(",")).as_bytes());
    for round in 0usize.. {
        if tally.stop.load(Ordering::Relaxed) {
            return;
        }
        let length = (round * 37) % (whole.len() + 1);
        if let Ok(mut stream) = TcpStream::connect(address) {
            let part = whole.get(..length).unwrap_or_default();
            if stream.write_all(part).is_ok() && round % 2 == 0 {
                // It goes in any case.
                let _ = stream.shutdown(Shutdown::Write);
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The rise of the line that fits the samples after `from` best, over their time.
fn growth(samples: &[(f64, f64)], from: f64) -> f64 {
    let late: Vec<&(f64, f64)> = samples.iter().filter(|sample| sample.0 >= from).collect();
    let count = late.len() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| late.iter().map(|sample| of(sample)).sum::<f64>() / count;
    let (time, memory) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let spread: f64 = late.iter().map(|sample| (sample.0 - time).powi(2)).sum();
    let together: f64 = late.iter().map(|sample| (sample.0 - time) * (sample.1 - memory)).sum();
    let span = late.last().zip(late.first()).map_or(0.0, |(last, first)| last.0 - first.0);
    if spread > 0.0 { together / spread * span } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_line() {
        let samples =
            |slope: f64| (0..90).map(|i| (f64::from(i), 50.0 + slope * f64::from(i))).collect::<Vec<_>>();
        assert!(growth(&samples(0.0), 30.0).abs() < 1e-9);
        assert!((growth(&samples(1.0), 30.0) - 59.0).abs() < 1e-9);
        // What happens in the first third is warming up.
        let mut early = samples(0.0);
        early.iter_mut().take(30).for_each(|sample| sample.1 = 0.0);
        assert!(growth(&early, 30.0).abs() < 1e-9);
        assert_eq!(growth(&[], 0.0), 0.0);
    }
}
