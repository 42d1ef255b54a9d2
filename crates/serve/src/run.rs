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
use crate::front::Front;
use crate::grpc::{self, server::Running};
use crate::load::{self, LoadError, Options};
use crate::pool::Pool;
use crate::scheduler::Scheduler;
use crate::state::State;

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

/// Serves until a signal, then drains. `started` is told the addresses once the models are ready.
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
    started: impl FnOnce(Addresses) + Send + 'static,
) -> Result<(), RunError> {
    let pool = Pool::new(threads, config.limits.queue).map_err(RunError::System)?;
    let gpu = options.placement.device.is_gpu();
    let scheduler = Scheduler::new(config.scheduling(threads, gpu)).map_err(RunError::System)?;
    let front = Front::new(config.allow_changes, config.paths.clone());
    let state = web::Data::new(State::new(pool, scheduler, config.limits).with_front(front));
    load::discover(&state, &registry, default)?;

    let listen = |source| RunError::Listen { host: config.host.clone(), port: config.port, source };
    let shared = state.clone();
    let server = HttpServer::new(move || app::new(shared.clone()))
        .workers(threads.clamp(1, 4))
        .max_connections(config.limits.max_connections)
        .client_request_timeout(Duration::from_secs(10))
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

    let mut signals = Signals::listen().map_err(RunError::System)?;
    // A thread of its own, which nobody waits for: a signal ends the server while models load, too.
    let (report, loaded) = oneshot::channel();
    let loader = state.clone().into_inner();
    std::thread::Builder::new()
        .name("loader".to_owned())
        .spawn(move || report.send(load::load(&loader, &registry, &options)))
        .map_err(RunError::System)?;
    let early = tokio::select! {
        signal = signals.next() => Some(signal),
        result = loaded => {
            let result = result.map_err(|error| RunError::System(std::io::Error::other(error)))?;
            if let Err(error) = result {
                handle.stop(false).await;
                return Err(error.into());
            }
            if let Some(http) = address {
                started(Addresses { http, grpc: grpc.as_ref().map(Running::address) });
            }
            None
        }
    };
    let signal = match early {
        Some(signal) => signal,
        None => signals.next().await,
    };

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
        _ = signals.next() => handle.stop(false).await,
    }
    match serving.await {
        Ok(result) => result.map_err(RunError::Serve)?,
        Err(error) => return Err(RunError::Serve(std::io::Error::other(error))),
    }
    tracing::info!("stopped");
    Ok(())
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

/// The signals that ask a server to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one and names it.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
