//! `GET /models`, `/models/{name}`, `/models/{name}/versions/{version}`.

use actix_web::{HttpRequest, HttpResponse, web};
use artifact::Selector;

use crate::access::http::principal;
use crate::describe;
use crate::error::Result;
use crate::state::{self, State};

/// Every model with its versions, their states and the aliases.
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse> {
    let (principal, catalog) = (principal(&request)?, state.catalog());
    if principal.models.are_all() {
        return Ok(HttpResponse::Ok().json(describe::catalog(&catalog)));
    }
    // Who may use some models does not learn of the others.
    let mut seen = (*catalog).clone();
    seen.models.retain(|name, _| principal.may_see(name));
    let mut view = describe::catalog(&seen);
    // The only one that is seen is not the default where there are others.
    let default = catalog.find_default().ok().map(|served| served.name().to_owned());
    view["default"] = default.filter(|name| principal.may_see(name)).into();
    Ok(HttpResponse::Ok().json(view))
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
