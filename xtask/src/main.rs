//! `cargo xtask …`: one front door to the workspace.
//!
//! It maps what a person asks for to the right build of the right program: a device is a value at run time,
//! but which devices exist is a Cargo feature at compile time, and that mapping is xtask's reason to exist.
//! It never links Burn, so that it is built in seconds and its own commands (the registry, the checks)
//! answer at once.

mod bench;
mod binaries;
mod child;
mod ci;
mod devices;
mod image;
mod models;
mod quickstart;
mod schema;
mod traffic;
mod workspace;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

use crate::binaries::{Binaries, Binary};
use crate::workspace::Workspace;

/// Train, pack and serve neural networks in Rust.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = EXIT_CODES)]
struct Arguments {
    /// Run the programs that were built before, without looking whether they are up to date.
    #[arg(long)]
    no_build: bool,

    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
`cargo xtask COMMAND --help` says more about a command.

Exit codes: 0 done, 1 a required quality was missed, 2 wrong arguments or configuration, 3 failed,
130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Take the embedded digits the whole way: train, evaluate, pack, predict, serve.
    Quickstart(quickstart::Quickstart),
    /// Train a network from a config and publish it as the next version of its model.
    #[command(disable_help_flag = true)]
    Train(Forwarded),
    /// Score a packaged model.
    #[command(disable_help_flag = true)]
    Evaluate(Forwarded),
    /// Make the next version of a packaged model in int8, and show what that costs and gains.
    #[command(disable_help_flag = true)]
    Quantize(Forwarded),
    /// Show packaged models side by side: scores, bytes, operations, latency, and whether they really differ.
    #[command(disable_help_flag = true)]
    Compare(Forwarded),
    /// Make the fastest or the smallest next version of a packaged model that a budget of accuracy allows.
    #[command(disable_help_flag = true)]
    Compress(Forwarded),
    /// Remove channels or weights of a packaged model, train what is left, and make that the next version.
    #[command(disable_help_flag = true)]
    Prune(Forwarded),
    /// Let the weights of a packaged model share a few values, so that the next version's file is small.
    #[command(disable_help_flag = true)]
    Cluster(Forwarded),
    /// Follow a recipe of several methods, and make the result the next version of a packaged model.
    #[command(disable_help_flag = true)]
    Recipe(Forwarded),
    /// Train a student on the answers of a packaged model.
    #[command(disable_help_flag = true)]
    Distill(Forwarded),
    /// Answer inputs from files or standard input with a packaged model.
    #[command(disable_help_flag = true)]
    Predict(Forwarded),
    /// Fetch public data sets, and look at data before training on it.
    #[command(disable_help_flag = true)]
    Data(Forwarded),
    /// Measure speed, beside that of others.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// List the devices that are compiled in and those that this machine has, and why one is missing.
    #[command(disable_help_flag = true)]
    Devices(Forwarded),
    /// Serve the registry over HTTP.
    #[command(disable_help_flag = true)]
    Serve(Forwarded),
    /// List, show, promote, verify and compare the packages of the registry.
    Models {
        #[command(subcommand)]
        command: models::Command,
        #[command(flatten)]
        common: cli::Common,
    },
    /// Split, shadow, promote and roll back the versions of a model on a running server.
    Traffic {
        #[command(subcommand)]
        command: traffic::Command,
        #[command(flatten)]
        common: cli::Common,
    },
    /// Write an OCI image of the server, without a container engine.
    Image(image::Image),
    /// Load the server for a while with clients of every kind, while versions come and go, and judge.
    #[command(disable_help_flag = true)]
    Soak(Forwarded),
    /// Kill, stop and starve the server, and damage its repository, under load, and judge.
    #[command(disable_help_flag = true)]
    Chaos(Forwarded),
    /// Check formatting, lints and documentation, as the continuous integration does after the tests.
    Ci(ci::Ci),
    /// Write the JSON schemas that are committed, or check that they are fresh.
    Schema(schema::Schema),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Training steps, beside PyTorch where there is one.
    #[command(disable_help_flag = true)]
    Train(Forwarded),
    /// Forward passes of the CPU engine, beside ONNX Runtime where there is one.
    #[command(disable_help_flag = true)]
    Engine(Forwarded),
    /// The server, beside the bare predictor, a bare HTTP server, and servers of others where there are any.
    #[command(disable_help_flag = true)]
    Serve(Forwarded),
    /// How long the server takes from its start to its first answer, and the memory that it has then.
    #[command(disable_help_flag = true)]
    Cold(Forwarded),
    /// How few bytes a classic network needs, over seeds.
    Small(bench::small::Small),
    /// Whether a student learns more from a teacher than alone, over seeds.
    Distill(bench::distill::Distill),
}

/// What is passed on, word for word, to the program that knows it.
#[derive(Args, Debug)]
struct Forwarded {
    /// The arguments of the command; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

fn main() -> std::process::ExitCode {
    cli::run(|| {
        let arguments = Arguments::parse();
        let workspace = Workspace::find()?;
        let binaries = Binaries::new(&workspace, arguments.no_build);
        match arguments.command {
            Command::Quickstart(command) => quickstart::run(&command, &workspace, &binaries),
            Command::Train(forwarded) => binaries.hand_over(Binary::Train, &["train"], &forwarded.arguments),
            Command::Evaluate(forwarded) => {
                binaries.hand_over(Binary::Train, &["evaluate"], &forwarded.arguments)
            }
            Command::Quantize(forwarded) => {
                binaries.hand_over(Binary::Compress, &["quantize"], &forwarded.arguments)
            }
            Command::Compare(forwarded) => {
                binaries.hand_over(Binary::Compress, &["compare"], &forwarded.arguments)
            }
            Command::Compress(forwarded) => {
                binaries.hand_over(Binary::Compress, &["auto"], &forwarded.arguments)
            }
            Command::Prune(forwarded) => {
                binaries.hand_over(Binary::Compress, &["prune"], &forwarded.arguments)
            }
            Command::Cluster(forwarded) => {
                binaries.hand_over(Binary::Compress, &["cluster"], &forwarded.arguments)
            }
            Command::Recipe(forwarded) => {
                binaries.hand_over(Binary::Compress, &["recipe"], &forwarded.arguments)
            }
            Command::Distill(forwarded) => {
                binaries.hand_over(Binary::Compress, &["distill"], &forwarded.arguments)
            }
            Command::Data(forwarded) => binaries.hand_over(Binary::Train, &["data"], &forwarded.arguments),
            Command::Bench { what } => match what {
                Bench::Train(forwarded) => {
                    binaries.hand_over(Binary::Train, &["bench", "train"], &forwarded.arguments)
                }
                Bench::Engine(forwarded) => {
                    binaries.hand_over(Binary::Compress, &["bench", "engine"], &forwarded.arguments)
                }
                Bench::Serve(forwarded) => binaries.hand_over(Binary::Load, &["serve"], &forwarded.arguments),
                Bench::Cold(forwarded) => binaries.hand_over(Binary::Load, &["cold"], &forwarded.arguments),
                Bench::Small(board) => {
                    let printer = board.common.start(tracing::Level::WARN);
                    bench::small::run_board(&board, &binaries, &printer)
                }
                Bench::Distill(board) => {
                    let printer = board.common.start(tracing::Level::WARN);
                    bench::distill::run_board(&board, &binaries, &printer)
                }
            },
            Command::Devices(forwarded) => {
                binaries.hand_over(Binary::Train, &["devices"], &forwarded.arguments)
            }
            Command::Predict(forwarded) => binaries.hand_over(Binary::Predict, &[], &forwarded.arguments),
            Command::Serve(forwarded) => binaries.hand_over(Binary::Serve, &[], &forwarded.arguments),
            Command::Models { command, common } => {
                let printer = common.start(tracing::Level::WARN);
                models::run(command, workspace.root(), &printer)
            }
            Command::Traffic { command, common } => {
                let printer = common.start(tracing::Level::WARN);
                traffic::run(command, &printer)
            }
            Command::Image(command) => image::run(&command, &workspace, arguments.no_build),
            Command::Soak(forwarded) => binaries.hand_over(Binary::Load, &["soak"], &forwarded.arguments),
            Command::Chaos(forwarded) => binaries.hand_over(Binary::Load, &["chaos"], &forwarded.arguments),
            Command::Ci(command) => ci::run(&command, &workspace),
            Command::Schema(command) => schema::run(&command, &workspace),
        }
    })
}

/// Says something on stderr that must be seen without `-v`, where no printer exists yet.
#[expect(clippy::print_stderr, reason = "xtask speaks before any program with a printer runs")]
fn note(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn forwarded_arguments_stay_as_they_are() {
        let line = ["xtask", "--no-build", "train", "--config", "a.toml", "--help", "-q", "--", "x"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        let Command::Train(forwarded) = arguments.command else { panic!("{arguments:?}") };
        assert!(arguments.no_build);
        assert_eq!(forwarded.arguments, ["--config", "a.toml", "--help", "-q", "--", "x"]);
    }

    #[test]
    fn the_first_argument_may_be_a_flag_or_a_word() {
        for (line, expected) in [
            (vec!["xtask", "train", "--help"], vec!["--help"]),
            (vec!["xtask", "train", "-h"], vec!["-h"]),
            (vec!["xtask", "train", "--no-build"], vec!["--no-build"]),
            (vec!["xtask", "train"], vec![]),
        ] {
            let Command::Train(forwarded) = Arguments::try_parse_from(line).unwrap().command else {
                panic!()
            };
            assert_eq!(forwarded.arguments, expected);
        }
    }
}
