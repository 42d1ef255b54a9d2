//! `cargo xtask bench small`: how few bytes a classic network needs, over seeds.
//!
//! Each seed trains the original architecture from scratch and follows the committed recipe; bytes are those of the real
//! file, with header, codebooks and biases, and the untouched test set is scored once. The rows can be put beside
//! Deep Compression (Han et al. 2016, table 1) and those after it.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use cli::{ExitStatus, Printer, Table};
use serde_json::json;

use super::{Repeats, mean, number, path, run};
use crate::binaries::{Binaries, Binary};
use crate::devices::Needed;

/// Trains a classic network on MNIST, follows its recipe, and counts the bytes of the file.
#[derive(Args, Debug)]
pub(crate) struct Small {
    /// The network.
    #[arg(value_enum)]
    network: Classic,

    #[command(flatten)]
    repeats: Repeats,

    /// Set one value of the recipe. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    #[command(flatten)]
    pub(crate) common: cli::Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Classic {
    /// Fully connected, 266,610 parameters (LeCun et al. 1998).
    #[value(name = "lenet-300-100")]
    Lenet300,
    /// Convolutional, 431,080 parameters, as Caffe has it.
    Lenet5,
}

impl Classic {
    fn name(self) -> &'static str {
        match self {
            Self::Lenet300 => "lenet-300-100",
            Self::Lenet5 => "lenet5",
        }
    }
}

pub(crate) fn run_board(board: &Small, binaries: &Binaries, printer: &Printer) -> anyhow::Result<ExitStatus> {
    binaries.build(&Needed::default())?;
    let name = board.network.name();
    let (training, recipe) =
        (format!("configs/train/mnist-{name}.toml"), format!("configs/compress/{name}.toml"));
    let mut rows = Vec::new();
    for seed in 1..=board.repeats.seeds {
        printer.status(format_args!("seed {seed} of {}", board.repeats.seeds));
        let parent = board.repeats.trained(binaries, &training, &format!("mnist-{name}"), seed)?;
        let mut arguments: Vec<OsString> =
            ["recipe", &parent, "--config", &recipe].map(OsString::from).to_vec();
        arguments.extend(["--models".into(), path(&board.repeats.models())]);
        for assignment in &board.set {
            arguments.extend(["--set".into(), assignment.into()]);
        }
        let answer = run(binaries, Binary::Compress, &arguments)?;
        let before = number(&answer, "/before/parameters")? * 4.0;
        let bytes = number(&answer, "/after/record_bytes")?;
        let errors =
            |side: &str| Ok::<_, anyhow::Error>(100.0 * (1.0 - number(&answer, &format!("/{side}/score"))?));
        rows.push([errors("before")?, errors("after")?, bytes, before / bytes]);
    }
    let column = |place: usize| mean(&rows.iter().map(|row| row[place]).collect::<Vec<_>>());
    let means = [column(0), column(1), column(2), column(3)];
    let mut table =
        Table::new(["seed", "error before", "error after", "bytes", "times smaller"]).numbers(0..=4);
    let mut add = |name: String, [before, after, bytes, times]: [f64; 4]| {
        let percent = |value: f64| format!("{value:.2} %");
        table.row([name, percent(before), percent(after), format!("{bytes:.0}"), format!("{times:.1}")]);
    };
    rows.iter().enumerate().for_each(|(seed, row)| add((seed + 1).to_string(), *row));
    add("mean".to_owned(), means);
    let row = |[before, after, bytes, times]: [f64; 4]| json!({ "error_before": before, "error_after": after, "bytes": bytes, "times_smaller": times });
    let result = json!({
        "network": name,
        "recipe": recipe,
        "seeds": rows.iter().map(|values| row(*values)).collect::<Vec<_>>(),
        "mean": row(means),
    });
    printer.result(&result, || table.to_string())?;
    Ok(ExitStatus::Success)
}
