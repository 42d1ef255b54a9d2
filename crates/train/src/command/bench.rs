//! `bench train`: training speed, beside PyTorch on the same network, batch size and threads.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use cli::{Common, ExitStatus, Table};
use model::DeviceSpec;
use network::{Network, PRESETS, preset};
use serde_json::json;
use train::bench::{self, Options, Row, Speed};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure training steps per preset: forward, backward, Adam, on synthetic samples.
    Train(TrainBench),
}

/// Measures training. PyTorch takes part when an interpreter has it: `--python`, or the active virtual
/// environment, or `python3`.
#[derive(Args, Debug)]
pub(crate) struct TrainBench {
    /// The presets to measure.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "lenet-300-100,lenet5,keras-cnn,resnet20",
        value_name = "NAME,…"
    )]
    preset: Vec<String>,
    /// Samples per step.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Threads for each side; 0 takes one per processor.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: u16,
    /// Turns that each side takes; the median of them is told.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    turns: u16,
    /// Seconds that a turn takes, roughly.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    seconds: f64,
    /// The Python interpreter that has PyTorch.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Where Brazier trains.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    #[command(flatten)]
    common: Common,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 3600.0 => Ok(value),
        _ => Err("must be a number above 0, at most 3600".to_owned()),
    }
}

pub(crate) fn run(command: BenchCommand) -> anyhow::Result<ExitStatus> {
    let BenchCommand::Train(command) = command;
    let printer = command.common.start(tracing::Level::WARN);
    if command.threads > 0 {
        model::device::set_threads(usize::from(command.threads))?;
    }
    let threads = model::device::threads();
    let device = command.device.open()?;
    let python = match &command.python {
        Some(python) => Some(python.clone()),
        None => {
            let found = find_pytorch();
            if found.is_none() {
                printer.status("PyTorch is not installed here, so only Brazier is measured; --python names an interpreter that has it");
            }
            found
        }
    };
    let options = Options {
        batch_size: usize::from(command.batch),
        threads,
        turns: usize::from(command.turns),
        turn_seconds: command.seconds,
        python,
    };
    let networks = command.preset.iter().map(|name| network(name).map(|network| (name, network)));
    let networks = networks.collect::<anyhow::Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for (name, network) in networks {
        printer.status(format_args!("{name} …"));
        let row = bench::training(name, &network, &options, &device);
        rows.push(row.with_context(|| format!("`{name}` could not be measured"))?);
    }
    let result = json!({
        "batch_size": options.batch_size, "threads": threads, "device": command.device.to_string(),
        "turns": options.turns, "unit": "samples/s", "rows": rows,
    });
    printer.result(&result, || table(&rows, &options))?;
    Ok(ExitStatus::Success)
}

/// The preset for the pictures that it is meant for.
fn network(name: &str) -> anyhow::Result<Network> {
    let input: &[usize] = match name {
        "digits-cnn" => &[1, 8, 8],
        "lenet-300-100" | "lenet5" => &[1, 28, 28],
        "mlp" => &[30],
        _ => &[3, 32, 32],
    };
    debug_assert!(PRESETS.contains(&name) || preset(name, input, 10).is_err());
    Ok(Network::new(preset(name, input, 10)?)?)
}

/// An interpreter that has PyTorch: that of the active virtual environment, or `python3`.
fn find_pytorch() -> Option<PathBuf> {
    let environment = std::env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin/python"));
    environment.into_iter().chain([PathBuf::from("python3")]).find(|python| {
        let mut probe = Command::new(python);
        probe.args(["-c", "import torch"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    })
}

fn table(rows: &[Row], options: &Options) -> String {
    let header = ["network", "parameters", "MACs", "Brazier", "PyTorch", "ratio"];
    let mut table = Table::new(header).numbers(1..=5);
    for row in rows {
        let speed = |speed: &Speed| {
            let round = |value: f64| cli::grouped(value.round() as u64);
            format!("{} ({}–{})", round(speed.median), round(speed.min), round(speed.max))
        };
        let pytorch = row.pytorch.as_ref();
        table.row([
            row.network.clone(),
            cli::grouped(row.parameters),
            cli::grouped(row.macs),
            speed(&row.brazier),
            pytorch.map_or_else(|| "not installed".to_owned(), speed),
            pytorch.map_or_else(String::new, |peer| format!("{:.2}", row.brazier.median / peer.median)),
        ]);
    }
    let peer = rows.iter().find_map(|row| row.pytorch_version.as_ref());
    let peer = peer.map_or_else(String::new, |version| format!(", PyTorch {version}"));
    format!(
        "{table}\nTraining, samples per second: median (min–max) of {} turns; batch {}, {} threads, Adam{peer}",
        options.turns, options.batch_size, options.threads
    )
}
