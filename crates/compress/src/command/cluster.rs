//! `compress cluster`: the weights of a layer share a few values, and the file becomes small.

use artifact::{LineageStep, ModelRef};
use clap::Args;
use cli::{ExitStatus, Table};
use compress::cluster::{ClusterConfig, Codebook, cluster};
use compress::finish::Candidate;
use compress::judge::Judge;
use compress::report::Findings;
use predict::DeviceSpec;
use train::config::Metric;

use super::failure;
use super::subject::SubjectArguments;
use super::tuning::Tuning;

/// Groups the weights of each layer around a few values, trains those, and publishes the next version.
///
/// Zeros stay zeros, so a pruned model stays pruned. The network is as fast as before; its file holds a codebook for
/// each layer and an entropy-coded index for each weight. Exit code 1: the accuracy fell by more than
/// `gate.max_drop`, and nothing was packed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ClusterArguments {
    /// The model: name@version, name@alias or name.
    #[arg(value_name = "MODEL")]
    model: ModelRef,

    /// Where it trains: cpu, cuda, vulkan, wgpu, …
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceSpec,

    #[command(flatten)]
    subject: SubjectArguments,
}

const EXAMPLES: &str = "Examples:
  compress cluster mnist-lenet5@2 --set clusters=16
  compress cluster digits@1 --config configs/compress/cluster.toml";

/// Variables of the environment that begin so set values of the configuration.
const ENV_PREFIX: &str = "BRAZIER_CLUSTER_";

pub(crate) fn run(arguments: &ClusterArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    let config = arguments.subject.resolve(ENV_PREFIX, ClusterConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.model, printer)?;
    let parts = subject.parts()?;
    let tuning = Tuning::new(&subject.printer, arguments.device)?;
    let metric = Metric::of(subject.data.task);
    let clustered = tuning
        .run(config.finetune.epochs, metric, |hooks| cluster(&parts, &subject.data, &config, None, hooks))
        .or_else(failure::cluster)?;
    if tuning.was_stopped(&clustered.tuned) {
        return Ok(ExitStatus::Interrupted);
    }
    let judge = Judge::new(&parts, &subject.data, config.seed)?;
    let candidate = Candidate {
        method: "cluster",
        drop: judge.drop(&clustered.parts)?,
        chosen_on: judge.split,
        max_drop: Some(config.gate.max_drop),
        steps: vec![LineageStep {
            method: "cluster".to_owned(),
            summary: format!("at most {} values per layer", config.clusters),
        }],
        findings: Findings::new("codebooks", &clustered.codebooks, table(&clustered.codebooks).to_string())?,
        config: serde_json::to_value(&config)?,
        parts: clustered.parts,
        coded: true,
    };
    subject.finish(&subject.package.manifest().name, candidate)
}

fn table(codebooks: &[Codebook]) -> Table {
    let mut table = Table::new(["parameter", "weights", "values", "least", "greatest"]).numbers(1..=4);
    for Codebook { key, weights, values } in codebooks {
        let end = |value: Option<&f32>| value.map_or_else(String::new, |value| format!("{value:.4}"));
        let counts = [*weights, values.len()].map(|count| cli::grouped(count as u64));
        let [weights, count] = counts;
        table.row([key.clone(), weights, count, end(values.first()), end(values.last())]);
    }
    table
}
