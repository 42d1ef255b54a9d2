//! `bench train`: training speed, beside PyTorch on the same network, batch size and threads.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use cli::{Common, ExitStatus, Table};
use model::DeviceSpec;
use network::{Network, preset};
use serde_json::json;
use train::bench::{self, Options, Row, Speed};
use train::device::guarded;

use super::{device, failure};

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure training steps per preset: forward, backward, Adam, on synthetic samples.
    Train(TrainBench),
}

/// Measures training. PyTorch takes part when an interpreter has it: `--python`, or the active virtual
/// environment, or `python3`. When Brazier trains on a GPU, so does PyTorch, with CUDA.
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
    /// Where Brazier trains: cpu, flex, ndarray, vulkan[:INDEX], wgpu[:INDEX], cuda[:INDEX], or auto for the best
    /// there is. A GPU's compiled kernels are kept in artifacts/kernel-cache, or where BRAZIER_KERNEL_CACHE says.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
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
    let spec = device::choose(command.device, &printer)?;
    model::device::set_kernel_cache(&cli::kernel_cache(Path::new("artifacts/models")));
    let device = spec.open().map_err(failure::explain_device)?;
    let python = match &command.python {
        Some(python) => Some(python.clone()),
        None => find_pytorch(spec.is_gpu()).unwrap_or_else(|reason| {
            printer.status(format_args!(
                "{reason}, so only Brazier is measured; --python names an interpreter that has it"
            ));
            None
        }),
    };
    let options = Options {
        batch_size: usize::from(command.batch),
        threads,
        warm_up: if spec.is_gpu() { 30 } else { 2 },
        turns: usize::from(command.turns),
        turn_seconds: command.seconds,
        python,
        peer_device: peer_device(spec),
    };
    let networks = command.preset.iter().map(|name| network(name).map(|network| (name, network)));
    let networks = networks.collect::<anyhow::Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for (name, network) in networks {
        printer.status(format_args!("{name} …"));
        let row = guarded(spec, || bench::training(name, &network, &options, &device));
        let row = row.map_err(failure::explain_device)?;
        rows.push(row.with_context(|| format!("`{name}` could not be measured"))?);
    }
    let result = json!({
        "batch_size": options.batch_size, "threads": threads, "device": spec,
        "turns": options.turns, "unit": "samples/s", "rows": rows,
    });
    printer.result(&result, || table(&rows, &options, spec))?;
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
    Ok(Network::new(preset(name, input, 10)?)?)
}

/// What PyTorch calls the device; it knows NVIDIA's GPUs by CUDA alone, however Brazier reaches them.
fn peer_device(device: DeviceSpec) -> String {
    match device {
        DeviceSpec::Cuda(index) => format!("cuda:{index}"),
        device if device.is_gpu() => "cuda:0".to_owned(),
        _ => "cpu".to_owned(),
    }
}

/// An interpreter that has PyTorch, and CUDA in it where Brazier is on a GPU: that of the active virtual
/// environment, or `python3`. The error says what is missing, as the beginning of a sentence.
fn find_pytorch(gpu: bool) -> Result<Option<PathBuf>, &'static str> {
    const PROBE: &str = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 7)";
    let environment = std::env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin/python"));
    let mut reason = "PyTorch is not installed here";
    for python in environment.into_iter().chain([PathBuf::from("python3")]) {
        let mut probe = Command::new(&python);
        probe.args(["-c", PROBE]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match probe.status().ok().and_then(|status| status.code()) {
            Some(0) => return Ok(Some(python)),
            Some(7) if !gpu => return Ok(Some(python)),
            Some(7) => reason = "the PyTorch that is installed here cannot use a GPU",
            _ => {}
        }
    }
    Err(reason)
}

fn table(rows: &[Row], options: &Options, device: DeviceSpec) -> String {
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
    let on = rows.iter().find_map(|row| row.pytorch_device.as_ref());
    let peer = peer.zip(on).map_or_else(String::new, |(version, on)| format!(", PyTorch {version} on {on}"));
    format!(
        "{table}\nTraining on {device}, samples per second: median (min–max) of {} turns; batch {}, {} threads, Adam{peer}",
        options.turns, options.batch_size, options.threads
    )
}
