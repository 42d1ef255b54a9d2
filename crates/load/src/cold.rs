//! How long the server takes from its start to its first answer, and the memory that it has then.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use artifact::Registry;
use serde::Serialize;

use crate::bench::BenchError;
use crate::http::Connection;
use crate::process::{self, Process};
use crate::requests::{Form, infer};
use crate::subject::{Subject, numbers};

/// What is started, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// A preset.
    pub network: String,
    /// How often.
    pub starts: usize,
    /// The program `serve`.
    pub serve: PathBuf,
}

/// The middle of some figures, the least and the most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(0.0);
        Self { median: at(figures.len() / 2), least: at(0), most: at(figures.len().saturating_sub(1)) }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Board {
    /// The network.
    pub network: String,
    /// How often it was started.
    pub starts: usize,
    /// Milliseconds from the start of the process until it says that it is ready.
    pub ready_ms: Spread,
    /// Milliseconds from the start of the process until the first request is answered.
    pub answered_ms: Spread,
    /// Megabytes that are resident after that answer.
    pub resident_mb: Spread,
    /// Megabytes that are resident after a thousand requests.
    pub worked_mb: Spread,
}

/// How long a start may take before it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the server again and again.
///
/// # Errors
/// When it cannot be started or does not answer.
pub fn run(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Board, BenchError> {
    let folder = tempfile::tempdir()?;
    let models = folder.path().join("models");
    let subject = Subject::preset(&options.network)?;
    subject.publish(&Registry::open(&models)?)?;
    let width: usize = subject.shape().iter().product();
    let request = infer(Form::Binary, &subject.name, &subject.input(), subject.shape(), 1, &numbers(width));
    let (mut ready, mut answered, mut resident, mut worked) = (vec![], vec![], vec![], vec![]);
    for start in 0..options.starts.max(1) {
        tell(&format!("start {} of {}", start + 1, options.starts.max(1)));
        let command = process::server(&options.serve, &models, folder.path());
        let began = Instant::now();
        let mut process = Process::announced("serve", command)?;
        let mut connection = Connection::new(process.address);
        let asked = b"GET /v2/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        while !connection.ask(asked).is_ok_and(|answer| answer.status == 200) {
            if began.elapsed() > PATIENCE || !process.is_running() {
                return Err(std::io::Error::other("the server does not become ready").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        ready.push(began.elapsed().as_secs_f64() * 1e3);
        let mut ask = || match connection.ask(&request) {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(std::io::Error::other(format!("the server answers {}", answer.status))),
            Err(error) => Err(error),
        };
        ask()?;
        answered.push(began.elapsed().as_secs_f64() * 1e3);
        let megabytes = |process: &Process| process.resident().map(|bytes| bytes as f64 / f64::from(1 << 20));
        resident.extend(megabytes(&process));
        (0..1_000).try_for_each(|_| ask())?;
        worked.extend(megabytes(&process));
        process.kill();
    }
    Ok(Board {
        network: options.network.clone(),
        starts: options.starts.max(1),
        ready_ms: Spread::of(ready),
        answered_ms: Spread::of(answered),
        resident_mb: Spread::of(resident),
        worked_mb: Spread::of(worked),
    })
}
