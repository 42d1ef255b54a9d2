//! The application: routes, the answers of wrong routes and methods, and what holds for every response.
//! `main` and the in-process tests build the same one.

use std::panic::AssertUnwindSafe;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpRequest, Route, web};
use futures_util::FutureExt as _;
use model::device::panic_message;

use crate::error::{Result, ServeError, shown};
use crate::routes::{models, oip, playground, predict, traffic};
use crate::state::State;

/// The application over its shared state.
pub fn new(
    state: web::Data<State>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let unreadable = web::PathConfig::default().error_handler(|_, _| {
        ServeError::not_found("the path cannot be read; it must be percent-encoded UTF-8").into()
    });
    App::new().app_data(state).app_data(unreadable).wrap(from_fn(guard)).configure(configure)
}

/// Registers every route.
fn configure(app: &mut web::ServiceConfig) {
    let get = |app: &mut web::ServiceConfig, path: &str, route: Route| {
        let refuse = |request: HttpRequest| wrong_method(request, "GET, HEAD");
        app.service(web::resource(path).route(route).default_service(web::to(refuse)));
    };
    let post = |app: &mut web::ServiceConfig, path: &str, route: Route| {
        let refuse = |request: HttpRequest| wrong_method(request, "POST");
        app.service(web::resource(path).route(route).default_service(web::to(refuse)));
    };
    for path in playground::paths() {
        get(app, path, read(playground::serve));
    }
    post(app, "/predict", web::post().to(predict::default));
    get(app, "/models", read(models::list));
    get(app, "/models/{name}", read(models::show));
    post(app, "/models/{name}/predict", web::post().to(predict::model));
    get(app, "/models/{name}/versions/{version}", read(models::show_version));
    post(app, "/models/{name}/versions/{version}/predict", web::post().to(predict::version));
    get(app, "/v2", read(oip::server));
    get(app, "/v2/health/live", read(oip::live));
    get(app, "/v2/health/ready", read(oip::ready));
    for model in ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"] {
        get(app, model, read(oip::model));
        get(app, &format!("{model}/ready"), read(oip::model_ready));
        post(app, &format!("{model}/infer"), web::post().to(oip::infer));
    }
    let refuse = |request: HttpRequest| wrong_method(request, "GET, HEAD, POST");
    let directed = web::resource("/v2/repository/models/{name}/traffic");
    let directed = directed.route(read(traffic::show)).route(web::post().to(traffic::change));
    app.service(directed.default_service(web::to(refuse)));
    app.default_service(web::to(no_route));
}

/// A route that is read: GET, and HEAD as its shadow.
fn read<F, Args>(handler: F) -> Route
where
    F: actix_web::Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    use actix_web::guard;
    web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler)
}

async fn wrong_method(request: HttpRequest, allow: &'static str) -> Result<actix_web::HttpResponse> {
    Err(ServeError::method(request.method().as_str(), allow))
}

async fn no_route(request: HttpRequest) -> Result<actix_web::HttpResponse> {
    Err(ServeError::not_found(format_args!(
        "there is no route {}; see GET /models, POST /models/NAME/predict and GET /v2",
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

#[cfg(test)]
mod tests {
    use actix_web::HttpResponse;
    use actix_web::test::{TestRequest, init_service, try_call_service};

    use super::*;

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
