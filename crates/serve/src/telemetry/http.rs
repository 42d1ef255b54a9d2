//! The middleware of HTTP: it is around everything else, so that every answer has an id and is counted.

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use tracing::Instrument as _;

use super::context::Header;
use super::request::Running;
use crate::state::State;

/// The header of requests' ids.
pub const REQUEST_ID: &str = "x-request-id";

// Looking up a name that is text makes a name of it first, each time.
static ID: HeaderName = HeaderName::from_static(REQUEST_ID);
static PARENT: HeaderName = HeaderName::from_static("traceparent");
static STATE: HeaderName = HeaderName::from_static("tracestate");

/// Runs a request with its id, which the answer carries, and notes how it ended.
///
/// # Errors
/// Those of the service, with the id in their answers.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let Some(state) = request.app_data::<web::Data<State>>().cloned() else {
        // An application without a state has nothing to note it in.
        return next.call(request).await;
    };
    let headers = request.headers();
    let header = |which| {
        let name = match which {
            Header::Id => &ID,
            Header::Parent => &PARENT,
            Header::State => &STATE,
        };
        headers.get(name)?.to_str().ok()
    };
    let running = Running::http(&state.telemetry, named(request.method()), header);
    let work = async { next.call(request).await };
    let result = running.context().scope(work).instrument(running.span().clone()).await;
    let id = HeaderValue::from_str(running.context().id().as_str()).ok();
    match result {
        Ok(mut response) => {
            carry(response.headers_mut(), id);
            let bytes = match response.response().body().size() {
                BodySize::Sized(bytes) => Some(bytes),
                BodySize::None => Some(0),
                BodySize::Stream => None,
            };
            running.end_http(response.status().as_u16(), bytes);
            Ok(response)
        }
        Err(error) => {
            let mut response = error.error_response();
            carry(response.headers_mut(), id);
            running.end_http(response.status().as_u16(), None);
            Err(InternalError::from_response(error, response).into())
        }
    }
}

fn carry(headers: &mut HeaderMap, id: Option<HeaderValue>) {
    if let Some(id) = id {
        headers.insert(ID.clone(), id);
    }
}

/// The method as counters and the log name it.
fn named(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}
