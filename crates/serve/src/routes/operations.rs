//! `GET /v2/ops`, and `GET …/drift` and `POST …/drift/reset` of models and versions.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use crate::access::http::principal;
use crate::drift;
use crate::error::Result;
use crate::front;
use crate::ops;
use crate::state::State;

/// The parts of the path that name a version.
#[derive(Debug, Deserialize)]
pub struct Named {
    name: String,
    version: Option<String>,
}

/// Everything that the operator's page shows.
pub async fn show(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(ops::now(&state, &*principal(&request)?)))
}

/// How what a version meets differs from what it was trained on.
pub async fn drift(state: web::Data<State>, path: web::Path<Named>) -> Result<HttpResponse> {
    let served = front::find(&state, &path.name, path.version.as_deref())?;
    Ok(HttpResponse::Ok().json(drift::view(&state.drift, &served)))
}

/// Forgets what a version met, and tells what is left: nothing.
pub async fn reset_drift(state: web::Data<State>, path: web::Path<Named>) -> Result<HttpResponse> {
    let served = front::find(&state, &path.name, path.version.as_deref())?;
    if let Some(sketch) = served.executor().sketch() {
        sketch.reset();
        tracing::info!(model = served.name(), version = served.version(), "the counts of drift are reset");
    }
    Ok(HttpResponse::Ok().json(drift::view(&state.drift, &served)))
}
