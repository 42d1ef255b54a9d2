//! `cargo xtask schema`: the JSON schemas that are committed under `configs/schema`.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use cli::ExitStatus;

use crate::workspace::Workspace;

/// Arguments of `cargo xtask schema`.
#[derive(Args, Debug)]
pub(crate) struct Schema {
    /// Write nothing; fail if a committed schema differs from the types.
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    common: cli::Common,
}

/// The generated files: path in the workspace, content.
fn files() -> [(&'static str, String); 1] {
    [("configs/schema/manifest.schema.json", artifact::schema::manifest_schema())]
}

fn stale(root: &Path) -> Vec<(&'static str, String)> {
    let differs = |path: &str, fresh: &str| {
        std::fs::read_to_string(root.join(path)).map_or(true, |committed| committed != fresh)
    };
    files().into_iter().filter(|(path, fresh)| differs(path, fresh)).collect()
}

pub(crate) fn run(command: &Schema, workspace: &Workspace) -> anyhow::Result<ExitStatus> {
    let printer = command.common.start(tracing::Level::WARN);
    let stale = stale(workspace.root());
    let names: Vec<&str> = stale.iter().map(|(path, _)| *path).collect();
    if command.check {
        printer.result(&serde_json::json!({ "stale": names }), || match names.as_slice() {
            [] => "the schemas are fresh".to_owned(),
            names => format!("stale: {}\nrun `cargo xtask schema` and commit the result", names.join(", ")),
        })?;
        return Ok(if stale.is_empty() { ExitStatus::Success } else { ExitStatus::GateFailed });
    }
    for (path, fresh) in &stale {
        let path = workspace.root().join(path);
        artifact::atomic::write(&path, fresh.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    printer.result(&serde_json::json!({ "written": names }), || match names.as_slice() {
        [] => "the schemas were fresh already".to_owned(),
        names => format!("written: {}", names.join(", ")),
    })?;
    Ok(ExitStatus::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schemas_are_fresh() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let stale: Vec<_> = stale(root).into_iter().map(|(path, _)| path).collect();
        assert!(stale.is_empty(), "run `cargo xtask schema`: {stale:?}");
    }
}
