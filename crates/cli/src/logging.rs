//! Logging: tracing events to stderr, as text or JSON.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use clap::ValueEnum;
use indicatif::MultiProgress;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::Common;
use crate::output::Printer;
use crate::style;

/// `--log-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// One JSON object a line, with RFC 3339 time.
    Json,
}

/// How much is logged, from nothing to everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the levels say it")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Changes the filter of the logging that [`start`] set up.
static CHANGE: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Changes how much this process logs from now on. It does nothing where another subscriber than ours was set up.
pub fn set_log_level(level: LogLevel) {
    let Some(change) = CHANGE.get() else { return };
    let filter = match level {
        LogLevel::Off => audited(EnvFilter::new("off")),
        LogLevel::Error => levelled(Level::ERROR, false),
        LogLevel::Warn => levelled(Level::WARN, false),
        LogLevel::Info => levelled(Level::INFO, false),
        LogLevel::Debug => levelled(Level::DEBUG, false),
        LogLevel::Trace => levelled(Level::TRACE, true),
    };
    change(filter);
}

/// The filter: `-v` and `-q` where they are given, then `RUST_LOG`, then the command's default.
fn filter(quiet: bool, verbose: u8, rust_log: Option<&str>, default: Level) -> Result<EnvFilter, String> {
    let level = match (quiet, verbose) {
        (true, _) => Level::ERROR,
        (_, 0) => match rust_log.filter(|directives| !directives.is_empty()) {
            Some(directives) => {
                return EnvFilter::builder()
                    .parse(directives)
                    .map(audited)
                    .map_err(|error| format!("RUST_LOG={directives} is ignored: {error}"));
            }
            None => default,
        },
        (_, 1) => Level::INFO.max(default),
        (_, 2) => Level::DEBUG,
        _ => Level::TRACE,
    };
    Ok(levelled(level, verbose >= 3))
}

/// Everything up to a level, and with `chatty` everything of the libraries too.
fn levelled(level: Level, chatty: bool) -> EnvFilter {
    let mut filter = audited(EnvFilter::default().add_directive(level.into()));
    // The libraries below a GPU write tens of thousands of lines about a single model.
    if !chatty {
        for library in CHATTY {
            let directive = format!("{library}={}", level.min(Level::WARN));
            if let Ok(directive) = directive.parse() {
                filter = filter.add_directive(directive);
            }
        }
    }
    filter
}

/// Whoever may change how much is logged must not be able to hide that: the target `audit` is always heard.
fn audited(filter: EnvFilter) -> EnvFilter {
    match "audit=info".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// Libraries whose information and debugging lines are their authors' own: seen with `-vvv` or `RUST_LOG` alone.
const CHATTY: [&str; 6] = ["naga", "wgpu_core", "wgpu_hal", "cubecl_core", "cubecl_runtime", "cubecl_wgpu"];

/// Begins to log, with a filter that can be changed. A macro, since each form of a line is a type of its own.
macro_rules! begin {
    ($builder:expr) => {{
        let builder = $builder.with_filter_reloading();
        let handle = builder.reload_handle();
        let began = builder.try_init();
        if began.is_ok() {
            // A filter can be changed unless the subscriber is gone, and then nothing is logged anyway.
            let _ = CHANGE.set(Box::new(move |filter| drop(handle.reload(filter))));
        }
        began
    }};
}

pub(crate) fn start(common: &Common, default: Level, printer: &Printer) {
    let rust_log = std::env::var("RUST_LOG").ok();
    let filter =
        filter(common.quiet, common.verbose, rust_log.as_deref(), default).unwrap_or_else(|message| {
            printer.warn(message);
            levelled(default, false)
        });
    let writer = Writer { bars: printer.bars.clone() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A subscriber that is there already (a test's) keeps its place.
    let _ = match common.log_format.unwrap_or_default() {
        // The innermost span is enough: it is that of the request.
        LogFormat::Json => begin!(builder.json().flatten_event(true).with_span_list(false)),
        LogFormat::Text => {
            // A person at a terminal knows what time it is; a log file does not.
            let builder = builder.with_ansi(style::stderr_has_color()).with_target(common.verbose > 1);
            if std::io::stderr().is_terminal() { begin!(builder.without_time()) } else { begin!(builder) }
        }
    };
}

/// stderr, with any progress bar lifted out of the way for the time of one line. One event is one line, whatever is in
/// it: what somebody else wrote cannot look like a line of ours.
struct Writer {
    bars: Arc<MultiProgress>,
}

impl Write for &Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let line = one_line(bytes);
        self.bars.suspend(|| std::io::stderr().lock().write_all(&line))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().lock().flush()
    }
}

/// The event without what would end its line or change the screen before its end. Escape sequences stay: those of colours
/// are ours, and the formatter writes those of others as text.
fn one_line(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (line, end) = match bytes.split_last() {
        Some((b'\n', line)) => (line, &b"\n"[..]),
        _ => (bytes, &b""[..]),
    };
    let breaks = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | 0x1b);
    if !line.iter().any(breaks) {
        return Cow::Borrowed(bytes);
    }
    let mut whole = Vec::with_capacity(bytes.len() + 16);
    for byte in line {
        if breaks(byte) {
            whole.extend(byte.escape_ascii());
        } else {
            whole.push(*byte);
        }
    }
    whole.extend(end);
    Cow::Owned(whole)
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = &'a Writer;
    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"all is well\n", b"all is well\n"),
            (b"a\n2026-01-01 ERROR made up\n", b"a\\n2026-01-01 ERROR made up\n"),
            (b"a\r\n\x00\x7f\n", b"a\\r\\n\\x00\\x7f\n"),
            ("\u{1b}[32mgrün\u{1b}[0m\tx\n".as_bytes(), "\u{1b}[32mgrün\u{1b}[0m\tx\n".as_bytes()),
            (b"", b""),
        ];
        for (event, expected) in cases {
            assert_eq!(one_line(event), expected);
        }
    }

    #[test]
    fn libraries_below_a_gpu_do_not_drown_what_was_asked_for() {
        let shown = |verbose| filter(false, verbose, None, Level::INFO).unwrap().to_string();
        assert!(shown(2).contains("debug") && shown(2).contains("naga=warn"), "{}", shown(2));
        assert_eq!(shown(3), "audit=info,trace");
        let quiet = filter(true, 0, None, Level::INFO).unwrap().to_string();
        assert!(quiet.contains("naga=error"), "{quiet}");
    }

    #[test]
    fn flags_beat_the_environment_and_the_environment_the_default() {
        let cases = [
            (false, 0, None, "warn"),
            (false, 0, Some(""), "warn"),
            (false, 0, Some("debug,burn=error"), "burn=error,debug"),
            (true, 0, Some("debug"), "error"),
            (false, 1, Some("error"), "info"),
            (false, 2, None, "debug"),
            (false, 9, None, "trace"),
        ];
        for (quiet, verbose, rust_log, expected) in cases {
            let filter = filter(quiet, verbose, rust_log, Level::WARN).unwrap();
            let filter = filter.to_string();
            assert!(filter.split(',').any(|part| part == "audit=info"), "{filter}");
            let ours =
                |part: &&str| *part != "audit=info" && CHATTY.iter().all(|name| !part.starts_with(name));
            let own: Vec<&str> = filter.split(',').filter(ours).collect();
            assert_eq!(own.join(","), expected, "{quiet} {verbose} {rust_log:?}");
        }
        let error = filter(false, 0, Some("a=b=c"), Level::WARN).unwrap_err();
        assert!(error.starts_with("RUST_LOG=a=b=c is ignored: "), "{error}");
    }
}
