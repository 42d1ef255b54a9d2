//! Reading a request's body: bounded in size and in time, unpacked when it is compressed.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::Decompress;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{Bytes, BytesMut, Payload};
use actix_web::{HttpRequest, rt};
use futures_util::StreamExt as _;

use crate::error::{Kind, Result, ServeError, shown};
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
}

/// A share of [`InFlight`], given back when it is dropped.
#[derive(Debug)]
struct Held {
    in_flight: Arc<InFlight>,
    bytes: usize,
}

impl Held {
    fn grow(&mut self, bytes: usize) -> Result<()> {
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
/// 413 beyond `limits.max_body_bytes` (of the unpacked body), 408 when it does not arrive in time, 415
/// for an encoding that is not read, 503 while other bodies fill the memory, 400 when it breaks off or cannot be unpacked.
pub async fn read(request: &HttpRequest, payload: Payload, state: &State) -> Result<Body> {
    let limits = &state.limits;
    let limit = limits.max_body_bytes;
    let too_large = || {
        ServeError::new(
            Kind::TooLarge,
            format!("the body is larger than the {limit} bytes that this server accepts"),
        )
    };
    let packed = check_encoding(request)?;
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut stream = Decompress::from_headers(payload, request.headers());
    let reading = async {
        let mut body = BytesMut::new();
        let mut held = Held { in_flight: Arc::clone(&state.in_flight), bytes: 0 };
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| broken(&error, packed))?;
            if chunk.len() > limit - body.len() {
                return Err(too_large());
            }
            held.grow(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(Body { bytes: body.freeze(), _held: held })
    };
    let deadline = Duration::from_secs(limits.body_timeout_s);
    rt::time::timeout(deadline, reading).await.unwrap_or_else(|_| {
        Err(ServeError::new(
            Kind::Timeout,
            format!("the body did not arrive within {} s", limits.body_timeout_s),
        ))
    })
}

/// Whether the body is compressed.
fn check_encoding(request: &HttpRequest) -> Result<bool> {
    const READ: [&str; 3] = ["identity", "gzip", "deflate"];
    let Some(value) = request.headers().get(CONTENT_ENCODING) else {
        return Ok(false);
    };
    let encoding = value.to_str().unwrap_or("").trim();
    if READ.iter().any(|known| encoding.eq_ignore_ascii_case(known)) {
        return Ok(!encoding.eq_ignore_ascii_case(READ[0]));
    }
    let message = format!("content encoding {} is not read; use identity, gzip or deflate", shown(encoding));
    Err(ServeError::new(Kind::MediaType, message))
}

fn broken(error: &PayloadError, packed: bool) -> ServeError {
    tracing::debug!(%error, "a body could not be read");
    if packed {
        return ServeError::invalid("the body cannot be unpacked with its content encoding, or breaks off");
    }
    ServeError::invalid("the body breaks off before its end")
}
