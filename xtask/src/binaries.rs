//! The programs of the workspace: which features a call needs, building them, running them.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use cli::{ErrorExt as _, ExitStatus, usage_error};

use crate::note;
use crate::workspace::Workspace;

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Train,
    Predict,
    Serve,
}

impl Binary {
    const ALL: [Binary; 3] = [Binary::Train, Binary::Predict, Binary::Serve];

    /// The name of the package and of its program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Train => "train",
            Binary::Predict => "predict",
            Binary::Serve => "serve",
        }
    }
}

/// Builds and runs them.
#[derive(Debug)]
pub(crate) struct Binaries {
    workspace: Workspace,
    no_build: bool,
}

impl Binaries {
    pub(crate) fn new(workspace: &Workspace, no_build: bool) -> Self {
        Binaries { workspace: workspace.clone(), no_build }
    }

    /// Where a program lies once it is built.
    pub(crate) fn path(&self, binary: Binary) -> PathBuf {
        self.workspace.binaries().join(format!("{}{}", binary.name(), std::env::consts::EXE_SUFFIX))
    }

    /// A program, ready to be run in the root of the workspace.
    pub(crate) fn command(&self, binary: Binary) -> Command {
        let mut command = Command::new(self.path(binary));
        command.current_dir(self.workspace.root());
        command
    }

    /// Brings all programs up to date.
    ///
    /// Always all of them in one call: Cargo chooses the features of a dependency by the packages that are
    /// built together, so building `train` and later `serve` alone would compile half of the tree twice.
    pub(crate) fn build(&self, features: &[&str]) -> anyhow::Result<()> {
        let missing = Binary::ALL.iter().find(|binary| !self.path(**binary).is_file());
        if self.no_build {
            return match missing {
                None => Ok(()),
                Some(binary) => Err(usage_error(format!("{} is not built", self.path(*binary).display())))
                    .hint("leave out --no-build"),
            };
        }
        let mut cargo = self.workspace.cargo();
        cargo.arg("build").args(self.workspace.profile());
        cargo.args(Binary::ALL.iter().flat_map(|binary| ["--package", binary.name()]));
        if !features.is_empty() {
            cargo.arg("--features").arg(features.join(","));
        }
        // The output of Cargo belongs to stderr, where it goes anyway; stdout is for results.
        cargo.stdin(Stdio::null()).stdout(Stdio::null());
        let status = if missing.is_some() {
            note("building train, predict and serve; the first time takes minutes …");
            cargo.status()
        } else {
            // Nearly always there is nothing to do, and then nothing is said.
            cargo.arg("--quiet");
            let _patience =
                say_after(Duration::from_secs(2), "bringing train, predict and serve up to date …");
            cargo.status()
        };
        let status = status.context("cannot run cargo")?;
        if !status.success() {
            anyhow::bail!("the build failed ({status})");
        }
        Ok(())
    }

    /// Builds, then becomes the program: its output, its exit code and its Ctrl-C are its own.
    pub(crate) fn hand_over(
        &self,
        binary: Binary,
        subcommand: &[&str],
        arguments: &[OsString],
    ) -> anyhow::Result<ExitStatus> {
        self.build(&features_for(arguments)?)?;
        let mut command = self.command(binary);
        command.args(subcommand).args(arguments);
        become_program(command, &self.path(binary))
    }
}

/// On Unix the process is replaced, so that signals reach the program alone and nothing needs forwarding.
#[cfg(unix)]
fn become_program(mut command: Command, path: &std::path::Path) -> anyhow::Result<ExitStatus> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", path.display()))
}

/// Elsewhere the program runs as a child. It gets the Ctrl-C of the console itself, and this process must
/// outlive it to pass its exit code on.
#[cfg(not(unix))]
fn become_program(mut command: Command, path: &std::path::Path) -> anyhow::Result<ExitStatus> {
    let interrupt = cli::Interrupt::listen().context("cannot catch Ctrl-C")?;
    let child = command.spawn().with_context(|| format!("cannot run {}", path.display()))?;
    crate::child::wait(child, &interrupt)
}

/// Prints `text` if the returned guard lives longer than `delay`.
fn say_after(delay: Duration, text: &'static str) -> mpsc::Sender<()> {
    let (guard, dropped) = mpsc::channel();
    std::thread::spawn(move || {
        if dropped.recv_timeout(delay) == Err(mpsc::RecvTimeoutError::Timeout) {
            note(text);
        }
    });
    guard
}

/// The features that the arguments of a command ask for.
fn features_for(arguments: &[OsString]) -> anyhow::Result<Vec<&'static str>> {
    let mut features = Vec::new();
    if let Some(device) = value_of("--device", arguments) {
        features.extend(features_of_device(&device)?);
    }
    if value_of("--progress", arguments).as_deref() == Some("tui") {
        features.push("train/tui");
    }
    Ok(features)
}

/// The value of a flag among arguments that another program will parse: the last one counts.
fn value_of(flag: &str, arguments: &[OsString]) -> Option<String> {
    let mut value = None;
    let mut arguments =
        arguments.iter().map(|argument| argument.as_os_str()).take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == flag {
            value = arguments.next().map(OsStr::to_string_lossy);
        } else if let Some(text) = argument.to_str()
            && let Some(given) = text.strip_prefix(flag).and_then(|rest| rest.strip_prefix('='))
        {
            value = Some(given.into());
        }
    }
    value.map(|value| value.into_owned())
}

/// The features that compile a device in. Names that nobody knows are left to the program, which lists
/// the ones it knows.
fn features_of_device(device: &str) -> anyhow::Result<&'static [&'static str]> {
    match device.split(':').next().unwrap_or(device) {
        "ndarray" => Ok(&["train/ndarray", "predict/ndarray", "serve/ndarray"]),
        gpu @ ("vulkan" | "wgpu" | "cuda") => {
            Err(usage_error(format!("the device `{gpu}` is not part of Brazier yet")))
                .hint("the devices are cpu, flex and ndarray")
        }
        _ => Ok(&[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(line: &str) -> Result<String, String> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        features_for(&arguments).map(|features| features.join(",")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_is_mapped_to_its_features() {
        let ndarray = "train/ndarray,predict/ndarray,serve/ndarray";
        let cases = [
            ("", ""),
            ("--config a.toml", ""),
            ("--device cpu", ""),
            ("--device=flex", ""),
            ("--device=ndarray", ndarray),
            ("--device cpu --seed 1 --device ndarray", ndarray),
            ("x --device", ""),
            ("-- --device ndarray", ""),
            ("--device nonsense", ""),
            ("--progress tui", "train/tui"),
            ("--progress plain", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(features(line), Ok(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn gpus_are_refused_by_name() {
        for (line, name) in
            [("--device cuda", "cuda"), ("--device=vulkan:1", "vulkan"), ("--device wgpu", "wgpu")]
        {
            assert_eq!(features(line), Err(format!("the device `{name}` is not part of Brazier yet")));
        }
    }
}
