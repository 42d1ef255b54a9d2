//! The routes of the Open Inference Protocol, below `/v2`.

use std::sync::Arc;

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use artifact::Selector;
use serde_json::json;

use crate::body;
use crate::error::{Kind, Result, ServeError, shown};
use crate::oip::types::ServerMetadata;
use crate::oip::{infer, json as wire};
use crate::routes::traffic::with_caller;
use crate::served::Served;
use crate::state::{self, State};
use crate::traffic::Caller;

/// `GET /v2`.
pub async fn server() -> HttpResponse {
    HttpResponse::Ok().json(ServerMetadata {
        name: "brazier",
        version: env!("CARGO_PKG_VERSION"),
        extensions: &[],
    })
}

/// `GET /v2/health/live`: the process answers.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "live": true }))
}

/// `GET /v2/health/ready`: the models are loaded and warmed up, they still compute, and the server is not about to
/// stop.
pub async fn ready(state: web::Data<State>) -> HttpResponse {
    match state.fault() {
        None => HttpResponse::Ok().json(json!({ "ready": true })),
        Some(reason) => HttpResponse::ServiceUnavailable().json(json!({ "ready": false, "error": reason })),
    }
}

fn find(state: &State, path: &web::Path<Route>) -> Result<Arc<Served>> {
    let selector = path.version.as_deref().map_or(Selector::Default, state::selector);
    state.catalog().find(&path.name, &selector).cloned()
}

/// The part of the path that names a model.
#[derive(Debug, serde::Deserialize)]
pub struct Route {
    name: String,
    version: Option<String>,
}

/// `GET /v2/models/{name}[/versions/{version}]`.
pub async fn model(state: web::Data<State>, path: web::Path<Route>) -> Result<HttpResponse> {
    let served = find(&state, &path)?;
    let versions = state.catalog().model(&path.name)?.versions.keys().map(u64::to_string).collect();
    Ok(HttpResponse::Ok().json(infer::metadata(&served, versions)))
}

/// `GET /v2/models/{name}[/versions/{version}]/ready`.
pub async fn model_ready(state: web::Data<State>, path: web::Path<Route>) -> Result<HttpResponse> {
    let served = find(&state, &path)?;
    match served.predictor().and_then(|predictor| state.health.fault(predictor)) {
        None => Ok(HttpResponse::Ok().json(json!({ "name": served.name(), "ready": true }))),
        Some(reason) => Err(ServeError::unavailable(reason)),
    }
}

/// `POST /v2/models/{name}[/versions/{version}]/infer`.
pub async fn infer(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    path: web::Path<Route>,
) -> Result<HttpResponse> {
    let selector = path.version.as_deref().map_or(Selector::Default, state::selector);
    let route = |caller: Caller<'_>| state.catalog().route(&path.name, &selector, caller).cloned();
    let served = with_caller(&request, route)?;
    if request.headers().contains_key("Inference-Header-Content-Length") {
        return Err(ServeError::new(
            Kind::Unsupported,
            "this server does not speak the binary tensor extension (Inference-Header-Content-Length); \
             send the tensors as JSON `data`",
        ));
    }
    // The protocol's clients send this type or none.
    let content_type = request.content_type().to_ascii_lowercase();
    if !matches!(content_type.as_str(), "application/json" | "") {
        let message =
            format!("content type {} is not read here; expected application/json", shown(&content_type));
        return Err(ServeError::new(Kind::MediaType, message));
    }
    let body = body::read(&request, body, &state).await?;
    let request = state
        .pool
        .run_sized(body.len(), move || {
            let request = wire::decode(&body)?;
            drop(body);
            Ok(request)
        })
        .await?;
    let response = infer::run(&served, request.value, state.limits.max_rows).await?;
    let values: usize = response.outputs.iter().map(|output| output.tensor.elements().len()).sum();
    // A number takes some ten characters.
    let done = state.pool.run_sized(values.saturating_mul(10), move || wire::encode(&response)).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(done.value))
}
