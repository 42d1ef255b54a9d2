//! `compress prune`: channels or single weights are taken away, and what is left is trained.

use artifact::{LineageStep, ModelRef};
use clap::Args;
use cli::{ExitStatus, Printer, Table};
use compress::finish::Candidate;
use compress::judge::Judge;
use compress::magnitude::{self, LayerZeros, MagnitudeConfig};
use compress::prune::structured::{GroupChange, Pruned, Stage, StructuredConfig, prune_and_train};
use compress::report::Findings;
use predict::DeviceSpec;
use serde_json::json;
use train::config::Metric;

use super::failure;
use super::subject::SubjectArguments;
use super::tuning::Tuning;

/// Prunes a model, trains what is left, and publishes it as the next version, with accuracy, bytes and latency before
/// and after.
///
/// The method `structured` removes whole channels and neurons: the result is a smaller dense network that is faster on
/// every device. `magnitude` makes the smallest weights zero: the network is as fast as before, and its file small.
/// Exit code 1: the accuracy fell by more than `gate.max_drop`, and nothing was packed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PruneArguments {
    /// The model: name@version, name@alias or name.
    #[arg(value_name = "MODEL")]
    model: ModelRef,

    /// What is taken away.
    #[arg(long, value_enum, default_value_t = Method::Structured)]
    method: Method,

    /// Where it trains: cpu, cuda, vulkan, wgpu, …
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceSpec,

    #[command(flatten)]
    subject: SubjectArguments,
}

const EXAMPLES: &str = "Examples:
  compress prune digits@1 --set budget.share=0.5
  compress prune cifar10-keras-cnn@1 --config configs/compress/prune.toml --set criterion=taylor
  compress prune mnist-lenet5@1 --method magnitude --set sparsity=0.95";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    /// Channels and neurons; configs/compress/prune.toml.
    Structured,
    /// Single weights; configs/compress/prune-magnitude.toml.
    Magnitude,
}

/// Variables of the environment that begin so set values of the configuration.
const ENV_PREFIX: &str = "BRAZIER_PRUNE_";

pub(crate) fn run(arguments: &PruneArguments) -> anyhow::Result<ExitStatus> {
    match arguments.method {
        Method::Structured => structured(arguments),
        Method::Magnitude => magnitude(arguments),
    }
}

fn structured(arguments: &PruneArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    let config = arguments.subject.resolve(ENV_PREFIX, StructuredConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.model, printer)?;
    let parts = subject.parts()?;
    let tuning = Tuning::new(&subject.printer, arguments.device)?;
    let metric = Metric::of(subject.data.task);
    let mut stage = |stage: Stage<'_>| tell(&subject.printer, stage);
    let trained = tuning
        .run(config.finetune.epochs, metric, |hooks| {
            prune_and_train(&parts, &subject.data, &config, None, hooks, &mut stage)
        })
        .or_else(failure::prune)?;
    if tuning.was_stopped(&trained.tuned) {
        return Ok(ExitStatus::Interrupted);
    }
    let judge = Judge::new(&parts, &subject.data, config.seed)?;
    let pruned = trained.pruned;
    let share = format!("{:.0} % of the {}", 100.0 * pruned.share, config.budget.metric.name());
    let candidate = Candidate {
        method: "prune",
        drop: judge.drop(&pruned.parts)?,
        chosen_on: judge.split,
        max_drop: Some(config.gate.max_drop),
        steps: vec![LineageStep { method: "prune".to_owned(), summary: format!("channels: {share} left") }],
        findings: findings(&pruned, &trained.tuned.history)?,
        config: serde_json::to_value(&config)?,
        parts: pruned.parts,
        coded: subject.is_coded(),
    };
    subject.finish(&subject.package.manifest().name, candidate)
}

fn findings(pruned: &Pruned, history: &[train::fit::EpochRecord]) -> anyhow::Result<Findings> {
    let mut table = Table::new(["channels of", "before", "after", ""]).numbers([1, 2]);
    for GroupChange { producers, before, after, reason, .. } in &pruned.groups {
        let counts = [before, after].map(|count| cli::grouped(*count as u64));
        let [before, after] = counts;
        table.row([producers.join(", "), before, after, reason.clone().unwrap_or_default()]);
    }
    for fixed in &pruned.fixed {
        let count = cli::grouped(fixed.channels as u64);
        table.row([fixed.name.clone(), count.clone(), count, fixed.reason.to_string()]);
    }
    let fields = json!({
        "groups": pruned.groups,
        "fixed": pruned.fixed,
        "costs": { "before": pruned.before, "after": pruned.after },
        "sensitivity": pruned.sensitivity,
        "epochs": history,
    });
    Ok(Findings { fields: serde_json::from_value(fields)?, text: table.to_string() })
}

fn tell(printer: &Printer, stage: Stage<'_>) {
    match stage {
        Stage::Gradients { samples } => {
            printer.status(format!("gradients of {} training samples", cli::grouped(samples as u64)));
        }
        Stage::Sensitivity { group, kept, channels, .. } => {
            printer.status(format!("score with {kept} of the {channels} channels of `{group}`"));
        }
        Stage::Measured { share } => {
            printer.status(format!("measured: {:.1} % of the parent's latency", 100.0 * share));
        }
        Stage::Chosen { step, steps, share } => {
            printer.status(format!("cut {step} of {steps}: {:.1} % is left", 100.0 * share));
        }
        _ => {}
    }
}

fn magnitude(arguments: &PruneArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    let config = arguments.subject.resolve(ENV_PREFIX, MagnitudeConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.model, printer)?;
    let parts = subject.parts()?;
    let tuning = Tuning::new(&subject.printer, arguments.device)?;
    let metric = Metric::of(subject.data.task);
    let sparse = tuning
        .run(config.finetune.epochs, metric, |hooks| {
            magnitude::prune(&parts, &subject.data, &config, None, hooks)
        })
        .or_else(failure::magnitude)?;
    if tuning.was_stopped(&sparse.tuned) {
        return Ok(ExitStatus::Interrupted);
    }
    let judge = Judge::new(&parts, &subject.data, config.finetune.seed)?;
    let candidate = Candidate {
        method: "prune",
        drop: judge.drop(&sparse.parts)?,
        chosen_on: judge.split,
        max_drop: Some(config.gate.max_drop),
        steps: vec![LineageStep { method: "prune".to_owned(), summary: zeros_text(&sparse.layers) }],
        findings: Findings::new("zeros", &sparse.layers, zeros_table(&sparse.layers).to_string())?,
        config: serde_json::to_value(&config)?,
        parts: sparse.parts,
        coded: true,
    };
    subject.finish(&subject.package.manifest().name, candidate)
}

fn zeros_text(layers: &[LayerZeros]) -> String {
    let (zeros, weights) =
        layers.iter().fold((0, 0), |(zeros, weights), layer| (zeros + layer.zeros, weights + layer.weights));
    format!("{:.1} % of the weights zero", 100.0 * zeros as f64 / weights.max(1) as f64)
}

fn zeros_table(layers: &[LayerZeros]) -> Table {
    let mut table = Table::new(["layer", "weights", "zero", "share"]).numbers([1, 2, 3]);
    for LayerZeros { layer, weights, zeros } in layers {
        let counts = [weights, zeros].map(|count| cli::grouped(*count as u64));
        let share = format!("{:.1} %", 100.0 * *zeros as f64 / (*weights).max(1) as f64);
        let [weights, zeros] = counts;
        table.row([layer.clone(), weights, zeros, share]);
    }
    table
}
