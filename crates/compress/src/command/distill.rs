//! `compress distill`: a student learns from a teacher.

use artifact::{LineageStep, ModelRef};
use clap::Args;
use cli::ExitStatus;
use compress::distill::{DistillConfig, STUDENT, distill};
use compress::finish::Candidate;
use compress::judge::Judge;
use compress::report::Findings;
use predict::DeviceSpec;
use train::config::Metric;

use super::failure;
use super::subject::SubjectArguments;
use super::tuning::Tuning;

/// Trains a student on the answers of a teacher and on the labels, and publishes it, with accuracy, bytes and latency
/// of both.
///
/// The student is any preset or list of layers, begins with fresh weights, and sees the data that the teacher was
/// trained on. Exit code 1: it is worse than the teacher by more than `gate.max_drop`, and nothing was packed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DistillArguments {
    /// The model that is learned from: name@version, name@alias or name.
    #[arg(long, value_name = "MODEL")]
    teacher: ModelRef,

    /// The name of the student's package; without it, the teacher's with `-student`.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Where it trains: cpu, cuda, vulkan, wgpu, …
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceSpec,

    #[command(flatten)]
    subject: SubjectArguments,
}

const EXAMPLES: &str = "Examples:
  compress distill --teacher mnist-lenet5@1 --set student.preset=mlp
  compress distill --teacher digits@production --config configs/compress/distill.toml --name small-digits";

/// Variables of the environment that begin so set values of the configuration.
const ENV_PREFIX: &str = "BRAZIER_DISTILL_";

pub(crate) fn run(arguments: &DistillArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    let config = arguments.subject.resolve(ENV_PREFIX, DistillConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.teacher, printer)?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => format!("{}-student", subject.package.manifest().name),
    };
    artifact::check_name(&name).or_else(failure::name)?;
    let teacher = subject.parts()?;
    let tuning = Tuning::new(&subject.printer, arguments.device)?;
    let metric = Metric::of(subject.data.task);
    let distilled = tuning
        .run(config.finetune.epochs, metric, |hooks| distill(&teacher, &subject.data, &config, hooks))
        .or_else(failure::distill)?;
    if tuning.was_stopped(&distilled.tuned) {
        return Ok(ExitStatus::Interrupted);
    }
    let judge = Judge::new(&teacher, &subject.data, config.finetune.seed)?;
    let student = match (&config.student.preset, &config.student.layers) {
        (None, Some(_)) => "the layers of the configuration",
        (preset, _) => preset.as_deref().unwrap_or(STUDENT),
    };
    let candidate = Candidate {
        method: "distill",
        drop: judge.drop(&distilled.parts)?,
        chosen_on: judge.split,
        max_drop: Some(config.gate.max_drop),
        steps: vec![LineageStep {
            method: "distill".to_owned(),
            summary: format!("{student}, taught by {}", subject.name()),
        }],
        findings: Findings::new("epochs", &distilled.tuned.history, String::new())?,
        config: serde_json::to_value(&config)?,
        parts: distilled.parts,
        coded: false,
    };
    subject.finish(&name, candidate)
}
