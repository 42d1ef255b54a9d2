//! `bench engine`: forward passes of the CPU engine, beside ONNX Runtime on the same weights, inputs and threads.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand, ValueEnum};
use cli::{Common, ErrorExt as _, ExitStatus, Printer, Table};
use compress::bench::{self, Bench, BenchError, Options, Peer, PeerError, Row};
use engine::Ceilings;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure forward passes per preset: f32, bf16 and int8, with random weights.
    Engine(EngineBench),
}

/// Measures the CPU engine, each figure beside what the processor can do at most. With `--peer onnxruntime`, ONNX
/// Runtime runs the same networks with the same weights and threads in the same run, taking turns, when an
/// interpreter has it: `--python`, or the active virtual environment, or `python3`. In int8 it runs both our export
/// and what its own quantizer makes of the floats, and the faster one counts. The wheels `onnxruntime`, `onnx` and
/// `sympy` are all that it needs. BRAZIER_ISA names the engine's instructions.
#[derive(Args, Debug)]
pub(crate) struct EngineBench {
    /// The presets to measure.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "lenet-300-100,lenet5,keras-cnn,resnet20",
        value_name = "NAME,…"
    )]
    preset: Vec<String>,
    /// Rows per pass.
    #[arg(long, value_delimiter = ',', default_value = "1,64", value_name = "N,…",
          value_parser = clap::value_parser!(u16).range(1..))]
    batch: Vec<u16>,
    /// Numbers of threads for each side; 0 takes one per processor.
    #[arg(long, value_delimiter = ',', default_value = "1,0", value_name = "N,…",
          value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: Vec<u16>,
    /// Turns that each side takes; the median of them is told.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    turns: u16,
    /// Seconds that a turn takes, roughly.
    #[arg(long, default_value_t = 0.1, value_parser = positive)]
    seconds: f64,
    /// Whose speed to measure in the same run.
    #[arg(long, value_enum)]
    peer: Option<PeerName>,
    /// The Python interpreter that has ONNX Runtime.
    #[arg(long, value_name = "PATH", requires = "peer")]
    python: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PeerName {
    /// ONNX Runtime on the processor, from Python.
    Onnxruntime,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 3600.0 => Ok(value),
        _ => Err("must be a number above 0, at most 3600".to_owned()),
    }
}

pub(crate) fn run(command: &BenchCommand) -> anyhow::Result<ExitStatus> {
    let BenchCommand::Engine(command) = command;
    let printer = command.common.start(tracing::Level::WARN);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads: Vec<usize> = Vec::new();
    for &asked in &command.threads {
        let asked = if asked == 0 { processors } else { usize::from(asked) };
        if !threads.contains(&asked) {
            threads.push(asked);
        }
    }
    let options = Options {
        presets: command.preset.clone(),
        batches: command.batch.iter().map(|&batch| usize::from(batch)).collect(),
        threads,
        turns: usize::from(command.turns),
        turn_seconds: command.seconds,
    };
    let mut peer = match command.peer {
        Some(PeerName::Onnxruntime) => start_peer(command.python.as_deref(), &printer)?,
        None => None,
    };
    let mut tell = |what: &str| printer.status(format_args!("{what} …"));
    let bench = match bench::engine(&options, peer.as_mut(), &mut tell) {
        Ok(bench) => bench,
        Err(error @ (BenchError::Preset(_) | BenchError::Isa(_))) => return Err(error).usage(),
        Err(error) => return Err(error.into()),
    };
    printer.result(&bench, || text(&bench, &options))?;
    Ok(ExitStatus::Success)
}

/// ONNX Runtime from the interpreter that was named, or from one that has it; none where there is none.
fn start_peer(python: Option<&Path>, printer: &Printer) -> anyhow::Result<Option<Peer>> {
    if let Some(python) = python {
        return match Peer::start(python) {
            Ok(peer) => Ok(Some(peer)),
            Err(error @ (PeerError::Start { .. } | PeerError::Missing { .. })) => {
                Err(error).hint("`python3 -m pip install onnxruntime onnx sympy` installs it").usage()
            }
            Err(error) => Err(error.into()),
        };
    }
    let environment = std::env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin/python"));
    for python in environment.into_iter().chain([PathBuf::from("python3")]) {
        let mut probe = Command::new(&python);
        probe.args(["-c", "import onnxruntime"]);
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if probe.status().is_ok_and(|status| status.success()) {
            return Ok(Some(Peer::start(&python)?));
        }
    }
    printer.status(
        "ONNX Runtime is not installed here, so only Brazier is measured; --python names an interpreter that has it",
    );
    Ok(None)
}

fn text(bench: &Bench, options: &Options) -> String {
    let mut text = format!("{}\n{}\n{}", passes(bench), machine(bench, options), programs(bench));
    let first = &bench.first_answer;
    text.push_str(&format!(
        "\n{} from a package on the disk to the first answer, in a warm process: {:.1} ms, of which loading {:.1} ms \
         (the very first time {:.1} ms)",
        first.network, first.warm_ms, first.warm_load_ms, first.cold_ms
    ));
    text
}

/// The forward passes.
fn passes(bench: &Bench) -> Table {
    let has_peer = bench.peer_version.is_some();
    let mut header = vec!["network", "type", "batch", "threads", "µs", "samples/s", "GMAC/s", "of ceiling"];
    if has_peer {
        header.extend(["ONNX Runtime µs", "samples/s", "its model", "ratio", "to its f32"]);
    }
    let mut table = Table::new(header).numbers((2..=9).chain([11, 12]));
    for row in &bench.rows {
        table.row(cells(row));
    }
    table
}

fn cells(row: &Row) -> Vec<String> {
    let rate = |value: f64| cli::grouped(value.round() as u64);
    let ratio = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
    let mut cells = vec![
        row.network.clone(),
        row.precision.name().to_owned(),
        row.batch.to_string(),
        row.threads.to_string(),
        format!("{:.1}", row.brazier.median_us),
        rate(row.brazier.rows_per_second),
        format!("{:.1}", row.gmacs),
        format!("{:.0} %", 100.0 * row.of_ceiling),
    ];
    if let Some(theirs) = &row.onnxruntime {
        cells.extend([
            format!("{:.1}", theirs.speed.median_us),
            rate(theirs.speed.rows_per_second),
            theirs.model.clone(),
            ratio(row.ratio),
            ratio(row.ratio_to_f32),
        ]);
    }
    cells
}

/// What stands behind the figures.
fn machine(bench: &Bench, options: &Options) -> String {
    let mut text = format!(
        "Median pass of {} turns, random weights; every convolution and dense layer is int8 in the rows that say so.\n\
         {} with {}",
        options.turns, bench.processor, bench.isa
    );
    for ceiling in &bench.ceilings {
        let Ceilings { f32_gmacs, bf16_gmacs, int8_gmacs } = ceiling.ceilings;
        // Without instructions of its own, bf16 is multiplied as f32.
        let bf16 = bf16_gmacs.map_or_else(|| " (and bf16)".to_owned(), |most| format!(", {most:.1} in bf16"));
        text.push_str(&format!(
            "\n{} thread{}: at most {f32_gmacs:.1} GMAC/s in f32{bf16}, {int8_gmacs:.1} in int8",
            ceiling.threads,
            if ceiling.threads == 1 { "" } else { "s" },
        ));
    }
    let read = |bandwidth: &bench::Bandwidth| {
        format!("{:.1} GB/s from {} MiB", bandwidth.gigabytes, bandwidth.bytes >> 20)
    };
    let bandwidth: Vec<String> = bench.bandwidth.iter().map(read).collect();
    text.push_str(&format!("\none thread reads {}", bandwidth.join(", ")));
    if let Some(version) = &bench.peer_version {
        text.push_str(&format!("\nONNX Runtime {version}, called from Python in the faster of its two ways"));
        if let Some(call) = bench.peer_call_us {
            text.push_str(&format!("; a call that computes nothing takes {call:.1} µs"));
        }
    }
    if let Some(reason) = &bench.no_quantizer {
        text.push_str(&format!("\nits own quantizer took no part: {reason}"));
    }
    text.push('\n');
    text
}

/// The programs behind the passes.
fn programs(bench: &Bench) -> Table {
    let header =
        ["network", "type", "compile ms", "packed weights", "scratch per thread", "samples per block"];
    let mut table = Table::new(header).numbers(2..=5);
    for program in &bench.programs {
        table.row([
            program.network.clone(),
            program.precision.name().to_owned(),
            format!("{:.2}", program.compile_ms),
            cli::bytes(program.weight_bytes as u64),
            cli::bytes(program.scratch_bytes as u64),
            program.block_rows.to_string(),
        ]);
    }
    table
}
