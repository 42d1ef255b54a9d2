//! What soak and chaos have in common: a server with a model, requests whose right answers are known, clients that send
//! them, and verdicts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use artifact::{ModelRef, Registry, Selector};
use network::{NamedTensor, Tensor};
use predict::{DeviceSpec, Predictor};
use serde::Serialize;
use tempfile::TempDir;

use crate::bench::{BenchError, numbers};
use crate::http::Connection;
use crate::process::{Process, ProcessError};
use crate::requests::{Form, infer};
use crate::subject::Subject;

/// One thing that was looked at, and whether it was as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What must be.
    pub what: String,
    /// What was found.
    pub found: String,
    /// Whether it is as it must be.
    pub passed: bool,
}

impl Verdict {
    /// A verdict.
    #[must_use]
    pub fn new(what: &str, found: impl std::fmt::Display, passed: bool) -> Self {
        Self { what: what.to_owned(), found: found.to_string(), passed }
    }
}

/// A registry with one model, and what it answers.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    subject: Subject,
    /// The registry that is served.
    pub registry: Registry,
    requests: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A small model, so that the server and not the arithmetic is what is tried.
const NETWORK: &str = "digits-cnn";

impl Stage {
    /// Publishes the model once and computes the right answers with the predictor.
    ///
    /// # Errors
    /// When the registry cannot be written.
    pub fn new() -> Result<Self, BenchError> {
        let folder = tempfile::tempdir()?;
        let registry = Registry::open(folder.path().join("models"))?;
        let subject = Subject::preset(NETWORK)?;
        subject.publish(&registry)?;
        let reference = ModelRef { name: subject.name.clone(), selector: Selector::Latest };
        let predictor = Predictor::open(&registry, &reference, DeviceSpec::Cpu)?;
        let width: usize = subject.shape().iter().product();
        let all = numbers(64 * width + 64);
        let mut requests = Vec::new();
        for case in 0..24usize {
            let rows = 1 + case % 5;
            // No two requests have the same numbers, so that an answer that belongs to another is found out.
            let values: Vec<f32> = all.iter().skip(case).copied().take(rows * width).collect();
            let shape = std::iter::once(rows).chain(subject.shape().iter().copied()).collect();
            let input =
                NamedTensor { name: subject.input(), tensor: Tensor::from_f32(shape, values.clone())? };
            let output = predictor.infer(&[input])?;
            let answer = output.iter().filter_map(|output| output.tensor.as_f32());
            let expected = answer.flatten().flat_map(|number| number.to_le_bytes()).collect();
            let request =
                infer(Form::Binary, &subject.name, &subject.input(), subject.shape(), rows, &values);
            requests.push((request, expected));
        }
        Ok(Self { folder, subject, registry, requests })
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.subject.name
    }

    /// The directory of the model's versions.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.folder.path().join("models").join(self.name())
    }

    /// Publishes the same model as the next version.
    ///
    /// # Errors
    /// When the registry cannot be written.
    pub fn publish(&self) -> Result<(), BenchError> {
        Ok(self.subject.publish(&self.registry)?)
    }

    /// Has the server make a key for an administrator. Returns it, and the settings with which everybody may ask and
    /// who has the key may change things.
    ///
    /// # Errors
    /// When it makes none.
    pub fn key(&self, program: &Path) -> Result<(String, String), BenchError> {
        let file = self.folder.path().join("keys.toml");
        let mut command = Command::new(program);
        command.args(["key", "new", "--name", "trial", "--scope", "admin", "--json", "--keys"]).arg(&file);
        let told: serde_json::Value = serde_json::from_slice(&command.output()?.stdout).unwrap_or_default();
        let none = || std::io::Error::other("`serve key new` made no key");
        let key = told["key"].as_str().ok_or_else(none)?.to_owned();
        Ok((key, format!("[access]\nkeys = {file:?}\nanonymous = [\"read\", \"infer\"]\n")))
    }

    /// Starts the server with further settings in its file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn serve(&self, program: &Path, settings: &str) -> Result<Process, BenchError> {
        let file = self.folder.path().join("serve.toml");
        std::fs::write(&file, format!("[repository]\npoll_ms = 50\nversions = \"latest\"\n{settings}"))?;
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).args([
            "--json",
            "--port",
            "0",
            "--grpc-port",
            "0",
            "--config",
        ]);
        command.arg(file).arg("--models").arg(self.folder.path().join("models"));
        let process: Result<Process, ProcessError> = Process::announced("serve", command);
        Ok(process?)
    }
}

/// What happened to all requests.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answered as the predictor does.
    pub right: AtomicU64,
    /// Answered with something else.
    pub wrong: AtomicU64,
    /// Refused with 503 or 504, as a server may.
    pub refused: AtomicU64,
    /// Neither answered nor refused.
    pub failed: AtomicU64,
    /// The first thing that went wrong.
    pub first: Mutex<Option<String>>,
    /// Microseconds of right answers while [`Tally::special`] was false, and true; no more than a million of each.
    times: Mutex<[Vec<u32>; 2]>,
    /// Whether something is done to the server now.
    pub special: AtomicBool,
    /// Whether clients may fail now, because there is no server.
    pub outage: AtomicBool,
    /// Whether clients should end.
    pub stop: AtomicBool,
}

impl Tally {
    fn note(&self, counter: &AtomicU64, what: impl FnOnce() -> String) {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(what);
    }

    /// Counts something that went wrong; the first is kept in words.
    pub fn fault(&self, counter: &AtomicU64, what: &str) {
        self.note(counter, || what.to_owned());
    }

    /// The time within which 99 of 100 requests were answered, in microseconds: when nothing was done, and when something
    /// was.
    #[must_use]
    pub fn p99_us(&self) -> [f64; 2] {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.each_mut().map(|times| {
            times.sort_unstable();
            let place = (times.len() * 99).div_ceil(100).saturating_sub(1);
            times.get(place).map_or(0.0, |time| f64::from(*time))
        })
    }

    /// The verdict that all clients have: no answer was wrong, and none was missing.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        let (right, wrong, failed) = (count(&self.right), count(&self.wrong), count(&self.failed));
        vec![
            Verdict::new("requests were answered", right, right > 0),
            Verdict::new("no answer is wrong", format_args!("{wrong} {first}"), wrong == 0),
            Verdict::new("no accepted request fails", format_args!("{failed} {first}"), failed == 0),
        ]
    }

    /// Sends one good request after the other until told to stop; `place` says where the server is.
    pub fn good(&self, stage: &Stage, place: &Mutex<SocketAddr>, client: usize) {
        let now = || *place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = now();
        let mut connection = Connection::new(address);
        for round in client * 7.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if now() != address {
                address = now();
                connection = Connection::new(address);
            }
            let Some((request, expected)) = stage.requests.get(round % stage.requests.len()) else { return };
            let special = self.special.load(Ordering::Acquire);
            let excused = self.outage.load(Ordering::Acquire);
            let began = Instant::now();
            match connection.ask(request) {
                Ok(answer) if answer.status == 200 && answer.body.ends_with(expected) => {
                    self.right.fetch_add(1, Ordering::Relaxed);
                    let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
                    let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(times) =
                        times.get_mut(usize::from(special)).filter(|times| times.len() < 1_000_000)
                    {
                        times.push(micros);
                    }
                }
                Ok(answer) if answer.status == 200 => {
                    let length = answer.body.len();
                    self.note(&self.wrong, || format!("(request {round}: {length} bytes)"));
                }
                Ok(answer) if matches!(answer.status, 503 | 504) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(answer) => {
                    let body: String = String::from_utf8_lossy(answer.body).chars().take(200).collect();
                    let status = answer.status;
                    self.note(&self.failed, || format!("({status}: {body})"));
                }
                Err(error) => {
                    connection = Connection::new(address);
                    // Whoever was cut off in the middle of an outage may have begun before it.
                    if excused || self.outage.load(Ordering::Acquire) || now() != address {
                        std::thread::sleep(Duration::from_millis(5));
                    } else {
                        self.note(&self.failed, || format!("({error})"));
                    }
                }
            }
        }
    }
}

/// Whether the server answers that it is alive and ready, within ten seconds.
#[must_use]
pub fn is_well(address: SocketAddr) -> bool {
    let began = Instant::now();
    let ok = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        Connection::new(address).ask(request.as_bytes()).is_ok_and(|answer| answer.status == 200)
    };
    while began.elapsed() < Duration::from_secs(10) {
        if ok("/v2/health/live") && ok("/v2/health/ready") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// The state of every version of a model, by number: `GET /models/NAME`.
#[must_use]
pub fn states(address: SocketAddr, name: &str) -> Vec<(u64, String)> {
    let request = format!("GET /models/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let mut connection = Connection::new(address);
    let Ok(answer) = connection.ask(request.as_bytes()) else { return Vec::new() };
    let view: serde_json::Value = serde_json::from_slice(answer.body).unwrap_or_default();
    let state = |version: &serde_json::Value| {
        Some((version["version"].as_u64()?, version["state"].as_str()?.to_owned()))
    };
    view["versions"].as_array().into_iter().flatten().filter_map(state).collect()
}
