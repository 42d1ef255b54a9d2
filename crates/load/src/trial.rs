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

use crate::bench::BenchError;
use crate::http::Connection;
use crate::process::{self, Process};
use crate::requests::{Form, infer};
use crate::subject::{Subject, numbers};

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
    /// The registry in which versions are made before they are moved to the other.
    next: Registry,
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
        let next = Registry::open(folder.path().join("next"))?;
        subject.publish(&registry)?;
        subject.publish(&next)?;
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
        Ok(Self { folder, subject, registry, next, requests })
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

    /// Makes the same model as a version of this number, which must grow from call to call, where it is not served.
    /// Returns a directory that is to be moved into [`Stage::versions`].
    ///
    /// # Errors
    /// When the registry cannot be written.
    pub fn make(&self, version: u64) -> Result<PathBuf, BenchError> {
        let newest = self.next.versions(self.name())?.into_iter().max().unwrap_or(0);
        for older in newest..version {
            self.subject.publish(&self.next)?;
            // The numbers go on from the newest one; the others are not needed.
            if older > 0 {
                self.next.remove(self.name(), older)?;
            }
        }
        let made = self.folder.path().join("next").join(self.name()).join(version.to_string());
        let copied = self.folder.path().join(format!("version-{version}"));
        std::fs::create_dir(&copied)?;
        for entry in std::fs::read_dir(made)? {
            let entry = entry?;
            std::fs::copy(entry.path(), copied.join(entry.file_name()))?;
        }
        Ok(copied)
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
        let models = self.folder.path().join("models");
        let mut command = process::server(program, &models, self.folder.path());
        command.arg("--config").arg(file);
        Ok(Process::announced("serve", command)?)
    }
}

/// Times in microseconds: all of them, or so many drawn from all by chance (reservoir sampling, Vitter 1985, algorithm
/// R), so that an hour is not judged by its first minutes.
#[derive(Debug, Default)]
struct Times {
    kept: Vec<u32>,
    count: u64,
}

impl Times {
    const MOST: usize = 1 << 20;

    fn add(&mut self, micros: u32) {
        self.count += 1;
        if self.kept.len() < Self::MOST {
            self.kept.push(micros);
            return;
        }
        // A number that depends on the count alone is chance enough: requests know nothing of it.
        let drawn = (self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) % self.count;
        if let Some(place) = usize::try_from(drawn).ok().and_then(|place| self.kept.get_mut(place)) {
            *place = micros;
        }
    }

    fn p99(&self) -> f64 {
        let mut kept = self.kept.clone();
        kept.sort_unstable();
        let place = (kept.len() * 99).div_ceil(100).saturating_sub(1);
        kept.get(place).map_or(0.0, |time| f64::from(*time))
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
    /// Microseconds of right answers while [`Tally::special`] was false, and true.
    times: Mutex<[Times; 2]>,
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
        self.times.lock().unwrap_or_else(PoisonError::into_inner).each_ref().map(Times::p99)
    }

    /// How many answers [`Tally::p99_us`] is about.
    #[must_use]
    pub fn timed(&self) -> [u64; 2] {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).each_ref().map(|times| times.count)
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
                    let [usual, other] = &mut *times;
                    if special { other.add(micros) } else { usual.add(micros) }
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

/// A version of a model as the server tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub number: u64,
    /// Such as `ready`.
    pub state: String,
    /// Why it is in no better state; empty where nothing is wrong.
    pub reason: String,
}

/// Every version of a model: `GET /models/NAME`.
#[must_use]
pub fn versions(address: SocketAddr, name: &str) -> Vec<Version> {
    let request = format!("GET /models/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let mut connection = Connection::new(address);
    let Ok(answer) = connection.ask(request.as_bytes()) else { return Vec::new() };
    let view: serde_json::Value = serde_json::from_slice(answer.body).unwrap_or_default();
    let version = |version: &serde_json::Value| {
        let reason = version["reason"].as_str().unwrap_or_default().to_owned();
        let state = version["state"].as_str()?.to_owned();
        Some(Version { number: version["version"].as_u64()?, state, reason })
    };
    view["versions"].as_array().into_iter().flatten().filter_map(version).collect()
}

/// The numbers of the versions that are ready.
#[must_use]
pub fn ready(versions: &[Version]) -> Vec<u64> {
    versions.iter().filter(|version| version.state == "ready").map(|version| version.number).collect()
}
