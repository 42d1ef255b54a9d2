//! Answers that may be large: packed as the client likes it, on a thread that may take its time.

use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse};

use crate::compression::{self, Coding, SHORTEST};
use crate::error::{Result, ServeError};
use crate::state::State;

/// What a client accepts, taken from its request before the work begins.
#[must_use]
pub fn accepted(request: &HttpRequest) -> Option<Coding> {
    // Several headers are one list.
    let values = request.headers().get_all(ACCEPT_ENCODING).filter_map(|value| value.to_str().ok());
    compression::negotiate(values.flat_map(|value| value.split(',')))
}

/// Packs the body of an answer when the client accepts that and it is long enough to gain from it.
///
/// # Errors
/// 503 when the pool is full.
pub async fn packed(
    state: &State,
    coding: Option<Coding>,
    response: HttpResponse,
    body: Vec<u8>,
) -> Result<HttpResponse> {
    let mut response = response;
    let Some(coding) = coding.filter(|_| body.len() >= SHORTEST) else {
        return Ok(response.set_body(body).map_into_boxed_body());
    };
    let pack = move || {
        let packed = compression::pack(coding, &body).map_err(ServeError::internal)?;
        // What does not get shorter is sent as it is.
        Ok(if packed.len() < body.len() { (packed, true) } else { (body, false) })
    };
    let (body, is_packed) = state.pool.run(pack).await?.value;
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_packed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    Ok(response.set_body(body).map_into_boxed_body())
}
