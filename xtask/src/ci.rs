//! `cargo xtask ci`: what `.ci/run` checks after the tests.

use anyhow::Context as _;
use clap::Args;
use cli::ExitStatus;

use crate::workspace::Workspace;

/// Arguments of `cargo xtask ci`.
#[derive(Args, Debug)]
pub(crate) struct Ci {
    #[command(flatten)]
    common: cli::Common,
}

/// The checks, cheapest first: name, arguments of Cargo, an environment variable.
const CHECKS: [(&str, &[&str], Option<(&str, &str)>); 3] = [
    ("formatting", &["fmt", "--all", "--check"], None),
    ("lints", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], None),
    (
        "documentation",
        &["doc", "--workspace", "--no-deps", "--locked"],
        Some(("RUSTDOCFLAGS", "-D warnings")),
    ),
];

/// Runs every check, the later ones too when one fails, so that one run shows all there is to mend.
pub(crate) fn run(command: &Ci, workspace: &Workspace) -> anyhow::Result<ExitStatus> {
    let printer = command.common.start(tracing::Level::WARN);
    let mut failed = Vec::new();
    for (name, arguments, variable) in CHECKS {
        printer.status(printer.paint_status().bold(&format!("==> {name}: cargo {}", arguments.join(" "))));
        let status = workspace.cargo().args(arguments).envs(variable).status().context("cannot run cargo")?;
        if !status.success() {
            failed.push(name);
        }
    }
    let result = serde_json::json!({ "checks": CHECKS.map(|(name, ..)| name), "failed": failed });
    printer.result(&result, || match failed.as_slice() {
        [] => {
            "formatting, lints and documentation are clean; the tests are `cargo test --workspace`".to_owned()
        }
        failed => format!("failed: {}", failed.join(", ")),
    })?;
    Ok(if failed.is_empty() { ExitStatus::Success } else { ExitStatus::GateFailed })
}
