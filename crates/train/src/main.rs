//! The command `train`: train, evaluate, look after data, measure.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trains networks and evaluates packages.
#[derive(Debug, Parser)]
#[command(name = "train", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network: data → fit → evaluate → report → package.
    Train(command::train::TrainArguments),
    /// Score a package again, on the data that it was scored on or on other data.
    Evaluate(command::evaluate::EvaluateArguments),
    /// Fetch public data sets, and look at data before training on it.
    #[command(subcommand)]
    Data(command::data::DataCommand),
    /// List the devices that are compiled in and those that this machine has.
    Devices(command::devices::DevicesArguments),
    /// Measure how fast training is.
    #[command(subcommand)]
    Bench(command::bench::BenchCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::run(|| match arguments.command {
        Command::Train(arguments) => command::train::run(&arguments),
        Command::Evaluate(arguments) => command::evaluate::run(&arguments),
        Command::Data(command) => command::data::run(command),
        Command::Devices(arguments) => command::devices::run(&arguments),
        Command::Bench(command) => command::bench::run(command),
    })
}
