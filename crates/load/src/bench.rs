//! The measurement: the bare predictor and the server in turns, so that a machine that changes its speed changes both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use artifact::Registry;
use network::NamedTensor;
use predict::{DeviceSpec, Predictor};
use serde::Serialize;

use crate::generate::{Load, Target, Turn, closed, median, open};
use crate::peers::{Given, Peer};
use crate::process::{self, Process, ProcessError};
use crate::requests::{Form, infer, post};
use crate::subject::{Subject, SubjectError, numbers};

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// A preset.
    pub network: String,
    /// Rows of a full batch.
    pub batch: usize,
    /// Threads that compute, in the server and in the bare predictor. The caller has set the pool of its own process.
    pub threads: usize,
    /// Connections that ask for one row each.
    pub connections: usize,
    /// How the numbers travel.
    pub form: Form,
    /// How many turns both sides take.
    pub turns: usize,
    /// How long a turn takes.
    pub turn: Duration,
    /// The program `serve`.
    pub serve: PathBuf,
    /// This program, which is the bare HTTP server too.
    pub echo: PathBuf,
    /// The peers that are measured, each as far as the interpreter beside it has it.
    pub peers: Vec<(Peer, PathBuf)>,
}

/// A measurement that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one step")]
pub enum BenchError {
    #[error(transparent)]
    Subject(#[from] SubjectError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Registry(#[from] artifact::RegistryError),
    #[error(transparent)]
    Predict(#[from] predict::PredictError),
    #[error(transparent)]
    Length(#[from] network::LengthError),
    #[error("the server cannot be asked")]
    Ask(#[from] std::io::Error),
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Board {
    /// The network.
    pub network: String,
    /// Rows of a full batch.
    pub batch: usize,
    /// Threads that compute.
    pub threads: usize,
    /// How the numbers travelled.
    pub form: Form,
    /// Rows a second: full batches, four requests at a time.
    pub full: Throughput,
    /// Rows a second: requests of one row, many at a time.
    pub single: Load,
    /// One request of one row at a time.
    pub alone: Alone,
    /// Requests of one row at 80 % of the capacity, coming by chance.
    pub poisson: Poisson,
    /// What a request costs that computes nothing.
    pub identity: Identity,
    /// The same load for all servers: one row as JSON numbers.
    pub peers: Vec<PeerRow>,
    /// Peers that were asked for and are not there, or do not run.
    pub missing: Vec<String>,
}

/// The server beside the bare predictor.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// Rows a second of the predictor.
    pub bare: f64,
    /// Rows a second of the server.
    pub served: f64,
    /// The second by the first.
    pub ratio: f64,
    /// Requests that failed.
    pub failed: usize,
}

/// One request at a time, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Alone {
    /// The bare predictor.
    pub bare: Load,
    /// The server.
    pub served: Load,
}

/// Requests that come by chance, at 80 % of the capacity of the turn.
#[derive(Clone, Debug, Serialize)]
pub struct Poisson {
    /// Answers a second to as many connections as full batches need, each with a request of one row at all times.
    pub capacity: f64,
    /// Requests a second that were sent, in the middle one of the turns.
    pub rate: f64,
    /// What came back.
    pub served: Load,
    /// Twice the time of a full batch of the bare predictor and a millisecond more, in microseconds.
    pub bound_us: f64,
}

/// The server and a bare HTTP server, for as many bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// Our server on a network without layers.
    pub served: Load,
    /// Microseconds of processor of the server for a request; nothing where the system does not tell.
    pub served_cpu_us: Option<f64>,
    /// The bare HTTP server.
    pub echo: Load,
    /// As `served_cpu_us`.
    pub echo_cpu_us: Option<f64>,
}

/// One server under the load that all get.
#[derive(Clone, Debug, Serialize)]
pub struct PeerRow {
    /// Its name and version.
    pub server: String,
    /// What came back.
    pub load: Load,
}

/// Measures everything; `tell` hears what is measured now.
///
/// # Errors
/// When a side cannot be started or does not answer. A peer that does not run is told among those that are missing.
pub fn run(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Board, BenchError> {
    let folder = tempfile::tempdir()?;
    let registry = Registry::open(folder.path().join("models"))?;
    let (subject, identity) = (Subject::preset(&options.network)?, Subject::identity()?);
    subject.publish(&registry)?;
    identity.publish(&registry)?;
    let bare = Bare::new(&registry, &subject)?;
    tell("starting the server");
    let server = serve(options, &folder.path().join("models"))?;

    let width: usize = subject.shape().iter().product();
    let values = numbers(options.batch * width);
    let request = |form, rows| infer(form, &subject.name, &subject.input(), subject.shape(), rows, &values);
    let target = |rows| Target::learn(server.address, request(options.form, rows));
    let (one, full) = (target(1)?, target(options.batch)?);

    tell("full batches");
    let (mut bare_turns, mut turns) = (Vec::new(), Vec::new());
    for _ in 0..options.turns.max(1) {
        bare_turns.push(bare.turn(options.batch, &values, options.turn)?);
        turns.push(closed(&full, 4, options.turn));
    }
    let (batches, served) = (Load::of(&bare_turns), Load::of(&turns));
    let ratio =
        median(turns.iter().zip(&bare_turns).map(|(served, bare)| served.per_second() / bare.per_second()));
    let rows = |load: &Load| load.per_second * options.batch as f64;
    let full = Throughput { bare: rows(&batches), served: rows(&served), ratio, failed: served.failed };

    tell("one request at a time");
    let (mut bare_turns, mut turns) = (Vec::new(), Vec::new());
    for _ in 0..options.turns.max(1) {
        bare_turns.push(bare.turn(1, &values, options.turn)?);
        turns.push(closed(&one, 1, options.turn));
    }
    let alone = Alone { bare: Load::of(&bare_turns), served: Load::of(&turns) };

    tell("many requests of one row");
    let loads: Vec<Turn> =
        (0..options.turns.max(1)).map(|_| closed(&one, options.connections, options.turn)).collect();
    let single = Load::of(&loads);

    tell("requests that come by chance");
    // As many connections as two full batches, so that it is the server that requests wait for.
    let connections = (4 * options.connections).max(2 * options.batch);
    let (mut capacities, mut rates, mut turns) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..options.turns.max(1) {
        // Each turn has its own capacity, for the machine may be faster or slower by then.
        let capacity = closed(&one, connections, options.turn).per_second();
        turns.push(open(&one, connections, 0.8 * capacity, options.turn, turn as u64));
        rates.push(0.8 * capacity);
        capacities.push(capacity);
    }
    let (capacity, rate) = (median(capacities.into_iter()), median(rates.into_iter()));
    let bound_us = 2.0 * batches.p50_us + 1_000.0;
    let poisson = Poisson { capacity, rate, served: Load::of(&turns), bound_us };

    tell("a request that computes nothing");
    let identity = nothing(options, &server, &identity)?;

    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    if !options.peers.is_empty() {
        let target = Target::learn(server.address, request(Form::Simple, 1))?;
        let mut ours = Vec::new();
        for (peer, python) in &options.peers {
            tell(peer.name());
            match measure_peer(*peer, options, &subject, &values, python, &target, &mut ours)? {
                Ok(row) => peers.push(row),
                Err(why) => missing.push(format!("{}: {why}", peer.name())),
            }
        }
        let server = format!("brazier {}", env!("CARGO_PKG_VERSION"));
        peers.insert(0, PeerRow { server, load: Load::of(&ours) });
    }
    let Options { network, batch, threads, form, .. } = options.clone();
    Ok(Board { network, batch, threads, form, full, single, alone, poisson, identity, peers, missing })
}

fn serve(options: &Options, models: &Path) -> Result<Process, ProcessError> {
    let mut command = process::server(&options.serve, models, models);
    command.args(["--threads", &options.threads.to_string()]);
    command.env("BRAZIER_SERVE_SCHEDULER__MAX_BATCH_ROWS", options.batch.to_string());
    Process::announced("serve", command)
}

/// The server on a network without layers beside a bare HTTP server that is sent the same bytes.
fn nothing(options: &Options, server: &Process, identity: &Subject) -> Result<Identity, BenchError> {
    let request = infer(options.form, &identity.name, &identity.input(), identity.shape(), 1, &numbers(10));
    let mut command = Command::new(&options.echo);
    command.args(["echo", "--threads", &options.threads.to_string()]);
    let echo = Process::announced("echo", command)?;
    let body = request.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| end + 4);
    let plain = post("/", "", request.get(body..).unwrap_or_default());
    let ours = Target::learn(server.address, request)?;
    let theirs = Target::learn(echo.address, plain)?;
    let (mut turns, mut times) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..options.turns.max(1) {
        for (side, (process, target)) in [(server, &ours), (&echo, &theirs)].into_iter().enumerate() {
            let before = process.processor_time();
            let turn = closed(target, options.connections, options.turn);
            let took =
                process.processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
            times[side].extend(took.map(|took| took.as_secs_f64() * 1e6 / turn.sent.max(1) as f64));
            turns[side].push(turn);
        }
    }
    let [served, bare] = turns.map(|turns| Load::of(&turns));
    let [served_cpu_us, echo_cpu_us] =
        times.map(|times| (!times.is_empty()).then(|| median(times.into_iter())));
    Ok(Identity { served, served_cpu_us, echo: bare, echo_cpu_us })
}

/// A peer under the load, in turns with ours, which idles meanwhile and takes no processor from it; or why there is
/// none.
fn measure_peer(
    peer: Peer,
    options: &Options,
    subject: &Subject,
    values: &[f32],
    python: &Path,
    ours: &Target,
    our_turns: &mut Vec<Turn>,
) -> Result<Result<PeerRow, String>, BenchError> {
    let Some(version) = peer.version(python) else { return Ok(Err("it is not there".to_owned())) };
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("model.onnx");
    subject.write_onnx(&model)?;
    let input = subject.input();
    let given = Given {
        python,
        model: &model,
        input: &input,
        shape: subject.shape(),
        values,
        threads: options.threads,
        batch: options.connections,
        folder: folder.path(),
    };
    let running = match peer.start(&given) {
        Ok(running) => running,
        Err(error) => return Ok(Err(error.to_string())),
    };
    // In a batch of theirs the last digits of an answer may differ from those alone, so bodies are not compared.
    let target = Target { address: running.process.address, request: running.request, expected: None };
    let mut turns = Vec::new();
    for _ in 0..options.turns.max(1) {
        our_turns.push(closed(ours, options.connections, options.turn));
        turns.push(closed(&target, options.connections, options.turn));
    }
    Ok(Ok(PeerRow { server: format!("{} {version}", peer.name()), load: Load::of(&turns) }))
}

/// The predictor in this process.
struct Bare {
    predictor: Predictor,
    shape: Vec<usize>,
    input: String,
}

impl Bare {
    fn new(registry: &Registry, subject: &Subject) -> Result<Self, BenchError> {
        let reference =
            artifact::ModelRef { name: subject.name.clone(), selector: artifact::Selector::Latest };
        let predictor = Predictor::open(registry, &reference, DeviceSpec::Cpu)?;
        Ok(Self { predictor, shape: subject.shape().to_vec(), input: subject.input() })
    }

    /// Batches one after the other for so long, after a quarter of that to warm up.
    fn turn(&self, rows: usize, values: &[f32], time: Duration) -> Result<Turn, BenchError> {
        let width: usize = self.shape.iter().product();
        let values = values.iter().copied().take(rows * width).collect();
        let shape = std::iter::once(rows).chain(self.shape.iter().copied()).collect();
        let tensor = network::Tensor::from_f32(shape, values)?;
        let inputs = [NamedTensor { name: self.input.clone(), tensor }];
        let start = Instant::now();
        while start.elapsed() < time / 4 {
            std::hint::black_box(self.predictor.infer(&inputs)?);
        }
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < time || times.len() < 3 {
            let began = Instant::now();
            std::hint::black_box(self.predictor.infer(std::hint::black_box(&inputs))?);
            times.push(began.elapsed());
        }
        Ok(Turn { sent: times.len(), times, failed: 0, seconds: start.elapsed().as_secs_f64() })
    }
}
