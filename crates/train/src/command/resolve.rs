//! From flags, environment and files to a configuration.

use std::path::PathBuf;

use cli::config::{Layers, Resolved};
use train::config::{ConfigError, OptimizerKind, TrainConfig, defaults, optimizer_preset};
use train::run::{CONFIG_FILE, RunDirectory};

/// Variables of the environment that begin so set values of the configuration.
pub(super) const ENV_PREFIX: &str = "BRAZIER_TRAIN_";

/// What the command line says about the configuration.
pub(super) struct Overrides<'a> {
    pub(super) set: &'a [String],
    pub(super) device: Option<&'a str>,
    pub(super) seed: Option<u64>,
    pub(super) threads: Option<usize>,
    pub(super) name: Option<&'a str>,
}

impl Overrides<'_> {
    fn apply(&self, mut layers: Layers) -> Result<Layers, cli::config::ConfigError> {
        for assignment in self.set {
            layers = layers.set(assignment)?;
        }
        layers
            .flag("train.device", "--device", self.device)?
            .flag("train.seed", "--seed", self.seed)?
            .flag("train.threads", "--threads", self.threads)?
            .flag("name", "--name", self.name)
    }
}

/// The configuration of a new run: flag > environment > file > preset > default.
pub(super) fn new_run(file: &PathBuf, overrides: &Overrides<'_>) -> anyhow::Result<Resolved<TrainConfig>> {
    let layers = overrides.apply(Layers::new().file(file)?.env(ENV_PREFIX)?)?;
    // The sensible learning rate depends on the optimizer, so that is asked for first.
    let kind = layers.peek("optimizer.kind")?;
    let kind = kind.and_then(|kind| kind_of(&kind)).unwrap_or(OptimizerKind::AdamW);
    Ok(below(layers, kind)?.resolve()?)
}

/// The layers below what a person writes: what the optimizer brings with it, and the defaults.
pub(super) fn below(layers: Layers, kind: OptimizerKind) -> Result<Layers, cli::config::ConfigError> {
    layers.preset(kind.name(), &optimizer_preset(kind))?.defaults(&defaults())
}

fn kind_of(name: &str) -> Option<OptimizerKind> {
    use OptimizerKind::{AdaGrad, Adam, AdamW, RmsProp, Sgd};
    [Sgd, Adam, AdamW, AdaGrad, RmsProp].into_iter().find(|kind| kind.name() == name)
}

/// The configuration of a run that goes on: its own. Whatever else is said must say the same.
pub(super) fn resumed_run(
    run: &RunDirectory,
    file: Option<&PathBuf>,
    overrides: &Overrides<'_>,
) -> anyhow::Result<Resolved<TrainConfig>> {
    let path = run.path().join(CONFIG_FILE);
    let own: Resolved<TrainConfig> = Layers::new().file(&path)?.resolve()?;
    let asked = match file {
        Some(file) => new_run(file, overrides)?,
        None => overrides.apply(Layers::new().file(&path)?)?.resolve()?,
    };
    for entry in asked.entries() {
        let before = own.entries().iter().find(|other| other.key == entry.key);
        if before.is_none_or(|before| before.value != entry.value) {
            let was = before.map_or_else(|| "not set".to_owned(), |before| before.value.clone());
            let message = format!(
                "is {} but was {was} when the run {} began: a run goes on as it began",
                entry.value,
                run.id()
            );
            return Err(asked.refuse(&entry.key, message).into());
        }
    }
    if let Some(missing) =
        own.entries().iter().find(|entry| !asked.entries().iter().any(|other| other.key == entry.key))
    {
        let message = format!(
            "was {} when the run {} began and is not set now: a run goes on as it began",
            missing.value,
            run.id()
        );
        return Err(own.refuse(&missing.key, message).into());
    }
    Ok(own)
}

/// The refusal of a value, with the place where it was written.
pub(super) fn refusal(resolved: &Resolved<TrainConfig>, error: &ConfigError) -> anyhow::Error {
    let text = error.to_string();
    let message = text.strip_prefix(&format!("`{}` ", error.key())).unwrap_or(&text);
    resolved.refuse(error.key(), message).into()
}
