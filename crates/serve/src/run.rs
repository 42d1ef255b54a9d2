//! The life of the server: listen, load, serve, drain.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::signal::unix::{Signal, SignalKind, signal};
use actix_web::{HttpServer, rt, web};
use artifact::{ModelRef, Registry};
use tokio::sync::oneshot;

use crate::app;
use crate::config::Config;
use crate::connections;
use crate::front::Front;
use crate::grpc::{self, server::Running};
use crate::limits::Limits;
use crate::load::{self, LoadError, Options};
use crate::pool::Pool;
use crate::repository::Repository;
use crate::scheduler::Scheduler;
use crate::state::State;
use crate::traffic::{Clock, Traffic};

/// Why the server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RunError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot listen on {host}:{port}")]
    Listen { host: String, port: u16, source: std::io::Error },
    #[error("cannot listen on {host}:{port} for gRPC")]
    ListenGrpc { host: String, port: u16, source: std::io::Error },
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
}

/// What the server needs of the program around it.
#[derive(Debug)]
pub struct Outside<S, R> {
    /// Is told the addresses once the models are ready.
    pub started: S,
    /// Reads the settings again, on SIGHUP.
    pub reread: R,
    /// The time of day.
    pub clock: Clock,
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
    let pool = Pool::new(threads, config.limits.queue).map_err(RunError::System)?;
    let gpu = options.placement.device.is_gpu();
    let scheduler = Scheduler::new(config.scheduling(threads, gpu)).map_err(RunError::System)?;
    let front = Front::new(config.paths.clone());
    let state = web::Data::new(State::new(pool, scheduler, config.limits).with_front(front));
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
    let server = HttpServer::new(move || app::new(shared.clone()))
        .workers(workers)
        .max_connections(limits.max_connections / workers)
        .client_request_timeout(Duration::from_secs(limits.header_timeout_s))
        .keep_alive(Duration::from_secs(limits.keep_alive_s))
        .h1_allow_half_closed(limits.allow_half_closed)
        .on_connect(connections::on_connect(Arc::clone(&state.connections)))
        .shutdown_timeout(config.drain.timeout_s)
        // Signals are ours: readiness must turn false before listening ends.
        .disable_signals()
        .bind((config.host.as_str(), config.port))
        .map_err(listen)?;
    let address = server.addrs().first().copied();
    let grpc = listen_grpc(config, &state)?;
    let server = server.run();
    let handle = server.handle();
    let serving = rt::spawn(server);
    rt::spawn(connections::watch(Arc::clone(&state.connections)));

    let mut signals = Signals::listen().map_err(RunError::System)?;
    // A thread of its own, which nobody waits for: a signal ends the server while models load, too.
    let (report, mut loaded) = oneshot::channel();
    let report = |result| drop(report.send(result));
    let Outside { started, reread, clock } = outside;
    let settings = config.repository_settings();
    let shared = state.clone().into_inner();
    state.allow_changes(settings.general.allow_changes);
    let traffic =
        Traffic::start(&shared, registry.clone(), config.traffic(), clock).map_err(RunError::System)?;
    let repository =
        Repository::start(shared, registry, options, settings, report).map_err(RunError::System)?;
    state.front.control_by(Arc::new(repository.clone()));
    let mut started = Some(started);
    let mut current = config.clone();
    let signal = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Asked::Stop(signal) => break signal,
                Asked::Reload => current = reload(current, &reread, &repository, &traffic, &state),
            },
            result = &mut loaded, if started.is_some() => {
                let result = result.map_err(|error| RunError::System(std::io::Error::other(error)))?;
                if let Err(error) = result {
                    handle.stop(false).await;
                    return Err(error.into());
                }
                if let (Some(started), Some(http)) = (started.take(), address) {
                    started(Addresses { http, grpc: grpc.as_ref().map(Running::address) });
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
    match serving.await {
        Ok(result) => result.map_err(RunError::Serve)?,
        Err(error) => return Err(RunError::Serve(std::io::Error::other(error))),
    }
    tracing::info!("stopped");
    Ok(())
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

/// Opens the socket of gRPC and serves it; it is not ready before the models are, as HTTP is not.
fn listen_grpc(config: &Config, state: &web::Data<State>) -> Result<Option<Running>, RunError> {
    if !config.grpc.enabled {
        return Ok(None);
    }
    let (host, port) = (config.host.clone(), config.grpc.port);
    let listen = TcpListener::bind((host.as_str(), port))
        .and_then(|listener| grpc::server::start(Arc::clone(state), listener));
    listen.map(Some).map_err(|source| RunError::ListenGrpc { host, port, source })
}

/// Takes what can be taken of changed settings; returns those that hold now.
fn reload(
    current: Config,
    reread: impl Fn() -> Result<Config, String>,
    repository: &Repository,
    traffic: &Traffic,
    state: &State,
) -> Config {
    let next = match reread() {
        Ok(next) => next,
        Err(error) => {
            tracing::error!(error, "SIGHUP: the settings cannot be used; those before stay");
            return current;
        }
    };
    let taken = current.reloaded(&next);
    if taken != next {
        tracing::warn!(
            "SIGHUP: some of the changed settings need a restart; those of models and traffic do not"
        );
    }
    match repository.configure(taken.repository_settings()) {
        Ok(()) => {
            state.allow_changes(taken.repository.allow_changes);
            traffic.configure(state, taken.traffic());
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
