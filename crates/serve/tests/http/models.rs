//! The listing, the descriptions, the page, and what becomes of a damaged package.

use actix_web::http::Method;
use serde_json::json;
use serve::config::Limits;
use serve::load::{self, LoadError, Options};
use serve::pool::Pool;
use serve::state::{Phase, State};

use crate::registry::{Models, digits, prices};
use crate::server::{Ask, Refusal, ask, check_refusals, scheduler, state, three_models};

#[actix_web::test]
async fn listing_and_descriptions() {
    let models = three_models();
    let state = state(&models, Some("flowers"), Limits::default());
    let list = ask(&state, Ask::get("/models")).await.json();
    assert_eq!(list["default"], "flowers");
    let names: Vec<&str> =
        list["models"].as_array().unwrap().iter().filter_map(|model| model["name"].as_str()).collect();
    assert_eq!(names, ["digits", "flowers", "prices"]);
    let digits = &list["models"][0];
    assert_eq!(digits["aliases"], json!({ "production": 1 }));
    assert_eq!(digits["answers"], 1);
    assert_eq!(digits["versions"][1], json!({ "version": 2, "state": "ready" }));

    let shown = ask(&state, Ask::get("/models/digits")).await.json();
    assert_eq!(shown["current"]["version"], 1);
    let version = ask(&state, Ask::get("/models/digits/versions/2")).await.json();
    assert_eq!(version["task"], "multi_class");
    assert_eq!(version["labels"].as_array().unwrap().len(), 10);
    assert_eq!(version["input"]["kind"], "image");
    assert_eq!(version["input"]["fit"], json!({ "kind": "drawing_counts", "grid": 32 }));
    assert_eq!(version["metrics"]["accuracy"], 0.5);
    assert_eq!(version["parameters"], 650);
    // What a sample says can be sent as it is.
    for name in names {
        let version = ask(&state, Ask::get(&format!("/models/{name}/versions/1"))).await.json();
        let body = json!({ "input": version["samples"][0] });
        let answer = ask(&state, Ask::json(&format!("/models/{name}/predict"), body)).await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
    let flowers = ask(&state, Ask::get("/models/flowers/versions/1")).await.json();
    let columns = json!([
        { "name": "length", "kind": "numeric", "optional": false },
        { "name": "colour", "kind": "categorical", "categories": ["blue", "red"], "optional": false }
    ]);
    assert_eq!(flowers["input"]["columns"], columns);
}

#[actix_web::test]
async fn wrong_routes_and_methods() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let refusals = vec![
        Refusal(Ask::get("/nowhere"), 404, "there is no route `/nowhere`"),
        Refusal(Ask::get("/models/"), 404, "there is no route"),
        Refusal(Ask::get("//models"), 404, "there is no route"),
        Refusal(Ask::get("/models/digits/versions"), 404, "there is no route"),
        Refusal(Ask::get("/predict"), 405, "this route takes POST, not `GET`"),
        Refusal(Ask::json("/", "{}"), 405, "this route takes GET, HEAD, not `POST`"),
        Refusal(Ask::get("/models").method(Method::DELETE), 405, "not `DELETE`"),
        Refusal(Ask::get("/models/digit"), 404, "did you mean `digits`?"),
        Refusal(Ask::get("/models/digits/versions/5"), 404, "no version `5`"),
        Refusal(Ask::get("/playground/app.html"), 404, "there is no route"),
    ];
    check_refusals(&state, refusals).await;
    assert_eq!(ask(&state, Ask::get("/predict")).await.header("allow"), "POST");
}

#[actix_web::test]
async fn the_page_comes_from_the_binary_and_needs_nothing_else() {
    let models = three_models();
    let state = state(&models, None, Limits::default());
    let page = ask(&state, Ask::get("/")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    for inline in [" onclick", " style=", "<script>", "<style"] {
        assert!(!html.contains(inline), "{inline} is inline");
    }
    for path in serve::routes::playground::paths() {
        let file = ask(&state, Ask::get(path)).await;
        assert_eq!(file.status, 200, "{path}");
        let text = String::from_utf8(file.body.to_vec()).unwrap();
        // The name of SVG is no address that is fetched.
        let is_name = |rest: &&str| {
            ["'", "\""].iter().any(|end| rest.starts_with(&format!("www.w3.org/2000/svg{end}")))
        };
        let outside = text.split("://").skip(1).filter(|rest| !is_name(rest)).count();
        assert_eq!(outside, 0, "{path} names an outside resource");
        // Every file that a file names is there.
        for part in text.split(['"', '\'']).filter(|part| {
            ["./", "/playground/", "/docs/", "/ops/"].iter().any(|start| part.starts_with(start))
        }) {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let wanted = part.replace("./", &format!("{folder}/"));
            assert!(serve::routes::playground::paths().any(|path| path == wanted), "{path} wants {part}");
        }
    }
}

#[actix_web::test]
async fn a_damaged_version_is_skipped_and_the_others_serve() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish("digits", &digits(), 2);
    models.publish("prices", &prices(), 3);
    models.damage("digits", 2);
    let state = state(&models, None, Limits::default());
    assert_eq!(ask(&state, Ask::get("/v2/health/ready")).await.status, 200);
    let list = ask(&state, Ask::get("/models")).await.json();
    assert_eq!(list["models"][0]["versions"][1]["state"], "failed");
    assert_eq!(list["models"][0]["answers"], 1, "the newest that is ready");
    let zeros = json!({ "input": vec![0; 64] });
    assert_eq!(ask(&state, Ask::json("/models/digits/predict", &zeros)).await.json()["version"], 1);
    let refusals = vec![
        Refusal(
            Ask::json("/models/digits/versions/2/predict", &zeros),
            503,
            "version 2 of `digits` could not be loaded",
        ),
        Refusal(Ask::get("/v2/models/digits/versions/2/ready"), 503, "could not be loaded"),
    ];
    check_refusals(&state, refusals).await;
}

#[actix_web::test]
async fn readiness_follows_loading_and_draining() {
    let models = three_models();
    let state =
        actix_web::web::Data::new(State::new(Pool::new(1, 1).unwrap(), scheduler(), Limits::default()));
    assert_eq!(ask(&state, Ask::get("/v2/health/ready")).await.status, 503);
    load::discover(&state, &models.open(), None).unwrap();
    let early = ask(&state, Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }))).await;
    assert_eq!(early.status, 503);
    assert_eq!(early.header("retry-after"), "1");
    assert_eq!(ask(&state, Ask::get("/models")).await.json()["models"][0]["versions"][0]["state"], "loading");
    load::load(&state, &models.open(), &Options::default()).unwrap();
    assert_eq!(ask(&state, Ask::get("/v2/health/ready")).await.status, 200);
    state.drain();
    state.loaded();
    assert_eq!(state.phase(), Phase::Draining, "draining is not undone");
    assert_eq!(ask(&state, Ask::get("/v2/health/ready")).await.status, 503);
    assert_eq!(ask(&state, Ask::get("/v2/health/live")).await.status, 200);
    let late = ask(&state, Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }))).await;
    assert_eq!(late.status, 200, "requests are answered until listening ends");
}

#[actix_web::test]
async fn a_registry_without_models_is_an_error() {
    let new = || State::new(Pool::new(1, 1).unwrap(), scheduler(), Limits::default());
    let models = Models::new();
    assert!(matches!(load::discover(&new(), &models.open(), None), Err(LoadError::Empty { .. })));
    models.publish("prices", &prices(), 1);
    let error = load::discover(&new(), &models.open(), Some("price".parse().unwrap())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the default model `price` is not in the registry, which has prices; did you mean `prices`?"
    );
    models.damage("prices", 1);
    let state = new();
    load::discover(&state, &models.open(), None).unwrap();
    let error = load::load(&state, &models.open(), &Options::default()).unwrap_err();
    assert!(matches!(error, LoadError::AllFailed { count: 1, .. }));
}
