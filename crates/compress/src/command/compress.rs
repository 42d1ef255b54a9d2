//! `compress auto`: methods are tried within a budget, and the best network is packed.

use std::path::PathBuf;

use anyhow::Context as _;
use artifact::{LineageStep, ModelRef};
use clap::Args;
use cli::{ErrorExt as _, ExitStatus, Interrupt, Printer, Table};
use compress::compare::microseconds;
use compress::finish::Candidate;
use compress::page::{self, Entry, Page, Sensitivity};
use compress::pipeline::{Attempt, Found, Observer, PipelineConfig, Target, Verdict, search};
use compress::report::Findings;
use compress::side::Side;
use predict::DeviceSpec;
use serde_json::json;
use train::config::Metric;
use train::fit::EpochRecord;
use train::report::chart::Mark;

use super::failure;
use super::subject::{SubjectArguments, check_report};

/// Makes the fastest or the smallest model that a budget of accuracy allows, and publishes it as the next version.
///
/// Channels are removed, what is left learns from the model as it was, and weights become integers or share a few
/// values. What gains and holds the budget on validation samples is kept, the rest is left out, and the table says
/// why. The test split is scored once, at the end. Exit code 1: nothing holds the budget, or the choice misses it on
/// the test split, and nothing was packed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompressArguments {
    /// The model: name@version, name@alias or name.
    #[arg(value_name = "MODEL")]
    model: ModelRef,

    /// How far the headline metric may fall: percentage points for shares, per cent for the error of a regression.
    #[arg(long, value_name = "POINTS", allow_negative_numbers = true)]
    max_drop: Option<f64>,

    /// What is made small: the time of a pass, or the bytes of the file.
    #[arg(long, value_name = "TARGET", value_parser = target)]
    target: Option<Target>,

    /// About how long the search may take, such as 90s, 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = minutes)]
    time: Option<f64>,

    /// Write a page for a browser as well: scores against bytes and latency of all that was tried.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Where it trains: cpu, cuda, vulkan, wgpu, …
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceSpec,

    #[command(flatten)]
    subject: SubjectArguments,
}

const EXAMPLES: &str = "Examples:
  cargo xtask compress digits@1 --max-drop 2
  cargo xtask compress mnist-lenet5@1 --max-drop 0.2 --target size --time 30m --report report.html";

/// Variables of the environment that begin so set values of the configuration.
const ENV_PREFIX: &str = "BRAZIER_COMPRESS_";

fn target(text: &str) -> Result<Target, String> {
    match text {
        "latency" => Ok(Target::Latency),
        "size" => Ok(Target::Size),
        _ => Err("must be latency or size".to_owned()),
    }
}

/// `90s`, `10m`, `2h` in minutes.
fn minutes(text: &str) -> Result<f64, String> {
    let wrong = || "must be a number with s, m or h behind it, such as 10m".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1.0 / 60.0,
        'm' => 1.0,
        'h' => 60.0,
        _ => return Err(wrong()),
    };
    let number: f64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    Some(number * factor).filter(|time| *time > 0.0 && time.is_finite()).ok_or_else(wrong)
}

pub(crate) fn run(arguments: &CompressArguments) -> anyhow::Result<ExitStatus> {
    let printer = arguments.subject.start()?;
    check_report(arguments.report.as_deref())?;
    let flags = [
        arguments.max_drop.map(|drop| format!("max_drop={drop}")),
        arguments.target.map(|target| match target {
            Target::Latency => "target=latency".to_owned(),
            Target::Size => "target=size".to_owned(),
        }),
        arguments.time.map(|minutes| format!("minutes={minutes}")),
    ];
    let flags: Vec<String> = flags.into_iter().flatten().collect();
    let config = arguments.subject.resolve_with(ENV_PREFIX, &flags, PipelineConfig::fault)?.config;
    let subject = arguments.subject.open(&arguments.model, printer)?;
    let parts = subject.parts()?;
    let interrupt = Interrupt::listen()?;
    let device = arguments.device.resolve().usage()?;
    let mut teller = Teller { printer: &subject.printer };
    let coded = subject.is_coded();
    let found = search(&parts, coded, &subject.data, &config, device, interrupt.flag(), &mut teller)
        .or_else(failure::search)?;
    if let Some(file) = &arguments.report {
        let text = render(&subject.name(), &found);
        artifact::atomic::write(file, text).context("the report cannot be written")?;
    }
    if found.interrupted {
        subject.printer.warn("stopped before the search was over; nothing is packed");
        return Ok(ExitStatus::Interrupted);
    }
    let table = table(&found).to_string();
    let Some(best) = found.best else {
        let why = format!("nothing is packed: no step gains and loses at most {}", config.max_drop);
        let result = json!({ "model": null, "attempts": found.attempts, "parent": found.parent });
        subject.printer.result(&result, || format!("{table}\n{why}"))?;
        return Ok(ExitStatus::GateFailed);
    };
    let kept = found.attempts.iter().filter(|attempt| attempt.verdict == Verdict::Kept);
    let step =
        |attempt: &Attempt| LineageStep { method: attempt.method.to_owned(), summary: attempt.what.clone() };
    let candidate = Candidate {
        method: "compress",
        steps: kept.map(step).collect(),
        drop: best.drop,
        chosen_on: found.chosen_on,
        max_drop: Some(config.max_drop),
        coded: best.coded,
        findings: {
            let mut findings = Findings::new("attempts", &found.attempts, table)?;
            findings.fields.insert("sensitivity".to_owned(), serde_json::to_value(&found.sensitivity)?);
            findings
        },
        config: serde_json::to_value(&config)?,
        parts: best.parts,
    };
    subject.finish(&subject.package.manifest().name, candidate)
}

/// Tells what is tried.
struct Teller<'a> {
    printer: &'a Printer,
}

impl Observer for Teller<'_> {
    fn begins(&mut self, what: &str) {
        self.printer.milestone(&json!({ "event": "try", "what": what }), || format!("try    {what}"));
    }

    fn epoch(&mut self, record: &EpochRecord, epochs: usize, metric: Metric) {
        let line = || format!("       {}", record.line(epochs, metric));
        self.printer.milestone(&record.event(epochs, metric), line);
    }

    fn done(&mut self, attempt: &Attempt) {
        let lost = attempt.drop.map_or_else(String::new, |drop| format!(" ({drop:+.2} lost on validation)"));
        let event = json!({ "event": "tried", "attempt": attempt });
        self.printer.milestone(&event, || format!("       {}{lost}", attempt.verdict.text()));
    }
}

/// All that was tried, each beside the parent.
fn table(found: &Found) -> Table {
    let header = ["step", "score", "weights file", "MACs", "batch 1", "batch 64", ""];
    let mut table = Table::new(header).numbers(1..=5);
    let mut row = |what: &str, side: Option<&Side>, verdict: String| {
        let cell = |of: &dyn Fn(&Side) -> String| side.map_or_else(String::new, of);
        let time = |place: usize| {
            cell(&|side| {
                side.latency.get(place).map_or_else(String::new, |latency| microseconds(latency.median_us))
            })
        };
        table.row([
            what.to_owned(),
            cell(&Side::score_text),
            cell(&|side| cli::bytes(side.record_bytes)),
            cell(&|side| cli::grouped(side.macs)),
            time(0),
            time(1),
            verdict,
        ]);
    };
    row("as it was", Some(&found.parent), format!("on the {} split", found.chosen_on));
    for attempt in &found.attempts {
        row(&attempt.what, attempt.side.as_ref(), attempt.verdict.text());
    }
    table
}

fn render(name: &str, found: &Found) -> String {
    let notes: Vec<String> = found.attempts.iter().map(|attempt| attempt.verdict.text()).collect();
    let parent = Entry { name, side: &found.parent, mark: Mark::Reference, note: "as it was" };
    let tried = found.attempts.iter().zip(&notes).filter_map(|(attempt, note)| {
        let mark = if attempt.verdict == Verdict::Kept { Mark::Other } else { Mark::Hollow };
        Some(Entry { name: &attempt.what, side: attempt.side.as_ref()?, mark, note })
    });
    let sensitivity = sensitivity(found);
    page::render(&Page {
        title: "Compression within a budget",
        about: vec![format!("{name}, scored on samples of the {} split", found.chosen_on)],
        entries: std::iter::once(parent).chain(tried).collect(),
        pairs: &[],
        sensitivity: sensitivity.as_ref(),
    })
}

fn sensitivity(found: &Found) -> Option<Sensitivity> {
    let first = found.sensitivity.first()?;
    let curve = |curve: &compress::prune::structured::Curve| page::Curve {
        name: curve.group.clone(),
        points: curve
            .points
            .iter()
            .map(|point| (point.kept as f64 / curve.channels.max(1) as f64, point.score))
            .collect(),
    };
    Some(Sensitivity {
        metric: first.metric.clone(),
        full: found.parent.score,
        split: first.part.clone(),
        curves: found.sensitivity.iter().map(curve).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(minutes("90s"), Ok(1.5));
        assert_eq!(minutes("10m"), Ok(10.0));
        assert_eq!(minutes("0.5h"), Ok(30.0));
        for wrong in ["", "10", "m", "-1m", "0m", "10µ", "nanm", "infh"] {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
    }
}
