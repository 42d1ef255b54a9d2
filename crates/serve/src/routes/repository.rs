//! The routes of the model repository extension, and those of the settings: what clients may look at and, where the
//! configuration lets them, change.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value};

use crate::access::http::{note, principal};
use crate::error::{Kind, Result, ServeError, shown};
use crate::front::{self, Change};
use crate::repository;
use crate::state::State;
use crate::{body, json};

/// The body of a small request: an object, or nothing at all.
async fn object(request: &HttpRequest, payload: web::Payload, state: &State) -> Result<Map<String, Value>> {
    let body = body::read(request, payload, state).await?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    json::check_depth(&body, state.limits.max_json_depth)?;
    json::object(&body, "a JSON object, or nothing", 64)
}

/// There is one repository, whose name is empty.
///
/// # Errors
/// 400 for another.
pub fn check_repository(name: &str) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    Err(ServeError::invalid(format_args!("there is no repository {}; the only one has no name", shown(name))))
}

/// `POST /v2/repository/index`, with `{"ready": true}` for what answers alone.
pub async fn index(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse> {
    let principal = principal(&request)?;
    let fields = object(&request, payload, &state).await?;
    json::known_fields(fields.keys().map(String::as_str), &["ready"], "the request")?;
    let ready = match fields.get("ready") {
        None => false,
        Some(Value::Bool(ready)) => *ready,
        Some(other) => {
            let found = json::kind_of(other);
            return Err(ServeError::invalid(format_args!("`ready` must be a boolean, but is {found}")));
        }
    };
    let mut index = repository::index(&state.catalog(), ready);
    index.retain(|entry| principal.may_see(&entry.name));
    Ok(HttpResponse::Ok().json(index))
}

/// Refuses what loading cannot do: a configuration, or files, that come with the request. Models come from the
/// repository of the server and from nowhere else.
///
/// # Errors
/// 501 for those, 400 for what is no parameter of loading.
pub fn check_load<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Result<()> {
    match parameters.next() {
        None => Ok(()),
        Some(name) if name == "config" || name.starts_with("file:") => Err(ServeError::new(
            Kind::Unsupported,
            format!("parameter {}: models are loaded from the server's own repository alone", shown(name)),
        )),
        Some(name) => Err(ServeError::invalid(format_args!("loading has no parameter {}", shown(name)))),
    }
}

/// Refuses parameters that unloading does not have. What depends on a model are the ensembles that it is a member of, and
/// those do not answer without it, so whether dependents go too makes no difference.
///
/// # Errors
/// 400 for any other parameter.
pub fn check_unload<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Result<()> {
    match parameters.find(|name| *name != "unload_dependents") {
        None => Ok(()),
        Some(name) => Err(ServeError::invalid(format_args!("unloading has no parameter {}", shown(name)))),
    }
}

fn parameters(fields: &Map<String, Value>) -> Result<Vec<&str>> {
    json::known_fields(fields.keys().map(String::as_str), &["parameters"], "the request")?;
    match fields.get("parameters") {
        None => Ok(Vec::new()),
        Some(Value::Object(parameters)) => Ok(parameters.keys().map(String::as_str).collect()),
        Some(other) => {
            let found = json::kind_of(other);
            Err(ServeError::invalid(format_args!("`parameters` must be an object, but is {found}")))
        }
    }
}

/// `POST /v2/repository/models/{name}/load`.
pub async fn load(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let fields = object(&request, payload, &state).await?;
    note(&request, fields.clone().into());
    check_load(parameters(&fields)?.into_iter())?;
    front::change(&state, Change::Load, name.into_inner()).await?;
    Ok(HttpResponse::Ok().finish())
}

/// `POST /v2/repository/models/{name}/unload`.
pub async fn unload(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let fields = object(&request, payload, &state).await?;
    note(&request, fields.clone().into());
    check_unload(parameters(&fields)?.into_iter())?;
    front::change(&state, Change::Unload, name.into_inner()).await?;
    Ok(HttpResponse::Ok().finish())
}

/// `GET /v2/logging`.
pub async fn log(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(state.front.settings.log())
}

/// `POST /v2/logging`.
pub async fn change_log(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse> {
    let changes = object(&request, payload, &state).await?;
    note(&request, changes.clone().into());
    state.front.settings.change_log(&changes)?;
    Ok(log(state).await)
}

/// The part of the path that names a model, for the settings of all or of one.
#[derive(Debug, serde::Deserialize)]
pub struct Traced {
    name: Option<String>,
}

impl Traced {
    fn check(&self, state: &State) -> Result<Option<&str>> {
        if let Some(name) = &self.name {
            state.catalog().model(name)?;
        }
        Ok(self.name.as_deref())
    }
}

/// `GET /v2/trace/setting`, `/v2/models/{name}/trace/setting`.
pub async fn trace(state: web::Data<State>, path: web::Path<Traced>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(state.front.settings.trace(path.check(&state)?)))
}

/// `POST /v2/trace/setting`, `/v2/models/{name}/trace/setting`.
pub async fn change_trace(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
    path: web::Path<Traced>,
) -> Result<HttpResponse> {
    let model = path.check(&state)?;
    let changes = object(&request, payload, &state).await?;
    note(&request, changes.clone().into());
    state.front.settings.change_trace(model, &changes)?;
    Ok(HttpResponse::Ok().json(state.front.settings.trace(model)))
}
