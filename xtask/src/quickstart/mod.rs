//! `cargo xtask quickstart`: the main job on data that needs no network, from training to a running server.
//!
//! Every step runs the program that a person would run, with the command shown, so that what it prints is a
//! tour and nothing happens here that could not be done by hand.

mod digit;
mod http;
mod server;
mod steps;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use artifact::{ModelRef, PRODUCTION, Registry, Selector};
use clap::Args;
use cli::{ExitStatus, Format, Interrupt, Printer};
use serde_json::{Value, json};

use self::digit::Digit;
use self::server::Server;
use self::steps::Steps;
use crate::binaries::{Binaries, Binary};
use crate::child;
use crate::devices::Needed;
use crate::workspace::Workspace;

const CONFIG: &str = "configs/train/quickstart.toml";
const INT8: &str = "configs/compress/int8.toml";
const MODEL: &str = "digits";
const MODELS: &str = "artifacts/models";
const RUNS: &str = "artifacts/runs";
const SAMPLE: &str = "artifacts/quickstart/digit.png";

/// Arguments of `cargo xtask quickstart`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Quickstart {
    /// Stop after the prediction and start no server.
    #[arg(long)]
    no_serve: bool,

    /// The port to serve on; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// The registry to publish to and to serve from.
    #[arg(long, value_name = "DIR", default_value = MODELS)]
    models: PathBuf,

    /// Where the directory of the run is made.
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    runs: PathBuf,

    #[command(flatten)]
    common: cli::Common,
}

const EXAMPLES: &str = "Examples:
  cargo xtask quickstart                 everything, then serve on 127.0.0.1:8080 until Ctrl-C
  cargo xtask quickstart --no-serve      the same without the server
  cargo xtask quickstart --port 9000     serve on another port";

/// Why a quickstart ends before its end: a step has failed and said so itself.
struct Ended(ExitStatus);

pub(crate) fn run(
    command: &Quickstart,
    workspace: &Workspace,
    binaries: &Binaries,
) -> anyhow::Result<ExitStatus> {
    let printer = command.common.start(tracing::Level::WARN);
    let interrupt = Interrupt::listen().context("cannot catch Ctrl-C")?;
    // Before the work, not after it: nobody wants to learn of a busy port when the training is over.
    let port = if command.no_serve { 0 } else { server::free_port(command.port)? };
    let tour = Tour { command, workspace, binaries, interrupt: &interrupt, printer: &printer };
    match tour.run(port)? {
        Ok(status) | Err(Ended(status)) => Ok(status),
    }
}

/// What every step needs.
struct Tour<'a> {
    command: &'a Quickstart,
    workspace: &'a Workspace,
    binaries: &'a Binaries,
    interrupt: &'a Interrupt,
    printer: &'a Printer,
}

/// The programs of the tour are built for the processor, whatever device the environment names for others.
fn on_the_processor(mut command: Command) -> Command {
    for variable in ["BRAZIER_TRAIN_TRAIN__DEVICE", "BRAZIER_PREDICT_DEVICE", "BRAZIER_SERVE_DEVICE"] {
        command.env_remove(variable);
    }
    command
}

type Step<T> = anyhow::Result<Result<T, Ended>>;

/// Ends the tour early, where a step has.
macro_rules! done {
    ($step:expr) => {
        match $step? {
            Ok(value) => value,
            Err(ended) => return Ok(Err(ended)),
        }
    };
}

impl Tour<'_> {
    fn run(&self, port: u16) -> Step<ExitStatus> {
        let mut steps = Steps::new(self.printer, if self.command.no_serve { 6 } else { 7 });

        steps.begin("build the programs");
        match self.binaries.build(&Needed::default()) {
            Ok(()) if !self.interrupt.is_requested() => {}
            Err(error) if !self.interrupt.is_requested() => return Err(error),
            // Cargo died of the same Ctrl-C.
            _ => return Ok(Err(Ended(ExitStatus::Interrupted))),
        }

        let models = self.command.models.to_string_lossy().into_owned();
        let runs = self.command.runs.to_string_lossy().into_owned();
        let registry = Registry::open(&self.command.models).context("cannot open the registry")?;

        steps.begin(
            "train a small convolutional network on the embedded digits, score it on the test data, pack it",
        );
        let before = newest(&registry)?;
        done!(
            self.child(Binary::Train, &["train", "--config", CONFIG, "--models", &models, "--runs", &runs])
        );
        let version = newest(&registry)?
            .filter(|version| Some(*version) != before)
            .with_context(|| format!("the training published no version of `{MODEL}` in {models}"))?;
        let model = format!("{MODEL}@{version}");

        steps.begin(&format!("evaluate {model}: the packed score, measured again from the package"));
        done!(self.child(Binary::Train, &["evaluate", &model, "--models", &models]));

        steps.begin(&format!("promote {model} to `{PRODUCTION}`"));
        registry.promote(MODEL, version, PRODUCTION).with_context(|| format!("cannot promote {model}"))?;

        steps.begin(&format!("quantize {model} to int8, and put both side by side"));
        let (int8, quantized) = done!(self.quantize(&registry, version, &models));

        let digit = Digit::read(self.workspace.root())?;
        let sample = self.workspace.root().join(SAMPLE);
        digit.write_png(&sample)?;
        steps.begin(&format!("predict {SAMPLE} with the library"));
        self.printer.status(digit.picture());
        let answer = done!(self.predict(&["--models", &models, &format!("{MODEL}@{PRODUCTION}"), SAMPLE]));
        let (class, told) = read(&answer)?;
        let label = digit.label.to_string();
        let right = class == label;
        let verdict = if right { "right" } else { "wrong" };
        self.printer.status(format!("{told}, labelled {label}: {verdict}"));
        let package = |version: u64| self.command.models.join(MODEL).join(version.to_string());
        let mut result = json!({
            "model": MODEL,
            "version": version,
            "package": package(version),
            "predicted": class,
            "labelled": label,
            "int8": null,
        });
        let mut served = vec![Served { version, path: "/predict".to_owned(), class: class.clone() }];
        if let Some(version) = int8 {
            let answer = done!(self.predict(&["--models", &models, &format!("{MODEL}@{version}"), SAMPLE]));
            let (int8_class, told) = read(&answer)?;
            let agrees = int8_class == class;
            let verdict = if agrees { "the two agree" } else { "the two disagree" };
            self.printer.status(format!("{told}, in int8: {verdict}"));
            result["int8"] = json!({
                "version": version,
                "package": package(version),
                "predicted": int8_class,
                "agrees": agrees,
            });
            let path = format!("/models/{MODEL}/versions/{version}/predict");
            served.push(Served { version, path, class: int8_class });
        }
        let status = match quantized {
            // A wrong answer of the other version shows as the two disagreeing, which one digit may do.
            ExitStatus::Success if !right => ExitStatus::GateFailed,
            status => status,
        };

        if self.command.no_serve {
            steps.end();
            let place = package(version);
            let next = match int8 {
                None => format!("{model} is in {}. Serve it: cargo xtask serve", place.display()),
                Some(int8) => format!(
                    "{model} is in {}, {MODEL}@{int8} in int8 in {}. Serve both: cargo xtask serve",
                    place.display(),
                    package(int8).display()
                ),
            };
            self.printer.result(&result, || next)?;
            return Ok(Ok(status));
        }

        steps.begin("serve it, and ask over HTTP");
        let reference =
            ModelRef { name: MODEL.to_owned(), selector: Selector::Alias(PRODUCTION.to_owned()) }.to_string();
        let mut server = Server::start(self.binaries, &self.command.models, port, &reference)?;
        if !server.wait_until_ready(self.interrupt)? {
            server.stop()?;
            return Ok(Err(Ended(ExitStatus::Interrupted)));
        }
        let body = json!({ "input": digit.rows() });
        for Served { version, path, class } in &served {
            let answer = server.ask(path, &body)?;
            let answered =
                class_of(&answer).with_context(|| format!("the server's answer names no class: {answer}"))?;
            if answered != *class {
                anyhow::bail!(
                    "the server answered {answered} for {MODEL}@{version} where the library answered {class}"
                );
            }
        }
        steps.end();
        let url = server.url();
        let says = |Served { version, class, .. }: &Served| format!("{class} from {MODEL}@{version}");
        let said = served.iter().map(says).collect::<Vec<_>>().join(", ");
        let compare =
            int8.map_or_else(String::new, |int8| format!("Compare:     {url}/#{MODEL}@{version},{int8}\n"));
        if let Value::Object(fields) = &mut result {
            fields.insert("url".to_owned(), url.clone().into());
        }
        self.printer.result(&result, || {
            format!(
                "The server answers as the library does: {said}.\n\n\
                 Playground:  {url}/\n\
                 {compare}\
                 Ask it:      curl -s {url}/predict -H 'content-type: application/json' -d '{body}'\n\
                 Stop it:     Ctrl-C"
            )
        })?;
        server.serve_until(self.interrupt)?;
        self.printer.status("stopped");
        Ok(Ok(status))
    }

    /// Makes the next version in int8 and returns its number. Without one, such as when it would lose more than its
    /// gate allows, the tour goes on, and ends with the status that is returned.
    fn quantize(&self, registry: &Registry, version: u64, models: &str) -> Step<(Option<u64>, ExitStatus)> {
        let model = format!("{MODEL}@{version}");
        let arguments = ["quantize", &model, "--config", INT8, "--models", models];
        match self.child(Binary::Compress, &arguments)? {
            Ok(()) => {
                let int8 = newest(registry)?.filter(|newest| *newest > version);
                let int8 = int8.with_context(|| format!("no version of `{MODEL}` in int8 is in {models}"))?;
                Ok(Ok((Some(int8), ExitStatus::Success)))
            }
            Err(ended) if self.interrupt.is_requested() => Ok(Err(ended)),
            Err(Ended(status)) => {
                self.printer.status(format!("the tour goes on without {model} in int8"));
                Ok(Ok((None, status)))
            }
        }
    }

    /// Runs a program that speaks for itself.
    fn child(&self, binary: Binary, arguments: &[&str]) -> Step<()> {
        self.say(binary, arguments);
        let mut command = on_the_processor(self.binaries.command(binary));
        command.args(arguments).args(self.flags()).stdin(Stdio::null());
        if self.printer.format() == Format::Json || self.printer.is_quiet() {
            // Its result is not the result of this command.
            command.stdout(Stdio::null());
        }
        let running = command.spawn().with_context(|| format!("cannot run {}", binary.name()))?;
        match child::wait(running, self.interrupt)? {
            // Whether it has ended well or died of the same Ctrl-C.
            _ if self.interrupt.is_requested() => Ok(Err(Ended(ExitStatus::Interrupted))),
            ExitStatus::Success => Ok(Ok(())),
            status => Ok(Err(Ended(status))),
        }
    }

    /// Runs `predict` and reads its answer.
    fn predict(&self, arguments: &[&str]) -> Step<Value> {
        self.say(Binary::Predict, arguments);
        let mut command = on_the_processor(self.binaries.command(Binary::Predict));
        command.args(arguments).args(["--json", "--quiet"]).stdin(Stdio::null());
        let running = command.stdout(Stdio::piped()).spawn().context("cannot run predict")?;
        let output = running.wait_with_output().context("cannot read the answer of predict")?;
        match child::status_of(output.status) {
            ExitStatus::Success => {
                let answer = serde_json::from_slice(&output.stdout)
                    .context("the answer of `predict --json` is not JSON")?;
                Ok(Ok(answer))
            }
            status => Ok(Err(Ended(status))),
        }
    }

    /// The flags of this command that every program has as well.
    fn flags(&self) -> Vec<&'static str> {
        // Events of a program inside a program would mix with this command's own; it is silent instead.
        let quiet = self.printer.format() == Format::Json || self.printer.is_quiet();
        if quiet { vec!["--quiet"] } else { Vec::new() }
    }

    /// Shows the command that does by hand what follows.
    fn say(&self, binary: Binary, arguments: &[&str]) {
        let subcommand = if matches!(binary, Binary::Train | Binary::Compress) { "" } else { binary.name() };
        let mut words: Vec<&str> = [subcommand].into_iter().chain(arguments.iter().copied()).collect();
        words.retain(|word| !word.is_empty());
        // Default places need no naming.
        for default in [["--models", MODELS], ["--runs", RUNS]] {
            if let Some(at) = words.windows(2).position(|pair| pair == default) {
                words.drain(at..at + 2);
            }
        }
        let paint = self.printer.paint_status();
        self.printer.status(paint.dim(&format!("$ cargo xtask {}", words.join(" "))));
    }
}

/// What the server is asked, and what it must answer.
struct Served {
    version: u64,
    path: String,
    class: String,
}

/// The newest version in the registry, if there is one.
fn newest(registry: &Registry) -> anyhow::Result<Option<u64>> {
    match registry.versions(MODEL) {
        Ok(versions) => Ok(versions.into_iter().max()),
        Err(artifact::RegistryError::UnknownModel { .. }) => Ok(None),
        Err(error) => Err(error).context("cannot read the registry"),
    }
}

/// The class in an answer of `predict`, and a sentence about it.
fn read(answer: &Value) -> anyhow::Result<(String, String)> {
    let class = class_of(answer).context("the answer of `predict` names no class")?;
    let sure = probability_of(answer).map_or_else(String::new, |p| format!(" with {:.1} %", p * 100.0));
    let told = format!("predicted {class}{sure}");
    Ok((class, told))
}

/// The predicted class, wherever the answer holds it.
fn class_of(answer: &Value) -> Option<String> {
    find(answer, "class", &|value| value.as_str().map(str::to_owned))
}

/// How probable that class is.
fn probability_of(answer: &Value) -> Option<f64> {
    find(answer, "probability", &Value::as_f64)
}

/// The first value of a field in a nested answer that `read` understands.
fn find<T>(answer: &Value, field: &str, read: &impl Fn(&Value) -> Option<T>) -> Option<T> {
    match answer {
        Value::Object(fields) => fields
            .get(field)
            .and_then(read)
            .or_else(|| fields.values().find_map(|value| find(value, field, read))),
        Value::Array(items) => items.iter().find_map(|item| find(item, field, read)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_found_in_every_shape_of_answer() {
        let cases = [
            (json!({ "class": "7" }), Some("7")),
            (json!({ "predictions": [{ "kind": "class", "class": "3" }] }), Some("3")),
            (json!([{ "class": "1" }, { "class": "2" }]), Some("1")),
            (json!({ "class": 7 }), None),
            (json!({ "error": "x" }), None),
        ];
        for (answer, expected) in cases {
            assert_eq!(class_of(&answer).as_deref(), expected, "{answer}");
        }
    }
}
