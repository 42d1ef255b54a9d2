//! Reading a request's body: bounded in size and in time, unpacked when it is compressed.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::rt::time::Instant;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;

use crate::compression::{self, Coding, UnpackError};
use crate::error::{Kind, Result, ServeError, shown};
use crate::limits::Limits;
use crate::memory::Memory;
use crate::state::State;

/// How many bytes of bodies are in memory, and may be: many clients that each stay within the limit must
/// not together take more memory than there is.
#[derive(Debug)]
pub struct InFlight {
    bytes: AtomicUsize,
    most: usize,
    memory: Arc<Memory>,
}

impl InFlight {
    /// Nothing in memory yet; at most `most` bytes may be, and none where `memory` is full.
    #[must_use]
    pub fn new(most: usize, memory: &Arc<Memory>) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), most, memory: Arc::clone(memory) })
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
    /// 503 while other bodies fill the memory, or something else does.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<()> {
        if self.in_flight.memory.is_full() {
            return Err(ServeError::unavailable("the server is short of memory; try again in a second"));
        }
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

    /// Gives all of it back.
    pub(crate) fn clear(&mut self) {
        self.in_flight.bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::AcqRel);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A whole body. It counts as in memory until it is dropped.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    held: Held,
}

impl Body {
    /// The bytes, and what they count for: to be dropped when nothing that was made of them is in memory any more, which is
    /// when the request is answered.
    pub(crate) fn into_parts(self) -> (Bytes, Held) {
        (self.bytes, self.held)
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
    let limit = state.limits.max_body_bytes;
    let coding = check_encoding(request)?;
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let announced = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut held = Held::new(&state.in_flight);
    let bytes = collect(payload, announced, &state.limits, &mut held).await?;
    let Some(coding) = coding else { return Ok(Body { bytes, held }) };
    // Unpacking takes time, which the network threads do not have: only what cannot become much is unpacked here. A few
    // bytes of zstd can fill any limit.
    let cost = if coding == Coding::Zstd { usize::MAX } else { bytes.len().saturating_mul(EXPANSION) };
    let unpack = move || {
        let unpacked = compression::unpack(coding, &bytes, limit).map_err(|error| match error {
            UnpackError::TooLarge => too_large(limit),
            UnpackError::Damaged => {
                ServeError::invalid("the body cannot be unpacked with its content encoding, or breaks off")
            }
        })?;
        drop(bytes);
        // From now on it counts for what it is.
        held.clear();
        held.grow(unpacked.len())?;
        Ok(Body { bytes: unpacked.into(), held })
    };
    Ok(state.pool.run_sized(cost, unpack).await?.value)
}

/// What unpacking a byte costs beside reading a byte of text: it may become a thousand, which are quickly written.
const EXPANSION: usize = 8;

/// How much memory is reserved for a body that announces its length, before it has come.
const RESERVED: usize = 1 << 20;

/// Receives a body. One that comes in one piece, as small ones do, stays where it is.
async fn collect(mut payload: Payload, announced: usize, limits: &Limits, held: &mut Held) -> Result<Bytes> {
    let limit = limits.max_body_bytes;
    let (mut first, mut body) = (Bytes::new(), BytesMut::new());
    let mut length = 0;
    let began = Instant::now();
    loop {
        // Who sends a byte now and then is not waited for as long as who sends steadily.
        let patience = limits.body_patience(length);
        let chunk = match tokio::time::timeout_at(began + patience, payload.next()).await {
            Ok(Some(chunk)) => chunk.map_err(|error| {
                tracing::debug!(%error, "a body could not be read");
                ServeError::invalid("the body breaks off before its end")
            })?,
            Ok(None) => break,
            Err(_) => return Err(late(limits, patience)),
        };
        if chunk.len() > limit - length {
            return Err(too_large(limit));
        }
        held.grow(chunk.len())?;
        if length == 0 {
            first = chunk;
            length = first.len();
            continue;
        }
        length += chunk.len();
        if body.is_empty() {
            body.reserve(announced.clamp(length, RESERVED.max(length)));
            body.extend_from_slice(&std::mem::take(&mut first));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(if body.is_empty() { first } else { body.freeze() })
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
