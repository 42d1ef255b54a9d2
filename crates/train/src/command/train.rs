//! `train train`: the whole way from a configuration to a package.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use cli::config::{Origin, Resolved};
use cli::{ErrorExt as _, ExitStatus, Interrupt, Printer};
use serde::Serialize;
use train::config::TrainConfig;
use train::fit::{EpochRecord, Finish};
use train::pipeline::{self, Hooks, Request, Trained};
use train::prepare::prepare;
use train::run::{REPORT_FILE, RunDirectory};

use super::narrator::Narrator;
use super::progress::{self, Display, ProgressKind};
use super::resolve::{self, Overrides};
use super::{failure, summary};

/// Trains a network as a configuration says, scores it on the test split, writes a report, packs it.
///
/// Every value of the configuration can be set for one run: `--set key=value` over the environment variable
/// `BRAZIER_TRAIN_KEY` over the file over the default. The run's folder says where each value came from.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TrainArguments {
    /// The configuration, such as configs/train/digits.toml.
    #[arg(long, short, value_name = "FILE", required_unless_present = "resume")]
    config: Option<PathBuf>,

    /// Set a value of the configuration: optimizer.learning_rate=3e-4.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Where to train: cpu, flex, ndarray, vulkan[:INDEX], wgpu[:INDEX], cuda[:INDEX], or auto for the best there
    /// is.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// The seed of every random draw.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Threads of the CPU; results repeat to the bit with 1.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// The name under which the model is published.
    #[arg(long, value_name = "MODEL")]
    name: Option<String>,

    /// Run one batch through everything (fit, evaluate, checkpoint, report, pack) and leave nothing behind.
    #[arg(long, conflicts_with_all = ["resume", "repeat"])]
    dry_run: bool,

    /// Print the network as it would be trained, to be copied and edited, and stop.
    #[arg(long, conflicts_with_all = ["resume", "repeat", "dry_run"])]
    print_network: bool,

    /// Go on with a run that was interrupted or not packed, by its name or folder.
    #[arg(long, value_name = "RUN", conflicts_with = "repeat")]
    resume: Option<String>,

    /// Train N times with seeds that count up, and print mean and standard deviation; no packages are made.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=100))]
    repeat: Option<u64>,

    /// How progress is shown.
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    progress: ProgressKind,

    /// Where runs are kept.
    #[arg(long, value_name = "DIR", default_value = "artifacts/runs")]
    runs: PathBuf,

    /// Where packages are kept.
    #[arg(long, value_name = "DIR", default_value = "artifacts/models")]
    models: PathBuf,

    /// Make no package.
    #[arg(long)]
    no_pack: bool,

    #[command(flatten)]
    common: cli::Common,
}

const EXAMPLES: &str = "Examples:
  train train --config configs/train/digits.toml
  train train --config configs/train/mnist-lenet5.toml --set optimizer.learning_rate=3e-4 --seed 7
  train train --config configs/train/own-csv.toml --set data.path=my.csv --dry-run
  train train --config configs/train/cifar10-keras-cnn.toml --device auto
  train train --resume digits-3

A GPU's compiled kernels are kept in the folder kernel-cache beside the packages, or where BRAZIER_KERNEL_CACHE says.";

/// What is printed at the end.
#[derive(Serialize)]
struct TrainResult<'a> {
    run: &'a str,
    directory: &'a std::path::Path,
    /// What it was trained on; never `auto`.
    device: &'a str,
    finish: Finish,
    epochs: usize,
    best_epoch: usize,
    seconds: f64,
    metrics: &'a std::collections::BTreeMap<String, f64>,
    model: Option<&'a str>,
    report: Option<PathBuf>,
}

pub(crate) fn run(arguments: &TrainArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.common.start(tracing::Level::WARN);
    progress::check(arguments.progress)?;
    let overrides = Overrides {
        set: &arguments.set,
        device: arguments.device.as_deref(),
        seed: arguments.seed,
        threads: arguments.threads,
        name: arguments.name.as_deref(),
    };
    let (resolved, resume) = match (&arguments.resume, &arguments.config) {
        (Some(run), file) => {
            let run = RunDirectory::open(&arguments.runs, run).usage()?;
            let resolved = resolve::resumed_run(&run, file.as_ref(), &overrides)?;
            (resolved, Some(run))
        }
        (None, Some(file)) => (resolve::new_run(file, &overrides)?, None),
        (None, None) => return Err(cli::usage_error("`--config FILE` is missing")),
    };
    resolved.config.check().map_err(|error| resolve::refusal(&resolved, &error))?;
    predict::Isa::from_environment().usage()?;
    model::device::set_threads(resolved.config.train.threads.unwrap_or(0)).usage()?;
    model::device::set_kernel_cache(&cli::kernel_cache(&arguments.models));
    if arguments.print_network {
        return print_network(arguments, &resolved, &printer);
    }
    for entry in resolved.non_defaults().filter(|entry| !matches!(entry.origin, Origin::File { .. })) {
        printer.status(
            printer.paint_status().dim(&format!("{} = {} ({})", entry.key, entry.value, entry.origin)),
        );
    }
    let interrupt = Interrupt::listen().context("Ctrl-C cannot be caught")?;
    let session = Session { arguments, printer: &printer, interrupt: &interrupt };
    match arguments.repeat {
        Some(times) => session.repeat(&resolved, times),
        None if arguments.dry_run => session.dry_run(&resolved),
        None => {
            let publish = (!arguments.no_pack).then(|| arguments.models.clone());
            let trained = session.train(&resolved, &arguments.runs, publish, resume, false)?;
            session.finish(&trained)
        }
    }
}

fn print_network(
    arguments: &TrainArguments,
    resolved: &Resolved<TrainConfig>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let registry = artifact::Registry::open(&arguments.models)?;
    let prepared =
        prepare(&resolved.config, &registry).map_err(|error| failure::explain(error.into(), resolved))?;
    #[derive(Serialize)]
    struct Document<'a> {
        network: Layers<'a>,
    }
    #[derive(Serialize)]
    struct Layers<'a> {
        layers: &'a [network::spec::Layer],
    }
    let document = Document { network: Layers { layers: &prepared.network.spec().layers } };
    let text = toml::to_string(&document).context("the network cannot be written as TOML")?;
    let table = network::summary(&prepared.network);
    let commented: String = table.lines().map(|line| format!("# {line}\n")).collect();
    printer.result(prepared.network.spec(), || format!("{commented}\n{text}"))?;
    Ok(ExitStatus::Success)
}

struct Session<'a> {
    arguments: &'a TrainArguments,
    printer: &'a Printer,
    interrupt: &'a Interrupt,
}

impl Session<'_> {
    fn train(
        &self,
        resolved: &Resolved<TrainConfig>,
        runs: &std::path::Path,
        publish: Option<PathBuf>,
        resume: Option<RunDirectory>,
        dry_run: bool,
    ) -> anyhow::Result<Trained> {
        let config_text = match &resume {
            Some(run) => std::fs::read_to_string(run.path().join(train::run::CONFIG_FILE))
                .context("the run's configuration cannot be read")?,
            None => resolved.write_with_origins(),
        };
        let request = Request {
            config: resolved.config.clone(),
            config_text,
            runs: runs.to_owned(),
            models: self.arguments.models.clone(),
            publish,
            resume,
            dry_run,
            now: cli::now(),
        };
        let display = Display::new(self.printer, self.arguments.progress);
        let mut observer = Narrator::new(self.printer, display.clone(), &resolved.config, dry_run);
        let epochs = display.clone();
        let mut hooks = Hooks {
            observer: &mut observer,
            renderer: &mut |interrupter| display.renderer(interrupter),
            epoch: Arc::new(move |record: &EpochRecord| epochs.epoch(record)),
            stop: self.interrupt.flag(),
        };
        let trained = pipeline::train(&request, &mut hooks);
        display.end();
        trained.map_err(|error| failure::explain(error, resolved))
    }

    fn finish(&self, trained: &Trained) -> anyhow::Result<ExitStatus> {
        let interrupted = trained.finish == Finish::Interrupted;
        let report = (!interrupted).then(|| trained.run.path().join(REPORT_FILE));
        let result = TrainResult {
            run: trained.run.id(),
            directory: trained.run.path(),
            device: &trained.record.device,
            finish: trained.finish,
            epochs: trained.record.epochs,
            best_epoch: trained.record.best_epoch,
            seconds: trained.elapsed.as_secs_f64(),
            metrics: &trained.record.metrics,
            model: trained.record.model.as_deref(),
            report: report.clone(),
        };
        self.printer.result(&result, || match &trained.evaluation {
            Some(evaluation) => summary::finished(trained, evaluation),
            None => format!(
                "stopped after {} epochs; the checkpoint is in {}\ngo on with: cargo xtask train --resume {}{}",
                trained.record.epochs,
                trained.run.path().join("checkpoint").display(),
                trained.run.id(),
                self.other_places(),
            ),
        })?;
        Ok(if interrupted { ExitStatus::Interrupted } else { ExitStatus::Success })
    }

    /// The flags that a resumed run needs to find the same folders.
    fn other_places(&self) -> String {
        let mut text = String::new();
        for (flag, path, usual) in [
            ("--runs", &self.arguments.runs, "artifacts/runs"),
            ("--models", &self.arguments.models, "artifacts/models"),
        ] {
            if path != std::path::Path::new(usual) {
                text += &format!(" {flag} {}", path.display());
            }
        }
        text
    }

    /// Everything once, on one batch, in folders that disappear.
    fn dry_run(&self, resolved: &Resolved<TrainConfig>) -> anyhow::Result<ExitStatus> {
        let folder = tempfile::tempdir().context("there is no place for a dry run")?;
        let models = folder.path().join("models");
        let trained = self.train(resolved, &folder.path().join("runs"), Some(models.clone()), None, true)?;
        if trained.finish == Finish::Interrupted {
            return Ok(ExitStatus::Interrupted);
        }
        let packed = trained.published.context("the dry run made no package")?;
        let reference: artifact::ModelRef = format!("{}@{}", packed.name, packed.version).parse()?;
        let registry = artifact::Registry::open(&models)?;
        let device: model::DeviceSpec = trained.record.device.parse()?;
        predict::Predictor::open(&registry, &reference, device)?.self_check()?;
        let seconds = trained.elapsed.as_secs_f64();
        let value = serde_json::json!({ "dry_run": true, "seconds": seconds, "epochs": resolved.config.train.epochs });
        self.printer.result(&value, || {
            format!("dry run: one batch went through fit, checkpoint, evaluation, report and package in {seconds:.1} s; nothing was kept")
        })?;
        Ok(ExitStatus::Success)
    }

    fn repeat(&self, resolved: &Resolved<TrainConfig>, times: u64) -> anyhow::Result<ExitStatus> {
        let mut scores: std::collections::BTreeMap<String, Vec<f64>> = std::collections::BTreeMap::new();
        let mut runs = Vec::new();
        for turn in 0..times {
            let mut resolved = resolved.clone();
            resolved.config.train.seed = resolved.config.train.seed.wrapping_add(turn);
            let seed = resolved.config.train.seed;
            self.printer.status(format!("seed {seed} ({} of {times})", turn + 1));
            let trained = self.train(&resolved, &self.arguments.runs, None, None, false)?;
            if trained.finish == Finish::Interrupted {
                return self.finish(&trained);
            }
            runs.push(trained.run.id().to_owned());
            for (name, value) in &trained.record.metrics {
                scores.entry(name.clone()).or_default().push(*value);
            }
        }
        let value = serde_json::json!({ "repeat": times, "runs": runs, "metrics": scores });
        self.printer.result(&value, || {
            let mut table = cli::Table::new(["metric", "mean ± standard deviation", "values"]).numbers([1]);
            for (name, values) in &scores {
                let list: Vec<String> = values.iter().map(|value| format!("{value:.4}")).collect();
                table.row([name.clone(), summary::spread(name, values), list.join(" ")]);
            }
            table.to_string()
        })?;
        Ok(ExitStatus::Success)
    }
}
