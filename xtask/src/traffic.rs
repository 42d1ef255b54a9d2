//! `cargo xtask traffic …`: which version of a model answers on a running server, over its HTTP API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use artifact::ModelRef;
use artifact::Selector;
use clap::{Args, Subcommand};
use cli::{ErrorExt as _, ExitStatus, Printer};
use serde_json::{Value, json};

/// What to do with the traffic of a model.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show how requests are split, what each version did, and what happened before.
    Show {
        #[command(flatten)]
        server: Server,
        /// Which model.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Split requests that name no version by weights.
    Set {
        #[command(flatten)]
        server: Server,
        /// Which model.
        #[arg(value_name = "NAME")]
        name: String,
        /// A version and its weight, such as 1=90 2=10.
        #[arg(value_name = "VERSION=WEIGHT", required = true, value_parser = weight)]
        split: Vec<(u64, u32)>,
        /// Who keeps a version: none, client (by address), or header:NAME.
        #[arg(long)]
        sticky: Option<String>,
    },
    /// Copy requests to a version that is compared and never answers.
    Shadow {
        #[command(flatten)]
        server: Server,
        /// Which version, such as digits@2; the bare name ends it.
        #[arg(value_name = "NAME[@VERSION]")]
        model: ModelRef,
        /// Which share of the requests.
        #[arg(long, default_value_t = 100.0, value_parser = percent)]
        percent: f64,
    },
    /// Put a version in production now.
    Promote {
        #[command(flatten)]
        server: Server,
        /// Which version, such as digits@2.
        #[arg(value_name = "NAME@VERSION")]
        model: ModelRef,
    },
    /// Take a split, a shadow or a candidate back; where there is none, go back to the version in production before.
    Rollback {
        #[command(flatten)]
        server: Server,
        /// Which model.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Let a candidate in by steps while it does well, and take it back when it does not.
    Auto(Box<Auto>),
}

/// Where the server is, and the key that it asks for.
#[derive(Args, Debug)]
pub(crate) struct Server {
    /// The address of the server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "BRAZIER_SERVER")]
    server: String,
    /// The file with the key of an administrator; better than the variable where others see the environment.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// The variable with the key. There is no flag for it: every user of a machine sees the flags of all programs.
const KEY: &str = "BRAZIER_KEY";

impl Server {
    /// The key, where there is one.
    fn key(&self) -> anyhow::Result<Option<String>> {
        let key = match &self.key_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                Some(text.with_context(|| format!("the key in {} cannot be read", file.display())).usage()?)
            }
            None => std::env::var(KEY).ok(),
        };
        Ok(key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()))
    }
}

#[derive(Args, Debug)]
pub(crate) struct Auto {
    #[command(flatten)]
    server: Server,
    /// The candidate, such as digits@2.
    #[arg(value_name = "NAME@VERSION")]
    model: ModelRef,
    /// Its shares in percent; the last step ends with its promotion [default: 5,25,50,100]
    #[arg(long, value_delimiter = ',')]
    steps: Option<Vec<u32>>,
    /// Seconds that a step lasts at least [default: 60]
    #[arg(long)]
    window_s: Option<u64>,
    /// Requests that it must have had in a step [default: 100]
    #[arg(long)]
    min_requests: Option<u64>,
    /// The most errors, as a share of its requests [default: 0.01]
    #[arg(long)]
    max_error_rate: Option<f64>,
    /// The quantile of latency that is compared [default: 0.99]
    #[arg(long)]
    quantile: Option<f64>,
    /// How many times the default version's latency its own may be [default: 1.5]
    #[arg(long)]
    max_latency_ratio: Option<f64>,
    /// The least share of rows with the same answer in the shadow, which must be the candidate [default: 0]
    #[arg(long)]
    min_agreement: Option<f64>,
}

fn percent(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
    parsed.ok_or_else(|| "expected a number from 0 to 100".to_owned())
}

fn weight(text: &str) -> Result<(u64, u32), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(version, weight)| Some((artifact::parse_version(version)?, weight.parse().ok()?)));
    parsed.ok_or_else(|| "expected a version and a weight, such as 2=10".to_owned())
}

pub(crate) fn run(command: Command, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let (server, name, action) = match command {
        Command::Show { server, name } => (server, name, None),
        Command::Set { server, name, split, sticky } => {
            let weights: BTreeMap<String, u32> =
                split.iter().map(|(version, weight)| (version.to_string(), *weight)).collect();
            if weights.len() != split.len() {
                return Err(cli::usage_error("a version is given twice"));
            }
            let mut action = json!({ "action": "set", "split": weights });
            if let Some(sticky) = sticky {
                action["sticky"] = json!(sticky);
            }
            (server, name, Some(action))
        }
        Command::Shadow { server, model, percent } => {
            let version = if model.selector == Selector::Default { None } else { Some(version(&model)?) };
            (server, model.name, Some(json!({ "action": "shadow", "version": version, "percent": percent })))
        }
        Command::Promote { server, model } => {
            let action = json!({ "action": "promote", "version": version(&model)? });
            (server, model.name, Some(action))
        }
        Command::Rollback { server, name } => (server, name, Some(json!({ "action": "rollback" }))),
        Command::Auto(auto) => {
            let action = auto.action()?;
            (auto.server, auto.model.name, Some(action))
        }
    };
    artifact::check_name(&name).usage()?;
    let view = ask(&server, &name, action)?;
    printer.result(&view, || shown(&view))?;
    Ok(ExitStatus::Success)
}

impl Auto {
    /// What is not said is left to the server's defaults.
    fn action(&self) -> anyhow::Result<Value> {
        let mut action = json!({ "action": "auto", "candidate": version(&self.model)? });
        let said = [
            ("steps", self.steps.as_ref().map(|steps| json!(steps))),
            ("window_s", self.window_s.map(|value| json!(value))),
            ("min_requests", self.min_requests.map(|value| json!(value))),
            ("max_error_rate", self.max_error_rate.map(|value| json!(value))),
            ("quantile", self.quantile.map(|value| json!(value))),
            ("max_latency_ratio", self.max_latency_ratio.map(|value| json!(value))),
            ("min_agreement", self.min_agreement.map(|value| json!(value))),
        ];
        for (key, value) in said {
            if let Some(value) = value {
                action[key] = value;
            }
        }
        Ok(action)
    }
}

/// Aliases may move meanwhile, so a version is named by its number.
fn version(model: &ModelRef) -> anyhow::Result<u64> {
    match model.selector {
        Selector::Version(version) => Ok(version),
        _ => {
            let error = cli::usage_error(format!("`{model}` does not name a version by its number"));
            Err(error).hint(format!("write `{}@2`", model.name))
        }
    }
}

fn ask(asked: &Server, name: &str, action: Option<Value>) -> anyhow::Result<Value> {
    let (server, key) = (asked.server.as_str(), asked.key()?);
    let agent = ureq::Agent::config_builder().http_status_as_error(false);
    let agent: ureq::Agent = agent.timeout_global(Some(Duration::from_secs(30))).build().into();
    let url = format!("{}/v2/repository/models/{name}/traffic", server.trim_end_matches('/'));
    let bearer = key.map(|key| format!("Bearer {key}"));
    let answer = match action {
        None => bearer.iter().fold(agent.get(&url), |get, key| get.header("authorization", key)).call(),
        Some(action) => {
            let post = agent.post(&url).header("content-type", "application/json");
            bearer.iter().fold(post, |post, key| post.header("authorization", key)).send(action.to_string())
        }
    };
    let mut answer = answer
        .with_context(|| format!("the server at {server} does not answer"))
        .hint("start it with `cargo run --release -p serve`, or name it with --server")?;
    let status = answer.status();
    let text = answer.body_mut().read_to_string().context("the answer cannot be read")?;
    let view: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(view);
    }
    let reason = view["error"].as_str().map_or_else(|| format!("it answered {status}"), str::to_owned);
    let error = anyhow::anyhow!("the server refuses: {reason}");
    match status.as_u16() {
        401 | 403 => Err(error)
            .hint(format!(
                "give the key of an administrator in the variable {KEY}, or its file with --key-file"
            ))
            .usage(),
        400..500 => Err(error).usage(),
        _ => Err(error),
    }
}

/// The answer for a person.
fn shown(view: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = vec![format!("{}: version {} answers by default", text(&view["model"]), view["default"])];
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let split = entries(&view["split"]);
    if !split.is_empty() {
        let parts: Vec<String> =
            split.iter().map(|(version, weight)| format!("{version}={weight}")).collect();
        lines.push(format!("split: {}", parts.join(" ")));
    }
    if let Some(percent) = view["step"]["percent"].as_u64() {
        lines.push(format!("candidate: version {} at {percent} %", view["plan"]["auto"]["candidate"]));
    }
    for (version, did) in entries(&view["versions"]) {
        let ms = |key: &str| did[key].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.3} ms"));
        lines.push(format!(
            "version {version}: {} requests, {} errors, p50 {}, p99 {}",
            did["requests"],
            did["errors"],
            ms("p50_ms"),
            ms("p99_ms")
        ));
    }
    if let Some(shadow) = view.get("shadow") {
        let agreement = shadow["agreement"]
            .as_f64()
            .map_or_else(|| "nothing".to_owned(), |share| format!("{:.2} %", share * 100.0));
        lines.push(format!(
            "shadow: version {}, {} compared, the same answer in {agreement}, largest difference {}",
            shadow["version"], shadow["copies"]["compared"], shadow["copies"]["largest_difference"]
        ));
    }
    if view["persisted"] == false {
        lines.push("not kept over a restart: the server cannot write beside the model".to_owned());
    }
    for event in view["history"].as_array().into_iter().flatten().rev().take(10) {
        let at = event["at"].as_str().unwrap_or("-");
        lines.push(format!("{at} {}: {}", text(&event["what"]), text(&event["why"])));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_strictly() {
        assert_eq!(weight("2=10"), Ok((2, 10)));
        for text in ["2", "=1", "02=1", "2=-1", "a=1", "2=1=1", "2=1.5"] {
            assert!(weight(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_are_read_strictly() {
        assert_eq!((percent("0"), percent("12.5"), percent("100")), (Ok(0.0), Ok(12.5), Ok(100.0)));
        for text in ["nan", "inf", "-1", "100.5", "10%", ""] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_is_shown_in_lines() {
        let view = json!({
            "model": "digits", "default": 1, "plan": { "auto": { "candidate": 2 } }, "split": { "1": 95, "2": 5 },
            "step": { "index": 0, "percent": 5 },
            "versions": { "1": { "requests": 95, "errors": 0, "p50_ms": 1.0, "p99_ms": 2.5 } },
            "shadow": { "version": 2, "agreement": 0.995, "copies": { "compared": 200, "largest_difference": 0.25 } },
            "history": [{ "at": "2026-01-01T00:00:00Z", "what": "auto", "why": "as it was asked for" }],
        });
        let expected = "digits: version 1 answers by default\nsplit: 1=95 2=5\ncandidate: version 2 at 5 %\n\
                        version 1: 95 requests, 0 errors, p50 1.000 ms, p99 2.500 ms\n\
                        shadow: version 2, 200 compared, the same answer in 99.50 %, largest difference 0.25\n\
                        2026-01-01T00:00:00Z auto: as it was asked for";
        assert_eq!(shown(&view), expected);
        let view = json!({ "model": "digits", "default": 1, "persisted": false });
        assert!(shown(&view).contains("not kept over a restart"));
    }
}
