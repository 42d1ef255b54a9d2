//! `compress compare`: packages side by side on the same samples.

use std::path::{Path, PathBuf};

use artifact::{ModelRef, Package, Registry};
use clap::Args;
use cli::{ErrorExt as _, ExitStatus, Printer, Unit};
use compress::compare::{
    CompareError, Compared, Contender, Samples, Stage, agree, compare, seen_in_training,
};
use compress::page::{self, Page};
use compress::side::record_bytes;
use network::Weights;
use predict::{CompileError, DeviceSpec, Isa, PredictError, Predictor};
use serde::Serialize;
use train::config::{OptimizerKind, TrainConfig, defaults, optimizer_preset};
use train::data::{DataError, Part};
use train::evaluate::{Choice, Chosen, PackedDataError, choose};

use super::failure;
use super::subject::check_report;

/// Shows models side by side: the score with its interval, bytes, parameters, multiplications, and the latency of one
/// sample and of 64, measured in turns on this machine. The first model is what the others are compared with.
///
/// All of them answer the same samples: the test split of the data that the first was trained on, or other data. A
/// paired test says of each two whether the samples can show a difference: McNemar's exact test for classes, the
/// randomization test on the mean absolute error or the micro F1 otherwise.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompareArguments {
    /// The models: name@version, name@alias or name.
    #[arg(value_name = "MODEL", num_args = 2.., required = true)]
    models: Vec<ModelRef>,

    /// Score on this file or folder instead, all of it; it is read as the training data of the first model was, or by
    /// its kind: a folder of class folders, a CSV or TSV file.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    data: Option<PathBuf>,

    /// Score on the data table of this training configuration instead.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The column to predict, with `--data FILE.csv` for models that were not trained on a table.
    #[arg(long, value_name = "COLUMN", requires = "data")]
    label: Option<String>,

    /// Which part of the data is scored.
    #[arg(long, value_enum, default_value_t = SplitName::Test, conflicts_with = "data", value_name = "SPLIT")]
    split: SplitName,

    /// How often each model is timed; the median is told.
    #[arg(long, default_value_t = 31, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9999))]
    turns: u16,

    /// Write a page for a browser as well: scores against what they cost, drawn, with the table and the tests.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Threads of the CPU; 0 takes one per core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,

    /// Where packages are kept.
    #[arg(long = "models", value_name = "DIR", default_value = "artifacts/models")]
    registry: PathBuf,

    #[command(flatten)]
    common: cli::Common,
}

const EXAMPLES: &str = "Examples:
  compress compare digits@1 digits@2
  compress compare digits@production digits@2 digits@3 --report report.html
  compress compare tumours@1 tumours@2 --data new-patients.csv --json";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SplitName {
    Train,
    Validation,
    Test,
}

/// What is printed at the end.
#[derive(Serialize)]
struct CompareResult<'a> {
    #[serde(flatten)]
    compared: &'a Compared,
    /// For each model, how many of the samples it was trained on; null where that cannot be known.
    seen_in_training: Vec<Option<usize>>,
    /// Where the page is.
    report: Option<&'a Path>,
}

/// A package that is ready to answer.
struct Opened {
    name: String,
    package: Package,
    predictor: Predictor,
    weights: Weights,
}

impl Opened {
    fn contender(&self) -> Contender<'_> {
        let Self { name, package, predictor, weights } = self;
        Contender { name, predictor, weights, record_bytes: record_bytes(package) }
    }
}

pub(crate) fn run(arguments: &CompareArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.common.start(tracing::Level::WARN);
    model::device::set_threads(arguments.threads).usage()?;
    Isa::from_environment().usage()?;
    check_report(arguments.report.as_deref())?;
    let registry = Registry::open(&arguments.registry)?;
    let models = open(&registry, &arguments.models)?;
    let contenders: Vec<Contender<'_>> = models.iter().map(Opened::contender).collect();
    // Before the data is loaded, which may take a while.
    agree(&contenders).or_else(refuse)?;
    let Some(first) = models.first() else { return Err(cli::usage_error("no models are named")) };
    let Chosen { data, indices, split } = chosen(arguments, first)?;
    printer.status(format!(
        "{} models on {} samples of {} ({split})",
        models.len(),
        cli::grouped(indices.len() as u64),
        data.name
    ));
    let seen: Vec<Option<usize>> =
        models.iter().map(|model| seen_in_training(&model.package, &data, &indices)).collect();
    for (model, seen) in models.iter().zip(&seen) {
        if let Some(seen @ 1..) = seen {
            printer.warn(format!(
                "{} was trained on {} of these {} samples: its score says little about new ones",
                model.name,
                cli::grouped(*seen as u64),
                cli::grouped(indices.len() as u64)
            ));
        }
    }
    let samples = Samples { data: &data, split, indices: &indices };
    let compared = measure(&contenders, samples, usize::from(arguments.turns), &printer)?;
    if let Some(file) = &arguments.report {
        artifact::atomic::write(file, page::render(&Page::of(&compared)))?;
    }
    let result =
        CompareResult { compared: &compared, seen_in_training: seen, report: arguments.report.as_deref() };
    printer.result(&result, || match &arguments.report {
        Some(file) => format!("{}\n\nreport   {}", compared.human(), file.display()),
        None => compared.human(),
    })?;
    Ok(ExitStatus::Success)
}

fn open(registry: &Registry, references: &[ModelRef]) -> anyhow::Result<Vec<Opened>> {
    let mut models: Vec<Opened> = Vec::with_capacity(references.len());
    for reference in references {
        let package = registry.package(reference).or_else(failure::registry)?;
        let name = format!("{}@{}", package.manifest().name, package.manifest().version);
        if models.iter().any(|other| other.name == name) {
            return Err(cli::usage_error(format!("`{reference}` is {name}, which is named before it")))
                .hint("name each model once");
        }
        let predictor = Predictor::from_package(&package, DeviceSpec::Cpu).or_else(|error| match error {
            // A tier of instructions that there is not.
            PredictError::Compile(error @ CompileError::Isa(_)) => Err(error).usage(),
            error => Err(error.into()),
        })?;
        let weights = package.weights()?;
        models.push(Opened { name, package, predictor, weights });
    }
    Ok(models)
}

/// Which samples all of them answer.
fn chosen(arguments: &CompareArguments, first: &Opened) -> anyhow::Result<Chosen> {
    let manifest = first.package.manifest();
    let part = match arguments.split {
        SplitName::Train => Part::Train,
        SplitName::Validation => Part::Validation,
        SplitName::Test => Part::Test,
    };
    let chosen = match (&arguments.config, &arguments.data) {
        (Some(file), _) => {
            let kind = OptimizerKind::AdamW;
            let layers = cli::config::Layers::new().file(file)?;
            let layers = layers.preset(kind.name(), &optimizer_preset(kind))?.defaults(&defaults())?;
            let config = layers.resolve::<TrainConfig>()?.config;
            choose(Choice::Config { data: &config.data, seed: config.train.seed, part }, manifest)
        }
        (None, Some(path)) => choose(Choice::Path { path, label: arguments.label.as_deref() }, manifest),
        (None, None) => choose(Choice::Packed(part), manifest),
    };
    let packed = arguments.config.is_none() && arguments.data.is_none();
    let other = "`--data PATH` or `--config FILE` names other data";
    chosen.or_else(|error| match &error {
        PackedDataError::Data(DataError::Config { .. }) => Err(error).usage(),
        PackedDataError::Data(cause) => match cause.hint() {
            Some(hint) => Err(error).hint(hint),
            None if packed => Err(error).hint(other),
            None => Err(error.into()),
        },
        PackedDataError::Unknown { .. } | PackedDataError::Table(_) | PackedDataError::Changed { .. } => {
            Err(error).hint(other).usage()
        }
        _ => Err(error).usage(),
    })
}

fn measure(
    contenders: &[Contender<'_>],
    samples: Samples<'_>,
    turns: usize,
    printer: &Printer,
) -> anyhow::Result<Compared> {
    let total = (contenders.len() * samples.indices.len()) as u64;
    let bar = printer.progress("score", Unit::Count("samples"), Some(total)).milestones_only();
    let compared = compare(contenders, samples, turns, &mut |stage| match stage {
        Stage::Score { done, .. } => bar.set(done as u64),
        Stage::Time => printer.status("time all of them in turns"),
    });
    bar.finish();
    compared.or_else(refuse)
}

/// Models that do not belong together are the person's mistake.
fn refuse<T>(error: CompareError) -> anyhow::Result<T> {
    match &error {
        CompareError::Task { .. } | CompareError::Labels { .. } | CompareError::Align { .. } => {
            Err(error).usage()
        }
        _ => Err(error.into()),
    }
}
