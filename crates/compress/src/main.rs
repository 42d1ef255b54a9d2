//! The command `compress`: smaller, faster models, and what that costs.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes models small and fast.
#[derive(Debug, Parser)]
#[command(name = "compress", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Quantize a model of floats to int8, calibrated on its training data.
    Quantize(command::quantize::QuantizeArguments),
    /// Make the fastest or the smallest model that a budget of accuracy allows.
    Auto(command::compress::CompressArguments),
    /// Remove channels or weights, and train what is left.
    Prune(command::prune::PruneArguments),
    /// Let weights share a few values, so that the file is small.
    Cluster(command::cluster::ClusterArguments),
    /// Follow a recipe: several methods, one after the other.
    Recipe(command::recipe::RecipeArguments),
    /// Train a student on a teacher's answers.
    Distill(command::distill::DistillArguments),
    /// Show models side by side: scores, bytes, operations, latency, and whether they really differ.
    Compare(command::compare::CompareArguments),
    /// Measure how fast the CPU engine is.
    #[command(subcommand)]
    Bench(command::bench::BenchCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::run(|| match arguments.command {
        Command::Quantize(arguments) => command::quantize::run(&arguments),
        Command::Auto(arguments) => command::compress::run(&arguments),
        Command::Prune(arguments) => command::prune::run(&arguments),
        Command::Cluster(arguments) => command::cluster::run(&arguments),
        Command::Recipe(arguments) => command::recipe::run(&arguments),
        Command::Distill(arguments) => command::distill::run(&arguments),
        Command::Compare(arguments) => command::compare::run(&arguments),
        Command::Bench(command) => command::bench::run(&command),
    })
}
