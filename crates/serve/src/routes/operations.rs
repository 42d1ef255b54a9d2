//! `GET /v2/ops`, and `GET …/drift` and `POST …/drift/reset` of models and versions.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::access::http::principal;
use crate::drift;
use crate::error::Result;
use crate::ops;
use crate::routes::oip::Route;
use crate::state::State;

/// Everything that the operator's page shows.
pub async fn show(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(ops::now(&state, &*principal(&request)?)))
}

/// How what a version meets differs from what it was trained on.
pub async fn drift(state: web::Data<State>, path: web::Path<Route>) -> Result<HttpResponse> {
    let served = path.find(&state)?;
    Ok(HttpResponse::Ok().json(drift::view(&state.drift, &served)))
}

/// Forgets what a version met, and tells what is left: nothing.
pub async fn reset_drift(state: web::Data<State>, path: web::Path<Route>) -> Result<HttpResponse> {
    let served = path.find(&state)?;
    if let Some(sketch) = served.executor().sketch() {
        sketch.reset();
        tracing::info!(model = served.name(), version = served.version(), "the counts of drift are reset");
    }
    Ok(HttpResponse::Ok().json(drift::view(&state.drift, &served)))
}
