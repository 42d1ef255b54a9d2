//! `compress recipe`: several methods one after the other, as a file says.

use artifact::{LineageStep, ModelRef};
use clap::Args;
use cli::ExitStatus;
use compress::finish::{Candidate, file_bytes};
use compress::judge::Judge;
use compress::recipe::RecipeConfig;
use compress::report::Findings;
use predict::DeviceSpec;
use serde_json::json;
use train::config::Metric;

use super::failure;
use super::subject::SubjectArguments;
use super::tuning::Tuning;

/// Follows a recipe, method after method, and publishes the result as the next version.
///
/// Exit code 1: the accuracy fell by more than `gate.max_drop`, and nothing was packed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecipeArguments {
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
  compress recipe mnist-lenet-300-100@1 --config configs/compress/lenet-300-100.toml";

/// Variables of the environment that begin so set values of the configuration.
const ENV_PREFIX: &str = "BRAZIER_RECIPE_";

pub(crate) fn run(arguments: &RecipeArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    let config = arguments.subject.resolve(ENV_PREFIX, RecipeConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.model, printer)?;
    let parent = subject.parts()?;
    let tuning = Tuning::new(&subject.printer, arguments.device)?;
    let metric = Metric::of(subject.data.task);
    let coded = config.is_coded() || subject.is_coded();
    let judge = Judge::new(&parent, &subject.data, 1)?;
    let mut parts = parent.clone();
    let (mut steps, mut told) = (Vec::new(), Vec::new());
    let mut drop = 0.0;
    for step in &config.steps {
        let what = step.what();
        let event = json!({ "event": "step", "method": step.method(), "what": what });
        subject.printer.milestone(&event, || format!("{}: {what}", step.method()));
        let done = tuning
            .run(step.epochs(), metric, |hooks| {
                step.run(&parts, &parent, &subject.data, hooks).map_err(Box::new)
            })
            .or_else(|error| failure::recipe(*error))?;
        let Some(done) = done else {
            subject.printer.warn("stopped before the training was over; nothing is packed");
            return Ok(ExitStatus::Interrupted);
        };
        parts = done;
        drop = judge.drop(&parts)?;
        let bytes = file_bytes(&parts.weights, coded)?;
        let size = cli::bytes(bytes);
        let stage = json!({ "method": step.method(), "drop": drop, "record_bytes": bytes });
        let event = json!({ "event": "stage", "stage": stage });
        subject.printer.milestone(&event, || format!("{drop:+.2} lost on the {} split, {size}", judge.split));
        steps.push(LineageStep { method: step.method().to_owned(), summary: what });
        told.push(stage);
    }
    let candidate = Candidate {
        method: "recipe",
        drop,
        chosen_on: judge.split,
        max_drop: Some(config.gate.max_drop),
        coded,
        steps,
        findings: Findings::new("stages", &told, String::new())?,
        config: serde_json::to_value(&config)?,
        parts,
    };
    subject.finish(&subject.package.manifest().name, candidate)
}
