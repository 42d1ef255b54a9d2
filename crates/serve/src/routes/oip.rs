//! The routes of the Open Inference Protocol, below `/v2`: server, models, inference.

use actix_web::http::header::HeaderValue;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::access::http::principal;
use crate::body;
use crate::error::{Kind, Result, ServeError, shown};
use crate::oip::binary;
use crate::oip::infer::NUMBER;
use crate::oip::request::{self, Form};
use crate::oip::response::{self, Encoded};
use crate::routes::reply;
use crate::routes::traffic::with_caller;
use crate::state::State;
use crate::{front, inventory, json};

/// The header that says where the JSON ends and the tensors begin.
pub const JSON_LENGTH: &str = "inference-header-content-length";

/// `GET /v2`.
pub async fn server() -> HttpResponse {
    HttpResponse::Ok().json(inventory::server())
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

/// The part of the path that names a model.
#[derive(Debug, serde::Deserialize)]
pub struct Route {
    name: String,
    version: Option<String>,
}

impl Route {
    pub(crate) fn find(&self, state: &State) -> Result<std::sync::Arc<crate::served::Served>> {
        front::find(state, &self.name, self.version.as_deref())
    }
}

/// `GET /v2/models/{name}[/versions/{version}]`.
pub async fn model(state: web::Data<State>, path: web::Path<Route>) -> Result<HttpResponse> {
    let served = path.find(&state)?;
    Ok(HttpResponse::Ok().json(inventory::metadata(&state, &served)?))
}

/// `GET /v2/models/{name}[/versions/{version}]/config`.
pub async fn config(state: web::Data<State>, path: web::Path<Route>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(inventory::config(&*path.find(&state)?)))
}

/// `GET /v2/models/{name}[/versions/{version}]/ready`.
pub async fn model_ready(state: web::Data<State>, path: web::Path<Route>) -> Result<HttpResponse> {
    let served = path.find(&state)?;
    front::check_ready(&state, &served)?;
    Ok(HttpResponse::Ok().json(json!({ "name": served.name(), "ready": true })))
}

/// `GET /v2/models/stats`.
pub async fn all_statistics(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse> {
    let principal = principal(&request)?;
    let mut statistics = inventory::statistics(&state, None, None)?;
    statistics.model_stats.retain(|model| principal.may_see(&model.name));
    Ok(HttpResponse::Ok().json(statistics))
}

/// `GET /v2/models/{name}[/versions/{version}]/stats`.
pub async fn statistics(state: web::Data<State>, path: web::Path<Route>) -> Result<HttpResponse> {
    let statistics = inventory::statistics(&state, Some(&path.name), path.version.as_deref())?;
    Ok(HttpResponse::Ok().json(statistics))
}

/// `POST /v2/models/{name}[/versions/{version}]/infer`.
pub async fn infer(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    path: web::Path<Route>,
) -> Result<HttpResponse> {
    let version = path.version.as_deref();
    let served = with_caller(&request, |caller| front::route(&state, &path.name, version, caller))?;
    // The protocol's clients send one of these types or none, whatever the body is.
    let content_type = request.content_type();
    let reads = ["application/json", "application/octet-stream", ""];
    if !reads.iter().any(|read| content_type.eq_ignore_ascii_case(read)) {
        let found = shown(&content_type.to_ascii_lowercase());
        let message = format!(
            "content type {found} is not read here; expected application/json or application/octet-stream"
        );
        return Err(ServeError::new(Kind::MediaType, message));
    }
    answer(&request, body, &state, &served, form(&request)?).await
}

/// How the body is divided, as the header says.
fn form(request: &HttpRequest) -> Result<Form> {
    let mut values = request.headers().get_all(JSON_LENGTH);
    let first = values.next();
    if values.next().is_some() {
        return Err(ServeError::invalid("the header Inference-Header-Content-Length is given twice"));
    }
    // What is no text is no number either.
    Form::from_header(first.map(|value| value.to_str().unwrap_or("?")))
}

/// Reads the body of an inference request in the form that it has, and answers it.
///
/// # Errors
/// Those of reading, and of [`front::infer`].
pub async fn answer(
    request: &HttpRequest,
    body: web::Payload,
    state: &State,
    served: &std::sync::Arc<crate::served::Served>,
    form: Form,
) -> Result<HttpResponse> {
    let coding = reply::accepted(request);
    // What it holds counts until the answer is there, or many requests that wait would be more than may be in memory.
    let (body, _held) = body::read(request, body, state).await?.into_parts();
    state.telemetry.payload("request", &body);
    let text = match form {
        Form::Json => body.len(),
        Form::Binary { json } => json.min(body.len()),
        Form::Raw => 0,
    };
    let cost = front::cost(text, body.len() - text);
    let depth = state.limits.max_json_depth;
    let decode = move |signature: &network::Signature| {
        json::check_depth(body.get(..text).unwrap_or_default(), depth)?;
        request::decode(&body, form, signature)
    };
    let response = front::infer(state, served, cost, decode).await?;
    let (mut text, mut binary_size) = (0, 0);
    for output in &response.outputs {
        let elements = output.tensor.tensor.elements();
        let size = binary::size(elements);
        if output.binary {
            binary_size += size;
        } else {
            text += size.max(elements.len().saturating_mul(NUMBER));
        }
    }
    let encode = move || response::encode(&response);
    let Encoded { body, json_length } =
        state.pool.run_sized(front::cost(text, binary_size), encode).await?.value;
    state.telemetry.payload("answer", &body);
    let mut builder = HttpResponse::Ok();
    match json_length {
        None => builder.content_type("application/json"),
        Some(length) => builder
            .content_type("application/octet-stream")
            .insert_header((JSON_LENGTH, HeaderValue::from(length))),
    };
    reply::packed(state, coding, builder.finish(), body).await
}
