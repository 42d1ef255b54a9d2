//! `predict`: answers of a packed model on the command line.

mod command;

fn main() -> std::process::ExitCode {
    cli::run(command::run)
}
