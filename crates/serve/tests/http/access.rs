//! Every route, by every path, with every kind of key: made from the table of the routes, so that a new one is tested too.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use actix_web::http::Method;
use actix_web::web::Data;
use serde_json::{Value, json};
use serve::access::config::AccessConfig;
use serve::access::http::Subject;
use serve::access::keys::hash;
use serve::access::principal::Scope;
use serve::access::{Access, Need};
use serve::app;
use serve::front::{Front, Paths};
use serve::routes::table::Method as Called;
use serve::state::State;

use crate::registry::Models;
use crate::server::{Answer, Ask, ask, idle, scheduler, three_models};

/// The keys of the tests: a name, which is the key's text too, and what the file says of it.
pub(crate) const KEYS: [(&str, &str); 7] = [
    ("brz_read", "scopes = [\"read\"]"),
    ("brz_infer", "scopes = [\"infer\"]"),
    ("brz_use", "scopes = [\"read\", \"infer\"]"),
    ("brz_admin", "scopes = [\"admin\"]"),
    ("brz_prices", "scopes = [\"admin\"]\nmodels = [\"prices\"]"),
    ("brz_expired", "scopes = [\"admin\"]\nexpires = \"2020-01-01T00:00:00Z\""),
    ("brz_slow", "scopes = [\"read\", \"infer\"]\nrate = 0.01\nburst = 2"),
];

/// Writes the file of the keys.
pub(crate) fn write_keys(file: &Path, keys: &[(&str, &str)]) {
    let entries = keys.iter().map(|(key, more)| {
        let name = key.trim_start_matches("brz_");
        format!("[[key]]\nname = \"{name}\"\nhash = \"{}\"\n{more}\n", hash(key))
    });
    std::fs::write(file, format!("version = 1\n{}", entries.collect::<String>())).unwrap();
}

/// A server with keys and chosen paths, whose default model is `digits`.
struct Closed {
    state: Data<State>,
    config: AccessConfig,
    _models: Models,
    folder: tempfile::TempDir,
}

impl Closed {
    fn new(change: impl FnOnce(&mut AccessConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.toml");
        write_keys(&keys, &KEYS);
        let audit = Some(folder.path().join("audit.jsonl"));
        let mut config = AccessConfig { keys: Some(keys), audit, ..AccessConfig::default() };
        change(&mut config);
        let access = Access::read(&config, Arc::new(SystemTime::now)).unwrap();
        let paths =
            Paths { health: Some("/chosen/health".to_owned()), predict: Some("/chosen:predict".to_owned()) };
        let models = three_models();
        let state = idle(scheduler());
        let state = Data::new(state.with_front(Front::new(paths)).with_access(access));
        serve::load::discover(&state, &models.open(), Some("digits".parse().unwrap())).unwrap();
        serve::load::load(&state, &models.open(), &serve::load::Options::default()).unwrap();
        Self { state, config, _models: models, folder }
    }

    async fn ask(&self, key: Option<&str>, request: Ask) -> Answer {
        let request = match key {
            Some(key) => request.header("authorization", &format!("Bearer {key}")),
            None => request,
        };
        ask(&self.state, request).await
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn refused(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 401 | 403 | 429)
}

/// What a route must answer to a key.
fn expected(need: Need, subject: Subject, key: Option<&str>) -> u16 {
    let Need::Scope(scope) = need else { return 0 };
    match key {
        None | Some("brz_expired" | "brz_wrong" | "") => 401,
        Some("brz_prices") => match subject {
            // The requests are about `digits`, by name or as the default.
            Subject::Named | Subject::Default | Subject::All => 403,
            Subject::Server if scope == Scope::Admin => 403,
            Subject::Server => 0,
        },
        Some("brz_admin") => 0,
        Some("brz_use") if scope != Scope::Admin => 0,
        Some("brz_read") if scope == Scope::Read => 0,
        Some("brz_infer") if scope == Scope::Infer => 0,
        Some(_) => 403,
    }
}

#[actix_web::test]
async fn every_route_asks_for_the_right_key() {
    let closed = Closed::new(|_| ());
    let endpoints = app::endpoints(&closed.state);
    assert!(endpoints.iter().any(|(path, _)| path == "/chosen:predict") && endpoints.len() > 40);
    let keys = [
        None,
        Some(""),
        Some("brz_wrong"),
        Some("brz_expired"),
        Some("brz_read"),
        Some("brz_infer"),
        Some("brz_use"),
        Some("brz_prices"),
        Some("brz_admin"),
    ];
    let mut tried = [0; 3];
    for (pattern, endpoint) in &endpoints {
        let path =
            pattern.replace("{name}", "digits").replace("{version}", "1").replace("{file}", "style.css");
        for key in keys {
            for header in ["authorization", "x-api-key"] {
                let request = match endpoint.method {
                    Called::Get => Ask::get(&path),
                    Called::Post => Ask::json(&path, json!({})),
                };
                let request = match (key, header) {
                    (None, _) => request,
                    (Some(key), "authorization") => request.header(header, &format!("Bearer {key}")),
                    (Some(key), _) => request.header(header, key),
                };
                let shown = request.shown();
                let answer = ask(&closed.state, request).await;
                let expected = expected(endpoint.need, endpoint.subject, key);
                if expected == 0 {
                    assert!(!refused(&answer), "{shown}: {answer:?}");
                    tried[0] += 1;
                    continue;
                }
                assert_eq!(answer.status.as_u16(), expected, "{shown}: {answer:?}");
                let error = answer.error();
                assert!(!error.contains("brz_"), "{shown}: {error}");
                if expected == 401 {
                    assert!(answer.header("www-authenticate").starts_with("Bearer realm="), "{shown}");
                    tried[1] += 1;
                } else if key != Some("brz_prices") {
                    let Need::Scope(scope) = endpoint.need else { panic!("{shown}") };
                    assert!(error.contains(&format!("lacks the scope `{scope}`")), "{shown}: {error}");
                    tried[2] += 1;
                }
            }
        }
    }
    assert!(tried.iter().all(|count| *count > 50), "{tried:?}");
    assert!(
        !ask(&closed.state, Ask::get("/v2/health/live").header("authorization", "Bearer brz_wrong"))
            .await
            .status
            .is_client_error()
    );
}

#[actix_web::test]
async fn no_other_path_and_no_other_method_is_a_way_around() {
    let closed = Closed::new(|_| ());
    let paths = [
        "/nowhere",
        "//",
        "//v2/models/digits",
        "/v2//models/digits",
        "/v2/models/digits/",
        "/v2/models/digits/infer/",
        "/V2/models/digits",
        "/v2/%6dodels/digits",
        "/v2/models/digits%2finfer",
        "/v2/models/%64igits",
        "/models/",
        "/./models",
        "/x/../models",
        "/models;x=1",
        "/metrics",
        "/healthz/",
        "/v2/health/live/x",
        "/docs/",
        "/v2/",
        "/predict/",
        "/invocations/",
        "/ping/",
        "/chosen:predict/",
        "/v2/repository/models/digits%00/load",
    ];
    for path in paths {
        for method in [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
            Method::TRACE,
        ] {
            let request = Ask::json(path, json!({})).method(method.clone());
            let answer = ask(&closed.state, request.clone()).await;
            assert_eq!(answer.status.as_u16(), 401, "{method} {path}");
            let admin = closed.ask(Some("brz_admin"), request).await;
            assert!(!refused(&admin), "{method} {path}: {admin:?}");
        }
    }
    for path in ["/models", "/v2/models/digits/infer", "/v2/repository/models/digits/load", "/invocations"] {
        for method in
            [Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE, Method::CONNECT]
        {
            let answer = ask(&closed.state, Ask::get(path).method(method.clone())).await;
            assert_eq!(answer.status.as_u16(), 401, "{method} {path}");
        }
    }
    // The name that the check reads is the one that the handler reads.
    for name in ["prices", "%70rices"] {
        let answer = closed.ask(Some("brz_prices"), Ask::get(&format!("/v2/models/{name}"))).await;
        assert_eq!(answer.json()["name"], "prices", "{name}");
    }
    for name in ["%64igits", "digits%20", "prices%2F..%2Fdigits", "prices%252Fx"] {
        let answer = closed.ask(Some("brz_prices"), Ask::get(&format!("/v2/models/{name}"))).await;
        assert_eq!(answer.status.as_u16(), 403, "{name}: {answer:?}");
    }
}

#[actix_web::test]
async fn a_key_for_some_models_learns_of_no_others() {
    let closed = Closed::new(|config| {
        let more =
            ("brz_ghost", "scopes = [\"read\", \"infer\"]\nmodels = [\"prices\", \"dig\", \"digit*\"]");
        let maker = ("brz_maker", "scopes = [\"admin\"]\nmodels = [\"prices\", \"dig\"]");
        write_keys(config.keys.as_ref().unwrap(), &[KEYS[4], more, maker]);
    });
    for path in ["/models", "/v2/models/stats", "/v2/ops"] {
        let text = closed.ask(Some("brz_prices"), Ask::get(path)).await.json().to_string();
        assert!(
            text.contains("prices") && !text.contains("digits") && !text.contains("flowers"),
            "{path}: {text}"
        );
    }
    // The default is another one: the only model that it sees does not answer for it.
    assert_eq!(closed.ask(Some("brz_prices"), Ask::get("/models")).await.json()["default"], Value::Null);
    closed.state.update(|catalog| catalog.default = None);
    assert_eq!(closed.ask(Some("brz_prices"), Ask::get("/models")).await.json()["default"], Value::Null);
    let index = closed.ask(Some("brz_prices"), Ask::post("/v2/repository/index", "", "")).await.json();
    assert_eq!(index.as_array().unwrap().len(), 1, "{index}");
    // A model that it may use and that is not there: the error does not suggest another.
    for request in [Ask::get("/v2/models/dig"), Ask::json("/models/dig/predict", json!({ "input": [1] }))] {
        let answer = closed.ask(Some("brz_ghost"), request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (404, json!({ "error": "there is no model `dig`" }))
        );
    }
    let answer = closed.ask(Some("brz_ghost"), Ask::get("/v2/models/digits")).await;
    assert_eq!(answer.status.as_u16(), 200);
    // Nor does the error of an action, which may be about a model that is still to come.
    for path in [
        "/v2/models/dig/trace/setting",
        "/v2/models/dig/drift/reset",
        "/v2/models/dig/versions/1/drift/reset",
    ] {
        let answer = closed.ask(Some("brz_maker"), Ask::json(path, json!({}))).await;
        let expected = (404, json!({ "error": "there is no model `dig`" }));
        assert_eq!((answer.status.as_u16(), answer.json()), expected, "{path}");
    }
    let answer =
        closed.ask(Some("brz_maker"), Ask::json("/v2/models/prices/versions/9/drift/reset", json!({}))).await;
    assert!(answer.error().contains("no version `9`"), "of its own it learns all: {answer:?}");
    // The model that a request without a name is for is not named either.
    let answer = closed.ask(Some("brz_maker"), Ask::json("/predict", json!({ "input": [1] }))).await;
    assert_eq!((answer.status.as_u16(), answer.error().contains("digits")), (403, false), "{answer:?}");
    closed.state.update(|catalog| catalog.default = None);
    let list = closed.ask(Some("brz_prices"), Ask::get("/models")).await.json();
    assert_eq!(list["default"], Value::Null, "the only one that is seen is not the only one: {list}");
}

#[actix_web::test]
async fn one_key_alone_and_in_its_place() {
    let closed = Closed::new(|_| ());
    let get = || Ask::get("/models");
    for request in [
        get().header("authorization", "Bearer brz_admin").header("x-api-key", "brz_admin"),
        get().header("authorization", "Basic YnJ6X2FkbWluOg=="),
        get().header("authorization", "brz_admin"),
        get().header("authorization", "Bearer brz_admin brz_admin"),
        get().header("cookie", "key=brz_admin"),
        Ask::get("/models?key=brz_admin&x-api-key=brz_admin"),
        get().header("authorization", &format!("Bearer {}", hash("brz_admin"))),
        get().header("authorization", &format!("Bearer {}", "x".repeat(8000))),
    ] {
        let shown = request.shown();
        assert_eq!(ask(&closed.state, request).await.status.as_u16(), 401, "{shown}");
    }
    assert_eq!(
        ask(&closed.state, get().header("authorization", "bearer brz_admin")).await.status.as_u16(),
        200
    );
    // Whatever is wrong, an unknown key is told the same.
    let mut said = std::collections::BTreeSet::new();
    for key in ["brz_a", "a", "brz_admin2", &"b".repeat(500)] {
        said.insert(ask(&closed.state, get().header("x-api-key", key)).await.error());
    }
    assert_eq!(said.len(), 1, "{said:?}");
}

#[actix_web::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let closed = Closed::new(|_| ());
    let ask = || closed.ask(Some("brz_slow"), Ask::get("/models"));
    assert_eq!((ask().await.status.as_u16(), ask().await.status.as_u16()), (200, 200));
    let answer = ask().await;
    assert_eq!(answer.status.as_u16(), 429, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=100).contains(&seconds), "{seconds}");
    assert!(answer.error().contains("more often"));
    assert_eq!(
        closed.ask(Some("brz_use"), Ask::get("/models")).await.status.as_u16(),
        200,
        "others are not concerned"
    );
    assert_eq!(
        closed.ask(Some("brz_slow"), Ask::get("/ping")).await.status.as_u16(),
        200,
        "health costs nothing"
    );
    closed.state.access.reload(&closed.config).unwrap();
    assert_eq!(ask().await.status.as_u16(), 429, "reading the file again is no way around it");
}

#[actix_web::test]
async fn files_that_are_read_again_hold_at_once_and_bad_ones_do_not() {
    let closed = Closed::new(|_| ());
    let file = closed.config.keys.clone().unwrap();
    let status = async |key: &str| closed.ask(Some(key), Ask::get("/models")).await.status.as_u16();
    assert_eq!(status("brz_read").await, 200);
    std::fs::write(&file, "version = 1\n[[key]]\nname = 3").unwrap();
    let error = closed.state.access.reload(&closed.config).unwrap_err().to_string();
    assert!(error.contains("keys.toml") && error.contains("line 3"), "{error}");
    assert_eq!(status("brz_read").await, 200);
    write_keys(&file, &[("brz_other", "scopes = [\"read\"]")]);
    closed.state.access.reload(&closed.config).unwrap();
    assert_eq!((status("brz_read").await, status("brz_other").await), (401, 200));
    assert!(!closed.state.access.has_admin());
    write_keys(&file, &[]);
    closed.state.access.reload(&closed.config).unwrap();
    assert_eq!(status("brz_other").await, 401, "a file without keys lets nobody in");
}

#[actix_web::test]
async fn what_is_open_to_all_is_so_by_name() {
    let closed = Closed::new(|config| config.anonymous = vec![Scope::Infer]);
    let status = async |request: Ask| ask(&closed.state, request).await.status.as_u16();
    let predict = || Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }));
    assert_ne!(status(predict()).await, 401);
    assert_eq!(status(Ask::get("/models")).await, 401);
    assert_eq!(status(Ask::json("/v2/logging", json!({}))).await, 401);
    assert_eq!(
        status(predict().header("x-api-key", "brz_wrong")).await,
        401,
        "a wrong key is worse than none"
    );
}

#[actix_web::test]
async fn actions_are_written_down_before_and_after() {
    let closed = Closed::new(|_| ());
    let body = json!({ "log_info": true });
    assert_eq!(closed.ask(Some("brz_admin"), Ask::json("/v2/logging", &body)).await.status.as_u16(), 200);
    let unknown = Ask::json("/v2/repository/models/digits/load", json!({ "parameters": { "colour": 1 } }));
    assert_eq!(closed.ask(Some("brz_admin"), unknown).await.status.as_u16(), 400);
    assert_eq!(closed.ask(Some("brz_read"), Ask::json("/v2/logging", &body)).await.status.as_u16(), 403);
    let lines = closed.audit();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let part = |line: usize, key: &str| lines[line][key].as_str().unwrap_or("").to_owned();
    assert_eq!(
        (part(0, "event"), part(0, "action"), part(0, "principal")),
        ("asked".into(), "logging".into(), "admin".into())
    );
    assert_eq!(
        (part(1, "event"), &lines[1]["detail"], part(1, "known_by")),
        ("done".into(), &body, "key".into())
    );
    assert_eq!((part(2, "action"), part(2, "model")), ("load".into(), "digits".into()));
    assert_eq!((part(3, "event"), part(3, "result")), ("refused".into(), "400 Bad Request".into()));
    assert_eq!(lines[3]["detail"], json!({ "parameters": { "colour": 1 } }));
    let reset = Ask::json("/v2/models/digits/versions/1/drift/reset", json!({}));
    assert_eq!(closed.ask(Some("brz_admin"), reset).await.status.as_u16(), 200);
    let last = closed.audit().pop().unwrap();
    assert_eq!((&last["action"], &last["model"]), (&json!("drift reset"), &json!("digits")));
    assert_eq!(last["version"], json!("1"));
    let text = format!("{lines:?} {:?}", closed.state);
    assert!(!text.contains("brz_"), "{text}");
}

#[actix_web::test]
async fn pages_of_others_may_ask_only_when_they_are_named() {
    let closed = Closed::new(|config| config.origins = vec!["https://app.example".to_owned()]);
    let question = |origin: &str| {
        Ask::get("/predict")
            .method(Method::OPTIONS)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization")
    };
    let answer = ask(&closed.state, question("https://app.example")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (204, "https://app.example")
    );
    assert!(answer.header("access-control-allow-headers").contains("authorization"));
    let refused = Ask::json("/v2/models/gone/infer", json!({})).header("x-api-key", "brz_read");
    let answer = ask(&closed.state, refused.header("origin", "https://app.example")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (403, "https://app.example"),
        "a page that may ask may read why it is refused"
    );
    let answer = ask(&closed.state, question("https://evil.example")).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (401, ""));
    let get = |origin: &str| Ask::get("/models").header("origin", origin).header("x-api-key", "brz_read");
    let answer = ask(&closed.state, get("https://app.example")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (200, "https://app.example")
    );
    assert_eq!(answer.header("vary"), "origin");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    assert_eq!(
        ask(&closed.state, get("https://evil.example")).await.header("access-control-allow-origin"),
        ""
    );
    // What a page may send without asking first.
    let form = Ask::post("/predict", "multipart/form-data; boundary=x", "").header("x-api-key", "brz_infer");
    let answer = ask(&closed.state, form.header("origin", "https://evil.example")).await;
    assert_eq!(answer.status.as_u16(), 403, "{answer:?}");
}
