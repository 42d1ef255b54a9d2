//! `compress quantize`: a package of floats becomes the next version, in int8.

use artifact::{LineageStep, ModelRef};
use clap::Args;
use cli::{ExitStatus, Printer, Table};
use compress::config::QuantizeConfig;
use compress::finish::Candidate;
use compress::quantize::{LayerChoice, QuantizeError, Stage, quantize};
use compress::report::Findings;

use super::failure;
use super::subject::SubjectArguments;

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

    #[command(flatten)]
    subject: SubjectArguments,
}

const EXAMPLES: &str = "Examples:
  compress quantize digits@1
  compress quantize digits@production --config configs/compress/int8.toml --set gate.max_drop=0.1
  compress quantize digits@1 --set 'calibration.method=\"auto\"' --set bias_correction=true
  compress quantize digits@1 --config configs/compress/int4.toml
  compress quantize digits@1 --set 'layers.float=[\"conv1\"]' --no-pack";

/// Variables of the environment that begin so set values of the configuration.
const ENV_PREFIX: &str = "BRAZIER_QUANTIZE_";

pub(crate) fn run(arguments: &QuantizeArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    let config = arguments.subject.resolve(ENV_PREFIX, QuantizeConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.model, printer)?;
    if subject.package.quantization().is_some() {
        let parent = subject.package.manifest().lineage.parent.clone();
        return failure::quantize(QuantizeError::Quantized { model: subject.name(), parent });
    }
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
    };
    subject.finish(&subject.package.manifest().name, candidate)
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
