//! `models verify`.

use artifact::registry::{Verification, Verified};
use artifact::{ModelRef, Registry, Selector};
use cli::{ExitStatus, Printer};
use serde_json::{Value, json};

use super::found;

pub(super) fn run(
    registry: &Registry,
    references: &[ModelRef],
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let verification = match references {
        [] => registry.verify()?,
        references => Verification { packages: chosen(registry, references)?, ..Verification::default() },
    };
    for warning in &verification.ignored {
        printer.warn(format!("ignored {}: {}", warning.path.display(), warning.reason));
    }
    let problems: Vec<String> = verification
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path.display(), problem.reason))
        .collect();
    let items: Vec<Value> = verification.packages.iter().map(item).collect();
    let sound = verification.is_sound();
    printer.result(&json!({ "sound": sound, "packages": items, "problems": problems }), || {
        let mut lines: Vec<String> = verification.packages.iter().map(line).collect();
        lines.extend(problems.iter().map(|problem| format!("FAILED  {problem}")));
        if lines.is_empty() {
            lines.push(format!("no models in {}", registry.root().display()));
        }
        lines.join("\n")
    })?;
    Ok(if sound { ExitStatus::Success } else { ExitStatus::GateFailed })
}

/// A bare name means every version of the model.
fn chosen(registry: &Registry, references: &[ModelRef]) -> anyhow::Result<Vec<Verified>> {
    let mut packages = Vec::new();
    for model in references {
        let versions = match model.selector {
            Selector::Default => {
                let newest = ModelRef { name: model.name.clone(), selector: Selector::Latest };
                found(registry.resolve(&newest))?;
                registry.versions(&model.name)?
            }
            _ => vec![found(registry.resolve(model))?.version],
        };
        packages.extend(versions.into_iter().map(|version| registry.verified(&model.name, version)));
    }
    Ok(packages)
}

fn line(package: &Verified) -> String {
    let Verified { name, version, .. } = package;
    match reason(package) {
        None => format!("ok      {name}@{version}"),
        Some(reason) => format!("FAILED  {name}@{version}: {reason}"),
    }
}

fn item(package: &Verified) -> Value {
    json!({
        "name": package.name,
        "version": package.version,
        "path": package.path,
        "error": reason(package),
    })
}

fn reason(package: &Verified) -> Option<String> {
    let error = package.error.as_ref()?;
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors repeat their source in their own message; the repetition tells nothing.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    Some(text)
}
