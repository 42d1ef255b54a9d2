//! `POST /predict`, `/models/{name}/predict`, `/models/{name}/versions/{version}/predict`.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};

use crate::answer::{self, Timing};
use crate::body;
use crate::error::{Result, ServeError, shown};
use crate::json;
use crate::oip::request::Form;
use crate::payload::{self, Payload};
use crate::routes::traffic::with_caller;
use crate::routes::{oip, reply};
use crate::served::Served;
use crate::state::State;
use crate::{front, served, telemetry};

/// The default model, or the version of it that this request falls to.
fn default_model(request: &HttpRequest, state: &State) -> Result<Arc<Served>> {
    with_caller(request, |caller| state.catalog().route_default(caller).cloned())
}

/// Asks the default model.
pub async fn default(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse> {
    let served = default_model(&request, &state)?;
    predict(&request, body, &state, served).await
}

/// SageMaker's route: the default model with whatever [`default`] takes, or with the protocol's tensors, in the type
/// by which SageMaker carries the length of their JSON, since it passes no headers on.
pub async fn invocations(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse> {
    const BINARY: &str = "application/vnd.sagemaker-triton.binary+json";
    if !request.content_type().eq_ignore_ascii_case(BINARY) {
        return default(request, body, state).await;
    }
    let served = default_model(&request, &state)?;
    let header = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let length = header.split(';').find_map(|part| part.trim().strip_prefix("json-header-size="));
    let Some(length) = length else {
        return Err(ServeError::invalid(format_args!(
            "the content type {BINARY} needs a `json-header-size`"
        )));
    };
    let form = Form::from_header(Some(length))?;
    let mut response = oip::answer(&request, body, &state, &served, form).await?;
    // The answer is told apart in the same way.
    if let Some(length) = response.headers().get(oip::JSON_LENGTH).and_then(|value| value.to_str().ok()) {
        let value = HeaderValue::from_str(&format!("{BINARY};json-header-size={length}"));
        response.headers_mut().insert(CONTENT_TYPE, value.map_err(ServeError::internal)?);
    }
    Ok(response)
}

/// Asks the version of a model that its alias `production` names, else the newest.
pub async fn model(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse> {
    let served = with_caller(&request, |caller| front::route(&state, &name, None, caller))?;
    predict(&request, body, &state, served).await
}

/// Asks a version by its number or an alias.
pub async fn version(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse> {
    let (name, version) = path.into_inner();
    let served = front::find(&state, &name, Some(&version))?;
    predict(&request, body, &state, served).await
}

async fn predict(
    request: &HttpRequest,
    body: web::Payload,
    state: &State,
    served: Arc<Served>,
) -> Result<HttpResponse> {
    telemetry::asks(&served);
    let top = top(request.query_string())?;
    let content_type = request.content_type().to_ascii_lowercase();
    // What cannot be read is refused before it is received.
    if content_type != MULTIPART && content_type != "application/octet-stream" {
        payload::classify(&content_type, web::Bytes::new())?;
    }
    // What it holds counts until the answer is there, or many requests that wait would be more than may be in memory.
    let (body, _held) = body::read(request, body, state).await?.into_parts();
    state.telemetry.payload("request", &body);
    let (limits, size) = (state.limits, body.len());
    let header = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let form = header.filter(|_| content_type == MULTIPART).map(str::to_owned);
    let predictor = Arc::clone(served.raw()?);
    let began = Instant::now();
    let read = state.pool.run_sized(size, move || {
        let start = Instant::now();
        let payload = match form {
            Some(header) => Payload::Files(payload::files(&header, body, limits.max_rows)?),
            None => payload::classify(&content_type, body)?,
        };
        if let Payload::Json(body) = &payload {
            json::check_depth(body, limits.max_json_depth)?;
        }
        let inputs = payload.inputs(predictor.preprocess(), limits.max_rows)?;
        payload::check_pixels(&inputs.rows, limits.max_image_pixels)?;
        Ok((inputs, start.elapsed()))
    });
    let done = front::counted(&served, began, read.await)?;
    let (inputs, prepare) = done.value;
    let (list, top) = (inputs.list, top.or(inputs.top));
    let mut timing = Timing { queue: done.queued, prepare, ..Timing::default() };
    let traced = front::traced(state, &served);
    telemetry::prepared(0, began + done.queued, prepare);
    let predictions = answer::predict(&served, inputs, &state.pool, size, &mut timing).await?;
    served.stats().prepared(timing.prepare);
    if traced {
        let (queue, compute_infer, batch_rows) = (timing.queue, timing.infer, predictions.len());
        let whole = served::Timing { queue, compute_infer, batch_rows, ..served::Timing::default() };
        front::trace(&served, None, timing.prepare, &whole);
    }
    let values: usize = predictions.len().saturating_mul(served.raw()?.postprocess().labels.len());
    // A name and a number for each label.
    let json = state
        .pool
        .run_sized(values.saturating_mul(20), move || answer::write(&served, &predictions, list, top))
        .await?
        .value;
    state.telemetry.payload("answer", &json);
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let server_timing = format!(
        "queue;dur={:.3}, prepare;dur={:.3}, infer;dur={:.3}",
        milliseconds(timing.queue),
        milliseconds(timing.prepare),
        milliseconds(timing.infer)
    );
    let response = HttpResponse::Ok()
        .content_type("application/json")
        .insert_header(("Server-Timing", server_timing))
        .finish();
    reply::packed(state, reply::accepted(request), response, json).await
}

const MULTIPART: &str = "multipart/form-data";

/// Reads the query: `top=K` or nothing.
fn top(query: &str) -> Result<Option<usize>> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|_| ServeError::invalid("the query cannot be read; expected ?top=K or none"))?;
    let mut top = None;
    for (key, value) in pairs.into_inner() {
        if key != "top" {
            return Err(ServeError::invalid(format_args!(
                "unknown query parameter {}; the only one is `top`",
                shown(&key)
            )));
        }
        match value.parse::<usize>() {
            Ok(count) if count > 0 && top.is_none() => top = Some(count),
            Ok(count) if count > 0 => return Err(ServeError::invalid("`top` is given twice")),
            _ => {
                let value = shown(&value);
                return Err(ServeError::invalid(format_args!(
                    "`top` must be a whole number from 1 on, but is {value}"
                )));
            }
        }
    }
    Ok(top)
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn the_query_is_read_strictly() {
        assert_eq!(top("").unwrap(), None);
        assert_eq!(top("top=3").unwrap(), Some(3));
        for query in
            ["top=0", "top=-1", "top=x", "top", "top=1&top=2", "tpo=3", "top=99999999999999999999999"]
        {
            assert!(top(query).is_err(), "{query}");
        }
    }
}
