//! Boards that repeat a whole experiment over seeds: programs are run, and what they answer is put into a table.

pub(crate) mod distill;
pub(crate) mod small;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use crate::binaries::{Binaries, Binary};

/// What both boards are told.
#[derive(Args, Debug)]
pub(crate) struct Repeats {
    /// How many seeds, from 1 on.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,

    /// Set one value of the training configuration, such as data.path=DIR. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    train_set: Vec<String>,

    /// Where the packages and runs are kept. A seed that was trained before is not trained again.
    #[arg(long, value_name = "DIR", default_value = "artifacts/bench")]
    folder: PathBuf,
}

impl Repeats {
    fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// The package of a seed, trained where it is not there: `<name>-seed<seed>@1`.
    fn trained(&self, binaries: &Binaries, config: &str, name: &str, seed: u64) -> anyhow::Result<String> {
        let name = format!("{name}-seed{seed}");
        let (models, runs) = (self.models(), self.folder.join("runs"));
        if !models.join(&name).join("1").is_dir() {
            let mut arguments: Vec<OsString> =
                ["train", "--config", config, "--name", &name].map(OsString::from).to_vec();
            arguments.extend(["--seed".into(), seed.to_string().into()]);
            arguments.extend(["--models".into(), models.into(), "--runs".into(), runs.into()]);
            for assignment in &self.train_set {
                arguments.extend(["--set".into(), assignment.into()]);
            }
            run(binaries, Binary::Train, &arguments)?;
        }
        Ok(format!("{name}@1"))
    }
}

/// Runs a program and returns its answer. What it says meanwhile goes to stderr.
fn run(binaries: &Binaries, binary: Binary, arguments: &[OsString]) -> anyhow::Result<Value> {
    let mut command = binaries.command(binary);
    command.args(arguments).arg("--json").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot run {}", binary.name()))?;
    // 1: a gate was missed, which the board shows.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("{} ended with {}", binary.name(), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.trim_end().lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .or_else(|_| serde_json::from_str(&text))
        .with_context(|| format!("the answer of {} is not JSON", binary.name()))
}

/// A number of an answer, by the path to it.
fn number(answer: &Value, pointer: &str) -> anyhow::Result<f64> {
    let value = answer.pointer(pointer).and_then(Value::as_f64);
    value.with_context(|| format!("the answer has no number at {pointer}"))
}

fn path(path: &Path) -> OsString {
    path.as_os_str().to_owned()
}

/// The mean of some numbers.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
