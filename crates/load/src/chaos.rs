//! What breaks servers, one thing after the other, under load: an end without a word, a stop, versions that are damaged or
//! half there, and threads that load and unload at once. Afterwards the server answers, and answers right.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Serialize;

use crate::bench::BenchError;
use crate::http::Connection;
use crate::process::Process;
use crate::requests::{JSON, post};
use crate::trial::{Stage, Tally, Verdict, Version, is_well, ready, versions};

/// How it is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program `serve`.
    pub serve: PathBuf,
    /// How often each thing is done.
    pub rounds: usize,
    /// Clients that behave.
    pub clients: usize,
    /// Threads that load and unload.
    pub changers: usize,
}

/// One thing that was done, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// What was done.
    pub what: &'static str,
    /// Requests that were answered as the predictor does meanwhile.
    pub right: u64,
    /// Requests that were refused with 503 or 504.
    pub refused: u64,
    /// What was judged.
    pub verdicts: Vec<Verdict>,
}

/// Everything that was done.
#[derive(Clone, Debug, Serialize)]
pub struct Board {
    /// In their order.
    pub trials: Vec<Trial>,
}

impl Board {
    /// Whether everything was as it must be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.trials.iter().flat_map(|trial| &trial.verdicts).all(|verdict| verdict.passed)
    }
}

type Done = Result<Vec<Verdict>, BenchError>;

/// Does all of it.
///
/// # Errors
/// When the server cannot be started at all.
pub fn run(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Board, BenchError> {
    let mut trials = Vec::new();
    let all: [(&'static str, Act); 4] = [
        ("killed without a word, and started again", killed),
        ("stopped for a second, and continued", stopped),
        ("versions that are damaged, half there, or gone", damaged),
        ("threads that load and unload", changed),
    ];
    for (what, act) in all {
        tell(what);
        trials.push(trial(options, what, act)?);
    }
    Ok(Board { trials })
}

/// What an act has to do with.
struct Scene<'a> {
    options: &'a Options,
    stage: &'a Stage,
    tally: &'a Tally,
    place: &'a Mutex<SocketAddr>,
    /// Of an administrator.
    key: &'a str,
    settings: &'a str,
}

/// What happens to a server, and what must hold then.
type Act = fn(&Scene<'_>, &mut Process) -> Done;

fn trial(options: &Options, what: &'static str, act: Act) -> Result<Trial, BenchError> {
    let stage = Stage::new()?;
    let (key, access) = stage.key(&options.serve)?;
    let settings = format!("[drain]\ndelay_ms = 100\n{access}");
    let mut server = stage.serve(&options.serve, &settings)?;
    let (place, tally) = (Mutex::new(server.address), Tally::default());
    let done = std::thread::scope(|scope| {
        for client in 0..options.clients.max(1) {
            let (tally, stage, place) = (&tally, &stage, &place);
            scope.spawn(move || tally.good(stage, place, client));
        }
        pause(300);
        let (key, settings) = (key.as_str(), settings.as_str());
        let scene = Scene { options, stage: &stage, tally: &tally, place: &place, key, settings };
        let done = act(&scene, &mut server);
        pause(300);
        tally.stop.store(true, Ordering::Relaxed);
        done
    });
    let mut verdicts = tally.verdicts();
    verdicts.extend(done?);
    verdicts.push(Verdict::new("the server is alive and ready", "", is_well(server.address)));
    let code = server.terminate();
    verdicts.push(Verdict::new("it ends when asked, with code 0", format_args!("{code:?}"), code == Some(0)));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Trial { what, right: count(&tally.right), refused: count(&tally.refused), verdicts })
}

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Between two lives clients get no answers; all that they get are right.
fn killed(scene: &Scene<'_>, server: &mut Process) -> Done {
    let Scene { options, stage, tally, place, settings, .. } = scene;
    for _ in 0..options.rounds.max(1) {
        tally.outage.store(true, Ordering::Release);
        server.kill();
        // The second life finds what the first one left, in the middle of whatever it did.
        *server = stage.serve(&options.serve, settings)?;
        if let Ok(mut place) = place.lock() {
            *place = server.address;
        }
        // Whoever was cut off has noticed by now.
        pause(500);
        tally.outage.store(false, Ordering::Release);
        pause(300);
    }
    Ok(Vec::new())
}

/// Requests wait, and are answered.
fn stopped(scene: &Scene<'_>, server: &mut Process) -> Done {
    for _ in 0..scene.options.rounds.max(1) {
        let stopped = server.signal(Signal::STOP);
        pause(1_000);
        if !(server.signal(Signal::CONT) && stopped) {
            return Ok(vec![Verdict::new("it can be stopped", "kill failed", false)]);
        }
        pause(300);
    }
    Ok(Vec::new())
}

/// What served goes on serving, and what is wrong with the others is told.
fn damaged(scene: &Scene<'_>, server: &mut Process) -> Done {
    let (stage, directory) = (scene.stage, scene.stage.versions());
    let mut verdicts = Vec::new();
    let is_ready = |numbers: &[u64]| settled(server.address, stage.name(), |found| ready(found) == numbers);
    for round in 0..scene.options.rounds.max(1) as u64 {
        // After the only one that is good.
        let first = 10 * (round + 1);
        let place = |number: u64| directory.join(number.to_string());
        let [spoiled, unlisted, half, empty, good] = [0, 1, 2, 3, 4].map(|offset| first + offset);
        for number in [spoiled, unlisted, half, empty] {
            let made = stage.make(number)?;
            let manifest = made.join("manifest.json");
            match number {
                number if number == spoiled => flip(&made)?,
                number if number == unlisted => std::fs::remove_file(manifest)?,
                number if number == half => {
                    let text = std::fs::read(&manifest)?;
                    std::fs::write(manifest, text.get(..text.len() / 2).unwrap_or_default())?;
                }
                _ => std::fs::remove_file(made.join("weights.bpk"))?,
            }
            std::fs::rename(made, place(number))?;
        }
        // Names that are no versions.
        for name in ["007", "-1", "1.5", "latest", "99999999999999999999999"] {
            std::fs::create_dir_all(directory.join(name))?;
        }
        let refused = settled(server.address, stage.name(), |found| {
            let reason = |number, words: &[&str]| {
                found.iter().any(|version| {
                    version.number == number && words.iter().all(|word| version.reason.contains(word))
                })
            };
            ready(found) == [1]
                && reason(spoiled, &["weights.bpk", "damaged"])
                && reason(half, &["manifest is not valid"])
                && reason(empty, &["weights.bpk"])
        });
        let told = match &refused {
            Ok(found) => format!("ready: {:?} of {} that are listed", ready(found), found.len()),
            Err(found) => format!("{found:?}"),
        };
        verdicts.push(Verdict::new(
            "only what is whole is served, and the rest is told",
            told,
            refused.is_ok(),
        ));
        // A good one whose files are pulled away.
        std::fs::rename(stage.make(good)?, place(good))?;
        let served = is_ready(&[good]);
        std::fs::remove_dir_all(place(good))?;
        let back = is_ready(&[1]);
        let found = format!("{:?}, then {:?}", served.as_deref().map(ready), back.as_deref().map(ready));
        let passed = served.is_ok() && back.is_ok();
        verdicts.push(Verdict::new("when a version goes, the one before it is served again", found, passed));
        for number in [spoiled, unlisted, half, empty] {
            std::fs::remove_dir_all(place(number))?;
        }
        pause(200);
    }
    Ok(verdicts)
}

/// Waits until the versions are as they should be, at most half a minute; what they were last, in any case.
fn settled(
    address: SocketAddr,
    name: &str,
    is_so: impl Fn(&[Version]) -> bool,
) -> Result<Vec<Version>, Vec<Version>> {
    let began = Instant::now();
    loop {
        let found = versions(address, name);
        if is_so(&found) {
            return Ok(found);
        }
        if began.elapsed() > Duration::from_secs(30) {
            return Err(found);
        }
        pause(20);
    }
}

/// Changes a byte in the middle of the weights.
fn flip(package: &Path) -> std::io::Result<()> {
    let path = package.join("weights.bpk");
    let mut bytes = std::fs::read(&path)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    std::fs::write(path, bytes)
}

/// While the model is loaded and unloaded, requests are answered right or refused; nothing else happens to them.
fn changed(scene: &Scene<'_>, server: &mut Process) -> Done {
    let (address, name) = (server.address, scene.stage.name());
    let (odd, changes) = (Mutex::new(None), AtomicU64::new(0));
    let headers = format!("{JSON}Authorization: Bearer {}\r\n", scene.key);
    let asked = |what: &str| post(&format!("/v2/repository/models/{name}/{what}"), &headers, b"{}");
    std::thread::scope(|scope| {
        for thread in 0..scene.options.changers.max(1) {
            let (odd, changes, asked) = (&odd, &changes, &asked);
            scope.spawn(move || {
                let mut connection = Connection::new(address);
                for round in 0..4 * scene.options.rounds.max(1) {
                    let what = if (thread + round) % 2 == 0 { "load" } else { "unload" };
                    let wrong = match connection.ask(&asked(what)) {
                        Ok(answer) if matches!(answer.status, 200 | 400 | 503) => None,
                        Ok(answer) => Some(format!("{what}: {}", answer.status)),
                        Err(error) => Some(format!("{what}: {error}")),
                    };
                    changes.fetch_add(1, Ordering::Relaxed);
                    if let (Some(wrong), Ok(mut odd)) = (wrong, odd.lock()) {
                        odd.get_or_insert(wrong);
                    }
                }
            });
        }
    });
    let odd = odd.into_inner().ok().flatten();
    let found = odd.clone().unwrap_or_else(|| format!("{} changes", changes.load(Ordering::Relaxed)));
    let mut verdicts = vec![Verdict::new("every change is answered", found, odd.is_none())];
    let load = asked("load");
    let began = Instant::now();
    let loaded = loop {
        if Connection::new(address).ask(&load).is_ok_and(|answer| answer.status == 200) {
            break true;
        }
        if began.elapsed() > Duration::from_secs(30) {
            break false;
        }
        pause(50);
    };
    verdicts.push(Verdict::new("the model can be loaded at the end", "", loaded));
    Ok(verdicts)
}
