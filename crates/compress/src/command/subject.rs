//! What every command that makes a new version from an old one has in common: the model, its data, the
//! configuration, and the way into the registry.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::manifest::WEIGHTS_FILE;
use artifact::{ModelRef, Package, Registry};
use clap::Args;
use cli::config::{Layers, Resolved};
use cli::{ErrorExt as _, ExitStatus, Printer, Unit};
use compress::finish::{Candidate, finish};
use compress::report::Comparison;
use predict::{Isa, Parts};
use serde::Serialize;
use serde::de::DeserializeOwned;
use train::data::DataSet;
use train::evaluate::packed_data;

use super::failure;

/// The arguments of such a command.
#[derive(Args, Debug)]
pub(crate) struct SubjectArguments {
    /// The configuration; without it, the defaults, which are those of the file in configs/compress.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one value of the configuration, as KEY=VALUE; wins over the file. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Show what would come out, and pack nothing.
    #[arg(long)]
    no_pack: bool,

    /// Threads of the CPU; 0 takes one per core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,

    /// Where packages are kept.
    #[arg(long, value_name = "DIR", default_value = "artifacts/models")]
    models: PathBuf,

    #[command(flatten)]
    common: cli::Common,
}

/// A model that something is made from.
pub(crate) struct Subject {
    pub(crate) printer: Printer,
    pub(crate) registry: Registry,
    pub(crate) package: Package,
    /// The data that it was trained on.
    pub(crate) data: DataSet,
    no_pack: bool,
}

/// What is printed at the end.
#[derive(Serialize)]
struct FinishResult<'a> {
    /// The new version; nothing where nothing was packed.
    model: Option<String>,
    package: Option<PathBuf>,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

impl SubjectArguments {
    /// The configuration: defaults, the file, variables that begin with `prefix`, `--set`. `fault` names the first
    /// value that cannot be.
    pub(crate) fn resolve<C: DeserializeOwned + Serialize + Default, K: AsRef<str>>(
        &self,
        prefix: &str,
        fault: impl FnOnce(&C) -> Option<(K, String)>,
    ) -> anyhow::Result<Resolved<C>> {
        self.resolve_with(prefix, &[], fault)
    }

    /// The same with flags of the command's own, as `key=value`, that win over everything.
    pub(crate) fn resolve_with<C: DeserializeOwned + Serialize + Default, K: AsRef<str>>(
        &self,
        prefix: &str,
        flags: &[String],
        fault: impl FnOnce(&C) -> Option<(K, String)>,
    ) -> anyhow::Result<Resolved<C>> {
        let mut layers = Layers::new().defaults(&C::default())?;
        if let Some(file) = &self.config {
            layers = layers.file(file)?;
        }
        layers = layers.env(prefix)?;
        for assignment in self.set.iter().chain(flags) {
            layers = layers.set(assignment)?;
        }
        let resolved = layers.resolve::<C>()?;
        match fault(&resolved.config) {
            Some((key, message)) => Err(resolved.refuse(key.as_ref(), message).into()),
            None => Ok(resolved),
        }
    }

    /// Begins to speak, and sizes the pool of threads.
    pub(crate) fn start(&self) -> anyhow::Result<Printer> {
        let printer = self.common.start(tracing::Level::WARN);
        model::device::set_threads(self.threads).usage()?;
        Isa::from_environment().usage()?;
        Ok(printer)
    }

    /// The model with the data that it was trained on.
    pub(crate) fn open(&self, model: &ModelRef, printer: Printer) -> anyhow::Result<Subject> {
        let registry = Registry::open(&self.models)?;
        let package = registry.package(model).or_else(failure::registry)?;
        let data = packed_data(package.manifest()).or_else(failure::data)?;
        Ok(Subject { printer, registry, package, data, no_pack: self.no_pack })
    }
}

impl Subject {
    /// `name@version`.
    pub(crate) fn name(&self) -> String {
        let manifest = self.package.manifest();
        format!("{}@{}", manifest.name, manifest.version)
    }

    /// Whether the record goes through the codec. A record that is made from it then does too: zeros and shared values
    /// would not make it small otherwise.
    pub(crate) fn is_coded(&self) -> bool {
        let mut files = self.package.manifest().files.iter();
        files.any(|file| file.path == WEIGHTS_FILE && !file.encoding.is_empty())
    }

    /// The network and its weights as the record holds them.
    pub(crate) fn parts(&self) -> anyhow::Result<Parts> {
        let manifest = self.package.manifest();
        Ok(Parts {
            network: self.package.network().clone(),
            preprocess: manifest.preprocess.clone(),
            postprocess: manifest.postprocess.clone(),
            weights: self.package.weights()?,
            quantization: self.package.quantization().cloned(),
        })
    }

    /// Measures the candidate, publishes it as the next version of `name` if it holds its gate, and prints both
    /// sides.
    pub(crate) fn finish(&self, name: &str, candidate: Candidate) -> anyhow::Result<ExitStatus> {
        let printer = &self.printer;
        let config_sha256 = artifact::digest::sha256_hex(serde_json::to_string(&candidate.config)?);
        let total = 2 * self.data.splits.test.len() as u64;
        let bar = printer
            .progress("score on the test split", Unit::Count("samples"), Some(total))
            .milestones_only();
        let mut finished = finish(&self.package, candidate, &self.data, &mut |done, _| bar.set(done as u64))?;
        bar.finish();
        if let Some(why) = finished.fault() {
            let result = FinishResult { model: None, package: None, comparison: &finished.comparison };
            printer.result(&result, || format!("{}\n{why}", finished.comparison.human()))?;
            return Ok(ExitStatus::GateFailed);
        }
        let mut place = "nothing is packed, as --no-pack says".to_owned();
        let mut package = None;
        if !self.no_pack {
            let draft = finished.draft(name, config_sha256, cli::now())?;
            let published = self.registry.publish(name, draft).context("the model cannot be packed")?;
            finished.comparison.after.model = format!("{}@{}", published.name, published.version);
            place = format!("package  {} in {}", finished.comparison.after.model, published.path.display());
            package = Some(published.path);
        }
        let model = package.is_some().then(|| finished.comparison.after.model.clone());
        let result = FinishResult { model, package, comparison: &finished.comparison };
        printer.result(&result, || format!("{}\n{place}", finished.comparison.human()))?;
        Ok(ExitStatus::Success)
    }
}

/// Refuses a page that could not be written, before hours of work.
pub(crate) fn check_report(report: Option<&Path>) -> anyhow::Result<()> {
    match report.filter(|report| report.is_dir()) {
        None => Ok(()),
        Some(report) => Err(cli::usage_error(format!("--report {} is a folder", report.display())))
            .hint("name a file in it, such as report.html"),
    }
}
