//! `train evaluate`: a package scored again.

use std::path::PathBuf;

use artifact::{Manifest, ModelRef, Registry};
use clap::Args;
use cli::{ErrorExt as _, ExitStatus, Printer, Unit};
use model::{DeviceSpec, Precision};
use predict::{Placement, Predictor};
use serde::Serialize;
use train::config::TrainConfig;
use train::data::{DataSet, Part};
use train::evaluate::{
    Choice, Chosen, EvaluateError, Evaluation, Outcome, PrecisionReport, Scored, choose, compare_precisions,
    evaluate_outcomes,
};

use super::{device, failure, summary};

/// Scores a package on the test split that it was scored on when it was made, and compares; or on other
/// data.
///
/// On the CPU, with the instructions that the package was scored with, the scores must come back exactly; elsewhere
/// each may differ
/// by 0.001 of its value (by 0.001 where it is below 1) plus two samples' worth, because devices add in
/// different orders. Exit code 1: they differ.
///
/// With `--precision f16` or `bf16` the same samples are scored in 32 bits and in that precision, and the
/// difference is told.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EvaluateArguments {
    /// The model: name@version, name@alias or name.
    #[arg(value_name = "MODEL")]
    model: ModelRef,

    /// Score on this file or folder instead, all of it; it is read as the training data was, or by its kind:
    /// a folder of class folders, a CSV or TSV file.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    data: Option<PathBuf>,

    /// Score on the test split of the [data] table of this configuration instead.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The column to predict, with `--data FILE.csv` for models that were not trained on a table.
    #[arg(long, value_name = "COLUMN", requires = "data")]
    label: Option<String>,

    /// Which part of the data is scored.
    #[arg(long, value_enum, default_value_t = SplitName::Test, conflicts_with = "data", value_name = "SPLIT")]
    split: SplitName,

    /// Where to compute: cpu, flex, ndarray, vulkan[:INDEX], wgpu[:INDEX], cuda[:INDEX], or auto for the best there
    /// is.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: DeviceSpec,

    /// Score in this precision as well, and tell the difference to f32: f16 or bf16, where the device can.
    #[arg(long, default_value_t, value_name = "PRECISION")]
    precision: Precision,

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
  train evaluate digits@1
  train evaluate digits@production --device flex --json
  train evaluate digits@production --device auto --precision f16
  train evaluate tumours@2 --data new-patients.csv

A GPU's compiled kernels are kept in the folder kernel-cache beside the packages, or where BRAZIER_KERNEL_CACHE says.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SplitName {
    Train,
    Validation,
    Test,
}

impl SplitName {
    fn part(self) -> Part {
        match self {
            Self::Train => Part::Train,
            Self::Validation => Part::Validation,
            Self::Test => Part::Test,
        }
    }
}

/// How the scores compare with the packed ones.
#[derive(Serialize)]
struct Comparison {
    /// Whether they must be the same to the bit.
    exact: bool,
    /// Those that differ by more than they may.
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    metric: String,
    packed: f64,
    found: f64,
    allowed: f64,
}

#[derive(Serialize)]
struct EvaluateResult<'a> {
    model: String,
    /// What was computed on; never `auto`.
    device: DeviceSpec,
    comparison: Option<&'a Comparison>,
    /// In 32 bits.
    evaluation: &'a Evaluation,
    /// In the precision that was asked for, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<InPrecision>,
}

/// The scores in half precision, or the reason why there are none.
#[derive(Serialize)]
#[serde(untagged)]
enum InPrecision {
    Scored {
        #[serde(flatten)]
        report: PrecisionReport,
        evaluation: Box<Evaluation>,
    },
    /// The first sample whose numbers are too large for the precision.
    Overflow {
        precision: Precision,
        #[serde(rename = "overflow_at_sample")]
        sample: usize,
    },
}

pub(crate) fn run(arguments: &EvaluateArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.common.start(tracing::Level::WARN);
    model::device::set_threads(arguments.threads).usage()?;
    predict::Isa::from_environment().usage()?;
    let device = device::choose(arguments.device, &printer)?;
    model::device::set_kernel_cache(&cli::kernel_cache(&arguments.models));
    let registry = Registry::open(&arguments.models)?;
    let package = registry.package(&arguments.model).map_err(failure::explain_registry)?;
    let manifest = package.manifest().clone();
    let open = |precision| {
        Predictor::from_package(&package, Placement { device, precision }).map_err(failure::explain_predict)
    };
    let predictor = open(Precision::F32)?;
    // A precision that the device lacks is known before anything is scored.
    let half = (arguments.precision != Precision::F32).then(|| open(arguments.precision)).transpose()?;
    let model = format!("{}@{}", manifest.name, manifest.version);
    let Chosen { data, indices, split } = chosen(arguments, &manifest)?;
    printer.status(format!(
        "{model}: {} samples of {} ({split})",
        cli::grouped(indices.len() as u64),
        data.name
    ));
    let (evaluation, outcomes) = score(&predictor, &data, split, &indices, &printer)?;
    let precision = match &half {
        None => None,
        Some(half) => {
            let scored = |predictor: &Predictor, outcomes, evaluation| {
                let precision = predictor.precision();
                Scored { precision, outcomes, evaluation }
            };
            match score(half, &data, split, &indices, &printer) {
                Ok((scores, answers)) => {
                    let reference = scored(&predictor, outcomes.as_slice(), &evaluation);
                    let report = compare_precisions(reference, scored(half, answers.as_slice(), &scores));
                    Some(InPrecision::Scored { report, evaluation: Box::new(scores) })
                }
                // That a model cannot be used in this precision is what was asked.
                Err(error) => match error.downcast::<EvaluateError>() {
                    Ok(EvaluateError::Overflow { index, precision }) => {
                        Some(InPrecision::Overflow { precision, sample: index })
                    }
                    Ok(error) => return Err(error.into()),
                    Err(error) => return Err(error),
                },
            }
        }
    };
    // What was measured in integers is no measure for floats.
    let alike = predictor.quantization().is_none() || predictor.runs_int8();
    let as_packed =
        alike && arguments.data.is_none() && arguments.config.is_none() && arguments.split == SplitName::Test;
    let comparison = as_packed.then(|| compare(&manifest, &evaluation, &predictor));
    let shown = (&evaluation, comparison.as_ref());
    let result = EvaluateResult { model, device, comparison: shown.1, evaluation: shown.0, precision };
    printer.result(&result, || human(shown.0, shown.1, result.precision.as_ref()))?;
    let differs = comparison.as_ref().is_some_and(|comparison| !comparison.differences.is_empty());
    let unusable = matches!(result.precision, Some(InPrecision::Overflow { .. }));
    Ok(if differs || unusable { ExitStatus::GateFailed } else { ExitStatus::Success })
}

fn score(
    predictor: &Predictor,
    data: &DataSet,
    split: &str,
    indices: &[usize],
    printer: &Printer,
) -> anyhow::Result<(Evaluation, Vec<Outcome>)> {
    if predictor.device().is_gpu() && predictor.precision() == Precision::F32 {
        // A GPU may compute something wrong and say nothing. In half precision the difference is the result.
        predictor.warm_up_for(indices.len()).map_err(failure::explain_predict)?;
    }
    let task = format!("evaluate in {}", predictor.precision_name());
    let bar = printer.progress(&task, Unit::Count("samples"), Some(indices.len() as u64)).milestones_only();
    let scored = evaluate_outcomes(predictor, data, split, indices, &mut |done| bar.set(done as u64))?;
    bar.finish();
    Ok(scored)
}

/// Which samples are scored.
fn chosen(arguments: &EvaluateArguments, manifest: &Manifest) -> anyhow::Result<Chosen> {
    let part = arguments.split.part();
    let chosen = match (&arguments.config, &arguments.data) {
        (Some(file), _) => {
            let resolved = cli::config::Layers::new().file(file)?;
            let kind = train::config::OptimizerKind::AdamW;
            let config = super::resolve::below(resolved, kind)?.resolve::<TrainConfig>()?.config;
            choose(Choice::Config { data: &config.data, seed: config.train.seed, part }, manifest)
        }
        (None, Some(path)) => choose(Choice::Path { path, label: arguments.label.as_deref() }, manifest),
        (None, None) => choose(Choice::Packed(part), manifest),
    };
    chosen.map_err(failure::explain_packed_data)
}

/// Compares the scores in the precision of the package with the packed ones.
fn compare(manifest: &Manifest, evaluation: &Evaluation, predictor: &Predictor) -> Comparison {
    let device = predictor.device();
    let kernels = predictor.kernels().to_string();
    let same = |settings: &artifact::EvaluationSettings| {
        settings.device == device.to_string()
            && settings.precision == predictor.precision_name()
            && settings.kernels.as_ref() == Some(&kernels)
    };
    // A GPU times several kernels for every shape and may take another one the next time.
    let exact = !device.is_gpu() && manifest.evaluation.as_ref().is_some_and(same);
    let mut differences = Vec::new();
    for (metric, &packed) in &manifest.metrics {
        let found = evaluation.metrics.get(metric).copied().map_or(f64::NAN, Manifest::round_metric);
        let slack = 1e-3 * packed.abs().max(1.0) + 2.0 / evaluation.samples.max(1) as f64;
        let allowed = if exact { 0.0 } else { slack };
        // Written so that a score that is no number differs.
        let same = (found - packed).abs() <= allowed;
        if !same {
            differences.push(Difference { metric: metric.clone(), packed, found, allowed });
        }
    }
    Comparison { exact, differences }
}

fn human(
    evaluation: &Evaluation,
    comparison: Option<&Comparison>,
    precision: Option<&InPrecision>,
) -> String {
    let mut text = summary::scores(evaluation);
    match comparison {
        None => {}
        Some(comparison) if comparison.differences.is_empty() && comparison.exact => {
            text += "\nthe same as packed, to the last digit";
        }
        Some(comparison) if comparison.differences.is_empty() => {
            text += "\nas packed, within the tolerance between devices"
        }
        Some(comparison) => {
            for Difference { metric, packed, found, allowed } in &comparison.differences {
                text +=
                    &format!("\ndiffers: {metric} is {found}, packed was {packed}, allowed are {allowed:.6}");
            }
        }
    }
    match precision {
        None => {}
        Some(InPrecision::Scored { report, .. }) => {
            text += "\n\n";
            text += &summary::precisions(report);
        }
        Some(InPrecision::Overflow { precision, sample }) => {
            text += &format!(
                "\n\nthe model cannot be used in {precision}: sample {sample} needs numbers that it does not have; bf16 \
                 has the range of f32"
            );
        }
    }
    text
}
