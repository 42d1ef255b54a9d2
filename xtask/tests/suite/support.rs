//! A stage for xtask: the executable beside programs that only act their parts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::{Mutex, PoisonError};

/// One at a time: a file that is being written must not be open in a process that another thread forks, or
/// running it fails with "text file busy".
static TURN: Mutex<()> = Mutex::new(());

/// A directory with xtask and the programs in it, which are shell scripts.
pub(crate) struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    /// All programs run `script`, which finds its own name in `$0`.
    pub(crate) fn new(script: &str) -> Stage {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = Stage { directory: tempfile::tempdir().unwrap() };
        fs::copy(env!("CARGO_BIN_EXE_xtask"), stage.path("xtask")).unwrap();
        for name in ["train", "predict", "serve", "compress", "load"] {
            stage.script(name, script);
        }
        stage
    }

    /// Another program on the stage.
    pub(crate) fn write_script(&self, name: &str, script: &str) -> PathBuf {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        self.script(name, script)
    }

    fn script(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A path on the stage.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// xtask, ready to be run. The current directory is not the root, to see that the programs run there.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("xtask"));
        command.args(arguments).env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR")).env("NO_COLOR", "1");
        command.env("STAGE", self.directory.path()).current_dir(env!("CARGO_MANIFEST_DIR"));
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("BRAZIER_")) {
            command.env_remove(key);
        }
        command
    }

    /// Runs xtask to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.finish(self.command(arguments))
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, mut command: Command) -> Output {
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        spawn(&mut command).wait_with_output().unwrap()
    }
}

/// Starts a program, in turn.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
