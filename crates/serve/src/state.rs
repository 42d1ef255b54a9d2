//! What the server knows: the models, how far it has come, and the means to compute.
//!
//! Requests read an immutable [`Catalog`] behind a pointer; loading swaps in a new one. A request that has
//! begun keeps the model it found, whatever happens to the catalog meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use artifact::{ModelRef, PRODUCTION, Selector, parse_version};

use crate::access::Access;
use crate::body::InFlight;
use crate::config::Limits;
use crate::connections::Connections;
use crate::drift::Watch;
use crate::error::{Result, ServeError, shown, suggestion};
use crate::front::Front;
use crate::health::Health;
use crate::memory::Memory;
use crate::pool::Pool;
use crate::scheduler::Scheduler;
use crate::served::Served;
use crate::telemetry::Telemetry;
use crate::traffic::{Caller, Live, Traffic};

/// Shared by every request.
#[derive(Debug)]
pub struct State {
    catalog: RwLock<Arc<Catalog>>,
    /// Held by whoever makes the next catalog, so that requests need not wait for it.
    changing: Mutex<()>,
    phase: AtomicU8,
    traffic: OnceLock<Arc<Traffic>>,
    /// Where requests are read and prepared.
    pub pool: Pool,
    /// Where models compute.
    pub scheduler: Scheduler,
    /// What a request may cost.
    pub limits: Limits,
    /// Bytes of bodies that are in memory now.
    pub in_flight: Arc<InFlight>,
    /// The memory of the process.
    pub memory: Arc<Memory>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// The connections of HTTP.
    pub connections: Arc<Connections>,
    /// Whether the models still compute.
    pub health: Arc<Health>,
    /// What clients may see and change of the server itself.
    pub front: Front,
    /// What is told of requests, and where they are counted.
    pub telemetry: Arc<Telemetry>,
    /// What watches whether the inputs of models change.
    pub drift: Watch,
}

/// How far the server has come; it decides readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Models are being loaded and warmed up.
    Loading,
    /// Every model that can be served is.
    Ready,
    /// A signal asked the server to stop; requests are still answered.
    Draining,
}

/// The models at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By name.
    pub models: BTreeMap<String, Model>,
    /// What `/predict` without a name means.
    pub default: Option<ModelRef>,
}

/// One model with its versions.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// By number.
    pub versions: BTreeMap<u64, Version>,
    /// The version that each alias points at.
    pub aliases: BTreeMap<String, u64>,
    /// What there is to say of a version, by number: why it is not served, or why what replaced it on the disk is not.
    pub reasons: BTreeMap<u64, String>,
    /// How requests that name no version are split, where that was said.
    pub traffic: Option<Arc<Live>>,
}

/// One version and what became of it.
#[derive(Clone, Debug)]
pub enum Version {
    /// Found, not loaded yet.
    Loading,
    /// Loaded, its self-check passed.
    Ready(Arc<Served>),
    /// Not asked any more; requests under way finish.
    Unloading,
    /// It could not be loaded; the log says more than [`Model::reasons`].
    Failed,
    /// There, and not wanted.
    Unloaded,
}

impl Version {
    /// The state's name in listings.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready(_) => "ready",
            Self::Unloading => "unloading",
            Self::Failed => "failed",
            Self::Unloaded => "unloaded",
        }
    }

    /// The state as the protocol's repository extension names it.
    #[must_use]
    pub fn protocol_state(&self) -> &'static str {
        match self {
            Self::Loading => "LOADING",
            Self::Ready(_) => "READY",
            Self::Unloading => "UNLOADING",
            Self::Failed | Self::Unloaded => "UNAVAILABLE",
        }
    }

    /// The version, where it answers.
    #[must_use]
    pub fn served(&self) -> Option<&Arc<Served>> {
        if let Self::Ready(served) = self { Some(served) } else { None }
    }
}

impl State {
    /// A server that has not looked for models yet.
    #[must_use]
    pub fn new(pool: Pool, scheduler: Scheduler, limits: Limits) -> Self {
        let phase = AtomicU8::new(Phase::Loading as u8);
        let memory = Memory::new(limits.max_memory_mb);
        let in_flight = InFlight::new(limits.max_bytes_in_flight, &memory);
        Self {
            catalog: RwLock::default(),
            changing: Mutex::default(),
            phase,
            traffic: OnceLock::new(),
            pool,
            scheduler,
            limits,
            in_flight,
            access: Arc::default(),
            connections: Connections::new(&limits, &memory),
            memory,
            health: Arc::default(),
            front: Front::default(),
            telemetry: Arc::default(),
            drift: Watch::default(),
        }
    }

    /// The same, with what clients may change.
    #[must_use]
    pub fn with_front(self, front: Front) -> Self {
        Self { front, ..self }
    }

    /// The same, with who may do what.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Self { access: Arc::new(access), ..self }
    }

    /// The same, with what is told of requests.
    #[must_use]
    pub fn with_telemetry(self, telemetry: Telemetry) -> Self {
        Self { telemetry: Arc::new(telemetry), ..self }
    }

    /// The same, with what watches drift.
    #[must_use]
    pub fn with_drift(self, drift: Watch) -> Self {
        Self { drift, ..self }
    }

    /// The models as they are now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the catalog; requests under way keep the one they have.
    pub fn update(&self, change: impl FnOnce(&mut Catalog)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = (*self.catalog()).clone();
        change(&mut next);
        let next = Arc::new(next);
        let before = {
            let mut current = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, next)
        };
        // What it alone held is freed here, where nobody waits.
        drop(before);
    }

    /// What directs the traffic, once it has been started.
    #[must_use]
    pub fn traffic(&self) -> Option<&Arc<Traffic>> {
        self.traffic.get()
    }

    /// From now on `traffic` directs; the first one stays.
    pub fn set_traffic(&self, traffic: Arc<Traffic>) {
        // A second one would be the caller's mistake, and the first goes on.
        let _ = self.traffic.set(traffic);
    }

    /// Lets requests without a key change what is served, or not: for a program that embeds the server and checks by
    /// itself who asks. The server's own program never does; there changes need a key with the scope `admin`.
    pub fn allow_changes(&self, allowed: bool) {
        self.access.trust(allowed);
    }

    /// How far the server has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Loading as u8 => Phase::Loading,
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Loading is over. A server that drains already stays that way.
    pub fn loaded(&self) {
        let (from, to) = (Phase::Loading as u8, Phase::Ready as u8);
        // When the exchange fails, the server is draining, which must not be undone.
        let _ = self.phase.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    /// From now on the server is not ready; it still answers.
    pub fn drain(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Release);
    }

    /// Why new traffic should not come here, if so: models are being loaded, the server is about to stop, there is
    /// nothing to serve, or a device does not compute any more.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        match self.phase() {
            Phase::Loading => Some("the models are being loaded".to_owned()),
            Phase::Draining => Some("the server is shutting down".to_owned()),
            Phase::Ready if !self.catalog().models.values().any(Model::is_ready) => {
                Some("no model is loaded".to_owned())
            }
            // Who asks for the server may not know of the model; `Health::fault` names it to those who ask for it.
            Phase::Ready => self
                .health
                .first_fault()
                .map(|_| "a model does not compute any more; the server's log says why".to_owned()),
        }
    }
}

impl Catalog {
    /// The model of that name.
    ///
    /// # Errors
    /// 404 with the names that exist.
    pub fn model(&self, name: &str) -> Result<&Model> {
        self.models.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.models.keys().map(String::as_str).collect();
            let hint = suggestion(name, names.iter().copied());
            ServeError::not_found(format_args!("there is no model {}{hint}", shown(name)))
                .with("models", names)
        })
    }

    /// The version of a model that `selector` means, ready to answer.
    ///
    /// # Errors
    /// 404 when there is no such model, version or alias; 503 when it is not loaded (yet).
    pub fn find(&self, name: &str, selector: &Selector) -> Result<&Arc<Served>> {
        let model = self.model(name)?;
        let number = model.number(name, selector)?;
        match model.versions.get(&number) {
            Some(Version::Ready(served)) => Ok(served),
            Some(Version::Loading) => Err(ServeError::unavailable(format_args!(
                "version {number} of {} is still being loaded; try again in a second",
                shown(name)
            ))),
            Some(Version::Failed) => Err(ServeError::unavailable(format_args!(
                "version {number} of {} could not be loaded; the server's log says why",
                shown(name)
            ))),
            Some(Version::Unloading | Version::Unloaded) => Err(ServeError::unavailable(format_args!(
                "version {number} of {} is not loaded",
                shown(name)
            ))),
            None => Err(model.no_version(name, &number.to_string())),
        }
    }

    /// As [`Catalog::find`], for a request that is to be answered: where it leaves the version to the server, the traffic
    /// of the model decides. A version that is not ready gets none; the default answers instead.
    ///
    /// # Errors
    /// As [`Catalog::find`].
    pub fn route(&self, name: &str, selector: &Selector, caller: Caller<'_>) -> Result<&Arc<Served>> {
        let model = self.model(name)?;
        let picked = model.traffic.as_ref().filter(|_| *selector == Selector::Default);
        let picked = picked.and_then(|live| live.pick(name, caller));
        match picked.and_then(|number| model.versions.get(&number)?.served()) {
            Some(served) => Ok(served),
            None => self.find(name, selector),
        }
    }

    /// As [`Catalog::find_default`], for a request that is to be answered.
    ///
    /// # Errors
    /// As [`Catalog::find_default`].
    pub fn route_default(&self, caller: Caller<'_>) -> Result<&Arc<Served>> {
        let (name, selector) = self.default_model().ok_or_else(|| self.no_default())?;
        self.route(name, selector, caller)
    }

    /// The name of the model that answers when a request names none, where there is one, whether it answers now or not.
    #[must_use]
    pub fn default_name(&self) -> Option<&str> {
        self.default_model().map(|(name, _)| name)
    }

    /// The model that answers when a request names none: the configured one, else the only one.
    ///
    /// # Errors
    /// 400 with the list when there are several.
    pub fn find_default(&self) -> Result<&Arc<Served>> {
        let (name, selector) = self.default_model().ok_or_else(|| self.no_default())?;
        self.find(name, selector)
    }

    fn default_model(&self) -> Option<(&str, &Selector)> {
        if let Some(default) = &self.default {
            return Some((&default.name, &default.selector));
        }
        let only = self.models.keys().next().filter(|_| self.models.len() == 1);
        only.map(|name| (name.as_str(), &Selector::Default))
    }

    /// What is said where none is the default.
    fn no_default(&self) -> ServeError {
        if self.models.is_empty() {
            return ServeError::unavailable("no model is loaded yet; try again in a second");
        }
        let names: Vec<&str> = self.models.keys().map(String::as_str).collect();
        ServeError::invalid(format_args!(
            "several models are served and none is the default; use /models/NAME/predict with one of {}, \
             or start the server with --default-model",
            names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ")
        ))
        .with("models", names)
    }
}

impl Model {
    /// Whether a version of it answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.versions.values().any(|version| matches!(version, Version::Ready(_)))
    }

    /// The version number that a selector means: for the default the alias `production`, else the newest.
    /// The newest is the newest that is ready, while there is one.
    ///
    /// # Errors
    /// 404 when there is no such version or alias.
    pub fn number(&self, name: &str, selector: &Selector) -> Result<u64> {
        match selector {
            Selector::Version(number) => Ok(*number),
            Selector::Alias(alias) => {
                self.aliases.get(alias).copied().ok_or_else(|| self.no_version(name, alias))
            }
            Selector::Latest => self.newest(name),
            Selector::Default => {
                self.aliases.get(PRODUCTION).map_or_else(|| self.newest(name), |&number| Ok(number))
            }
        }
    }

    fn newest(&self, name: &str) -> Result<u64> {
        let is_ready = |number: &&u64| matches!(self.versions.get(number), Some(Version::Ready(_)));
        let newest = self.versions.keys().rev().find(is_ready).or_else(|| self.versions.keys().next_back());
        newest.copied().ok_or_else(|| self.no_version(name, "latest"))
    }

    fn no_version(&self, name: &str, wanted: &str) -> ServeError {
        let numbers = self.versions.keys().map(u64::to_string);
        let all: Vec<String> = numbers.chain(self.aliases.keys().cloned()).collect();
        ServeError::not_found(format_args!("model {} has no version {}", shown(name), shown(wanted)))
            .with("versions", all)
    }
}

/// Reads a version out of a path: a number, `latest`, or an alias.
#[must_use]
pub fn selector(text: &str) -> Selector {
    match parse_version(text) {
        Some(number) => Selector::Version(number),
        None if text == artifact::LATEST => Selector::Latest,
        None => Selector::Alias(text.to_owned()),
    }
}
