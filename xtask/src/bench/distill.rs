//! `cargo xtask bench distill`: whether a student learns more from a teacher than alone, over seeds.
//!
//! Every seed trains the same student twice, from the same fresh weights, in the same order of samples and for as long:
//! once on the labels alone (`teaching.alpha = 0`), once with the teacher. What differs is the teacher.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use cli::{ExitStatus, Printer, Table};
use serde_json::json;

use super::{mean, number, path, run};
use crate::binaries::{Binaries, Binary};
use crate::devices::Needed;

/// Trains a student with and without its teacher, and counts the errors of both.
#[derive(Args, Debug)]
pub(crate) struct Distill {
    /// The teacher: name@version, name@alias or name.
    #[arg(long, value_name = "MODEL")]
    teacher: String,

    /// The configuration of the distillation.
    #[arg(long, short, value_name = "FILE", default_value = "configs/compress/distill.toml")]
    config: PathBuf,

    /// Set one value of the configuration. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// How many seeds, from 1 on.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,

    /// Where packages are kept.
    #[arg(long, value_name = "DIR", default_value = "artifacts/models")]
    models: PathBuf,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

pub(crate) fn run_board(
    board: &Distill,
    binaries: &Binaries,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    binaries.build(&Needed::default())?;
    let mut teacher = f64::NAN;
    let mut rows = Vec::new();
    for seed in 1..=board.seeds {
        let mut errors = [0.0; 2];
        for (taught, errors) in errors.iter_mut().enumerate() {
            let how = if taught == 0 { "alone" } else { "taught" };
            printer.status(format_args!("seed {seed} of {}, {how}", board.seeds));
            let mut arguments: Vec<OsString> =
                ["distill", "--teacher", &board.teacher].map(OsString::from).to_vec();
            arguments.extend([
                "--config".into(),
                path(&board.config),
                "--models".into(),
                path(&board.models),
            ]);
            arguments.push("--no-pack".into());
            let mut set = board.set.clone();
            set.extend([format!("finetune.seed={seed}"), "gate.max_drop=100".to_owned()]);
            if taught == 0 {
                set.extend(["teaching.alpha=0".to_owned()]);
            }
            for assignment in set {
                arguments.extend(["--set".into(), assignment.into()]);
            }
            let answer = run(binaries, Binary::Compress, &arguments)?;
            *errors = 100.0 * (1.0 - number(&answer, "/after/score")?);
            teacher = 100.0 * (1.0 - number(&answer, "/before/score")?);
        }
        rows.push(errors);
    }
    let differences: Vec<f64> = rows.iter().map(|[alone, taught]| alone - taught).collect();
    let gain = mean(&differences);
    let spread = differences.iter().map(|value| (value - gain).powi(2)).sum::<f64>();
    let count = differences.len() as f64;
    let error = (spread / (count - 1.0).max(1.0) / count).sqrt();
    let mut table = Table::new(["seed", "error alone", "error taught", "fewer errors"]).numbers(0..=3);
    let percent = |value: f64| format!("{value:.2} %");
    for (seed, [alone, taught]) in rows.iter().enumerate() {
        let share = format!("{:.1} %", 100.0 * (alone - taught) / alone);
        table.row([(seed + 1).to_string(), percent(*alone), percent(*taught), share]);
    }
    let column = |place: usize| mean(&rows.iter().map(|row| row[place]).collect::<Vec<_>>());
    let (alone, taught) = (column(0), column(1));
    let share = format!("{:.1} %", 100.0 * (alone - taught) / alone);
    table.row(["mean".to_owned(), percent(alone), percent(taught), share]);
    let result = json!({
        "teacher": board.teacher,
        "error_teacher": teacher,
        "seeds": rows.iter().map(|[alone, taught]| json!({ "alone": alone, "taught": taught })).collect::<Vec<_>>(),
        "mean": { "alone": alone, "taught": taught },
        "difference": { "mean": gain, "standard_error": error },
    });
    printer.result(&result, || {
        format!(
            "{table}\nthe teacher {} errs on {teacher:.2} %; paired over the seeds the student errs on {gain:.2} ± {error:.2} \
             points less with it (mean and standard error)",
            board.teacher
        )
    })?;
    Ok(ExitStatus::Success)
}
