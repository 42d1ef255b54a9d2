//! Every route: what it is called, what answers it, and what its description says. The application registers them
//! from here and [`crate::openapi`] describes them from here, so that neither can know a route that the other does not.

use actix_web::dev::ResourceDef;
use actix_web::{Handler, Responder, Route, web};

use super::{models, oip, operations, playground, predict, repository, traffic};
use crate::access::Need;
use crate::access::http::Subject;
use crate::access::principal::Scope;
use crate::state::State;
use crate::{metrics, openapi};

/// How a route is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET, and HEAD as its shadow.
    Get,
    /// POST.
    Post,
}

/// What goes in or comes out, for the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Nothing,
    /// JSON by the name of a schema in [`crate::openapi`].
    Json(&'static str),
    /// An inference request or response: JSON, or JSON with binary tensors.
    Tensors(&'static str),
    /// Raw inputs in any form that `/predict` reads.
    Inputs,
    /// A file of the playground or the page about the routes.
    File,
    /// Metrics, as Prometheus reads them.
    Metrics,
}

/// One route with one method.
#[derive(Clone, Copy)]
pub struct Endpoint {
    /// How it is called.
    pub method: Method,
    /// Its path, with `{name}` and `{version}` for what varies.
    pub path: &'static str,
    /// Under which heading it is described.
    pub tag: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What it takes.
    pub takes: Shape,
    /// What it gives when all is well.
    pub gives: Shape,
    /// What answers it.
    pub route: fn() -> Route,
    /// What one needs to call it.
    pub need: Need,
    /// What it is about, so that the models that one may use can be looked at.
    pub subject: Subject,
}

impl Endpoint {
    /// The same, with something else that one needs.
    const fn needs(self, need: Need) -> Self {
        Self { need, ..self }
    }
}

/// Whether a path names a model.
const fn names_model(path: &str) -> bool {
    let (path, name) = (path.as_bytes(), b"{name}");
    let mut start = 0;
    while start + name.len() <= path.len() {
        let mut same = 0;
        while same < name.len() && path[start + same] == name[same] {
            same += 1;
        }
        if same == name.len() {
            return true;
        }
        start += 1;
    }
    false
}

/// What a route is about, by its path and what it takes.
const fn subject(path: &str, takes: Shape) -> Subject {
    match takes {
        _ if names_model(path) => Subject::Named,
        Shape::Inputs | Shape::Tensors(_) => Subject::Default,
        _ => Subject::Server,
    }
}

/// A route that is read: GET, and HEAD as its shadow.
fn read<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: Responder + 'static,
{
    use actix_web::guard;
    web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler)
}

const fn get(
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    gives: Shape,
    route: fn() -> Route,
) -> Endpoint {
    // Looking needs `read`; what is open to everybody says so itself.
    let (takes, need) = (Shape::Nothing, Need::Scope(Scope::Read));
    let subject = match gives {
        // They name every model.
        Shape::Metrics => Subject::All,
        _ => subject(path, takes),
    };
    Endpoint { method: Method::Get, path, tag, summary, takes, gives, route, need, subject }
}

const fn post(
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    takes: Shape,
    gives: Shape,
    route: fn() -> Route,
) -> Endpoint {
    // What takes inputs needs `infer`; all else that is posted changes something, unless it says that it does not.
    let scope = match takes {
        Shape::Inputs | Shape::Tensors(_) => Scope::Infer,
        _ => Scope::Admin,
    };
    let (need, subject) = (Need::Scope(scope), subject(path, takes));
    Endpoint { method: Method::Post, path, tag, summary, takes, gives, route, need, subject }
}

const RAW: &str = "Raw inputs";
const OIP: &str = "Open Inference Protocol";
const REPOSITORY: &str = "Repository";
const OPERATIONS: &str = "Operations";
const SETTINGS: &str = "Settings";
const PLATFORMS: &str = "Platforms";
const PAGES: &str = "Pages";

use Shape::{File, Inputs, Json, Metrics, Nothing, Tensors};

/// All routes of the server, apart from those that a platform chooses ([`chosen`]). Of two that match, the first one
/// answers.
pub const ENDPOINTS: &[Endpoint] = &[
    post("/predict", RAW, "Asks the default model", Inputs, Json("Predictions"), || {
        web::post().to(predict::default)
    }),
    get("/models", RAW, "Every model with its versions and aliases", Json("Models"), || read(models::list)),
    get("/models/{name}", RAW, "One model in full", Json("Model"), || read(models::show)),
    post(
        "/models/{name}/predict",
        RAW,
        "Asks the version in production, else the newest",
        Inputs,
        Json("Predictions"),
        || web::post().to(predict::model),
    ),
    get("/models/{name}/versions/{version}", RAW, "One version in full", Json("Version"), || {
        read(models::show_version)
    }),
    post(
        "/models/{name}/versions/{version}/predict",
        RAW,
        "Asks a version by number or alias",
        Inputs,
        Json("Predictions"),
        || web::post().to(predict::version),
    ),
    get("/v2", OIP, "Name, version and extensions of the server", Json("ServerMetadata"), || {
        read(oip::server)
    }),
    get("/v2/health/live", OIP, "Whether the process answers", Json("Live"), || read(oip::live))
        .needs(Need::Open),
    get("/v2/health/ready", OIP, "Whether the models are ready", Json("Ready"), || read(oip::ready))
        .needs(Need::Open),
    get("/v2/models/stats", OIP, "What every model has done", Json("Statistics"), || {
        read(oip::all_statistics)
    }),
    get("/v2/models/{name}", OIP, "Inputs, outputs and versions of a model", Json("ModelMetadata"), || {
        read(oip::model)
    }),
    get("/v2/models/{name}/ready", OIP, "Whether a model answers", Json("ModelReady"), || {
        read(oip::model_ready)
    }),
    get("/v2/models/{name}/config", OIP, "How a model is batched", Json("ModelConfig"), || read(oip::config)),
    get("/v2/models/{name}/stats", OIP, "What a model has done", Json("Statistics"), || {
        read(oip::statistics)
    }),
    post(
        "/v2/models/{name}/infer",
        OIP,
        "Inference with prepared tensors",
        Tensors("InferRequest"),
        Tensors("InferResponse"),
        || web::post().to(oip::infer),
    ),
    get("/v2/models/{name}/versions/{version}", OIP, "The same of a version", Json("ModelMetadata"), || {
        read(oip::model)
    }),
    get(
        "/v2/models/{name}/versions/{version}/ready",
        OIP,
        "Whether a version answers",
        Json("ModelReady"),
        || read(oip::model_ready),
    ),
    get(
        "/v2/models/{name}/versions/{version}/config",
        OIP,
        "How a version is batched",
        Json("ModelConfig"),
        || read(oip::config),
    ),
    get(
        "/v2/models/{name}/versions/{version}/stats",
        OIP,
        "What a version has done",
        Json("Statistics"),
        || read(oip::statistics),
    ),
    post(
        "/v2/models/{name}/versions/{version}/infer",
        OIP,
        "Inference with a version",
        Tensors("InferRequest"),
        Tensors("InferResponse"),
        || web::post().to(oip::infer),
    ),
    post(
        "/v2/repository/index",
        REPOSITORY,
        "The models and their states",
        Json("IndexRequest"),
        Json("Index"),
        || web::post().to(repository::index),
    )
    .needs(Need::Scope(Scope::Read)),
    post(
        "/v2/repository/models/{name}/load",
        REPOSITORY,
        "Loads a model, or loads it again",
        Json("ChangeRequest"),
        Nothing,
        || web::post().to(repository::load),
    ),
    post(
        "/v2/repository/models/{name}/unload",
        REPOSITORY,
        "Unloads a model",
        Json("ChangeRequest"),
        Nothing,
        || web::post().to(repository::unload),
    ),
    get(
        "/v2/repository/models/{name}/traffic",
        REPOSITORY,
        "How requests are split between versions",
        Json("Traffic"),
        || read(traffic::show),
    ),
    post(
        "/v2/repository/models/{name}/traffic",
        REPOSITORY,
        "Changes how requests are split",
        Json("TrafficAction"),
        Json("Traffic"),
        || web::post().to(traffic::change),
    ),
    get("/v2/ops", OPERATIONS, "Everything that the operator's page shows", Json("Operations"), || {
        read(operations::show)
    }),
    get(
        "/v2/models/{name}/drift",
        OPERATIONS,
        "How what a model meets differs from its training data",
        Json("Drift"),
        || read(operations::drift),
    ),
    get(
        "/v2/models/{name}/versions/{version}/drift",
        OPERATIONS,
        "The same of a version",
        Json("Drift"),
        || read(operations::drift),
    ),
    post(
        "/v2/models/{name}/drift/reset",
        OPERATIONS,
        "Forgets what a model met so far",
        Nothing,
        Json("Drift"),
        || web::post().to(operations::reset_drift),
    ),
    post(
        "/v2/models/{name}/versions/{version}/drift/reset",
        OPERATIONS,
        "The same of a version",
        Nothing,
        Json("Drift"),
        || web::post().to(operations::reset_drift),
    ),
    get("/v2/logging", SETTINGS, "What is logged", Json("Settings"), || read(repository::log)),
    post("/v2/logging", SETTINGS, "Changes what is logged", Json("Settings"), Json("Settings"), || {
        web::post().to(repository::change_log)
    }),
    get("/v2/trace/setting", SETTINGS, "What is traced", Json("Settings"), || read(repository::trace)),
    post("/v2/trace/setting", SETTINGS, "Changes what is traced", Json("Settings"), Json("Settings"), || {
        web::post().to(repository::change_trace)
    }),
    get("/v2/models/{name}/trace/setting", SETTINGS, "What of a model is traced", Json("Settings"), || {
        read(repository::trace)
    }),
    post(
        "/v2/models/{name}/trace/setting",
        SETTINGS,
        "Changes what of a model is traced",
        Json("Settings"),
        Json("Settings"),
        || web::post().to(repository::change_trace),
    ),
    get("/healthz", PLATFORMS, "Kubernetes: whether the process answers", Json("Live"), || read(oip::live))
        .needs(Need::Open),
    get("/readyz", PLATFORMS, "Kubernetes: whether the models are ready", Json("Ready"), || read(oip::ready))
        .needs(Need::Open),
    get("/ping", PLATFORMS, "SageMaker: whether the models are ready", Json("Ready"), || read(oip::ready))
        .needs(Need::Open),
    post("/invocations", PLATFORMS, "SageMaker: asks the default model", Inputs, Json("Predictions"), || {
        web::post().to(predict::invocations)
    }),
    get("/metrics", OPERATIONS, "What Prometheus reads", Metrics, || read(metrics::serve)),
    get("/openapi.json", PAGES, "This description", Json("OpenApi"), || read(openapi::serve)),
    // The files of the pages are the same for everybody and hold nothing of the models; a browser opens a page without
    // a key, and the page asks for one.
    get("/", PAGES, "The playground", File, || read(playground::serve)).needs(Need::Open),
    get("/ops", PAGES, "The operator's page", File, || read(playground::serve)).needs(Need::Open),
    get("/ops/{file}", PAGES, "A file of that page", File, || read(playground::serve)).needs(Need::Open),
    get("/docs", PAGES, "The routes, to be browsed and tried", File, || read(playground::serve))
        .needs(Need::Open),
    get("/docs/{file}", PAGES, "A file of that page", File, || read(playground::serve)).needs(Need::Open),
    get("/playground/{file}", PAGES, "A file of the playground", File, || read(playground::serve))
        .needs(Need::Open),
];

/// The first route of the table that answers on a path, whatever the method.
fn at(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| ResourceDef::new(endpoint.path).is_match(path))
}

/// Whether a platform may ask on this path whether models are ready: nothing is there, or what tells that.
#[must_use]
pub fn may_tell_health(path: &str) -> bool {
    at(path).is_none_or(|endpoint| matches!(endpoint.gives, Json("Live" | "Ready" | "ModelReady")))
}

/// Whether a platform may send inputs to this path: nothing is there, or what takes them.
#[must_use]
pub fn may_predict(path: &str) -> bool {
    at(path).is_none_or(|endpoint| matches!(endpoint.takes, Inputs | Tensors(_)))
}

/// The routes that a platform chose: paths that do what others here do. One that is here already does so by itself.
#[must_use]
pub fn chosen(state: &State) -> Vec<(String, Endpoint)> {
    let paths = &state.front.paths;
    let as_is = |path: &Option<String>, like: &str| {
        let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == like);
        path.clone().filter(|path| at(path).is_none()).zip(endpoint.copied())
    };
    [as_is(&paths.health, "/ping"), as_is(&paths.predict, "/invocations")].into_iter().flatten().collect()
}
