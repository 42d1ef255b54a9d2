//! What the repository's thread does: compare the directory with what is served, load, swap in, unload.
//!
//! It alone writes versions into the catalog, and the aliases as they are on the disk; who moves one there may say so in
//! the catalog at once. A version takes traffic only when it is loaded, verified and warmed up; what leaves the catalog
//! is dropped when its last request has ended. What served goes on serving whatever becomes of what should replace it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact::Registry;

use super::disk::{Disk, Fingerprint, Found};
use super::ensembles::Ensembles;
use super::leaving::Leaving;
use super::listing::{list, list_only, names, point, served, set};
use super::settings::{Mode, Settings};
use crate::error::{Result, ServeError, shown, suggestion};
use crate::load::{self, LoadError, Options};
use crate::loader::Loader;
use crate::served::Served;
use crate::state::{Model, Phase, State, Version};

/// While versions wait for their last requests, this is how often they are looked at.
const LEAVING: Duration = Duration::from_millis(10);

/// Knows what was tried; what is served is in the catalog alone.
#[derive(Debug)]
pub(crate) struct Worker {
    registry: Registry,
    options: Options,
    settings: Settings,
    /// What requests have said about models, by name: load or unload.
    chosen: BTreeMap<String, bool>,
    /// By model and version: what its directory was like when it was loaded, or could not be.
    tried: BTreeMap<(String, u64), Tried>,
    loader: Loader,
    leaving: Vec<Leaving>,
    ensembles: Ensembles,
    /// What the log has said already and need not say again.
    said: BTreeSet<String>,
    /// The last failure of a GPU while loading.
    device: Option<predict::DeviceError>,
}

#[derive(Debug)]
struct Tried {
    fingerprint: Fingerprint,
    failed: bool,
}

/// What became of the versions of a model that had to be loaded.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) loaded: Vec<u64>,
    pub(crate) failed: Vec<(u64, String)>,
}

impl Worker {
    pub(crate) fn new(registry: Registry, options: Options, settings: Settings) -> Self {
        Self {
            registry,
            options,
            settings,
            chosen: BTreeMap::new(),
            tried: BTreeMap::new(),
            loader: Loader::default(),
            leaving: Vec::new(),
            ensembles: Ensembles::default(),
            said: BTreeSet::new(),
            device: None,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Loads for the first time what is to be served, then declares the server ready.
    ///
    /// # Errors
    /// When nothing could be loaded, unless that is allowed.
    pub(crate) fn begin(&mut self, state: &State) -> std::result::Result<(), LoadError> {
        let disk = Disk::look(&self.registry)?;
        if self.settings.general.mode != Mode::Watch {
            self.chosen =
                disk.models.keys().map(|name| (name.clone(), self.settings.at_start(name))).collect();
            for name in self.settings.missing_at_start(|name| disk.models.contains_key(name)) {
                let known: Vec<&String> = disk.models.keys().collect();
                tracing::warn!(name, ?known, "`repository.startup` names a model that is not there");
            }
        }
        self.look_at(state, &disk);
        let catalog = state.catalog();
        let served = catalog.models.values().any(Model::is_ready);
        let wanted = catalog.models.keys().any(|name| self.wants(name));
        if wanted && !served && !self.settings.general.allow_empty {
            let count = catalog.models.values().map(|model| model.versions.len()).sum();
            let path = self.registry.root().to_owned();
            return Err(LoadError::AllFailed { count, path, device: self.device.take() });
        }
        state.loaded();
        Ok(())
    }

    /// Compares the directory with what is served, and does what follows in the present mode. Ensembles always follow
    /// the aliases of their members, which requests move.
    pub(crate) fn refresh(&mut self, state: &State) {
        if self.settings.general.mode == Mode::None {
            return self.settle_ensembles(state);
        }
        match Disk::look(&self.registry) {
            Ok(disk) => {
                self.said.remove(AWAY);
                if self.settings.general.mode == Mode::Explicit {
                    list_only(state, &disk, |name| self.settings.ensembles.contains_key(name));
                    self.settle_ensembles(state);
                } else {
                    self.look_at(state, &disk);
                }
            }
            Err(error) => {
                if self.said.insert(AWAY.to_owned()) {
                    let error = load::chain(&error);
                    tracing::error!(error, "the registry cannot be read; what is served goes on");
                }
            }
        }
    }

    fn look_at(&mut self, state: &State, disk: &Disk) {
        for warning in &disk.warnings {
            let text = format!("{}: {}", warning.path.display(), warning.reason);
            if self.said.insert(text) {
                tracing::warn!(path = %warning.path.display(), reason = warning.reason, "ignored");
            }
        }
        // So that the listing is complete before the first of them is loaded.
        state.update(|catalog| {
            for (name, found) in &disk.models {
                list(catalog, name, found, self.wants(name));
            }
        });
        let known: Vec<String> = state.catalog().models.keys().cloned().collect();
        for name in known.iter().filter(|name| !disk.unreadable.contains(*name)) {
            match disk.models.get(name) {
                Some(found) => self.settle(state, name, found),
                // What a model of that name has left behind goes before the ensemble comes.
                None if self.settings.ensembles.contains_key(name) && !self.ensembles.is_taken(name) => {
                    continue;
                }
                None => self.settle(state, name, &Found::default()),
            };
        }
        self.settle_ensembles(state);
    }

    /// Brings the ensembles in line with their members.
    fn settle_ensembles(&mut self, state: &State) {
        let registry = &self.registry;
        let taken = |name: &str| registry.versions(name).is_ok_and(|versions| !versions.is_empty());
        let left = self.ensembles.settle(state, &self.settings.ensembles, taken);
        self.leaving.extend(left.into_iter().map(|served| Leaving { served, replaced: true }));
    }

    /// Whether a model is served at all.
    fn wants(&self, name: &str) -> bool {
        self.chosen.get(name).copied().unwrap_or(self.settings.general.mode == Mode::Watch)
    }

    /// Brings one model in line with what was found of it.
    fn settle(&mut self, state: &State, name: &str, found: &Found) -> Outcome {
        let mut outcome = Outcome::default();
        let mut keep = BTreeSet::new();
        if self.wants(name) {
            let policy = self.settings.policy(name).clone();
            let named = names(&state.catalog(), name, found);
            for &number in named.iter().rev().filter(|number| policy.allows(**number)) {
                self.provide(state, name, number, found, &mut outcome);
            }
            let mut ready = 0;
            for number in policy.candidates(found.versions.keys().copied()) {
                if ready < policy.limit() && self.provide(state, name, number, found, &mut outcome) {
                    ready += 1;
                    keep.insert(number);
                }
            }
            if found.aliases.is_some() {
                point(state, name, &self.registry, &mut self.said);
            }
            // The aliases may have moved, and let go of versions.
            let named = names(&state.catalog(), name, found);
            let there = |number: &u64| policy.allows(*number) && found.versions.contains_key(number);
            keep.extend(named.into_iter().filter(there));
            let catalog = state.catalog();
            let serves = |number: &u64| served(&catalog, name, *number).is_some();
            if !keep.iter().any(serves) {
                // Nothing that is wanted can be had: what served goes on serving.
                keep.extend(found.versions.keys().copied().filter(serves));
            }
        }
        self.let_go(state, name, found, &keep, &outcome);
        outcome
    }

    /// Makes sure that a version is ready, if it can be; tells whether it is.
    fn provide(
        &mut self,
        state: &State,
        name: &str,
        number: u64,
        found: &Found,
        outcome: &mut Outcome,
    ) -> bool {
        let Some(fingerprint) = found.versions.get(&number) else { return false };
        let key = (name.to_owned(), number);
        let before = served(&state.catalog(), name, number);
        if let Some(tried) = self.tried.get(&key)
            && tried.fingerprint == *fingerprint
            && (tried.failed || before.is_some())
        {
            return before.is_some();
        }
        if before.is_none() {
            set(state, name, number, Version::Loading, None);
        }
        let began = Instant::now();
        let opened = self.open(state, name, number);
        let took = began.elapsed();
        state.telemetry.doors.loads.note(opened.is_ok(), took);
        let after = Fingerprint::of(&self.registry.root().join(name).join(number.to_string()));
        let changed = after != *fingerprint;
        let tried = Tried { fingerprint: fingerprint.clone(), failed: opened.is_err() };
        match opened {
            Ok((predictor, warm)) => {
                load::report(&predictor, &warm);
                state.health.forget(name, number);
                let executor = state.drift.executor(predictor);
                let next = Served::new(name, number, executor, &state.scheduler, &state.health);
                next.stats().loaded(took);
                set(state, name, number, Version::Ready(next), None);
                self.tried.insert(key, tried);
                outcome.loaded.push(number);
                self.leaving.extend(before.map(|served| Leaving { served, replaced: true }));
                true
            }
            Err(_) if changed && self.settings.general.mode == Mode::Watch => {
                // Somebody writes it in place; the next look comes soon.
                self.tried.remove(&key);
                let reason = "its directory is still being written";
                set(
                    state,
                    name,
                    number,
                    before.clone().map_or(Version::Loading, Version::Ready),
                    Some(reason),
                );
                outcome.failed.push((number, reason.to_owned()));
                before.is_some()
            }
            Err(error) => {
                let cause = load::chain(error.as_ref());
                tracing::error!(model = %name, version = number, error = %cause, "not served");
                self.note_device(state, &error);
                let reason = load::told(&error);
                let version = before.clone().map_or(Version::Failed, Version::Ready);
                let told = match &before {
                    None => reason.clone(),
                    Some(_) => {
                        format!("its directory has changed, and what is there now is not served: {reason}")
                    }
                };
                set(state, name, number, version, Some(&told));
                self.tried.insert(key, tried);
                outcome.failed.push((number, reason));
                before.is_some()
            }
        }
    }

    /// Opens a version: at once while nothing is served yet, later without a request being slower for it.
    fn open(&mut self, state: &State, name: &str, number: u64) -> load::Opened {
        if state.phase() == Phase::Loading {
            return Loader::swiftly(|| load::open(&self.registry, name, number, &self.options));
        }
        let (registry, options) = (self.registry.clone(), self.options.clone());
        let name = name.to_owned();
        self.loader.gently(move || load::open(&registry, &name, number, &options))
    }

    /// A GPU that fails while a model is loaded may have taken along those that were loaded before.
    fn note_device(&mut self, state: &State, error: &load::Failure) {
        let Some((error, failed)) = load::gpu_failure(error) else { return };
        self.device = Some(failed.clone());
        let catalog = state.catalog();
        let mut ready = catalog.models.values().flat_map(|model| model.versions.values());
        if let Some(earlier) = ready.find_map(|version| version.served()?.predictor()) {
            state.health.note(earlier, Some(error), || earlier.self_check().map(drop));
        }
    }

    /// Takes every version that is not in `keep` out of the catalog.
    fn let_go(&mut self, state: &State, name: &str, found: &Found, keep: &BTreeSet<u64>, outcome: &Outcome) {
        let wanted = self.wants(name);
        let policy = self.settings.policy(name).clone();
        let leaving = &mut self.leaving;
        let mut forgotten = Vec::new();
        state.update(|catalog| {
            let Some(model) = catalog.models.get_mut(name) else { return };
            let numbers: Vec<u64> = model.versions.keys().copied().collect();
            for number in numbers.into_iter().filter(|number| !keep.contains(number)) {
                let there = found.versions.contains_key(&number);
                let why = match (there, wanted) {
                    (false, _) => "its directory has disappeared",
                    (true, true) => "the version policy leaves it out",
                    (true, false) => "it is not loaded; load it by its name",
                };
                match model.versions.get(&number) {
                    Some(Version::Ready(served)) => {
                        leaving.push(Leaving { served: Arc::clone(served), replaced: false });
                        model.versions.insert(number, Version::Unloading);
                        model.reasons.insert(number, why.to_owned());
                        tracing::info!(model = %name, version = number, reason = why, "unloading");
                    }
                    Some(Version::Unloading) | None => continue,
                    // It stays reported while it is there and would be served.
                    Some(Version::Failed) if there && wanted && policy.allows(number) => continue,
                    Some(Version::Loading) if outcome.failed.iter().any(|(failed, _)| *failed == number) => {
                        continue;
                    }
                    Some(_) if there => {
                        model.versions.insert(number, Version::Unloaded);
                        model.reasons.insert(number, why.to_owned());
                    }
                    Some(_) => {
                        model.versions.remove(&number);
                        model.reasons.remove(&number);
                    }
                }
                forgotten.push(number);
            }
            if model.versions.is_empty() {
                catalog.models.remove(name);
            }
        });
        for number in forgotten {
            state.health.forget(name, number);
            self.tried.remove(&(name.to_owned(), number));
        }
    }

    /// Drops the versions whose last request has ended.
    pub(crate) fn sweep(&mut self, state: &State) {
        super::leaving::sweep(&mut self.leaving, state, self.registry.root());
    }

    /// How soon [`Worker::sweep`] has something to do.
    pub(crate) fn pause(&self) -> Option<Duration> {
        (!self.leaving.is_empty()).then_some(LEAVING)
    }

    /// Loads a model because a request wants it; what failed before is tried again.
    pub(crate) fn load(&mut self, state: &State, name: &str) -> Result<Outcome> {
        self.changes_allowed()?;
        let found = self.find(state, name)?;
        self.chosen.insert(name.to_owned(), true);
        self.tried.retain(|(model, _), tried| model != name || !tried.failed);
        state.update(|catalog| list(catalog, name, &found, true));
        let outcome = self.settle(state, name, &found);
        self.settle_ensembles(state);
        if let Some((number, reason)) = outcome.failed.first() {
            let name = shown(name);
            return Err(ServeError::invalid(format_args!(
                "version {number} of {name} was not loaded: {reason}"
            )));
        }
        match state.catalog().models.get(name) {
            Some(model) if model.is_ready() => Ok(outcome),
            _ => Err(ServeError::invalid(format_args!(
                "the version policy of {} leaves nothing to load",
                shown(name)
            ))),
        }
    }

    /// Unloads a model because a request wants it. It stays so until it is loaded by its name.
    pub(crate) fn unload(&mut self, state: &State, name: &str) -> Result<()> {
        self.changes_allowed()?;
        let found = self.find(state, name)?;
        self.chosen.insert(name.to_owned(), false);
        self.settle(state, name, &found);
        self.settle_ensembles(state);
        Ok(())
    }

    /// Takes other settings and does what follows from them.
    pub(crate) fn configure(&mut self, state: &State, settings: Settings) {
        let before = std::mem::replace(&mut self.settings, settings);
        let mode = self.settings.general.mode;
        if mode == Mode::Watch && before.general.mode != Mode::Watch {
            self.chosen.clear();
        }
        if mode == Mode::None {
            return;
        }
        if mode == Mode::Explicit {
            // No look loads a model now, but of those that are loaded other versions may be wanted.
            for (name, model) in &state.catalog().models {
                self.chosen.entry(name.clone()).or_insert_with(|| model.is_ready());
            }
        }
        match Disk::look(&self.registry) {
            Ok(disk) => self.look_at(state, &disk),
            Err(error) => tracing::error!(error = load::chain(&error), "the registry cannot be read"),
        }
    }

    fn changes_allowed(&self) -> Result<()> {
        if self.settings.general.mode == Mode::None {
            return Err(ServeError::invalid(
                "the models of this server are fixed: it was started with `repository.mode = \"none\"`",
            ));
        }
        Ok(())
    }

    fn find(&self, state: &State, name: &str) -> Result<Found> {
        if self.settings.ensembles.contains_key(name) {
            let name = shown(name);
            return Err(ServeError::invalid(format_args!(
                "{name} is an ensemble: it is ready while its members are"
            )));
        }
        let disk = Disk::look(&self.registry).map_err(ServeError::internal)?;
        let catalog = state.catalog();
        if !disk.models.contains_key(name) && !catalog.models.contains_key(name) {
            let names: Vec<&str> = disk.models.keys().map(String::as_str).collect();
            let hint = suggestion(name, names.iter().copied());
            let message = format!("there is no model {}{hint}", shown(name));
            return Err(ServeError::not_found(message).with("models", names));
        }
        disk.take(name)
    }
}

/// The key in [`Worker::said`] for a registry that is away; no path looks like it.
const AWAY: &str = "\0away";
