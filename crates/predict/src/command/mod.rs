//! The command: open the model, read the inputs, print the answers.

mod failure;
mod show;
mod source;

use std::path::PathBuf;

use anyhow::Context as _;
use artifact::{ModelRef, Registry, RegistryError};
use clap::Parser;
use cli::{ErrorExt as _, ExitStatus, Printer};
use predict::{CompileError, DeviceSpec, Kernels, Placement, Precision, PredictError, Predictor};

/// Predicts with a packed model.
///
/// An input is a PNG or JPEG image, a CSV file (tables: with a header; one prediction per row), or JSON: an
/// array of numbers, nested or flat, an object with a value per column, or the base64 of an image. `-` reads
/// one from the standard input and finds out by itself what it is.
#[derive(Debug, Parser)]
#[command(name = "predict", version, after_help = EXAMPLES)]
struct Args {
    /// The model: NAME@VERSION, NAME@ALIAS, or NAME for the one in production, else its newest version
    model: String,

    /// Files to read, or - for the standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    /// The registry
    #[arg(long, value_name = "DIR", default_value = "artifacts/models", env = "BRAZIER_PREDICT_MODELS")]
    models: PathBuf,

    /// Where the model runs: cpu, flex, ndarray, vulkan[:INDEX], wgpu[:INDEX], cuda[:INDEX], or auto for the best
    /// there is
    #[arg(long, default_value = "cpu", env = "BRAZIER_PREDICT_DEVICE")]
    device: String,

    /// What it computes in: f32, or f16 or bf16 where the device can
    #[arg(long, default_value = "f32", env = "BRAZIER_PREDICT_PRECISION")]
    precision: String,

    /// How many of the most probable classes to show [default: 3 for one input, 1 for several]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    top: Option<u16>,

    /// Threads that compute; 0 takes one per processor
    #[arg(long, value_name = "N", default_value_t = 0, env = "BRAZIER_PREDICT_THREADS")]
    threads: u16,

    #[command(flatten)]
    common: cli::Common,
}

const EXAMPLES: &str = "Examples:
  predict digits@production seven.png
  predict cells@2 patients.csv --json
  predict digits photo.png --device auto --precision f16
  echo '[0, 0, 5, 13, 9, 1, …]' | predict digits -

A GPU's compiled kernels are kept in the folder kernel-cache beside the registry, or where BRAZIER_KERNEL_CACHE says.";

pub(crate) fn run() -> anyhow::Result<ExitStatus> {
    let args = Args::parse();
    let printer = args.common.start(tracing::Level::WARN);
    let placement = placement(&args, &printer)?;
    let reference: ModelRef =
        args.model.parse::<ModelRef>().hint("write NAME@VERSION or NAME@ALIAS, as in digits@1").usage()?;
    model::device::set_threads(args.threads.into()).usage()?;

    let registry = Registry::open(&args.models).context("cannot open the registry")?;
    let predictor = open(&registry, &reference, placement)?;
    if let Kernels::Burn { reason: Some(reason) } = predictor.kernels() {
        printer.status(format_args!("{reason}, so Burn computes, which is slower"));
    }
    let inputs = source::read_all(&args.inputs, predictor.preprocess())?;
    // Only what this batch needs is checked: on a GPU every size costs the time to compile its kernels.
    let checked = predictor.warm_up_for(inputs.len());
    for checked in checked.or_else(|error| failure::unfit(error, &args.model))? {
        tracing::info!(
            model = predictor.name(),
            version = predictor.version(),
            rows = checked.rows,
            samples = checked.check.samples,
            made_up = checked.check.made_up,
            largest_difference = checked.check.largest_difference,
            first = ?checked.first,
            again = ?checked.again,
            "the model answers as it was packed"
        );
    }
    let rows: Vec<_> = inputs.iter().map(|input| input.raw.clone()).collect();
    let predictions = predictor.predict(&rows).or_else(|error| failure::unanswered(error, &inputs))?;
    show::print(&printer, &predictor, &inputs, &predictions, args.top.map(usize::from))?;
    Ok(ExitStatus::Success)
}

/// The device and the precision, as far as they are known before anything is read; what this build or this
/// machine lacks is.
fn placement(args: &Args, printer: &Printer) -> anyhow::Result<Placement> {
    let precision: Precision = args.precision.parse().usage()?;
    let given: DeviceSpec = args.device.parse().or_else(failure::device)?;
    let device = given.resolve().or_else(failure::device)?;
    if device != given {
        printer.status(format!(
            "{given} takes {device}; `cargo xtask devices` lists what there is, and what is missing"
        ));
    }
    if device.is_gpu() {
        model::device::set_kernel_cache(&cli::kernel_cache(&args.models));
    }
    Ok(Placement { device, precision })
}

fn open(registry: &Registry, reference: &ModelRef, placement: Placement) -> anyhow::Result<Predictor> {
    match Predictor::open(registry, reference, placement) {
        Err(PredictError::Device(error)) => failure::device(error),
        // A tier of instructions that there is not.
        Err(PredictError::Compile(error @ CompileError::Isa(_))) => Err(error).usage(),
        Ok(predictor) => Ok(predictor),
        Err(PredictError::Registry(error @ RegistryError::UnknownModel { .. })) => Err(error)
            .hint("`cargo xtask quickstart` makes digits@1; --models names another registry")
            .usage(),
        Err(PredictError::Registry(error)) if error.is_not_found() => {
            Err(error).hint("`cargo xtask models ls` lists what there is").usage()
        }
        Err(error) => Err(error).with_context(|| format!("cannot open `{reference}`")),
    }
}
