//! The command `load`: measures the server. `cargo xtask bench serve` runs it.

mod trials;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use cli::{ErrorExt as _, ExitStatus, Printer, Table};
use load::bench::{self, Board, Options};
use load::generate::Load;
use load::peers::{self, Peer};
use load::requests::Form;

use crate::trials::{Chaos, Cold, Soak};

/// Measures the server.
#[derive(Debug, Parser)]
#[command(name = "load", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the server beside the bare predictor, a bare HTTP server, and servers of others.
    Serve(Serve),
    /// Measure how long the server takes from its start to its first answer, and the memory that it has then.
    Cold(Cold),
    /// Load the server for a while with clients of every kind, while versions come and go, and judge.
    Soak(Soak),
    /// Kill, stop and starve the server, and damage its repository, under load, and judge.
    Chaos(Chaos),
    /// Be the bare HTTP server: give back what is sent.
    #[command(hide = true)]
    Echo {
        /// Threads that compute in the server that it is put beside.
        #[arg(long)]
        threads: usize,
    },
}

/// Server, load generator and bare predictor run on the same machine, in turns. Nothing else should.
#[derive(Debug, clap::Args)]
struct Serve {
    /// The network: a preset, with random weights.
    #[arg(long, value_name = "PRESET", default_value = "resnet20")]
    network: String,

    /// Rows of a full batch.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,

    /// Threads that compute; 0 takes one per processor.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Connections that ask for one row each.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,

    /// How the numbers travel.
    #[arg(long, value_enum, default_value_t = FormName::Binary)]
    form: FormName,

    /// How many turns each side takes.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    turns: u16,

    /// How long a turn takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    turn_seconds: f64,

    /// One turn of half a second each: whether everything runs, not how fast.
    #[arg(long)]
    short: bool,

    /// Measure servers of others too, as far as this interpreter has them.
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,

    /// Measure servers of others, each from a virtual environment of its own in this folder. What is not there is
    /// installed with pip, which fetches packages.
    #[arg(long, value_name = "DIR", conflicts_with = "python")]
    venv: Option<PathBuf>,

    /// Which of them, where --python or --venv says how. Repeatable; all without it.
    #[arg(long, value_enum)]
    peer: Vec<PeerName>,

    #[command(flatten)]
    common: cli::Common,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormName {
    /// The binary tensor extension.
    Binary,
    /// JSON of the Open Inference Protocol.
    Json,
    /// JSON of the simple route.
    Simple,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PeerName {
    Fastapi,
    Litserve,
    Bentoml,
    Mlserver,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    cli::run(|| match arguments.command {
        Command::Serve(serve) => run(&serve),
        Command::Cold(cold) => trials::cold(&cold),
        Command::Soak(soak) => trials::soak(&soak),
        Command::Chaos(chaos) => trials::chaos(&chaos),
        Command::Echo { threads } => {
            let printer = Printer::new(cli::Format::Json, false);
            load::echo::run(threads, |address| {
                let told = serde_json::json!({ "listening": format!("http://{address}") });
                // Whoever started it finds out that it is silent.
                let _ = printer.result(&told, || address.to_string());
            })
            .context("the bare server cannot listen")?;
            Ok(ExitStatus::Success)
        }
    })
}

fn run(serve: &Serve) -> anyhow::Result<ExitStatus> {
    let seconds = if serve.short { 0.5 } else { serve.turn_seconds };
    if !(0.01..=3600.0).contains(&seconds) {
        return Err(cli::usage_error("--turn-seconds must be from 0.01 to 3600".to_owned())).usage();
    }
    let printer = serve.common.start(tracing::Level::WARN);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if serve.threads == 0 { processors } else { serve.threads };
    model::device::set_threads(threads)?;
    let own = std::env::current_exe().context("cannot find this program")?;
    let program = trials::server(None)?;
    let wanted: Vec<Peer> = match serve.peer.as_slice() {
        [] => Peer::ALL.to_vec(),
        some => some.iter().map(|peer| peer.peer()).collect(),
    };
    let mut peers = Vec::new();
    for peer in wanted {
        match (&serve.venv, &serve.python) {
            (Some(folder), _) => {
                printer.status(format_args!("the virtual environment of {}", peer.name()));
                let python = peers::environment(folder, peer);
                let python =
                    python.with_context(|| format!("the environment of {} cannot be set up", peer.name()))?;
                peers.push((peer, python));
            }
            (None, Some(python)) => peers.push((peer, python.clone())),
            (None, None) => {}
        }
    }
    let options = Options {
        network: serve.network.clone(),
        batch: usize::from(serve.batch),
        threads,
        connections: usize::from(serve.connections),
        form: serve.form.form(),
        turns: if serve.short { 1 } else { usize::from(serve.turns) },
        turn: Duration::from_secs_f64(seconds),
        serve: program,
        echo: own,
        peers,
    };
    let board = bench::run(&options, &mut |what| printer.status(what))?;
    printer.result(&board, || text(&board))?;
    Ok(ExitStatus::Success)
}

fn text(board: &Board) -> String {
    let mut table = Table::new(["", "bare", "served", "goal", ""]).numbers(1..=3);
    let mut row = |what: &str, bare: f64, served: f64, goal: f64, met: bool| {
        let met = if met { "met" } else { "missed" };
        table.row([
            what.to_owned(),
            format!("{bare:.0}"),
            format!("{served:.0}"),
            format!("{goal:.0}"),
            met.to_owned(),
        ]);
    };
    let Board { full, alone, poisson, .. } = board;
    // A server that refuses or fails is fast; that meets no goal.
    let whole = full.failed == 0;
    row("rows/s, full batches", full.bare, full.served, 0.9 * full.bare, whole && full.ratio >= 0.9);
    let whole = alone.served.is_whole();
    let goal = alone.bare.p50_us + 150.0;
    row("p50 alone, µs", alone.bare.p50_us, alone.served.p50_us, goal, whole && alone.served.p50_us <= goal);
    let goal = alone.bare.p99_us + 500.0;
    row("p99 alone, µs", alone.bare.p99_us, alone.served.p99_us, goal, whole && alone.served.p99_us <= goal);
    let bare = (poisson.bound_us - 1_000.0) / 2.0;
    // A generator that does not keep up sends less than it should.
    let whole = poisson.served.is_whole() && poisson.served.per_second >= 0.97 * poisson.rate;
    let met = whole && poisson.served.p99_us <= poisson.bound_us;
    row("p99 at 80 %, µs (bare: a full batch)", bare, poisson.served.p99_us, poisson.bound_us, met);
    let cpu = |time: Option<f64>| time.map_or("?".to_owned(), |time| format!("{time:.1} µs"));
    let (ours, echo) = (&board.identity.served, &board.identity.echo);
    let failed = [&board.single, &alone.served, &poisson.served, ours, echo]
        .iter()
        .map(|load| load.failed)
        .sum::<usize>()
        + full.failed;
    let mut text = format!(
        "{} in batches of {} on {} threads\n{table}\n\
         full batches: {:.3} of the bare predictor, in the middle one of the turns\n\
         requests of one row: {:.0}/s, p50 {:.0} µs, p99 {:.0} µs\n\
         at {:.0}/s of {:.0}/s by chance: {:.0}/s answered, p50 {:.0} µs, p99 {:.0} µs\n\
         a network without layers: {:.0}/s with {} of processor each; a bare HTTP server: {:.0}/s with {}\n\
         requests that failed: {failed}\n",
        board.network,
        board.batch,
        board.threads,
        full.ratio,
        board.single.per_second,
        board.single.p50_us,
        board.single.p99_us,
        poisson.rate,
        poisson.capacity,
        poisson.served.per_second,
        poisson.served.p50_us,
        poisson.served.p99_us,
        ours.per_second,
        cpu(board.identity.served_cpu_us),
        echo.per_second,
        cpu(board.identity.echo_cpu_us),
    );
    if !board.peers.is_empty() {
        let mut table = Table::new(["server", "requests/s", "p50 ms", "p99 ms", "failed"]).numbers(1..=4);
        for peer in &board.peers {
            let Load { per_second, p50_us, p99_us, failed, .. } = &peer.load;
            table.row([
                peer.server.clone(),
                format!("{per_second:.0}"),
                format!("{:.2}", p50_us / 1e3),
                format!("{:.2}", p99_us / 1e3),
                failed.to_string(),
            ]);
        }
        text.push_str(&format!("one row as JSON:\n{table}"));
        if let [ours, others @ ..] = board.peers.as_slice()
            && let Some(best) = others.iter().max_by(|a, b| a.load.per_second.total_cmp(&b.load.per_second))
        {
            let times = ours.load.per_second / best.load.per_second.max(f64::MIN_POSITIVE);
            let met = ours.load.is_whole() && times >= 5.0 && ours.load.p99_us < best.load.p99_us;
            let met = if met { "met" } else { "missed" };
            text.push_str(&format!(
                "{times:.1} times the best of them, {}; the goal is 5 times at a lower p99: {met}\n",
                best.server
            ));
        }
    }
    if !board.missing.is_empty() {
        text.push_str(&format!("not measured: {}\n", board.missing.join("; ")));
    }
    text
}

impl FormName {
    fn form(self) -> Form {
        match self {
            Self::Binary => Form::Binary,
            Self::Json => Form::Json,
            Self::Simple => Form::Simple,
        }
    }
}

impl PeerName {
    fn peer(self) -> Peer {
        match self {
            Self::Fastapi => Peer::FastApi,
            Self::Litserve => Peer::LitServe,
            Self::Bentoml => Peer::BentoMl,
            Self::Mlserver => Peer::MlServer,
        }
    }
}
