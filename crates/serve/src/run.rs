//! The life of the server: listen, load, serve, drain.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::dev::ServerHandle;
use actix_web::http::KeepAlive;
use actix_web::rt::signal::unix::{Signal, SignalKind, signal};
use actix_web::{HttpServer, rt, web};
use artifact::{ModelRef, Registry};
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;

use crate::access;
use crate::access::files::FileFault;
use crate::access::renewal::{self, Renewal};
use crate::app;
use crate::config::Config;
use crate::connections::{self, Connections};
use crate::drift::Watch;
use crate::front::Front;
use crate::grpc::{self, server::Running};
use crate::limits::Limits;
use crate::load::{self, LoadError, Options};
use crate::pool::Pool;
use crate::repository::Repository;
use crate::scheduler::Scheduler;
use crate::state::State;
use crate::telemetry::Telemetry;
use crate::tls::Tls;
use crate::traffic::{Clock, Plan, Traffic};

/// Why the server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RunError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Access(#[from] FileFault),
    #[error("cannot listen on {host}:{port}")]
    Listen { host: String, port: u16, source: std::io::Error },
    #[error("cannot listen on {host}:{port} for gRPC")]
    ListenGrpc { host: String, port: u16, source: std::io::Error },
    #[error("cannot listen on {host}:{port} for the metrics")]
    ListenMetrics { host: String, port: u16, source: std::io::Error },
    #[error("the system gives no threads or signals")]
    System(#[source] std::io::Error),
    #[error("the server failed")]
    Serve(#[source] std::io::Error),
}

/// Where the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP.
    pub http: SocketAddr,
    /// gRPC, if there is one.
    pub grpc: Option<SocketAddr>,
    /// The metrics, if they have a port of their own.
    pub metrics: Option<SocketAddr>,
}

/// What the server needs of the program around it.
#[derive(Debug)]
pub struct Outside<S, R> {
    /// Is told the addresses once the models are ready.
    pub started: S,
    /// Reads the settings again, on SIGHUP.
    pub reread: R,
    /// The time of day, as text.
    pub clock: Clock,
    /// The time of day.
    pub now: fn() -> SystemTime,
}

/// Serves until a signal, then drains.
///
/// The caller has sized rayon's pool to `threads` already.
///
/// # Errors
/// When the registry has nothing to serve, or the address cannot be had.
pub async fn run(
    config: &Config,
    registry: Registry,
    default: Option<ModelRef>,
    options: Options,
    threads: usize,
    outside: Outside<impl FnOnce(Addresses), impl Fn() -> Result<Config, String>>,
) -> Result<(), RunError> {
    let Outside { started, reread, clock, now } = outside;
    // First of all: a server that cannot tell who is who does nothing.
    let (access, tls, watched) = renewal::open(&config.access, &config.tls, Arc::new(now), clock)?;
    let pool = Pool::new(threads, config.limits.queue).map_err(RunError::System)?;
    let gpu = options.placement.device.is_gpu();
    let scheduler = Scheduler::new(config.scheduling(threads, gpu)).map_err(RunError::System)?;
    let front = Front::new(config.paths.clone());
    let telemetry = Telemetry::new(config.log, &config.trace).map_err(RunError::System)?;
    let telemetry = telemetry.encrypted(tls.is_some());
    front.settings.begin(LevelFilter::current(), telemetry.exports());
    let drift = Watch::start(config.drift).map_err(RunError::System)?;
    let state = State::new(pool, scheduler, config.limits).with_front(front).with_telemetry(telemetry);
    let state = state.with_drift(drift).with_access(access);
    let state = web::Data::new(state);
    // An ensemble is not in the registry; it becomes the default when its members are known.
    let ensemble = default.clone().filter(|default| config.ensembles().contains_key(&default.name));
    let in_registry = default.filter(|_| ensemble.is_none());
    match load::discover(&state, &registry, in_registry) {
        Err(error @ (LoadError::Empty { .. } | LoadError::Default { .. }))
            if config.repository.allow_empty =>
        {
            tracing::warn!(%error, "not ready until there is something to serve");
        }
        other => other?,
    }
    if ensemble.is_some() {
        state.update(|catalog| catalog.default = ensemble);
    }

    let listen = |source| RunError::Listen { host: config.host.clone(), port: config.port, source };
    let shared = state.clone();
    let limits = &config.limits;
    descriptors(limits);
    // The library counts the connections of each worker.
    let workers = threads.clamp(1, 4).min(limits.max_connections);
    let connected = connections::on_connect(Arc::clone(&state.connections));
    let server = HttpServer::new(move || app::new(shared.clone(), app::endpoints))
        // What a connection keeps is dropped when it ends.
        .on_connect(move |connection, kept| {
            access::http::connected(connection, kept);
            connected(connection, kept);
        })
        .workers(workers)
        .max_connections(limits.max_connections / workers)
        .client_request_timeout(Duration::from_secs(limits.header_timeout_s))
        .keep_alive(Duration::from_secs(limits.keep_alive_s))
        .h1_allow_half_closed(limits.allow_half_closed)
        .shutdown_timeout(config.drain.timeout_s)
        // Signals are ours: readiness must turn false before listening ends.
        .disable_signals()
        .tls_handshake_timeout(config.tls.handshake_timeout());
    let server = match &tls {
        None => server.bind((config.host.as_str(), config.port)).map_err(listen)?,
        Some(tls) => {
            // The server adds the protocol that it speaks: HTTP/1.1. HTTP/2 would need limits of its own, which the library
            // does not have, on streams, heads and answers that are not taken.
            let encryption = tls.server_config(&[]).map_err(RunError::System)?;
            server.bind_rustls_0_23((config.host.as_str(), config.port), encryption).map_err(listen)?
        }
    };
    look_at_addresses(&state, &server.addrs());
    let address = server.addrs().first().copied();
    let grpc = listen_grpc(config, &state, tls.as_ref())?;
    let metrics = listen_metrics(config, &state, tls.as_ref())?;
    let settings = (config.access.clone(), config.tls.clone());
    let mut renewal = Renewal::new(Arc::clone(&state.access), tls, settings, watched);
    let server = server.run();
    let handle = server.handle();
    let serving = rt::spawn(server);
    rt::spawn(connections::watch(Arc::clone(&state.connections)));

    let mut signals = Signals::listen().map_err(RunError::System)?;
    // A thread of its own, which nobody waits for: a signal ends the server while models load, too.
    let (report, mut loaded) = oneshot::channel();
    let report = |result| drop(report.send(result));
    let settings = config.repository_settings();
    let shared = state.clone().into_inner();
    let traffic =
        Traffic::start(&shared, registry.clone(), config.traffic(), clock).map_err(RunError::System)?;
    let repository =
        Repository::start(shared, registry, options, settings, report).map_err(RunError::System)?;
    let mut started = Some(started);
    let mut current = config.clone();
    let mut configuring = None::<rt::task::JoinHandle<()>>;
    let signal = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Asked::Stop(signal) => break signal,
                Asked::Reload => {
                    let asked = renewal.begin("SIGHUP").await;
                    current = reload(current, &reread, &repository, asked.is_some(), |plans| {
                        let (traffic, state, before) = (Arc::clone(&traffic), state.clone(), configuring.take());
                        configuring = Some(rt::spawn(async move {
                            // One after the other, and not here: it may wait for the lock of a file.
                            if let Some(before) = before {
                                drop(before.await);
                            }
                            drop(rt::task::spawn_blocking(move || traffic.configure(&state, plans)).await);
                        }));
                    });
                    renewal.renew(Some((current.access.clone(), current.tls.clone())), "SIGHUP", asked).await;
                }
            },
            () = renewal.changed() => {
                let asked = renewal.begin("file").await;
                renewal.renew(None, "file", asked).await;
            }
            result = &mut loaded, if started.is_some() => {
                let result = result.map_err(|error| RunError::System(std::io::Error::other(error)))?;
                if let Err(error) = result {
                    handle.stop(false).await;
                    return Err(error.into());
                }
                warn_of_absent(&current, &state);
                if let (Some(started), Some(http)) = (started.take(), address) {
                    let grpc = grpc.as_ref().map(Running::address);
                    started(Addresses { http, grpc, metrics: metrics.as_ref().map(|(address, _)| *address) });
                }
            }
        }
    };
    repository.stop();
    traffic.stop();

    state.drain();
    tracing::info!(signal, "draining: not ready any more, requests under way finish");
    let drain = async {
        rt::time::sleep(Duration::from_millis(config.drain.delay_ms)).await;
        let timeout = Duration::from_secs(config.drain.timeout_s);
        let grpc = async {
            if let Some(grpc) = grpc {
                grpc.stop(timeout).await;
            }
        };
        tokio::join!(handle.stop(true), grpc);
    };
    // A second signal means now.
    tokio::select! {
        () = drain => {}
        () = signals.stop_again() => handle.stop(false).await,
    }
    // To the end, so that the last scrape sees what was drained.
    if let Some((_, handle)) = metrics {
        handle.stop(false).await;
    }
    state.telemetry.flush(FLUSH);
    match serving.await {
        Ok(result) => result.map_err(RunError::Serve)?,
        Err(error) => return Err(RunError::Serve(std::io::Error::other(error))),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Says which models have settings and are not there: a name that is spelt wrongly would go unnoticed.
fn warn_of_absent(config: &Config, state: &State) {
    let catalog = state.catalog();
    for model in config.model.keys().filter(|model| !catalog.models.contains_key(*model)) {
        tracing::warn!(model, "there are settings for a model that is not there; they wait until it comes");
    }
}

/// Says where the server can be reached from, and warns where that is everywhere and nobody is asked for a key.
fn look_at_addresses(state: &State, addresses: &[SocketAddr]) {
    let loopback = addresses.iter().all(|address| address.ip().is_loopback());
    state.access.on_loopback(loopback);
    state.access.warn_if_open();
}

/// Asks the system for as many open files as the connections need: two each of HTTP, one each of gRPC, and some for
/// models. What it does not give, connections have to wait for.
fn descriptors(limits: &Limits) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = 3 * limits.max_connections as u64 + 256;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let given = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(given), maximum }) {
        tracing::debug!(%error, "the limit of open files stays");
    } else if given < wanted {
        tracing::warn!(
            given,
            wanted,
            "the system lets this process open fewer files than `limits.max_connections` needs"
        );
    }
}

/// The last spans have so long.
const FLUSH: Duration = Duration::from_secs(2);

/// Connections at the port of the metrics.
const METRICS_CONNECTIONS: usize = 64;

/// Opens a socket for the metrics alone, where one is asked for, and serves them from the start. It is encrypted where
/// the others are, for the same keys travel over it.
fn listen_metrics(
    config: &Config,
    state: &web::Data<State>,
    tls: Option<&Tls>,
) -> Result<Option<(SocketAddr, ServerHandle)>, RunError> {
    let Some(port) = config.metrics.port else { return Ok(None) };
    let (shared, host) = (state.clone(), config.host.as_str());
    let failed = |source| RunError::ListenMetrics { host: host.to_owned(), port, source };
    let limits = Limits { max_connections: METRICS_CONNECTIONS, ..config.limits };
    let connections = Connections::new(&limits, &state.memory);
    let connected = connections::on_connect(Arc::clone(&connections));
    let server = HttpServer::new(move || app::new(shared.clone(), app::metrics))
        .on_connect(move |connection, kept| {
            access::http::connected(connection, kept);
            connected(connection, kept);
        })
        .workers(1)
        .max_connections(METRICS_CONNECTIONS)
        .client_request_timeout(Duration::from_secs(limits.header_timeout_s))
        // A scrape needs no connection that stays, and one that does not stay holds nobody else's place.
        .keep_alive(KeepAlive::Disabled)
        .tls_handshake_timeout(config.tls.handshake_timeout())
        .disable_signals();
    let server = match tls {
        None => server.bind((host, port)).map_err(failed)?,
        Some(tls) => {
            let encryption = tls.server_config(&[]).map_err(RunError::System)?;
            server.bind_rustls_0_23((host, port), encryption).map_err(failed)?
        }
    };
    let none = || failed(std::io::ErrorKind::AddrNotAvailable.into());
    let address = server.addrs().first().copied().ok_or_else(none)?;
    let server = server.run();
    let handle = server.handle();
    rt::spawn(connections::watch(connections));
    // It ends when it is stopped, and nobody waits for it otherwise.
    drop(rt::spawn(server));
    Ok(Some((address, handle)))
}

/// Opens the socket of gRPC and serves it; it is not ready before the models are, as HTTP is not.
fn listen_grpc(
    config: &Config,
    state: &web::Data<State>,
    tls: Option<&Tls>,
) -> Result<Option<Running>, RunError> {
    if !config.grpc.enabled {
        return Ok(None);
    }
    let (host, port) = (config.host.clone(), config.grpc.port);
    let listen = TcpListener::bind((host.as_str(), port))
        .and_then(|listener| grpc::server::start_with(Arc::clone(state), listener, tls));
    listen.map(Some).map_err(|source| RunError::ListenGrpc { host, port, source })
}

/// Takes what can be taken of changed settings, the plans of the traffic by `direct`; returns those that hold now. Where
/// they could not be `written` down, only who may do what is taken.
fn reload(
    current: Config,
    reread: impl Fn() -> Result<Config, String>,
    repository: &Repository,
    written: bool,
    direct: impl FnOnce(BTreeMap<String, Plan>),
) -> Config {
    let next = match reread() {
        Ok(next) => next,
        Err(error) => {
            tracing::error!(error, "SIGHUP: the settings cannot be used; those before stay");
            return current;
        }
    };
    let taken = current.reloaded(&next);
    if !written {
        tracing::error!(
            "SIGHUP: the audit log cannot be written, so the settings of models and traffic stay"
        );
        return Config { access: taken.access, tls: taken.tls, ..current };
    }
    if taken != next {
        tracing::warn!(
            "SIGHUP: some of the changed settings need a restart; those of models and traffic do not"
        );
    }
    match repository.configure(taken.repository_settings()) {
        Ok(()) => {
            direct(taken.traffic());
            tracing::info!("SIGHUP: the settings of models have been read again");
            taken
        }
        Err(error) => {
            tracing::error!(%error, "SIGHUP: the settings could not be handed on; those before stay");
            current
        }
    }
}

/// The signals that a server listens to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What a signal asks for.
enum Asked {
    /// To stop; the name of the signal.
    Stop(&'static str),
    /// To read the settings again.
    Reload,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits for one that asks to stop.
    async fn stop_again(&mut self) {
        while matches!(self.next().await, Asked::Reload) {}
    }
}
