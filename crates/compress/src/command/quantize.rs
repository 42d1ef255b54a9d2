//! `compress quantize`: a package of floats becomes the next version, in int8.

use artifact::{LineageStep, ModelRef};
use clap::Args;
use cli::{ExitStatus, Printer, Table};
use compress::config::{Mode, QuantizeConfig};
use compress::finish::Candidate;
use compress::judge::Judge;
use compress::qat::{QatConfig, qat};
use compress::quantize::{LayerChoice, QuantizeError, Stage, quantize};
use compress::report::Findings;
use predict::DeviceSpec;
use train::config::Metric;

use super::failure;
use super::subject::{Subject, SubjectArguments};
use super::tuning::Tuning;

/// Quantizes a model to int8 and publishes it as the next version, with accuracy, bytes and latency before and after.
///
/// Activations are calibrated on training samples, or with mode="dynamic" when a sample is there; mode="weight-only"
/// makes weights alone integers of 8 or 4 bits. A layer that is slower in int8 here, or that the validation split
/// shows to be too lossy, stays in 32-bit floats, the most harmful first. The test split is scored once, at the end. Exit code 1: the accuracy
/// fell by more than `gate.max_drop`, and nothing was packed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuantizeArguments {
    /// The model: name@version, name@alias or name.
    #[arg(value_name = "MODEL")]
    model: ModelRef,

    /// How the integers are found.
    #[arg(long, value_enum, default_value_t = Method::Ptq)]
    method: Method,

    /// Where it trains, with the method qat: cpu, cuda, vulkan, wgpu, …
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceSpec,

    #[command(flatten)]
    subject: SubjectArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    /// Post-training quantization: samples are looked at, nothing is trained; configs/compress/int8.toml.
    Ptq,
    /// Quantization-aware training: the network is trained with the rounding of int8; configs/compress/qat.toml.
    Qat,
}

const EXAMPLES: &str = "Examples:
  compress quantize digits@1
  compress quantize digits@production --config configs/compress/int8.toml --set gate.max_drop=0.1
  compress quantize digits@1 --set 'calibration.method=\"auto\"' --set equalize=true
  compress quantize digits@1 --config configs/compress/int4.toml
  compress quantize digits@1 --set 'layers.float=[\"conv1\"]' --no-pack
  compress quantize digits@1 --method qat --config configs/compress/qat.toml";

/// Variables of the environment that begin so set values of the configuration.
const ENV_PREFIX: &str = "BRAZIER_QUANTIZE_";

pub(crate) fn run(arguments: &QuantizeArguments) -> anyhow::Result<ExitStatus> {
    match arguments.method {
        Method::Ptq => ptq(arguments),
        Method::Qat => aware(arguments),
    }
}

fn ptq(arguments: &QuantizeArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    let config = arguments.subject.resolve(ENV_PREFIX, QuantizeConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.model, printer)?;
    refuse_quantized(&subject)?;
    let mut say = |stage: Stage<'_>| tell(&subject.printer, stage);
    let quantized =
        quantize(&subject.parts()?, &subject.data, &config, &mut say).or_else(failure::quantize)?;
    quantized.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let count = quantized.layers.iter().filter(|choice| choice.precision != "f32").count();
    let what = quantized.layers.iter().map(|choice| choice.precision).find(|precision| *precision != "f32");
    let summary =
        format!("{count} of {} layers with weights in {}", quantized.layers.len(), what.unwrap_or("f32"));
    let mut findings =
        Findings::new("layers", &quantized.layers, layers_table(&quantized.layers).to_string())?;
    if !quantized.warnings.is_empty() {
        findings.fields.insert("warnings".to_owned(), serde_json::to_value(&quantized.warnings)?);
    }
    let candidate = Candidate {
        method: "quantize",
        findings,
        steps: vec![LineageStep { method: "quantize".to_owned(), summary }],
        parts: quantized.parts,
        config: serde_json::to_value(&config)?,
        drop: quantized.drop,
        chosen_on: quantized.chosen_on,
        max_drop: Some(config.gate.max_drop),
        // Integers of 4 bits take a byte each in the plain record; weights alone are made so for a small file.
        coded: config.mode == Mode::WeightOnly || subject.is_coded(),
    };
    subject.finish(&subject.package.manifest().name, candidate)
}

/// Quantization-aware training.
fn aware(arguments: &QuantizeArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    let config = arguments.subject.resolve(ENV_PREFIX, QatConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.model, printer)?;
    refuse_quantized(&subject)?;
    let parts = subject.parts()?;
    let tuning = Tuning::new(&subject.printer, arguments.device)?;
    let metric = Metric::of(subject.data.task);
    let aware = tuning
        .run(config.finetune.epochs, metric, |hooks| qat(&parts, &subject.data, &config, None, None, hooks))
        .or_else(failure::qat)?;
    if tuning.was_stopped(&aware.tuned) {
        return Ok(ExitStatus::Interrupted);
    }
    let judge = Judge::new(&parts, &subject.data, config.finetune.seed)?;
    let agreement = aware.agreement;
    let text = format!(
        "training and the engine give {:.2} % of {} samples the same class; outputs differ by at most {:.2} %",
        100.0 * agreement.same,
        cli::grouped(agreement.samples as u64),
        100.0 * agreement.difference,
    );
    let mut findings = Findings::new("agreement", &agreement, text)?;
    findings.fields.insert("epochs".to_owned(), serde_json::to_value(&aware.tuned.history)?);
    let int8 = aware.parts.quantization.as_ref().map_or(0, |plan| plan.layers.len());
    let candidate = Candidate {
        method: "quantize",
        drop: judge.drop(&aware.parts)?,
        chosen_on: judge.split,
        max_drop: Some(config.gate.max_drop),
        coded: subject.is_coded(),
        steps: vec![LineageStep {
            method: "quantize".to_owned(),
            summary: format!("{int8} layers trained for int8"),
        }],
        findings,
        config: serde_json::to_value(&config)?,
        parts: aware.parts,
    };
    subject.finish(&subject.package.manifest().name, candidate)
}

fn refuse_quantized(subject: &Subject) -> anyhow::Result<()> {
    if subject.package.quantization().is_none() {
        return Ok(());
    }
    let parent = subject.package.manifest().lineage.parent.clone();
    failure::quantize(QuantizeError::Quantized { model: subject.name(), parent })
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
        Stage::Time => printer.status("compare the speed of layers in floats and in int8"),
        Stage::Sensitivity { layer } => {
            printer.status(format_args!("quantize `{layer}` alone, to see what it costs"));
        }
        Stage::Score { int8, part } => {
            printer.status(format_args!("score {int8} quantized layers on samples of the {part} split"));
        }
    }
}

fn layers_table(layers: &[LayerChoice]) -> Table {
    let header = ["layer", "type", "MACs", "precision", "SQNR alone", "drop alone", ""];
    let mut table = Table::new(header).numbers([2, 4, 5]);
    for choice in layers {
        table.row([
            choice.layer.clone(),
            choice.kind.to_owned(),
            cli::grouped(choice.macs),
            choice.precision.to_owned(),
            choice.sqnr_db.map_or_else(String::new, |ratio| format!("{ratio:.1} dB")),
            choice.drop.map_or_else(String::new, |drop| format!("{drop:+.3}")),
            choice.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}
