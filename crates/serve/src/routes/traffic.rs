//! `GET` and `POST /v2/repository/models/{name}/traffic`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};

use crate::access::http::note;
use crate::body;
use crate::error::{Kind, Result, ServeError};
use crate::json;
use crate::state::State;
use crate::traffic::{Action, Caller, Traffic};

/// A change of traffic is small.
const MAX_BYTES: usize = 64 << 10;

fn traffic(state: &State) -> Result<Arc<Traffic>> {
    let traffic = state.traffic().cloned();
    traffic.ok_or_else(|| ServeError::unavailable("the server is starting; try again in a second"))
}

/// What holds for a model and what its versions did.
pub async fn show(state: web::Data<State>, name: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(traffic(&state)?.view(&state, &name)?))
}

/// Changes what holds for a model.
pub async fn change(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let traffic = traffic(&state)?;
    let body = body::read(&request, body, &state).await?;
    if body.len() > MAX_BYTES {
        let message = format!("a change of traffic has at most {MAX_BYTES} bytes");
        return Err(ServeError::new(Kind::TooLarge, message));
    }
    json::check_depth(&body, state.limits.max_json_depth)?;
    let action: Action = serde_json::from_slice(&body)
        .map_err(|error| ServeError::invalid(format_args!("the body is no change of traffic: {error}")))?;
    if let Ok(detail) = serde_json::from_slice(&body) {
        note(&request, detail);
    }
    let shared = state.clone();
    let done = state.pool.run(move || traffic.act(&shared, &name, action)).await?;
    Ok(HttpResponse::Ok().json(done.value))
}

/// Calls `answer` with who asks.
pub fn with_caller<T>(request: &HttpRequest, answer: impl FnOnce(Caller<'_>) -> T) -> T {
    let header = |name: &str| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
    answer(Caller { address: request.peer_addr().map(|address| address.ip()), header: Some(&header) })
}
