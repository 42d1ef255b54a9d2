//! How a command ends: exit codes, and errors as `error:` / `caused by:` / blank line / `hint:`.

use std::fmt::{self, Display, Write as _};
use std::io::Write as _;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::output::OutputError;
use crate::style;

/// How a command ended. The numbers are part of the interface: scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// 0: it did what was asked.
    Success,
    /// 1: it ran, and the result misses a required quality (accuracy, size, a failed verification).
    GateFailed,
    /// 2: it was asked wrongly: arguments or configuration. clap uses the same code.
    Usage,
    /// 3: it was asked rightly and failed: a file, a device, the network.
    Runtime,
    /// 130: it was interrupted with Ctrl-C.
    Interrupted,
    /// The exit code of a command that was run on the user's behalf and has already said what was wrong.
    Child(u8),
}

impl ExitStatus {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            ExitStatus::Success => 0,
            ExitStatus::GateFailed => 1,
            ExitStatus::Usage => 2,
            ExitStatus::Runtime => 3,
            ExitStatus::Interrupted => 130,
            ExitStatus::Child(code) => code,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(status.code())
    }
}

/// An error with a hint or an exit code added. It shows as the error that it holds, so that it adds no
/// line of its own to the chain of causes.
struct Annotated {
    error: anyhow::Error,
    hint: Option<String>,
    exit: Option<ExitStatus>,
}

impl fmt::Debug for Annotated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, formatter)
    }
}

impl Display for Annotated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.error, formatter)
    }
}

impl std::error::Error for Annotated {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.chain().nth(1)
    }
}

/// Adds to an error what the person at the terminal needs beyond what went wrong.
pub trait ErrorExt<T> {
    /// What to do about it; printed after `hint:`. No trailing full stop.
    fn hint(self, hint: impl Display) -> anyhow::Result<T>;
    /// Marks it as a mistake in what was asked for (exit code 2).
    fn usage(self) -> anyhow::Result<T>;
    /// Marks it as a missed requirement on quality (exit code 1).
    fn gate_failed(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> ErrorExt<T> for Result<T, E> {
    fn hint(self, hint: impl Display) -> anyhow::Result<T> {
        self.map_err(|error| annotate(error.into(), Some(hint.to_string()), None))
    }
    fn usage(self) -> anyhow::Result<T> {
        self.map_err(|error| annotate(error.into(), None, Some(ExitStatus::Usage)))
    }
    fn gate_failed(self) -> anyhow::Result<T> {
        self.map_err(|error| annotate(error.into(), None, Some(ExitStatus::GateFailed)))
    }
}

fn annotate(error: anyhow::Error, hint: Option<String>, exit: Option<ExitStatus>) -> anyhow::Error {
    anyhow::Error::new(Annotated { error, hint, exit })
}

/// A mistake in what was asked for: exit code 2.
///
/// ```
/// use cli::ErrorExt as _;
/// let error = cli::usage_error("the port 8080 is in use");
/// let result: anyhow::Result<()> = Err(error).hint("choose another with --port");
/// assert_eq!(cli::render_error(&result.unwrap_err(), false),
///     "error: the port 8080 is in use\n\nhint: choose another with --port\n");
/// ```
pub fn usage_error(message: impl Display) -> anyhow::Error {
    annotate(anyhow::Error::msg(message.to_string()), None, Some(ExitStatus::Usage))
}

/// The annotations on an error, outermost first, wherever in the chain they were made.
fn annotations(error: &anyhow::Error) -> (Option<String>, Option<ExitStatus>) {
    let (mut hint, mut exit) = (None, None);
    for cause in error.chain() {
        if let Some(annotated) = cause.downcast_ref::<Annotated>() {
            let (inner_hint, inner_exit) = annotations(&annotated.error);
            hint = hint.or_else(|| annotated.hint.clone()).or(inner_hint);
            exit = exit.or(annotated.exit).or(inner_exit);
            // The rest of this chain is the inner chain, which has been looked at.
            break;
        }
        if let Some(config) = cause.downcast_ref::<ConfigError>() {
            hint = hint.or_else(|| config.hint());
            exit = exit.or(Some(ExitStatus::Usage));
        }
    }
    (hint, exit)
}

/// The exit status that belongs to an error.
pub fn exit_status(error: &anyhow::Error) -> ExitStatus {
    annotations(error).1.unwrap_or(ExitStatus::Runtime)
}

/// An error as it is printed, with a line break at its end.
pub fn render_error(error: &anyhow::Error, color: bool) -> String {
    let paint = style::Paint::new(color);
    // Writing to a `String` cannot fail.
    let mut out = String::new();
    let mut last = error.to_string();
    let _ = writeln!(out, "{} {last}", paint.red("error:"));
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        // Many libraries repeat their source in their own message; the repetition tells nothing.
        if !last.ends_with(&text) {
            let _ = writeln!(out, "{} {text}", paint.red("caused by:"));
        }
        last = text;
    }
    if let Some(hint) = annotations(error).0 {
        let _ = writeln!(out, "\n{} {hint}", paint.cyan("hint:"));
    }
    out
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| match cause.downcast_ref::<Annotated>() {
        Some(annotated) => is_closed_output(&annotated.error),
        None => matches!(cause.downcast_ref(), Some(OutputError::Closed)),
    })
}

/// Runs a command's main function and ends in the house style: an error goes to stderr with its causes and
/// hint, and decides the exit code. A reader that closed our output early (`| head`) is no error.
pub fn run(main: impl FnOnce() -> anyhow::Result<ExitStatus>) -> ExitCode {
    let error = match main() {
        Ok(status) => return status.into(),
        Err(error) => error,
    };
    if is_closed_output(&error) {
        return ExitStatus::Success.into();
    }
    let text = render_error(&error, style::stderr_has_color());
    // Nobody is left to be told when stderr is gone too.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    exit_status(&error).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use anyhow::Context as _;

    fn io_error() -> std::io::Error {
        std::io::Error::other("disk on fire")
    }

    #[test]
    fn causes_and_hint_are_printed_once_each() {
        let error = Err::<(), _>(io_error())
            .context("cannot write model.json")
            .hint("free some disk space")
            .context("the run was not saved")
            .unwrap_err();
        insta::assert_snapshot!(render_error(&error, false), @r"
        error: the run was not saved
        caused by: cannot write model.json
        caused by: disk on fire

        hint: free some disk space
        ");
        assert_eq!(exit_status(&error), ExitStatus::Runtime);
    }

    #[test]
    fn the_outermost_hint_wins_and_usage_survives_contexts() {
        let error = Err::<(), _>(usage_error("no such model: digit"))
            .hint("inner")
            .context("cannot predict")
            .hint("outer")
            .unwrap_err();
        insta::assert_snapshot!(render_error(&error, false), @r"
        error: cannot predict
        caused by: no such model: digit

        hint: outer
        ");
        assert_eq!(exit_status(&error).code(), 2);
        assert_eq!(exit_status(&Err::<(), _>(io_error()).gate_failed().unwrap_err()).code(), 1);
    }

    #[test]
    fn configuration_errors_bring_their_hint_and_exit_code() {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {
            seed: Option<u64>,
        }
        let error = Layers::new().set("sed=1").unwrap().resolve::<Config>().map(|_| ()).unwrap_err();
        let error = anyhow::Error::new(error).context("nothing was trained");
        insta::assert_snapshot!(render_error(&error, false), @r"
        error: nothing was trained
        caused by: unknown key `sed` from `--set sed=…`

        hint: did you mean `seed`?
        ");
        assert_eq!(exit_status(&error), ExitStatus::Usage);
    }

    #[test]
    fn a_cause_that_the_message_already_ends_with_is_left_out() {
        let error = anyhow::Error::new(io_error()).context("cannot read x: disk on fire");
        assert_eq!(render_error(&error, false), "error: cannot read x: disk on fire\n");
    }

    #[test]
    fn a_closed_output_is_found_under_any_context() {
        let closed = || Err::<(), _>(OutputError::Closed);
        assert!(is_closed_output(&closed().context("x").hint("y").context("z").unwrap_err()));
        assert!(!is_closed_output(&Err::<(), _>(io_error()).hint("y").unwrap_err()));
    }

    #[test]
    fn colour_only_touches_the_labels() {
        let error = usage_error("x");
        assert_eq!(render_error(&error, true), "\u{1b}[1;31merror:\u{1b}[0m x\n");
    }
}
