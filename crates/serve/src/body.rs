//! Reading a request's body: bounded in size and in time, unpacked when it is compressed.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Decompress;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::rt::time::Instant;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;

use crate::compression::{self, Coding, UnpackError};
use crate::error::{Kind, Result, ServeError, shown};
use crate::limits::Limits;
use crate::state::State;

/// How many bytes of bodies are in memory, and may be: many clients that each stay within the limit must
/// not together take more memory than there is.
#[derive(Debug)]
pub struct InFlight {
    bytes: AtomicUsize,
    most: usize,
}

impl InFlight {
    /// Nothing in memory yet; at most `most` bytes may be.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), most })
    }

    /// How many are in memory now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A share of [`InFlight`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    in_flight: Arc<InFlight>,
    bytes: usize,
}

impl Held {
    /// Nothing yet.
    pub(crate) fn new(in_flight: &Arc<InFlight>) -> Self {
        Self { in_flight: Arc::clone(in_flight), bytes: 0 }
    }

    /// Takes more.
    ///
    /// # Errors
    /// 503 while other bodies fill the memory.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<()> {
        let most = self.in_flight.most;
        let add = |held: usize| held.checked_add(bytes).filter(|total| *total <= most);
        match self.in_flight.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => {
                Err(ServeError::unavailable("the server is busy with other bodies; try again in a second"))
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_flight.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A whole body. It counts as in memory until it is dropped.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    _held: Held,
}

impl Body {
    /// The bytes, shared; they do not count for longer than the body itself.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the whole body.
///
/// # Errors
/// 413 beyond `limits.max_body_bytes` (of the unpacked body), 408 when it does not arrive in time or too slowly, 415
/// for an encoding that is not read, 503 while other bodies fill the memory, 400 when it breaks off or cannot be unpacked.
pub async fn read(request: &HttpRequest, payload: Payload, state: &State) -> Result<Body> {
    let limits = &state.limits;
    let limit = limits.max_body_bytes;
    let coding = check_encoding(request)?;
    let packed = coding.is_some();
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let mut stream = Decompress::from_headers(payload, request.headers());
    let mut body = BytesMut::new();
    let mut held = Held::new(&state.in_flight);
    let began = Instant::now();
    loop {
        // Who sends a byte now and then is not waited for as long as who sends steadily.
        let patience = limits.body_patience(body.len());
        let chunk = match tokio::time::timeout_at(began + patience, stream.next()).await {
            Ok(Some(chunk)) => chunk.map_err(|error| broken(&error, packed))?,
            Ok(None) => break,
            Err(_) => return Err(late(limits, patience)),
        };
        if chunk.len() > limit - body.len() {
            return Err(too_large(limit));
        }
        held.grow(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    let bytes = body.freeze();
    if coding != Some(Coding::Zstd) {
        return Ok(Body { bytes, _held: held });
    }
    // Unpacking takes time, which the network threads do not have.
    let unpacked = state
        .pool
        .run(move || match compression::unpack_zstd(&bytes, limit) {
            Ok(unpacked) => Ok(unpacked),
            Err(UnpackError::TooLarge) => Err(too_large(limit)),
            Err(UnpackError::Damaged) => Err(unreadable()),
        })
        .await?
        .value;
    held.grow(unpacked.len())?;
    Ok(Body { bytes: unpacked.into(), _held: held })
}

fn late(limits: &Limits, patience: Duration) -> ServeError {
    let rate = limits.min_body_bytes_per_s;
    let seconds = patience.as_secs();
    let message = if seconds >= limits.body_timeout_s {
        format!("the body did not arrive within {} s", limits.body_timeout_s)
    } else {
        format!("the body arrives more slowly than {rate} bytes a second, after {seconds} s")
    };
    ServeError::new(Kind::Timeout, message)
}

fn too_large(limit: usize) -> ServeError {
    let message = format!("the body is larger than the {limit} bytes that this server accepts");
    ServeError::new(Kind::TooLarge, message)
}

/// How the body is packed, if it is.
fn check_encoding(request: &HttpRequest) -> Result<Option<Coding>> {
    let mut values = request.headers().get_all(CONTENT_ENCODING);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let encoding = value.to_str().unwrap_or("").trim();
    let coding = Coding::named(encoding);
    if values.next().is_none() && (coding.is_some() || encoding.eq_ignore_ascii_case("identity")) {
        return Ok(coding);
    }
    let message =
        format!("content encoding {} is not read; use identity, gzip, deflate or zstd", shown(encoding));
    Err(ServeError::new(Kind::MediaType, message))
}

fn unreadable() -> ServeError {
    ServeError::invalid("the body cannot be unpacked with its content encoding, or breaks off")
}

fn broken(error: &PayloadError, packed: bool) -> ServeError {
    tracing::debug!(%error, "a body could not be read");
    if packed {
        return unreadable();
    }
    ServeError::invalid("the body breaks off before its end")
}
