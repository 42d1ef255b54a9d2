//! The commands that start the server and judge it: `cold`, `soak` and `chaos`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use cli::{ErrorExt as _, ExitStatus, Table};
use load::cold::Spread;
use load::trial::Verdict;

/// The process is started again and again. Nothing else should run.
#[derive(Debug, clap::Args)]
pub(crate) struct Cold {
    /// The network: a preset, with random weights.
    #[arg(long, value_name = "PRESET", default_value = "lenet5")]
    network: String,

    /// How often the server is started.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    starts: u16,

    /// The program to start, where it is not the one that is built beside this.
    #[arg(long, value_name = "FILE")]
    serve: Option<PathBuf>,

    #[command(flatten)]
    common: cli::Common,
}

/// Every answer is compared with the predictor's; the exit code is 1 when something is not as it must be.
#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// How long.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=604_800))]
    time: u32,

    /// Clients that behave.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,

    /// Between two new versions.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000)]
    reload_every: u32,

    /// The program to try, where it is not the one that is built beside this.
    #[arg(long, value_name = "FILE")]
    serve: Option<PathBuf>,

    #[command(flatten)]
    common: cli::Common,
}

/// Every answer is compared with the predictor's; the exit code is 1 when something is not as it must be.
#[derive(Debug, clap::Args)]
pub(crate) struct Chaos {
    /// How often each thing is done.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Clients that behave.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,

    /// Threads that load and unload.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    changers: u16,

    /// The program to try, where it is not the one that is built beside this.
    #[arg(long, value_name = "FILE")]
    serve: Option<PathBuf>,

    #[command(flatten)]
    common: cli::Common,
}

/// The server that was named, else the one that lies beside this program.
pub(crate) fn server(named: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let beside = || own.with_file_name(format!("serve{}", std::env::consts::EXE_SUFFIX));
    let program = named.cloned().unwrap_or_else(beside);
    if !program.is_file() {
        return Err(anyhow::anyhow!("{} is not built", program.display()))
            .hint("`cargo xtask` builds it; --serve names another");
    }
    program.canonicalize().with_context(|| format!("cannot find {}", program.display()))
}

pub(crate) fn cold(cold: &Cold) -> anyhow::Result<ExitStatus> {
    let printer = cold.common.start(tracing::Level::WARN);
    let options = load::cold::Options {
        network: cold.network.clone(),
        starts: usize::from(cold.starts),
        serve: server(cold.serve.as_ref())?,
    };
    let board = load::cold::run(&options, &mut |what| printer.status(what))?;
    printer.result(&board, || {
        let mut table = Table::new(["", "median", "least", "most", "goal"]).numbers(1..=4);
        let mut row = |what: &str, spread: Spread, goal: &str| {
            let number = |figure: f64| format!("{figure:.1}");
            let Spread { median, least, most } = spread;
            table.row([what.to_owned(), number(median), number(least), number(most), goal.to_owned()]);
        };
        row("ready, ms", board.ready_ms, "100");
        row("first answer, ms", board.answered_ms, "");
        row("resident, MB", board.resident_mb, "64");
        row("after 1000 requests, MB", board.worked_mb, "64");
        format!("{}, {} starts\n{table}", board.network, board.starts)
    })?;
    Ok(ExitStatus::Success)
}

pub(crate) fn soak(soak: &Soak) -> anyhow::Result<ExitStatus> {
    let printer = soak.common.start(tracing::Level::WARN);
    let options = load::soak::Options {
        serve: server(soak.serve.as_ref())?,
        time: Duration::from_secs(u64::from(soak.time)),
        clients: usize::from(soak.clients),
        reload_every: Duration::from_millis(u64::from(soak.reload_every)),
    };
    let board = load::soak::run(&options, &mut |what| printer.status(what))?;
    printer.result(&board, || {
        format!(
            "{:.0} s: {} right answers, {} refused, {} malformed requests, {} clients that left, {} reloads\n\
             p99 {:.1} ms, while a version was loaded {:.1} ms; resident {:.1} MB, at the end {:.1} MB\n{}",
            board.seconds,
            board.right,
            board.refused,
            board.malformed,
            board.left,
            board.reloads,
            board.p99_us / 1e3,
            board.p99_reload_us / 1e3,
            board.resident_mb[0],
            board.resident_mb[1],
            verdicts(&board.verdicts)
        )
    })?;
    Ok(status(board.passed()))
}

pub(crate) fn chaos(chaos: &Chaos) -> anyhow::Result<ExitStatus> {
    let printer = chaos.common.start(tracing::Level::WARN);
    let options = load::chaos::Options {
        serve: server(chaos.serve.as_ref())?,
        rounds: usize::from(chaos.rounds),
        clients: usize::from(chaos.clients),
        changers: usize::from(chaos.changers),
    };
    let board = load::chaos::run(&options, &mut |what| printer.status(what))?;
    printer.result(&board, || {
        let trial = |trial: &load::chaos::Trial| {
            let load::chaos::Trial { what, right, refused, verdicts: judged } = trial;
            format!("{what}: {right} right answers, {refused} refused\n{}", verdicts(judged))
        };
        board.trials.iter().map(trial).collect::<Vec<_>>().join("\n")
    })?;
    Ok(status(board.passed()))
}

fn verdicts(verdicts: &[Verdict]) -> String {
    let mut table = Table::new(["", "", ""]);
    for Verdict { what, found, passed } in verdicts {
        let mark = if *passed { "ok" } else { "FAILED" };
        table.row([mark.to_owned(), what.clone(), found.clone()]);
    }
    table.to_string()
}

fn status(passed: bool) -> ExitStatus {
    if passed { ExitStatus::Success } else { ExitStatus::GateFailed }
}
