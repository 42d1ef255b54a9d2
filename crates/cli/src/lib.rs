//! How every command of Brazier speaks, so that all of them speak alike.
//!
//! - [`config`]: layered configuration that knows where each value came from.
//! - [`run`], [`ExitStatus`], [`ErrorExt`]: errors with causes and hints, exit codes.
//! - [`Common`], [`Printer`], [`Table`]: the common flags, results on stdout, the rest on stderr.
//! - [`Progress`]: a live bar, plain lines or JSON events.
//! - [`Interrupt`]: Ctrl-C that lets a command finish what it is at.
//!
//! It knows nothing of networks or models, and it is for binaries: libraries return errors and print
//! nothing.
//!
//! ```no_run
//! use clap::Parser as _;
//!
//! #[derive(clap::Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     common: cli::Common,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     cli::run(|| {
//!         let printer = Args::parse().common.start(tracing::Level::WARN);
//!         printer.result(&serde_json::json!({ "answer": 42 }), || "the answer is 42")?;
//!         Ok(cli::ExitStatus::Success)
//!     })
//! }
//! ```

mod args;
mod clock;
pub mod config;
mod interrupt;
mod kernel_cache;
mod logging;
mod output;
mod progress;
mod report;
mod style;
mod suggest;
mod table;

pub use args::Common;
pub use clock::{now, rfc3339};
pub use interrupt::Interrupt;
pub use kernel_cache::kernel_cache;
pub use logging::{LogFormat, LogLevel, set_log_level};
pub use output::{Format, JSON_VERSION, OutputError, Printer, json_line};
pub use progress::{Progress, Unit, bytes, duration, grouped};
pub use report::{ErrorExt, ExitStatus, exit_status, render_error, run, usage_error};
pub use style::{ColorChoice, Paint};
pub use suggest::nearest;
pub use table::Table;
