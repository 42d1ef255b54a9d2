//! Where the workspace is, and with which Cargo and profile it is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// The workspace that this xtask belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    binaries: PathBuf,
}

impl Workspace {
    /// Finds the workspace and makes its root the current directory, because the default paths
    /// (`artifacts/…`, `configs/…`) are relative to it.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // Cargo says at run time where the manifest is; the path compiled in serves a direct call of the
        // executable, and would be wrong after the checkout was moved.
        let of_manifest = |manifest: &Path| manifest.parent().map(Path::to_path_buf);
        let candidates = [
            std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from),
            Some(env!("CARGO_MANIFEST_DIR").into()),
        ];
        let root = candidates
            .into_iter()
            .flatten()
            .filter_map(|manifest| of_manifest(&manifest))
            .find(|root| root.join("xtask/Cargo.toml").is_file())
            .context("cannot find the workspace: run this as `cargo xtask`")?;
        let executable =
            std::env::current_exe().context("cannot find the directory of the built programs")?;
        let binaries = executable.parent().map_or_else(|| root.join("target/release"), Path::to_path_buf);
        let here = std::env::current_dir().ok().and_then(|here| here.canonicalize().ok());
        std::env::set_current_dir(&root).with_context(|| format!("cannot go to {}", root.display()))?;
        if here.is_some() && here != root.canonicalize().ok() {
            crate::note(&format!("running in {}: relative paths begin there", root.display()));
        }
        Ok(Workspace { root, binaries })
    }

    /// The directory of the root `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where this program lies and the others are built to. Asking Cargo would cost more and say the same:
    /// xtask is built by the same Cargo, with the same target directory and profile.
    pub(crate) fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// The arguments that make Cargo build in the profile of this program.
    pub(crate) fn profile(&self) -> Vec<String> {
        match self.binaries.file_name().and_then(|name| name.to_str()) {
            Some("debug") => Vec::new(),
            Some("release") | None => vec!["--release".to_owned()],
            Some(other) => vec!["--profile".to_owned(), other.to_owned()],
        }
    }

    /// Cargo itself, in the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }
}
