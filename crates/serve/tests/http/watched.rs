//! A server's state with a repository that is watched.

use std::sync::Arc;

use actix_web::web::Data;
use serve::load::{LoadError, Options};
use serve::repository::{Repository, RepositoryConfig, Settings};
use serve::state::State;

use crate::registry::Models;
use crate::server::{idle, scheduler};

/// A server's state whose repository has begun. It stops when this is dropped.
pub(crate) struct Watched {
    pub(crate) state: Data<State>,
    pub(crate) repository: Repository,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.repository.stop();
    }
}

/// The defaults with looks at the directory that are asked for alone, so that tests need not wait.
pub(crate) fn unhurried() -> RepositoryConfig {
    RepositoryConfig { poll_ms: 3_600_000, ..RepositoryConfig::default() }
}

/// Over these models, once the first look is over.
pub(crate) fn watch(models: &Models, settings: Settings) -> Result<Watched, LoadError> {
    watch_with(models, settings, idle(scheduler()))
}

/// As [`watch`], with a state of the test's own.
pub(crate) fn watch_with(models: &Models, settings: Settings, state: State) -> Result<Watched, LoadError> {
    let state = Data::new(state);
    let (sender, loaded) = std::sync::mpsc::channel();
    let report = move |result| sender.send(result).unwrap();
    let (shared, options) = (Arc::clone(&state), Options::default());
    let repository = Repository::start(shared, models.open(), options, settings, report).unwrap();
    loaded.recv().unwrap().map(|()| Watched { state, repository })
}
