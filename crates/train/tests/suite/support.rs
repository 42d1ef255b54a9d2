//! What every test here needs: one compute thread, a quiet display, a place to write.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};

use artifact::{Package, Registry};
use burn::train::renderer::MetricsRenderer;
use train::config::TrainConfig;
use train::fit::{EpochRecord, Quiet};
use train::pipeline::{self, Hooks, Observer, Request, Stage, TrainError, Trained};
use train::run::RunDirectory;

/// One thread, so that sums are added in one order; every test of this program asks for the same.
pub(crate) fn one_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| model::device::set_threads(1).unwrap());
}

struct Observing<'a>(&'a mut dyn FnMut(Stage<'_>));

impl Observer for Observing<'_> {
    fn stage(&mut self, stage: Stage<'_>) {
        (self.0)(stage);
    }
}

pub(crate) fn request(config: &str, root: &Path, resume: Option<RunDirectory>) -> Request {
    let config: TrainConfig = toml::from_str(config).unwrap();
    Request {
        config_text: toml::to_string(&config).unwrap(),
        config,
        runs: root.join("runs"),
        models: root.join("models"),
        publish: Some(root.join("models")),
        resume,
        dry_run: false,
        now: None,
    }
}

/// Trains; with `stop` only one step.
pub(crate) fn train(request: &Request, stop: bool) -> Result<Trained, TrainError> {
    train_observed(request, stop, &mut |_| {})
}

/// The same, with somebody who hears what happens.
pub(crate) fn train_observed(
    request: &Request,
    stop: bool,
    observe: &mut dyn FnMut(Stage<'_>),
) -> Result<Trained, TrainError> {
    one_thread();
    let mut hooks = Hooks {
        observer: &mut Observing(observe),
        renderer: &mut |_| Box::new(Quiet) as Box<dyn MetricsRenderer>,
        epoch: Arc::new(|_: &EpochRecord| {}),
        stop: Arc::new(AtomicBool::new(stop)),
    };
    pipeline::train(request, &mut hooks)
}

pub(crate) fn package(root: &Path, reference: &str) -> Package {
    Registry::open(root.join("models")).unwrap().package(&reference.parse().unwrap()).unwrap()
}
