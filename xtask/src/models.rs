//! `cargo xtask models …`: what lies in the registry, and moving aliases.

mod compare;
mod export;
mod list;
mod profile;
mod show;
mod verify;

use std::path::{Path, PathBuf};

use artifact::registry::AliasMove;
use artifact::{ModelRef, PRODUCTION, Registry, RegistryError, Selector};
use clap::{Args, Subcommand};
use cli::{ErrorExt as _, ExitStatus, Printer};
use serde_json::json;

/// What to do with the registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List models with their versions, aliases and scores.
    Ls {
        /// Only this model.
        #[arg(value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Show one version: network, scores, where it comes from.
    Show {
        /// Which, such as digits@1, digits@production or digits.
        #[arg(value_name = "NAME[@VERSION]")]
        model: ModelRef,
        #[command(flatten)]
        place: Place,
    },
    /// Point an alias at a version.
    ///
    /// Everybody who asks for NAME@ALIAS gets that version from then on; the earlier ones are remembered
    /// for `rollback`.
    Promote {
        /// Which version, such as digits@2 or digits@candidate.
        #[arg(value_name = "NAME@VERSION")]
        model: ModelRef,
        /// Which alias, such as production or candidate.
        #[arg(value_name = "ALIAS")]
        alias: String,
        #[command(flatten)]
        place: Place,
    },
    /// Point an alias back at the version before.
    Rollback {
        /// Which model.
        #[arg(value_name = "NAME")]
        name: String,
        /// Which alias.
        #[arg(value_name = "ALIAS", default_value = PRODUCTION)]
        alias: String,
        #[command(flatten)]
        place: Place,
    },
    /// Remove a version; its number is not given again.
    Rm {
        /// Which version, by its number: digits@1.
        #[arg(value_name = "NAME@VERSION")]
        model: ModelRef,
        #[command(flatten)]
        place: Place,
    },
    /// Read packages again and check every size, digest and tensor; exit code 1 when something is wrong.
    Verify {
        /// Which; without any, all of them.
        #[arg(value_name = "NAME[@VERSION]")]
        references: Vec<ModelRef>,
        #[command(flatten)]
        place: Place,
    },
    /// Compare two versions: network, preprocessing, scores, sizes, tensors.
    Diff {
        /// The first.
        #[arg(value_name = "NAME@VERSION")]
        before: ModelRef,
        /// The second.
        #[arg(value_name = "NAME@VERSION")]
        after: ModelRef,
        #[command(flatten)]
        place: Place,
    },
    /// Compile a version for the CPU engine and tell what runs how: method, work, bytes and time of each layer.
    Profile {
        /// Which version, such as digits@2 or digits@production.
        #[arg(value_name = "NAME[@VERSION]")]
        model: ModelRef,
        #[command(flatten)]
        profile: profile::Arguments,
        #[command(flatten)]
        place: Place,
    },
    /// Write a version in a format of others: ONNX for any runtime, safetensors for the weights.
    Export {
        /// Which version, such as digits@2 or digits@production.
        #[arg(value_name = "NAME[@VERSION]")]
        model: ModelRef,
        #[command(flatten)]
        export: export::Export,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the models are.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The directory of the registry.
    #[arg(long, value_name = "DIR", default_value = "artifacts/models")]
    models: PathBuf,
}

impl Place {
    fn open(&self, root: &Path) -> anyhow::Result<Registry> {
        Ok(Registry::open(root.join(&self.models))?)
    }
}

pub(crate) fn run(command: Command, root: &Path, printer: &Printer) -> anyhow::Result<ExitStatus> {
    match command {
        Command::Ls { name, place } => list::run(&place.open(root)?, name.as_deref(), printer)?,
        Command::Show { model, place } => show::run(&place.open(root)?, &model, printer)?,
        Command::Promote { model, alias, place } => {
            if model.selector == Selector::Default {
                let error = cli::usage_error(format!("`{model}` does not say which version to promote"));
                return Err(error).hint(format!("`{model}@latest` is the newest"));
            }
            let registry = place.open(root)?;
            let version = found(registry.resolve(&model))?.version;
            let moved = found(registry.promote(&model.name, version, &alias))?;
            moved_alias(&moved, printer)?;
        }
        Command::Rollback { name, alias, place } => {
            moved_alias(&found(place.open(root)?.rollback(&name, &alias))?, printer)?;
        }
        Command::Rm { model, place } => {
            let Selector::Version(version) = model.selector else {
                let error = cli::usage_error(format!("`{model}` does not name a version by its number"));
                return Err(error).hint(format!("an alias may move meanwhile; write `{}@1`", model.name));
            };
            found(place.open(root)?.remove(&model.name, version))?;
            printer.result(&json!({"removed": model.to_string()}), || format!("removed {model}"))?;
        }
        Command::Verify { references, place } => {
            return verify::run(&place.open(root)?, &references, printer);
        }
        Command::Diff { before, after, place } => {
            compare::run(&place.open(root)?, &before, &after, printer)?;
        }
        Command::Profile { model, profile, place } => {
            profile::run(&place.open(root)?, &model, &profile, printer)?;
        }
        Command::Export { model, export, place } => {
            export::run(&place.open(root)?, &model, &export, root, printer)?;
        }
    }
    Ok(ExitStatus::Success)
}

/// What is not there was asked for wrongly: exit code 2 instead of 3, and what to do about it.
fn found<T>(result: Result<T, RegistryError>) -> anyhow::Result<T> {
    let error = match result {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let hint = match &error {
        RegistryError::UnknownModel { name, known, .. } => {
            match cli::nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => {
                    "`cargo xtask quickstart` trains and packs a first one".to_owned()
                }
                None => "`cargo xtask models ls` lists them".to_owned(),
            }
        }
        RegistryError::UnknownVersion { name, .. }
        | RegistryError::UnknownAlias { name, .. }
        | RegistryError::Dangling { name, .. }
        | RegistryError::NoHistory { name, .. } => {
            format!("`cargo xtask models ls {name}` lists what there is")
        }
        RegistryError::InUse { .. } | RegistryError::Name(_) => return Err(error).usage(),
        _ => return Err(error.into()),
    };
    Err(error).hint(hint).usage()
}

fn moved_alias(moved: &AliasMove, printer: &Printer) -> anyhow::Result<()> {
    let AliasMove { name, alias, from, to } = moved;
    printer.result(moved, || match from {
        Some(from) if from == to => format!("{name}@{alias} is {name}@{to} already"),
        Some(from) => format!("{name}@{alias} is now {name}@{to}, before {name}@{from}"),
        None => format!("{name}@{alias} is now {name}@{to}"),
    })?;
    Ok(())
}

/// A score as a person reads it; the JSON has all its digits.
fn score(value: f64) -> String {
    let text = format!("{value:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
