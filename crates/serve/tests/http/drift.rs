//! Drift through the routes: what counts, what it is compared with, what is told where nothing can be.

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use network::{Cell, RawInput, Row};
use serde_json::{Value, json};
use serve::drift::{DriftConfig, Watch, features};
use serve::ensemble::{EnsembleConfig, Kind};
use serve::repository::Settings;
use serve::scheduler::{Scheduler, SchedulerOptions};
use serve::state::Version;

use crate::registry::{Models, digits, flowers, prices};
use crate::server::{Ask, Refusal, ask, check_refusals, idle};
use crate::watched::{Watched, unhurried, watch_with};

/// A server over these models, and over an ensemble of the first two versions of `digits` where that is asked for.
fn serve(models: &Models, config: DriftConfig, cache_bytes: usize, ensemble: bool) -> Watched {
    let options = SchedulerOptions { workers: 2, cache_bytes, ..SchedulerOptions::default() };
    let state = idle(Scheduler::new(options).unwrap()).with_drift(Watch::start(config).unwrap());
    let members = ["digits@1", "digits@2"].map(str::to_owned).to_vec();
    let both = EnsembleConfig { kind: Kind::Mean, members, weights: vec![] };
    let settings = Settings {
        general: unhurried(),
        ensembles: ensemble.then(|| ("both".to_owned(), both)).into_iter().collect(),
        ..Settings::default()
    };
    watch_with(models, settings, state).unwrap()
}

/// A picture of a digit's size: numbers that look random, more of them bright the larger the index.
fn picture(index: usize) -> Vec<f32> {
    (0..64).map(|pixel| ((index * 37 + pixel * pixel * 11 + index * pixel) % 17) as f32 * 0.8).collect()
}

fn pictures(count: usize) -> Vec<RawInput> {
    (0..count).map(|index| RawInput::Numbers(picture(index))).collect()
}

async fn get(watched: &Watched, path: &str) -> Value {
    let answer = ask(&watched.state, Ask::get(path)).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// The drift of a model once so many rows were counted, which happens behind the requests.
async fn counted(watched: &Watched, path: &str, rows: u64) -> Value {
    let began = Instant::now();
    loop {
        let drift = get(watched, path).await;
        if drift["total_rows"] == rows {
            return drift;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "not {rows} rows: {drift}");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn predict(watched: &Watched, path: &str, inputs: &[Vec<f32>]) {
    let answer = ask(&watched.state, Ask::json(path, json!({ "inputs": inputs }))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn feature<'a>(drift: &'a Value, name: &str) -> &'a Value {
    let found = drift["features"].as_array().unwrap().iter().find(|feature| feature["name"] == name);
    found.unwrap_or_else(|| panic!("no `{name}`: {drift}"))
}

const DRIFT: &str = "/v2/models/digits/drift";

#[actix_web::test]
async fn the_same_pictures_are_stable_and_inverted_ones_are_not() {
    let models = Models::new();
    models.publish_watched("digits", &digits(), 1, &pictures(1000));
    let watched = serve(&models, DriftConfig::default(), 0, false);
    let fresh = get(&watched, DRIFT).await;
    assert_eq!((&fresh["status"], &fresh["outputs_split"]), (&json!("collecting"), &json!("validation")));
    let rows: Vec<Vec<f32>> = (0..600).map(|index| picture(index + 200)).collect();
    predict(&watched, "/models/digits/predict", &rows).await;
    let same = counted(&watched, DRIFT, 600).await;
    assert_eq!(
        (&same["status"], &same["window_rows"], &same["skipped_rows"]),
        (&json!("stable"), &json!(600), &json!(0))
    );
    assert!(same["psi"].as_f64().unwrap() < 0.1, "{same}");
    let names: Vec<&str> =
        same["features"].as_array().unwrap().iter().filter_map(|feature| feature["name"].as_str()).collect();
    let expected =
        ["brightness", "contrast", "detail", "centre across", "centre down", "class", "confidence"];
    assert_eq!(names, expected);
    for feature in same["features"].as_array().unwrap() {
        for of in ["reference", "window", "total"] {
            let shares = feature["bins"].as_array().unwrap().iter().filter_map(|bin| bin[of].as_f64());
            assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9, "{of} of {feature}");
        }
    }

    let inverted: Vec<Vec<f32>> =
        rows.iter().map(|row| row.iter().map(|value| 16.0 - value).collect()).collect();
    predict(&watched, "/models/digits/predict", &inverted).await;
    let moved = counted(&watched, DRIFT, 1200).await;
    assert_eq!(moved["status"], "significant", "{moved}");
    let brightness = feature(&moved, "brightness");
    assert!(brightness["window"]["psi"].as_f64().unwrap() > 1.0, "{brightness}");
    // For metrics, by one name.
    let catalog = watched.state.catalog();
    let served = catalog.models["digits"].versions[&1].served().unwrap();
    let told = features(&watched.state.drift, served);
    assert_eq!(told.len(), 7);
    assert!(
        told.iter().any(|told| told.feature == "input:brightness" && told.psi > 1.0 && told.level == 2),
        "{told:?}"
    );
    assert!(told.iter().any(|told| told.feature == "output:class"), "{told:?}");
}

#[actix_web::test]
async fn every_way_in_counts_the_same() {
    let models = Models::new();
    models.publish_watched("digits", &digits(), 1, &pictures(500));
    models.publish_watched("prices", &prices(), 2, &[RawInput::Numbers(vec![1.0, 2.0, 3.0])]);
    let row = |length: f64, colour: &str| {
        let header: Arc<[String]> = ["length".to_owned(), "colour".to_owned()].into();
        RawInput::Row(Row::new(header, vec![Cell::Number(length), Cell::Text(colour.to_owned())]).unwrap())
    };
    models.publish_watched("flowers", &flowers(), 2, &[row(1.0, "red"), row(2.0, "blue"), row(3.0, "red")]);
    let watched = serve(&models, DriftConfig { min_samples: 1, ..DriftConfig::default() }, 0, false);
    let values = picture(3);

    // JSON, a picture in a file, a prepared tensor as JSON and as bytes.
    predict(&watched, "/models/digits/predict", std::slice::from_ref(&values)).await;
    let pixels = values.iter().map(|value| (value / 16.0 * 255.0).round() as u8).collect();
    let file = image::GrayImage::from_raw(8, 8, pixels).unwrap();
    let mut png = Cursor::new(Vec::new());
    file.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let answer =
        ask(&watched.state, Ask::post("/models/digits/predict", "image/png", png.into_inner())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let prepared: Vec<f32> = values.iter().map(|value| value / 16.0).collect();
    let tensor = json!({ "name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": prepared });
    let answer =
        ask(&watched.state, Ask::json("/v2/models/digits/infer", json!({ "inputs": [tensor] }))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let bytes: Vec<u8> = prepared.iter().flat_map(|value| value.to_le_bytes()).collect();
    let raw = Ask::post("/v2/models/digits/infer", "application/octet-stream", bytes)
        .header("inference-header-content-length", "0");
    let answer = ask(&watched.state, raw).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let drift = counted(&watched, DRIFT, 4).await;
    for feature in drift["features"].as_array().unwrap() {
        // Four times the same picture: all in one bin.
        let full = feature["bins"].as_array().unwrap().iter().filter(|bin| bin["total"] == 1.0).count();
        assert_eq!(full, 1, "{feature}");
    }

    let csv = "length,colour\n2,blue\n2,blue\n";
    let answer = ask(&watched.state, Ask::post("/models/flowers/predict", "text/csv", csv)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let drift = counted(&watched, "/v2/models/flowers/versions/1/drift", 2).await;
    let colour = feature(&drift, "colour");
    assert_eq!((&colour["kind"], &colour["bins"][0]["category"]), (&json!("categorical"), &json!("blue")));
    assert_eq!((&colour["bins"][0]["window"], &colour["bins"][1]["window"]), (&json!(1.0), &json!(0.0)));
    predict(&watched, "/models/prices/predict", &[vec![1.0, 2.0, 3.0]]).await;
    let drift = counted(&watched, "/v2/models/prices/drift", 1).await;
    assert_eq!(feature(&drift, "number 1")["bins"][1]["window"], 1.0, "{drift}");
    assert_eq!(feature(&drift, "high")["side"], "output");
}

#[actix_web::test]
async fn members_of_ensembles_and_repeated_answers_count() {
    let models = Models::new();
    for seed in 1..=2 {
        models.publish_watched("digits", &digits(), seed, &pictures(100));
    }
    let watched = serve(&models, DriftConfig::default(), 1 << 20, true);
    let tensor = json!({ "name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![0.5; 64] });
    let body = json!({ "inputs": [tensor] });
    for _ in 0..3 {
        let answer = ask(&watched.state, Ask::json("/v2/models/digits/versions/2/infer", &body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let statistics = get(&watched, "/v2/models/digits/versions/2/stats").await;
    assert_eq!(statistics["model_stats"][0]["inference_stats"]["cache_hit"]["count"], 2);
    counted(&watched, "/v2/models/digits/versions/2/drift", 3).await;
    counted(&watched, "/v2/models/digits/versions/1/drift", 0).await;
    let answer = ask(&watched.state, Ask::json("/v2/models/both/infer", &body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    counted(&watched, "/v2/models/digits/versions/1/drift", 1).await;
    counted(&watched, "/v2/models/digits/versions/2/drift", 4).await;
    let both = get(&watched, "/v2/models/both/drift").await;
    assert_eq!(both["status"], "unwatched");
    assert!(both["reason"].as_str().unwrap().contains("members"), "{both}");
}

#[actix_web::test]
async fn what_is_beyond_the_budget_is_skipped_and_told() {
    let models = Models::new();
    models.publish_watched("digits", &digits(), 1, &pictures(100));
    // Two pictures in a second.
    let config = DriftConfig { values_per_second: 128, ..DriftConfig::default() };
    let watched = serve(&models, config, 0, false);
    let rows: Vec<Vec<f32>> = (0..32).map(picture).collect();
    predict(&watched, "/models/digits/predict", &rows).await;
    let drift = counted(&watched, DRIFT, 2).await;
    assert_eq!(drift["skipped_rows"], 30, "{drift}");
}

#[actix_web::test]
async fn nothing_to_compare_with_is_told_with_its_reason() {
    let models = Models::new();
    models.publish("flowers", &flowers(), 1);
    models.publish_watched("digits", &digits(), 1, &pictures(100));
    let watched = serve(&models, DriftConfig::default(), 0, false);
    let old = get(&watched, "/v2/models/flowers/drift").await;
    assert_eq!((&old["status"], &old["features"]), (&json!("unwatched"), &json!([])));
    assert!(old["reason"].as_str().unwrap().contains("reference.observed"), "{old}");
    let off = serve(&models, DriftConfig { enabled: false, ..DriftConfig::default() }, 0, false);
    predict(&off, "/models/digits/predict", &[picture(1)]).await;
    let drift = get(&off, DRIFT).await;
    assert!(drift["reason"].as_str().unwrap().contains("drift.enabled"), "{drift}");
    let refusals = vec![
        Refusal(Ask::get("/v2/models/nothing/drift"), 404, "there is no model"),
        Refusal(Ask::get("/v2/models/digits/versions/7/drift"), 404, "has no version"),
        Refusal(Ask::post("/v2/models/digits/drift/reset", "", ""), 403, "takes no changes"),
        Refusal(Ask::post("/v2/models/digits/versions/1/drift/reset", "", ""), 403, "takes no changes"),
        Refusal(Ask::post("/v2/models/digits/drift", "", ""), 405, "GET"),
    ];
    check_refusals(&watched.state, refusals).await;
}

#[actix_web::test]
async fn a_reset_forgets() {
    let models = Models::new();
    models.publish_watched("digits", &digits(), 1, &pictures(100));
    let watched = serve(&models, DriftConfig::default(), 0, false);
    watched.state.allow_changes(true);
    predict(&watched, "/models/digits/predict", &[picture(1), picture(2)]).await;
    counted(&watched, DRIFT, 2).await;
    let answer = ask(&watched.state, Ask::post("/v2/models/digits/drift/reset", "", "")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["total_rows"]), (200, &json!(0)));
    assert_eq!(get(&watched, DRIFT).await["window_rows"], 0);
}

#[actix_web::test]
async fn a_damaged_reference_is_a_reason_not_to_serve() {
    let models = Models::new();
    models.publish_watched("digits", &digits(), 1, &pictures(100));
    models.publish("prices", &prices(), 1);
    let path = models.path().join("digits/1/manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["reference"]["observed"]["inputs"][0]["edges"] = json!([2, 1]);
    std::fs::write(&path, manifest.to_string()).unwrap();
    let watched = serve(&models, DriftConfig::default(), 0, false);
    assert!(matches!(watched.state.catalog().models["digits"].versions[&1], Version::Failed));
    let operations = get(&watched, "/v2/ops").await;
    let reason = operations["models"][0]["versions"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("reference.observed: inputs: `brightness`"), "{reason}");
}

#[actix_web::test]
async fn an_operator_sees_everything_at_once() {
    let models = Models::new();
    for seed in 1..=2 {
        models.publish_watched("digits", &digits(), seed, &pictures(100));
    }
    models.open().promote("digits", 1, "production").unwrap();
    let watched = serve(&models, DriftConfig::default(), 0, false);
    predict(&watched, "/models/digits/predict", &[picture(1), picture(2), picture(3)]).await;
    counted(&watched, DRIFT, 3).await;
    let operations = get(&watched, "/v2/ops").await;
    assert_eq!((&operations["fault"], &operations["changes_allowed"]), (&Value::Null, &json!(false)));
    assert!(operations["resident_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{operations}");
    let model = &operations["models"][0];
    assert_eq!((&model["name"], &model["default"]), (&json!("digits"), &json!(1)));
    assert_eq!(model["aliases"], json!({ "production": 1 }));
    let [first, second] = &model["versions"].as_array().unwrap()[..] else { panic!("{model}") };
    assert_eq!((&first["state"], &second["work"]["succeeded"]), (&json!("ready"), &json!(0)));
    let work = &first["work"];
    assert_eq!((&work["succeeded"], &work["rows"], &work["failed"]), (&json!(1), &json!(3), &json!(0)));
    assert_eq!((&work["latency"]["count"], &work["waiting_requests"]), (&json!(1), &json!(0)));
    let last = work["latency"]["buckets"].as_array().unwrap().last().unwrap();
    assert_eq!(last, &json!([10_000_000, 1]));
    assert_eq!(
        (&first["drift"]["status"], &first["drift"]["window_rows"]),
        (&json!("collecting"), &json!(3))
    );
}

#[actix_web::test]
async fn the_page_and_its_files_keep_to_themselves() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let watched = serve(&models, DriftConfig::default(), 0, false);
    let page = ask(&watched.state, Ask::get("/ops")).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
    let text = std::str::from_utf8(&page.body).unwrap();
    assert!(!text.contains("https://"));
    for file in ["style.css", "app.js", "client.js", "drift.js", "model.js", "numbers.js"] {
        let answer = ask(&watched.state, Ask::get(&format!("/ops/{file}"))).await;
        assert_eq!(answer.status, 200, "{file}");
        let text = std::str::from_utf8(&answer.body).unwrap();
        assert!(!text.contains("https://"), "{file}");
    }
    assert_eq!(ask(&watched.state, Ask::get("/ops/other.js")).await.status, 404);
}
