//! `train data`: fetch public data sets, and look at data before training on it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cli::config::Layers;
use cli::{Common, ExitStatus, Printer, Progress, Unit};
use serde::{Deserialize, Serialize};
use train::data::fetch::{self, Event, FetchError, Fetchable, Fetched};
use train::data::inspect::inspect;
use train::data::{DATA_FOLDER, DataConfig, SourceKind, load};

use super::failure::{explain_data, hinted};
use super::inspection;
use super::resolve::ENV_PREFIX;

/// What can be done with data.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Download a public data set from its official mirrors and verify it; the one command that uses the network.
    Fetch(Fetch),
    /// Look at data before training on it: counts, sizes, ranges, duplicates, and what will hurt.
    Inspect(Inspect),
}

const FETCH_EXAMPLES: &str = "\
Examples:
  cargo xtask data fetch mnist
  cargo xtask data fetch cifar10 --from ~/Downloads";

/// Downloads to DIR/NAME; an interrupted download goes on where it stopped. The SHA-256 of each file is
/// compared with the published one before the file is used.
#[derive(Args, Debug)]
#[command(after_help = FETCH_EXAMPLES)]
pub(crate) struct Fetch {
    /// Which data: mnist, fashion-mnist or cifar10.
    #[arg(value_parser = fetchable)]
    dataset: Fetchable,
    /// Take the files from this folder instead of the network; they are verified all the same.
    #[arg(long, value_name = "DIR", conflicts_with = "mirror")]
    from: Option<PathBuf>,
    /// Download from this address instead of the official mirrors; verified all the same.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Where data is kept.
    #[arg(long, value_name = "DIR", default_value = DATA_FOLDER)]
    data: PathBuf,
    #[command(flatten)]
    common: Common,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  cargo xtask data inspect --config configs/train/digits.toml
  cargo xtask data inspect --source csv --set data.path=iris.csv --set data.label=species
  cargo xtask data inspect --source folder --set data.path=photos --set data.image.size=[64,64]";

/// Reads every sample once and tells what is there and what will hurt.
#[derive(Args, Debug)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(crate) struct Inspect {
    /// A training configuration, of which the `[data]` table is read.
    #[arg(long, short, value_name = "FILE", required_unless_present = "source")]
    config: Option<PathBuf>,
    /// Where the data comes from: digits, breast-cancer, mnist, fashion-mnist, cifar10, cifar, idx, folder,
    /// csv or generated.
    #[arg(long, value_name = "SOURCE")]
    source: Option<SourceKind>,
    /// Set a value of the configuration: data.path=photos.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The seed of the split; without it, that of the configuration.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    common: Common,
}

fn fetchable(name: &str) -> Result<Fetchable, String> {
    Fetchable::ALL.into_iter().find(|dataset| dataset.name() == name).ok_or_else(|| {
        let names = Fetchable::ALL.map(Fetchable::name);
        let nearest =
            cli::nearest(name, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        format!("expected one of {}{nearest}", names.join(", "))
    })
}

pub(crate) fn run(command: DataCommand) -> anyhow::Result<ExitStatus> {
    match command {
        DataCommand::Fetch(command) => run_fetch(&command),
        DataCommand::Inspect(command) => run_inspect(&command),
    }
}

fn run_fetch(command: &Fetch) -> anyhow::Result<ExitStatus> {
    let printer = command.common.start(tracing::Level::WARN);
    let request = fetch::Request {
        dataset: command.dataset,
        data: command.data.clone(),
        from: command.from.clone(),
        mirror: command.mirror.clone(),
    };
    let mut bar: Option<Progress> = None;
    let fetched = fetch::fetch(&request, &mut |event| show(&printer, &mut bar, event));
    drop(bar);
    let fetched = fetched.map_err(explain_fetch)?;
    printer.result(&fetched, || words(&fetched))?;
    Ok(ExitStatus::Success)
}

fn show(printer: &Printer, bar: &mut Option<Progress>, event: Event) {
    match event {
        Event::Begin { file, from, done, total } => {
            printer.status(format_args!("{file} from {from}"));
            // The old bar goes before the new one comes.
            *bar = None;
            *bar = Some(printer.progress_from(&file, Unit::Bytes, done, total));
        }
        Event::Progress { done } => {
            if let Some(bar) = bar {
                bar.set(done);
            }
        }
        Event::Retry { reason, .. } => {
            *bar = None;
            printer.warn(reason);
        }
        _ => *bar = None,
    }
}

fn words(fetched: &Fetched) -> String {
    let mut text = String::new();
    for file in &fetched.files {
        text += &format!("{}: {}, verified by the {}\n", file.name, file.how.name(), file.verified);
    }
    text + &format!(
        "{} is ready in {}\nnext: cargo xtask data inspect --source {}",
        fetched.dataset,
        fetched.folder.display(),
        fetched.dataset
    )
}

fn explain_fetch(error: FetchError) -> anyhow::Error {
    let hint = error.hint();
    let error = anyhow::Error::from(error);
    match hint {
        Some(hint) => hinted(error, hint),
        None => error,
    }
}

/// The configuration of which only the data is read here; the other tables belong to training.
#[derive(Debug, Serialize, Deserialize)]
struct OnlyData {
    data: DataConfig,
    #[serde(default)]
    train: OnlySeed,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct OnlySeed {
    seed: Option<u64>,
}

fn run_inspect(command: &Inspect) -> anyhow::Result<ExitStatus> {
    let printer = command.common.start(tracing::Level::WARN);
    let mut layers = Layers::new();
    if let Some(file) = &command.config {
        layers = layers.file(file)?;
    }
    layers = layers.env(ENV_PREFIX)?;
    for assignment in &command.set {
        layers = layers.set(assignment)?;
    }
    let layers = layers.flag("data.source", "--source", command.source)?;
    let resolved = layers.flag("train.seed", "--seed", command.seed)?.resolve::<OnlyData>()?;
    let OnlyData { data: config, train } = resolved.config;
    let data = load(&config, train.seed.unwrap_or(1)).map_err(explain_data)?;
    let bar = printer.progress("inspecting", Unit::Count("samples"), Some(data.source.len() as u64));
    let found = inspect(&data, &config, |more| bar.advance(more)).map_err(explain_data)?;
    bar.finish();
    printer.result(&found, || inspection::render(&found, printer.paint()))?;
    Ok(ExitStatus::Success)
}
