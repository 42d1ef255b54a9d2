//! Encrypted connections for gRPC: each handshake by itself, so that a slow one keeps nobody waiting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Identity;

/// Handshakes at a time, and connections that wait to be taken; who comes then waits.
const HANDSHAKES: usize = 256;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// What its certificate says it is, where the connection is encrypted and it has one.
    pub identity: Option<Identity>,
}

/// A connection whose handshake is done.
pub type Encrypted = (TlsStream<TcpStream>, Peer);

/// The connections that come to a socket, once they are encrypted. It must be called within a runtime; it ends when the
/// stream is dropped.
pub fn incoming(
    listener: TcpListener,
    config: ServerConfig,
    within: Duration,
) -> impl Stream<Item = io::Result<Encrypted>> {
    let (give, mut take) = mpsc::channel(16);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = give.closed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // As when there are no more file descriptors: it may be better in a moment.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (give, acceptor) = (give.clone(), acceptor.clone());
            tokio::spawn(async move {
                let shaken = tokio::time::timeout(within, shake(stream, acceptor)).await;
                match shaken {
                    // Nobody takes it when the server stops.
                    Ok(Ok(connection)) => drop(give.send(Ok(connection)).await),
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
                // Not before somebody has taken it: else any number could wait here for a server that has enough.
                drop(permit);
            });
        }
    });
    futures_util::stream::poll_fn(move |context| take.poll_recv(context))
}

async fn shake(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<Encrypted> {
    stream.set_nodelay(true)?;
    let address = stream.peer_addr().ok();
    let stream = acceptor.accept(stream).await?;
    let identity = Identity::of(stream.get_ref().1);
    Ok((stream, Peer { address, identity }))
}
