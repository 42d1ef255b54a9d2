//! The flags that every command has.

use clap::{ArgAction, Args, ValueEnum};

use crate::logging::{self, LogFormat};
use crate::output::{Format, Printer};
use crate::style::{self, ColorChoice};

/// Flags for `#[command(flatten)]`. [`Common::start`] puts them into effect.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct Common {
    /// Print nothing but results and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Log more: -v for information, -vv for debugging, -vvv for everything.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Print results and progress as JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,

    /// When to use colour: auto, always or never.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    #[arg(hide_possible_values = true)]
    pub color: ColorChoice,

    /// The form of log lines on stderr: text or json [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    pub log_format: Option<LogFormat>,
}

impl Common {
    /// Sets up colour and logging for the process and returns its printer. Call it once, first.
    ///
    /// `default_level` is what is logged without `-v`, `-q` and `RUST_LOG`: warnings for a command,
    /// information for a server.
    pub fn start(&self, default_level: tracing::Level) -> Printer {
        style::remember(self.color);
        let format = if self.json { Format::Json } else { Format::Human };
        let printer = Printer::new(format, self.quiet);
        logging::start(self, default_level, &printer);
        printer
    }
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        common: Common,
    }

    #[test]
    fn flags_parse_and_quiet_excludes_verbose() {
        let command = Command::try_parse_from(["x", "-vv", "--json", "--color", "never"]).unwrap();
        assert_eq!(command.common.verbose, 2);
        assert!(command.common.json);
        assert_eq!(command.common.color, ColorChoice::Never);
        assert!(Command::try_parse_from(["x", "-q", "-v"]).is_err());
    }
}
