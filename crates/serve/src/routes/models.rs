//! `GET /models`, `/models/{name}`, `/models/{name}/versions/{version}`.

use actix_web::{HttpResponse, web};
use artifact::Selector;

use crate::describe;
use crate::error::Result;
use crate::state::{self, State};

/// Every model with its versions, their states and the aliases.
pub async fn list(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(describe::catalog(&state.catalog()))
}

/// One model, and the version that answers when none is named in full.
pub async fn show(state: web::Data<State>, name: web::Path<String>) -> Result<HttpResponse> {
    let catalog = state.catalog();
    let mut view = describe::model(&name, catalog.model(&name)?);
    view["current"] = catalog
        .find(&name, &Selector::Default)
        .map_or(serde_json::Value::Null, |served| describe::version(served));
    Ok(HttpResponse::Ok().json(view))
}

/// One version in full.
pub async fn show_version(
    state: web::Data<State>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse> {
    let (name, version) = path.into_inner();
    let served = state.catalog().find(&name, &state::selector(&version)).cloned()?;
    Ok(HttpResponse::Ok().json(describe::version(&served)))
}
