//! What is around every call of gRPC, as [`super::http`] is around every request of HTTP.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Response};
use tracing::Instrument as _;

use super::Telemetry;
use super::context::Header;
use super::http::REQUEST_ID;
use super::request::Running;

/// A call begins.
#[must_use]
pub fn begin(telemetry: &Arc<Telemetry>, path: &str, headers: &HeaderMap) -> Running {
    let header = |which| {
        let name = match which {
            Header::Id => REQUEST_ID,
            Header::Parent => "traceparent",
            Header::State => "tracestate",
        };
        headers.get(name)?.to_str().ok()
    };
    Running::grpc(telemetry, path, header)
}

/// Runs a call with its id, which the head of the answer carries, and notes how it ended. Of an answer whose status
/// comes last, as that of a stream does, this is how it began.
///
/// # Errors
/// None.
pub async fn observe(
    running: Running,
    answer: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    let work = running.context().scope(answer).instrument(running.span().clone());
    let mut response = work.await?;
    if let Ok(id) = HeaderValue::from_str(running.context().id().as_str()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    // A refusal has its code in the head.
    let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
    running.end_grpc(code.unwrap_or(0));
    Ok(response)
}
