//! The check for HTTP: one middleware around the whole application, whatever the path of a request.

use std::any::Any;
use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Extensions, Path, ResourceDef, ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse, ResponseError as _, web};
use serde::Deserialize;
use serde_json::Value;

use super::audit::{self, Action};
use super::decide::no_model;
use super::presented::Presented;
use super::principal::{Principal, Scope};
use super::{Admitted, Need, Target};
use crate::error::{Result, ServeError};
use crate::routes::table::{self, Endpoint};
use crate::state::State;
use crate::telemetry::{self, Doors, Route};
use crate::tls::{HttpStream, Identity};

/// What every path needs, in the order in which the application looks for them.
#[derive(Debug)]
pub struct Routes(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// The parts of the path; nothing for one that varies.
    segments: Vec<Option<String>>,
    pattern: String,
    /// Where its requests are counted.
    route: Arc<Route>,
    /// What reads the parts that vary, as the application does.
    definition: ResourceDef,
    read: Option<(Need, Subject)>,
    write: Option<(Need, Subject)>,
}

/// What a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The model in its path.
    Named,
    /// The default model.
    Default,
    /// The server, or the models that one may use.
    Server,
    /// All models.
    All,
}

/// The parts of a path that name a model.
#[derive(Deserialize)]
struct Name {
    name: String,
    version: Option<String>,
}

impl Routes {
    /// The rules of routes, in their order.
    #[must_use]
    pub fn new(endpoints: &[(String, Endpoint)], doors: &Doors) -> Self {
        let mut rules: Vec<Rule> = Vec::new();
        for (path, endpoint) in endpoints {
            let place = rules.iter().position(|rule| rule.pattern == *path).unwrap_or_else(|| {
                let varies = |part: &str| part.starts_with('{');
                let segments = path.split('/').map(|part| (!varies(part)).then(|| part.to_owned())).collect();
                let definition = ResourceDef::new(path.as_str());
                let route = doors.http(path);
                let (read, write) = (None, None);
                rules.push(Rule { segments, pattern: path.clone(), route, definition, read, write });
                rules.len() - 1
            });
            let Some(rule) = rules.get_mut(place) else { continue };
            let needed = Some((endpoint.need, endpoint.subject));
            match endpoint.method {
                table::Method::Get => rule.read = needed,
                table::Method::Post => rule.write = needed,
            }
        }
        Self(rules)
    }

    /// The first rule that fits a path; as the application's router, which a test compares it with.
    fn find(&self, path: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| {
            let mut parts = path.split('/');
            let fits = rule.segments.iter().all(|segment| {
                parts.next().is_some_and(|part| segment.as_ref().map_or(!part.is_empty(), |own| own == part))
            });
            fits && parts.next().is_none()
        })
    }
}

impl Rule {
    /// What a method needs here. One that the path does not have is refused to those who are let in.
    fn need(&self, method: &Method) -> (Need, Subject) {
        let found = match *method {
            Method::GET | Method::HEAD => self.read,
            Method::POST => self.write,
            _ => None,
        };
        found.unwrap_or((Need::Known, Subject::Server))
    }

    /// The name of an action, for the audit log: `load`, `traffic`.
    fn action(&self) -> String {
        let words = self.segments.iter().flatten().map(String::as_str);
        let telling = words
            .filter(|word| !matches!(*word, "" | "v2" | "repository" | "models" | "versions" | "setting"));
        telling.collect::<Vec<_>>().join(" ")
    }
}

/// Checks a request and hands it on, or answers it.
///
/// # Errors
/// Those of what is checked.
pub async fn check<B: MessageBody + 'static>(
    routes: Arc<Routes>,
    request: ServiceRequest,
    next: Next<B>,
) -> std::result::Result<ServiceResponse<EitherBody<B>>, Error> {
    let Some(state) = request.app_data::<web::Data<State>>().cloned() else {
        return refuse(request, &ServeError::internal("the application has no state"));
    };
    let access = &state.access;
    let rules = access.rules();
    let rule = routes.find(request.match_info().as_str());
    // Before anything is refused or awaited, so that it is known of every request.
    if let Some(rule) = rule {
        telemetry::route(&rule.route);
    }
    let (need, subject) = rule.map_or((Need::Known, Subject::Server), |rule| rule.need(request.method()));
    // Probes ask under any name.
    let page = match (need, access.page_by(&rules, request.method(), request.headers())) {
        (_, Ok(page)) => Some(page),
        (Need::Open, Err(_)) => None,
        (_, Err(error)) => return refuse(request, &error),
    };
    if let Some(page) = page.as_ref().filter(|page| page.is_question(request.method(), request.headers())) {
        let mut response = HttpResponse::NoContent().finish();
        page.tell(response.headers_mut(), true);
        return Ok(request.into_response(response).map_into_right_body());
    }
    // Most may use every model; then nobody asks which one it is.
    let model = OnceCell::new();
    let target = || {
        let named =
            || model.get_or_init(|| rule.and_then(|rule| self::model(&state, rule, subject, &request)));
        let name = || named().as_ref().map(|model| model.name.as_str());
        match subject {
            Subject::Server => Target::Server,
            Subject::All => Target::All,
            Subject::Named => name().map_or(Target::Unnamed, Target::Model),
            Subject::Default => name().map_or(Target::Unnamed, Target::Default),
        }
    };
    let admitted = access.admit_by(&rules, &presented(&request), need, target, address(&request));
    let tell = |mut response: ServiceResponse<EitherBody<B>>| {
        if let Some(page) = &page {
            page.tell(response.headers_mut(), false);
        }
        response
    };
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            tracing::debug!(%error, path = %request.path(), address = ?address(&request), "refused");
            return refuse(request, &error).map(tell);
        }
    };
    // An error of the handler would list the other models.
    if need != Need::Scope(Scope::Admin)
        && !admitted.principal.models.are_all()
        && let Target::Model(name) | Target::Default(name) = target()
        && !state.catalog().models.contains_key(name)
    {
        let error = no_model(name);
        return refuse(request, &error).map(tell);
    }
    let mut hidden = None;
    let asked = if need == Need::Scope(Scope::Admin) {
        target();
        let (model, version) = model.into_inner().flatten().map(|model| (model.name, model.version)).unzip();
        // An action may make a model that is not there yet, so its own error is awaited.
        hidden = model.clone().filter(|_| !admitted.principal.models.are_all());
        let action = rule.map(Rule::action).unwrap_or_default();
        let action = Action { action, model, version: version.flatten(), by: "http" };
        match audit::begin(&access.audit, &admitted, action).await {
            Ok(asked) => Some(asked),
            Err(error) => return refuse(request, &error).map(tell),
        }
    } else {
        None
    };
    request.extensions_mut().insert(admitted);
    let result = next.call(request).await;
    if let Some(asked) = asked {
        let (detail, told) = match &result {
            Ok(response) => {
                let detail =
                    response.request().extensions_mut().remove::<Noted>().map(|Noted(detail)| detail);
                let status = response.status();
                (detail, if status.is_success() { Ok(()) } else { Err(status.to_string()) })
            }
            Err(error) => (None, Err(error.as_response_error().status_code().to_string())),
        };
        audit::end(asked, detail, told).await;
    }
    let response = result?;
    let missing = |name: &String| {
        response.status() == StatusCode::NOT_FOUND && !state.catalog().models.contains_key(name)
    };
    Ok(tell(match hidden.filter(missing) {
        Some(name) => response.into_response(no_model(&name).error_response()).map_into_right_body(),
        None => response.map_into_left_body(),
    }))
}

fn refuse<B>(
    request: ServiceRequest,
    error: &ServeError,
) -> std::result::Result<ServiceResponse<EitherBody<B>>, Error> {
    Ok(request.into_response(error.error_response()).map_into_right_body())
}

/// The model that a request is about: as its handler reads it.
fn model(state: &State, rule: &Rule, subject: Subject, request: &ServiceRequest) -> Option<Name> {
    match subject {
        Subject::Server | Subject::All => None,
        Subject::Default => {
            let name = state.catalog().default_name()?.to_owned();
            Some(Name { name, version: None })
        }
        Subject::Named => {
            let mut path: Path<_> = request.match_info().clone();
            rule.definition.capture_match_info(&mut path).then(|| path.load().ok()).flatten()
        }
    }
}

/// Looking up a name that is text makes a name of it first, each time.
static API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a request brings to be known by.
fn presented(request: &ServiceRequest) -> Presented<'_> {
    let all = |name: &HeaderName| request.headers().get_all(name).map(|value| value.as_bytes());
    let identity = request.conn_data::<Identity>();
    Presented::read(all(&AUTHORIZATION), all(&API_KEY)).with_certificate(identity.map(Identity::names))
}

fn address(request: &ServiceRequest) -> Option<IpAddr> {
    request.peer_addr().map(|address| address.ip())
}

/// What an administrative request was about in detail, for the audit log.
struct Noted(Value);

/// Notes what an administrative request asks for, once it has been read.
pub fn note(request: &HttpRequest, detail: Value) {
    request.extensions_mut().insert(Noted(detail));
}

/// Who asks.
///
/// # Errors
/// 500 when the request has not been checked, which cannot be.
pub fn principal(request: &HttpRequest) -> Result<Arc<Principal>> {
    let admitted = request.extensions().get::<Admitted>().map(|admitted| Arc::clone(&admitted.principal));
    admitted.ok_or_else(|| ServeError::internal("a request was not checked"))
}

/// Takes the client's certificate of a connection, so that its requests can be known by it.
pub fn connected(connection: &dyn Any, data: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<HttpStream>()
        && let Some(identity) = Identity::of(stream.get_ref().1)
    {
        data.insert(identity);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routes::table::ENDPOINTS;

    /// The rule that the application's router would come to.
    fn routed<'a>(routes: &'a Routes, path: &str) -> Option<&'a str> {
        routes.0.iter().find(|rule| rule.definition.is_match(path)).map(|rule| rule.pattern.as_str())
    }

    fn routes() -> Routes {
        let all: Vec<_> = ENDPOINTS.iter().map(|endpoint| (endpoint.path.to_owned(), *endpoint)).collect();
        Routes::new(&all, &Doors::default())
    }

    #[test]
    fn every_route_is_found_by_its_own_path() {
        let routes = routes();
        for endpoint in ENDPOINTS {
            let path = endpoint.path.replace(['{', '}'], "");
            let rule = routes.find(&path).map(|rule| rule.pattern.as_str());
            assert_eq!(rule, routed(&routes, &path), "{path}");
            assert_eq!(rule, Some(endpoint.path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn paths_are_read_as_the_router_reads_them(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("v2"), Just("models"), Just("versions"), Just("infer"), Just("predict"), Just("stats"),
                    Just("repository"), Just("load"), Just("docs"), Just("playground"), Just("health"), Just("live"),
                    Just("a"), Just(""), Just("%2F"), Just("{name}"), Just(".."), Just("trace"), Just("setting"),
                ],
                0..7,
            ),
            beginning in prop_oneof![Just("/"), Just(""), Just("//")],
        ) {
            let routes = routes();
            let path = format!("{beginning}{}", parts.join("/"));
            prop_assert_eq!(routes.find(&path).map(|rule| rule.pattern.as_str()), routed(&routes, &path), "{}", path);
        }
    }
}
