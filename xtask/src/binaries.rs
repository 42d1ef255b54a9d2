//! The programs of the workspace: building them, running them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use cli::{ErrorExt as _, ExitStatus, usage_error};

use crate::devices::{Needed, Surroundings};
use crate::note;
use crate::workspace::Workspace;

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Train,
    Predict,
    Serve,
    Compress,
    Load,
}

impl Binary {
    const ALL: [Binary; 5] = [Binary::Train, Binary::Predict, Binary::Serve, Binary::Compress, Binary::Load];

    /// The name of the package and of its program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Train => "train",
            Binary::Predict => "predict",
            Binary::Serve => "serve",
            Binary::Compress => "compress",
            Binary::Load => "load",
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
    pub(crate) fn build(&self, needed: &Needed) -> anyhow::Result<()> {
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
        if !needed.features.is_empty() {
            cargo.arg("--features").arg(needed.features.join(","));
        }
        let with = needed.device.map_or_else(String::new, |device| format!(" with {device}"));
        // The output of Cargo belongs to stderr, where it goes anyway; stdout is for results.
        cargo.stdin(Stdio::null()).stdout(Stdio::null());
        let status = if missing.is_some() {
            note(&format!(
                "building train, predict, serve, compress and load{with}; the first time takes minutes …"
            ));
            cargo.status()
        } else {
            // Nearly always there is nothing to do, and then nothing is said.
            cargo.arg("--quiet");
            let _patience = say_after(
                Duration::from_secs(2),
                format!("bringing train, predict, serve, compress and load{with} up to date …"),
            );
            cargo.status()
        };
        let status = status.context("cannot run cargo")?;
        if !status.success() {
            let failed = Err(anyhow::anyhow!("the build{with} failed ({status})"));
            return match needed.device {
                Some("cuda") => failed.hint(
                    "a build with CUDA needs LLVM 23 besides Rust; docs/devices.md says how to get it and has a \
                     script that builds in a root of its own",
                ),
                Some("vulkan" | "wgpu") => failed.hint(format!("docs/devices.md says what a build{with} needs")),
                _ => failed,
            };
        }
        Ok(())
    }

    /// What a call needs compiled in; nothing where nothing is built.
    fn needed(&self, binary: Binary, subcommand: &[&str], arguments: &[OsString]) -> Needed {
        if self.no_build {
            return Needed::default();
        }
        let around = Surroundings::of_process(self.workspace.root());
        let needed = Needed::by(binary, subcommand, arguments, &around);
        if let Some(remark) = &needed.remark {
            note(remark);
        }
        needed
    }

    /// Builds, then becomes the program: its output, its exit code and its Ctrl-C are its own.
    pub(crate) fn hand_over(
        &self,
        binary: Binary,
        subcommand: &[&str],
        arguments: &[OsString],
    ) -> anyhow::Result<ExitStatus> {
        self.build(&self.needed(binary, subcommand, arguments))?;
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
fn say_after(delay: Duration, text: String) -> mpsc::Sender<()> {
    let (guard, dropped) = mpsc::channel();
    std::thread::spawn(move || {
        if dropped.recv_timeout(delay) == Err(mpsc::RecvTimeoutError::Timeout) {
            note(&text);
        }
    });
    guard
}
