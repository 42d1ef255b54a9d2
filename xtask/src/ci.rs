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

/// One check: what it is called, and what Cargo is asked.
struct Check {
    name: &'static str,
    arguments: &'static [&'static str],
    variable: Option<(&'static str, &'static str)>,
}

/// The checks, cheapest first.
const CHECKS: [Check; 3] = [
    Check { name: "formatting", arguments: &["fmt", "--all", "--check"], variable: None },
    Check {
        name: "lints",
        arguments: &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        variable: None,
    },
    Check {
        name: "documentation",
        arguments: &["doc", "--workspace", "--no-deps", "--locked"],
        variable: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
];

/// Runs every check, the later ones too when one fails, so that one run shows all there is to mend.
pub(crate) fn run(command: &Ci, workspace: &Workspace) -> anyhow::Result<ExitStatus> {
    let printer = command.common.start(tracing::Level::WARN);
    let mut failed = Vec::new();
    for Check { name, arguments, variable } in CHECKS {
        printer.status(printer.paint_status().bold(&format!("==> {name}: cargo {}", arguments.join(" "))));
        let status = workspace.cargo().args(arguments).envs(variable).status().context("cannot run cargo")?;
        if !status.success() {
            failed.push(name);
        }
    }
    let result = serde_json::json!({ "checks": CHECKS.map(|check| check.name), "failed": failed });
    printer.result(&result, || match failed.as_slice() {
        [] => {
            "formatting, lints and documentation are clean; the tests are `cargo test --workspace`".to_owned()
        }
        failed => format!("failed: {}", failed.join(", ")),
    })?;
    Ok(if failed.is_empty() { ExitStatus::Success } else { ExitStatus::GateFailed })
}
