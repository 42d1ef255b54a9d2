//! The application: routes, the answers of wrong routes and methods, and what holds for every response.
//! `main` and the in-process tests build the same one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpRequest, web};
use futures_util::FutureExt as _;
use model::device::panic_message;

use crate::access;
use crate::connections::Busy;
use crate::error::{Result, ServeError, shown};
use crate::routes::table::{self, ENDPOINTS, Endpoint, Method, Shape};
use crate::state::State;
use crate::telemetry;

/// The application over its shared state, with the routes of [`endpoints`] or [`metrics`].
pub fn new(
    state: web::Data<State>,
    routes: fn(&State) -> Vec<(String, Endpoint)>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let all = routes(&state);
    let unreadable = web::PathConfig::default().error_handler(|_, _| {
        ServeError::not_found("the path cannot be read; it must be percent-encoded UTF-8").into()
    });
    let routes = Arc::new(access::http::Routes::new(&all, &state.telemetry.doors));
    App::new()
        .app_data(state)
        .app_data(unreadable)
        // Outside of it only what answers nothing by itself but a panic: whatever the path, nothing is answered before
        // the check.
        .wrap(from_fn(move |request, next| access::http::check(Arc::clone(&routes), request, next)))
        .wrap(from_fn(guard))
        // Whatever is refused further inside has an id and is counted.
        .wrap(from_fn(telemetry::http::observe))
        .wrap(from_fn(watch))
        .configure(|app| configure(app, &all))
}

/// Every route of the table, and those that a platform chose, in the order in which they are tried.
///
/// The router tries one pattern after the other, each with a regular expression, which for a small request would be a
/// good part of all its work: so those come first that take inputs, tensors before all, for they are asked most.
#[must_use]
pub fn endpoints(state: &State) -> Vec<(String, Endpoint)> {
    let listed = ENDPOINTS.iter().map(|endpoint| (endpoint.path.to_owned(), *endpoint));
    let mut all: Vec<_> = listed.chain(table::chosen(state)).collect();
    all.sort_by_key(|(_, endpoint)| match endpoint.takes {
        Shape::Tensors(_) => 0,
        Shape::Inputs => 1,
        _ => 2,
    });
    all
}

/// The routes of the port of the metrics: that of the metrics alone, behind the same check.
#[must_use]
pub fn metrics(state: &State) -> Vec<(String, Endpoint)> {
    endpoints(state).into_iter().filter(|(path, _)| path == "/metrics").collect()
}

/// Registers routes.
fn configure(app: &mut web::ServiceConfig, all: &[(String, Endpoint)]) {
    for (index, (path, _)) in all.iter().enumerate() {
        // One resource for each path, with the methods that it has.
        if all.iter().take(index).any(|(earlier, _)| earlier == path) {
            continue;
        }
        let endpoints: Vec<&Endpoint> =
            all.iter().filter(|(other, _)| other == path).map(|(_, endpoint)| endpoint).collect();
        let has = |method| endpoints.iter().any(|endpoint| endpoint.method == method);
        let allow = match (has(Method::Get), has(Method::Post)) {
            (true, true) => "GET, HEAD, POST",
            (true, false) => "GET, HEAD",
            (false, _) => "POST",
        };
        let resource = endpoints
            .iter()
            .fold(web::resource(path.as_str()), |resource, endpoint| resource.route((endpoint.route)()));
        let refuse = move |request: HttpRequest| wrong_method(request, allow);
        app.service(resource.default_service(web::to(refuse)));
    }
    app.default_service(web::to(no_route));
}

async fn wrong_method(request: HttpRequest, allow: &'static str) -> Result<actix_web::HttpResponse> {
    Err(ServeError::method(request.method().as_str(), allow))
}

async fn no_route(request: HttpRequest) -> Result<actix_web::HttpResponse> {
    Err(ServeError::not_found(format_args!(
        "there is no route {}; see GET /docs, GET /models, POST /models/NAME/predict and GET /v2",
        shown(request.path())
    )))
}

/// Wraps every request: no panic leaves it, and every response carries the headers that tell browsers not
/// to guess.
///
/// # Errors
/// Those of the service, unchanged, and 500 for a panic.
async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<impl MessageBody>, Error> {
    // Not even a clone of the request may be kept here: routing needs it for itself.
    let mut response = AssertUnwindSafe(next.call(request)).catch_unwind().await.unwrap_or_else(|panic| {
        let cause = panic_message(panic.as_ref());
        Err(ServeError::internal(format_args!("a handler panicked: {cause}")).into())
    })?;
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if !headers.contains_key("cache-control") {
        headers.insert(HeaderName::from_static("cache-control"), HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Notes on the connection how far its request is ([`crate::connections`]).
///
/// # Errors
/// Those of the service, unchanged.
async fn watch(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<impl MessageBody>, Error> {
    let busy = Busy::begin(&request);
    let response = next.call(request).await?;
    Ok(match busy {
        Some(busy) => busy.answer(response),
        None => response.map_body(|_, body| EitherBody::left(body)),
    })
}

#[cfg(test)]
mod tests {
    use actix_web::HttpResponse;
    use actix_web::dev::ResourceDef;
    use actix_web::test::{TestRequest, init_service, try_call_service};

    use super::*;

    /// Trying some routes before others leaves the answers as the table says: of two that match, its first.
    #[test]
    fn the_order_of_trying_changes_no_answer() {
        let state = State::new(
            crate::pool::Pool::new(1, 1).unwrap(),
            crate::scheduler::Scheduler::new(crate::scheduler::SchedulerOptions::default()).unwrap(),
            crate::limits::Limits::default(),
        );
        let table: Vec<_> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
        let tried = endpoints(&state);
        let tried: Vec<&str> = tried.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(tried.len(), table.len());
        assert_eq!(tried[0], "/v2/models/{name}/infer");
        let patterns: Vec<_> = table.iter().map(|path| (*path, ResourceDef::new(*path))).collect();
        let first = |paths: &[&str], asked: &str| {
            let matches = |path: &&&str| {
                patterns.iter().any(|(pattern, definition)| pattern == *path && definition.is_match(asked))
            };
            paths.iter().find(matches).map(|path| (*path).to_owned())
        };
        for one in &table {
            for other in &table {
                // A path that both match, if there can be one: the parts that one leaves open are the other's.
                let (parts, others) = (one.split('/'), other.split('/'));
                if parts.clone().count() != others.clone().count() {
                    continue;
                }
                let merged = parts.zip(others).map(|(a, b)| if a.starts_with('{') { b } else { a });
                let asked = merged.collect::<Vec<_>>().join("/").replace(['{', '}'], "");
                assert_eq!(first(&tried, &asked), first(&table, &asked), "{asked}");
            }
        }
    }

    #[actix_web::test]
    async fn a_panic_in_a_handler_is_an_answer() {
        async fn handler() -> HttpResponse {
            panic!("on purpose")
        }
        let app = init_service(App::new().wrap(from_fn(guard)).default_service(web::to(handler))).await;
        for _ in 0..2 {
            let error = try_call_service(&app, TestRequest::get().to_request()).await.err().unwrap();
            assert_eq!(error.error_response().status(), 500);
            assert!(!error.to_string().contains("purpose"), "{error}");
        }
    }
}
