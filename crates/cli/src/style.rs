//! Colour: when it is used, and the few colours that are.

use std::io::IsTerminal;
use std::sync::OnceLock;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What `--color` said. Errors are printed after the arguments are gone, so this one choice, like the
/// log subscriber, belongs to the process.
static CHOICE: OnceLock<ColorChoice> = OnceLock::new();

pub(crate) fn remember(choice: ColorChoice) {
    // A second call would come from a second `Common::start`; the first one holds.
    let _ = CHOICE.set(choice);
}

/// Decides for one stream. `NO_COLOR` counts when it is not empty (no-color.org).
pub(crate) fn decide(
    choice: ColorChoice,
    is_terminal: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> bool {
    let says = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if says("NO_COLOR") => false,
        ColorChoice::Auto => is_terminal && variable("TERM").as_deref() != Some("dumb"),
    }
}

fn chosen(is_terminal: bool) -> bool {
    decide(CHOICE.get().copied().unwrap_or_default(), is_terminal, |name| std::env::var(name).ok())
}

pub(crate) fn stdout_has_color() -> bool {
    chosen(std::io::stdout().is_terminal())
}

pub(crate) fn stderr_has_color() -> bool {
    chosen(std::io::stderr().is_terminal())
}

/// Paints text, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Paints if `on`.
    pub fn new(on: bool) -> Self {
        Paint { on }
    }
    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
    /// Bold red: something is wrong.
    pub fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }
    /// Bold yellow: something may be wrong.
    pub fn yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }
    /// Bold green: something went well.
    pub fn green(self, text: &str) -> String {
        self.paint("1;32", text)
    }
    /// Bold cyan: a pointer to something else.
    pub fn cyan(self, text: &str) -> String {
        self.paint("1;36", text)
    }
    /// Bold: a heading.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
    /// Dim: what may be skipped.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_follows_flag_then_environment_then_terminal() {
        let cases = [
            (ColorChoice::Auto, true, None, None, true),
            (ColorChoice::Auto, false, None, None, false),
            (ColorChoice::Auto, true, Some("1"), None, false),
            (ColorChoice::Auto, true, Some(""), None, true),
            (ColorChoice::Auto, true, None, Some("dumb"), false),
            (ColorChoice::Always, false, Some("1"), None, true),
            (ColorChoice::Never, true, None, None, false),
        ];
        for (choice, terminal, no_color, term, expected) in cases {
            let variable = |name: &str| match name {
                "NO_COLOR" => no_color.map(str::to_owned),
                "TERM" => term.map(str::to_owned),
                _ => None,
            };
            assert_eq!(
                decide(choice, terminal, variable),
                expected,
                "{choice:?} {terminal} {no_color:?} {term:?}"
            );
        }
    }
}
