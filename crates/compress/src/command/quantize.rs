//! `compress quantize`: a package of floats becomes the next version, in int8.

use std::path::PathBuf;

use anyhow::Context as _;
use artifact::{ModelRef, Package, Registry};
use clap::Args;
use cli::config::{Layers, Resolved};
use cli::{ErrorExt as _, ExitStatus, Printer, Unit};
use compress::compare::latencies;
use compress::config::QuantizeConfig;
use compress::pack::{self, Origin};
use compress::quantize::{QuantizeError, Stage, drop_between, quantize};
use compress::report::{Comparison, Side};
use predict::{DeviceSpec, Isa, Parts, Predictor};
use serde::Serialize;
use train::data::DataSet;
use train::evaluate::{Evaluation, evaluate, packed_data};

use super::failure;

/// Quantizes a model to int8 and publishes it as the next version, with accuracy, bytes and latency before and after.
///
/// Activations are calibrated on training samples; a layer that is slower in int8 here, or that the validation split
/// shows to be too lossy, stays in 32-bit floats. The test split is scored once, at the end. Exit code 1: the accuracy
/// fell by more than `gate.max_drop`, and nothing was packed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuantizeArguments {
    /// The model: name@version, name@alias or name.
    #[arg(value_name = "MODEL")]
    model: ModelRef,

    /// The configuration; without it, the defaults, which are those of configs/compress/int8.toml.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one value of the configuration, such as calibration.samples=256; wins over the file. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Show what would come out, and pack nothing.
    #[arg(long)]
    no_pack: bool,

    /// Threads of the CPU; 0 takes one per core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,

    /// Where packages are kept.
    #[arg(long, value_name = "DIR", default_value = "artifacts/models")]
    models: PathBuf,

    #[command(flatten)]
    common: cli::Common,
}

const EXAMPLES: &str = "Examples:
  compress quantize digits@1
  compress quantize digits@production --config configs/compress/int8.toml --set gate.max_drop=0.1
  compress quantize digits@1 --set 'layers.float=[\"conv1\"]' --no-pack";

/// Variables of the environment that begin so set values of the configuration.
const ENV_PREFIX: &str = "BRAZIER_QUANTIZE_";

/// How often each side is timed.
const TURNS: usize = 31;

/// What is printed at the end.
#[derive(Serialize)]
struct QuantizeResult<'a> {
    /// The new version; nothing where nothing was packed.
    model: Option<String>,
    package: Option<PathBuf>,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

pub(crate) fn run(arguments: &QuantizeArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.common.start(tracing::Level::WARN);
    model::device::set_threads(arguments.threads).usage()?;
    Isa::from_environment().usage()?;
    let resolved = resolve(arguments)?;
    let registry = Registry::open(&arguments.models)?;
    let parent = registry.package(&arguments.model).or_else(failure::registry)?;
    let manifest = parent.manifest();
    let name = format!("{}@{}", manifest.name, manifest.version);
    if parent.quantization().is_some() {
        let parent = manifest.lineage.parent.clone();
        return failure::quantize(QuantizeError::Quantized { model: name, parent });
    }
    let data = packed_data(manifest).or_else(failure::data)?;
    let parts = Parts {
        network: parent.network().clone(),
        preprocess: manifest.preprocess.clone(),
        postprocess: manifest.postprocess.clone(),
        weights: parent.weights()?,
        quantization: None,
    };
    let mut say = |stage: Stage<'_>| tell(&printer, stage);
    let quantized = quantize(&parts, &data, &resolved.config, &mut say).or_else(failure::quantize)?;

    let before = Predictor::from_package(&parent, DeviceSpec::Cpu)?;
    let after = Predictor::from_parts(quantized.parts.clone(), DeviceSpec::Cpu)?;
    let scores = score(&[&before, &after], &data, &printer)?;
    let [scored_before, scored_after] = &scores;
    let mut latency = latencies(&[&before, &after], TURNS)?.into_iter();
    let record = artifact::record::encode(&quantized.parts.weights)?.len() as u64;
    let mut side = |model, predictor, evaluation, bytes| {
        Side::new(model, predictor, evaluation, bytes, latency.next().unwrap_or_default())
    };
    let mut comparison = Comparison {
        config: resolved.config.clone(),
        before: side(name, &before, scored_before, record_bytes(&parent)),
        after: side("quantized".to_owned(), &after, scored_after, record),
        chosen_on: quantized.chosen_on,
        drop_choosing: quantized.drop,
        drop_test: drop_between(scored_before, scored_after),
        layers: quantized.layers.clone(),
    };

    let (drop, allowed) = (comparison.drop_test, resolved.config.gate.max_drop);
    if drop > allowed {
        let result = QuantizeResult { model: None, package: None, comparison: &comparison };
        let why = format!("nothing is packed: on the test split {drop:.3} is lost, and {allowed} is allowed");
        printer.result(&result, || format!("{}\n{why}", comparison.human()))?;
        return Ok(ExitStatus::GateFailed);
    }
    let mut place = "nothing is packed, as --no-pack says".to_owned();
    let mut package = None;
    if !arguments.no_pack {
        let config_sha256 = artifact::digest::sha256_hex(serde_json::to_string(&resolved.config)?);
        let origin = Origin { parent: &parent, config_sha256, created: cli::now() };
        let draft = pack::draft(&quantized, &after, scored_after, &comparison, &origin)?;
        let published = registry.publish(&manifest.name, draft).context("the model cannot be packed")?;
        comparison.after.model = format!("{}@{}", published.name, published.version);
        place = format!("package  {} in {}", comparison.after.model, published.path.display());
        package = Some(published.path);
    }
    let model = package.is_some().then(|| comparison.after.model.clone());
    let result = QuantizeResult { model, package, comparison: &comparison };
    printer.result(&result, || format!("{}\n{place}", comparison.human()))?;
    Ok(ExitStatus::Success)
}

fn resolve(arguments: &QuantizeArguments) -> anyhow::Result<Resolved<QuantizeConfig>> {
    let mut layers = Layers::new();
    if let Some(file) = &arguments.config {
        layers = layers.file(file)?;
    }
    layers = layers.env(ENV_PREFIX)?;
    for assignment in &arguments.set {
        layers = layers.set(assignment)?;
    }
    let resolved = layers.resolve::<QuantizeConfig>()?;
    match resolved.config.fault() {
        Some((key, message)) => Err(resolved.refuse(key, message).into()),
        None => Ok(resolved),
    }
}

fn record_bytes(package: &Package) -> u64 {
    let files = package.manifest().files.iter();
    files.filter(|file| file.path == artifact::manifest::WEIGHTS_FILE).map(|file| file.size_bytes).sum()
}

fn tell(printer: &Printer, stage: Stage<'_>) {
    match stage {
        Stage::Equalize { pairs } => {
            printer.status(format_args!("equalize {pairs} pairs of layers"));
        }
        Stage::Choose { value } => {
            printer.status(format_args!("try every method of calibration on `{value}`"));
        }
        Stage::Correct { layer } => printer.status(format_args!("correct the bias of `{layer}`")),
        Stage::Calibrate { samples } => {
            let samples = cli::grouped(samples as u64);
            printer.status(format_args!("calibrate on {samples} samples of the training split"));
        }
        Stage::Time => printer.status("compare the speed of each layer in floats and in int8"),
        Stage::Sensitivity { layer } => {
            printer.status(format_args!("quantize `{layer}` alone, to see what it costs"));
        }
        Stage::Score { int8, part } => {
            printer.status(format_args!("score {int8} quantized layers on samples of the {part} split"));
        }
    }
}

/// The scores of both models on the test split.
fn score(models: &[&Predictor; 2], data: &DataSet, printer: &Printer) -> anyhow::Result<[Evaluation; 2]> {
    let indices = &data.splits.test;
    let total = 2 * indices.len() as u64;
    let bar =
        printer.progress("score on the test split", Unit::Count("samples"), Some(total)).milestones_only();
    let score = |model: &Predictor, already: usize| {
        evaluate(model, data, "test", indices, &mut |done| bar.set((already + done) as u64))
    };
    let [before, after] = models;
    let scores = [score(before, 0)?, score(after, indices.len())?];
    bar.finish();
    Ok(scores)
}
