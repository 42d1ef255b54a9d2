//! The gRPC server: a socket, threads of its own, and which service a path means.

use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use model::device::panic_message;
use tokio_util::sync::CancellationToken;
use tonic::codegen::{CompressionEncoding, Service, http};
use tonic::transport::Server;
use tonic::{Status, body::Body};
use tonic_health::pb::health_server::HealthServer;

use super::DESCRIPTORS;
use super::body::{Answered, Bounded};
use super::health::HealthCheck;
use super::incoming::{guarded, plain};
use super::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use super::service::Inference;
use crate::access;
use crate::error::shown;
use crate::state::State;
use crate::telemetry::{self, Open};
use crate::tls::{self, Tls};

/// A running server.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    calls: Open,
    ending: CancellationToken,
    thread: JoinHandle<()>,
}

/// Threads that read and write; computing happens elsewhere.
const THREADS: usize = 2;

/// How long a client that is asked whether it is there may take to say so.
const REPLY: Duration = Duration::from_secs(20);

/// How long connections may stay without a call when the server ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Starts a server on a socket that listens already.
///
/// # Errors
/// When the system gives no threads, or the socket cannot be used.
pub fn start(state: Arc<State>, listener: TcpListener) -> std::io::Result<Running> {
    start_with(state, listener, None)
}

/// As [`start`], with encryption or without.
///
/// # Errors
/// As [`start`].
pub fn start_with(state: Arc<State>, listener: TcpListener, tls: Option<&Tls>) -> std::io::Result<Running> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let limits = state.limits;
    let limit = limits.max_body_bytes;
    let (calls, ending) = (state.telemetry.doors.grpc_open.clone(), CancellationToken::new());
    let services = Services {
        inference: GrpcInferenceServiceServer::new(Inference::new(Arc::clone(&state)))
            .max_decoding_message_size(limit)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate),
        health: HealthServer::new(HealthCheck::new(Arc::clone(&state))).max_decoding_message_size(1 << 16),
        v1: reflection().build_v1().map_err(std::io::Error::other)?.max_decoding_message_size(1 << 16),
        v1alpha: reflection()
            .build_v1alpha()
            .map_err(std::io::Error::other)?
            .max_decoding_message_size(1 << 16),
        ending: ending.clone(),
        state,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("grpc")
        .enable_all()
        .build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let encryption =
        tls.map(|tls| Ok::<_, std::io::Error>((tls.server_config(&["h2"])?, tls.handshake_timeout)));
    let encryption = encryption.transpose()?;
    let stopped = ending.clone().cancelled_owned();
    let thread = std::thread::Builder::new().name("grpc".to_owned()).spawn(move || {
        let server = Server::builder()
            .max_concurrent_streams(limits.max_grpc_streams)
            .http2_max_header_list_size(Some(16 << 10))
            .http2_keepalive_interval(Some(Duration::from_secs(limits.grpc_keep_alive_s)))
            .http2_keepalive_timeout(Some(REPLY))
            .max_connection_age(Duration::from_secs(limits.grpc_connection_age_s))
            .max_connection_age_grace(Duration::from_secs(limits.body_timeout_s + limits.write_timeout_s));
        let served = runtime.block_on(async {
            if let Some((config, within)) = encryption {
                let incoming = guarded(tls::incoming(listener, config, within), limits);
                server.serve_with_incoming_shutdown(services, incoming, stopped).await
            } else {
                let incoming = guarded(plain(listener), limits);
                server.serve_with_incoming_shutdown(services, incoming, stopped).await
            }
        });
        if let Err(error) = served {
            tracing::error!(%error, "the gRPC server failed");
        }
    })?;
    Ok(Running { address, calls, ending, thread })
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connections any more, and waits until the calls under way are answered, but no longer than this.
    pub async fn stop(self, within: Duration) {
        self.ending.cancel();
        // A client that is there says so, and its connection is ended. Who says nothing is not waited for once nothing
        // of it is under way.
        let mut idle = Instant::now();
        let finished = async {
            while !self.thread.is_finished() && idle.elapsed() < FAREWELL {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if self.calls.count() > 0 {
                    idle = Instant::now();
                }
            }
        };
        if tokio::time::timeout(within, finished).await.is_err() {
            tracing::warn!("gRPC calls under way were cut off");
        }
    }
}

/// The services, told apart by the first part of the path. Every call goes through here, so this is the place for
/// what holds for all of them.
#[derive(Clone)]
struct Services<V1, V1Alpha> {
    state: Arc<State>,
    ending: CancellationToken,
    inference: GrpcInferenceServiceServer<Inference>,
    health: HealthServer<HealthCheck>,
    v1: V1,
    v1alpha: V1Alpha,
}

/// Which of them a call is for.
#[derive(Clone, Copy)]
enum Asked {
    Inference,
    Health,
    V1,
    V1Alpha,
    Nobody,
}

impl Asked {
    fn of(path: &str) -> Self {
        match service(path) {
            "inference.GRPCInferenceService" => Self::Inference,
            "grpc.health.v1.Health" => Self::Health,
            "grpc.reflection.v1.ServerReflection" => Self::V1,
            "grpc.reflection.v1alpha.ServerReflection" => Self::V1Alpha,
            _ => Self::Nobody,
        }
    }
}

/// The service that a path names.
fn service(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or("")
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl<V1, V1Alpha> Service<http::Request<Body>> for Services<V1, V1Alpha>
where
    V1: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    V1::Future: Send + 'static,
    V1Alpha: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    V1Alpha::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Answer {
        let path = request.uri().path();
        let running = telemetry::grpc::begin(&self.state.telemetry, path, request.headers());
        let asked = Asked::of(path);
        let streams = path.ends_with("/ModelStreamInfer") || matches!(asked, Asked::V1 | Asked::V1Alpha);
        // Whatever the path, nothing is answered before the check: see `access`.
        let admit = || access::rpc::admit(&self.state.access, &mut request);
        if let Err(error) = running.context().within(admit) {
            let refused = std::future::ready(Ok(Status::from(error).into_http()));
            return Box::pin(telemetry::grpc::observe(running, refused));
        }
        // A stream may last; a message must arrive in time.
        let (in_flight, limits) = (&self.state.in_flight, self.state.limits);
        let request = request.map(|body| {
            Body::new(match streams {
                true => Bounded::stream(body, in_flight, limits, &self.ending),
                false => Bounded::message(body, in_flight, limits),
            })
        });
        let answer: Answer = match asked {
            Asked::Inference => self.inference.call(request),
            Asked::Health => self.health.call(request),
            Asked::V1 => Box::pin(self.v1.call(request)),
            Asked::V1Alpha => Box::pin(self.v1alpha.call(request)),
            Asked::Nobody => {
                let service = shown(service(request.uri().path()));
                let status = Status::unimplemented(format!("there is no service {service}"));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        };
        // It is under way until its answer has been handed over, which of a stream takes long.
        let call = self.state.telemetry.doors.grpc_open.enter();
        let answered = async move {
            let answer = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| {
                let cause = panic_message(panic.as_ref());
                tracing::error!(%cause, "a gRPC call panicked");
                Ok(Status::internal("the server failed to answer; its log says why").into_http())
            });
            answer.map(|response| response.map(|body| Body::new(Answered::new(body, call))))
        };
        Box::pin(telemetry::grpc::observe(running, answered))
    }
}
