//! `models profile`: what of a network runs how, and how fast.

use std::time::Instant;

use anyhow::Context as _;
use artifact::manifest::PROFILE_FILE;
use artifact::{ModelRef, Package, Registry};
use cli::{ErrorExt as _, Printer, Table};
use engine::{CompileError, Options, Profile, Program, StepProfile};
use serde_json::json;

use super::found;

/// Runs of which the best counts. More do not change the table any more.
const REPEATS: usize = 200;

/// What to tell.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Show what was measured when the package was made, on the machine that made it.
    #[arg(long)]
    packed: bool,
}

pub(super) fn run(
    registry: &Registry,
    model: &ModelRef,
    arguments: &Arguments,
    printer: &Printer,
) -> anyhow::Result<()> {
    let package = found(registry.package(model))?;
    let name = format!("{}@{}", package.manifest().name, package.manifest().version);
    let packed = arguments.packed;
    let profile = if packed { stored(&package, &name)? } else { measured(&package)? };
    let (profile, reason) = match profile {
        Ok(profile) => (Some(profile), None),
        Err(reason) => (None, Some(reason.to_string())),
    };
    let value = json!({"model": name, "packed": packed, "profile": profile, "runs_on_burn": reason});
    printer.result(&value, || match (&profile, &reason) {
        (Some(profile), _) => text(&name, profile),
        (None, reason) => {
            let reason = reason.as_deref().unwrap_or_default();
            format!("{name} runs on Burn as a whole, on the device cpu too: {reason}")
        }
    })?;
    Ok(())
}

/// The profile in a package.
fn stored(package: &Package, name: &str) -> anyhow::Result<Result<Profile, CompileError>> {
    let Some(value) = package.report(PROFILE_FILE)? else {
        let error = cli::usage_error(format!("{name} keeps no profile"));
        return Err(error).hint("leave out --packed to measure it here");
    };
    let profile = serde_json::from_value(value);
    Ok(Ok(profile.with_context(|| format!("`{PROFILE_FILE}` of {name} is no profile"))?))
}

/// Compiles the package and measures it here. A network that the engine cannot compile is no failure of this
/// command: that it runs on Burn, and why, is the answer.
fn measured(package: &Package) -> anyhow::Result<Result<Profile, CompileError>> {
    let record = package.weights()?;
    let (network, quantization) = (package.network(), package.quantization());
    let start = Instant::now();
    let program = Program::from_record(network, &record, quantization, Options::default());
    let took = start.elapsed();
    match program {
        Ok(program) => Ok(Ok(Profile::measure(&program, took, REPEATS))),
        // A tier that does not exist was asked for wrongly; it says nothing about the package.
        Err(CompileError::Isa(error)) => {
            Err(error).hint("BRAZIER_ISA names the instructions to use; unset, the best are found").usage()
        }
        Err(error @ (CompileError::Unsupported { .. } | CompileError::TooLarge { .. })) => Ok(Err(error)),
        // Such a package is refused everywhere.
        Err(error) => Err(error.into()),
    }
}

fn text(name: &str, profile: &Profile) -> String {
    let header =
        ["layers", "method", "type", "MACs", "weights", "µs alone", "µs in a block", "GMAC/s", "of ceiling"];
    let mut table = Table::new(header).numbers(3..=8);
    for step in &profile.steps {
        table.row(row(step));
    }
    table.row([
        "total".to_owned(),
        String::new(),
        String::new(),
        cli::grouped(profile.macs()),
        cli::bytes(profile.weight_bytes as u64),
        format!("{:.2}", profile.single_us()),
        format!("{:.3}", profile.block_us()),
        format!("{:.1}", profile.macs() as f64 / profile.block_us() / 1e3),
    ]);
    let Profile { isa, processor, block_rows, compile_ms, ceilings, .. } = profile;
    let bf16 = ceilings.bf16_gmacs.map_or_else(String::new, |most| format!(", {most:.1} in bf16"));
    format!(
        "{name} on one thread with {isa}: {processor}\n\n{table}\n\
         µs for one sample, alone and in a block of {block_rows}; GMAC/s in a block, beside what the processor \
         can do\nat most: {:.1} in f32{bf16}, {:.1} in int8. Winograd's algorithm needs fewer products than it stands \
         for.\ncompiled in {compile_ms:.1} ms; {} of packed weights, {} of scratch per thread",
        ceilings.f32_gmacs,
        ceilings.int8_gmacs,
        cli::bytes(profile.weight_bytes as u64),
        cli::bytes(profile.scratch_bytes as u64),
    )
}

fn row(step: &StepProfile) -> [String; 9] {
    let computed = step.macs > 0;
    let shown = |text: String| if computed { text } else { String::new() };
    [
        step.layers.join(" + "),
        step.method.clone(),
        step.precision.map_or_else(String::new, |precision| precision.name().to_owned()),
        shown(cli::grouped(step.macs)),
        shown(cli::bytes(step.weight_bytes as u64)),
        format!("{:.2}", step.single_us),
        format!("{:.3}", step.block_us),
        shown(format!("{:.1}", step.gmacs)),
        shown(format!("{:.0} %", 100.0 * step.of_ceiling)),
    ]
}
