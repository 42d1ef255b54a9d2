//! The watched directory: what appears, disappears, is damaged or half written, and who may change what is served.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use artifact::Selector;
use serde_json::json;
use serve::load::LoadError;
use serve::repository::{Mode, Policy, RepositoryConfig, Settings, index};

use crate::registry::{Models, digits, prices};
use crate::server::{Ask, ask};
use crate::watched::{Watched, unhurried, watch};

fn settings(change: impl FnOnce(&mut RepositoryConfig)) -> Settings {
    let mut general = unhurried();
    change(&mut general);
    Settings { general, ..Settings::default() }
}

fn versions(watched: &Watched, name: &str) -> Vec<String> {
    let entries = index(&watched.state.catalog(), false);
    let of_model = entries.iter().filter(|entry| entry.name == name);
    of_model.map(|entry| format!("{} {}", entry.version.as_deref().unwrap_or("-"), entry.state)).collect()
}

fn reason(watched: &Watched, name: &str, version: u64) -> String {
    let catalog = watched.state.catalog();
    catalog.models.get(name).and_then(|model| model.reasons.get(&version).cloned()).unwrap_or_default()
}

/// Which version answers requests that name none.
fn answers(watched: &Watched, name: &str) -> Option<u64> {
    watched.state.catalog().find(name, &Selector::Default).ok().map(|served| served.version())
}

/// Unloading ends when the last request has, which is soon, and not at once.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} takes too long");
        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    }
}

fn copy(from: &Path, to: &Path, files: &[&str]) {
    std::fs::create_dir_all(to).unwrap();
    for file in files {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

fn package(models: &Models, name: &str, version: u64) -> PathBuf {
    models.path().join(name).join(version.to_string())
}

#[actix_web::test]
async fn what_appears_is_served_and_what_disappears_is_not() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    let watched = watch(&models, settings(|_| ())).unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY"]);
    let before = watched.state.catalog();

    models.publish("digits", &digits(), 2);
    models.publish("prices", &prices(), 3);
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY", "2 READY"]);
    assert_eq!((answers(&watched, "digits"), answers(&watched, "prices")), (Some(2), Some(1)));
    assert_eq!(before.models.len(), 1, "a request keeps the catalog that it found");

    models.open().promote("digits", 1, "production").unwrap();
    watched.repository.look().await.unwrap();
    assert_eq!(answers(&watched, "digits"), Some(1), "the alias has moved");

    // A request that still has the version keeps it from being dropped.
    let held = watched.state.catalog().find("digits", &Selector::Version(2)).cloned().unwrap();
    drop(before);
    models.open().remove("digits", 2).unwrap();
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY", "2 UNLOADING"]);
    let gone = ask(&watched.state, Ask::get("/v2/models/digits/versions/2/ready")).await;
    assert_eq!(gone.status, 503, "{gone:?}");
    drop(held);
    until("the end of version 2", || versions(&watched, "digits") == ["1 READY"]).await;

    std::fs::remove_dir_all(models.path().join("prices")).unwrap();
    watched.repository.look().await.unwrap();
    until("the end of prices", || versions(&watched, "prices").is_empty()).await;
    assert_eq!(ask(&watched.state, Ask::get("/v2/models/prices")).await.status, 404);

    // A disk that is away is no empty registry.
    let (here, away) = (models.path().to_owned(), models.path().with_extension("away"));
    std::fs::rename(&here, &away).unwrap();
    watched.repository.look().await.unwrap();
    assert_eq!(answers(&watched, "digits"), Some(1));
    std::fs::rename(&away, &here).unwrap();

    std::fs::remove_dir_all(models.path().join("digits")).unwrap();
    watched.repository.look().await.unwrap();
    let ready = ask(&watched.state, Ask::get("/v2/health/ready")).await;
    assert_eq!((ready.status.as_u16(), ready.error().as_str()), (503, "no model is loaded"));
}

#[actix_web::test]
async fn a_version_that_cannot_be_loaded_is_told_and_tried_again_only_when_it_changes() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    let watched = watch(&models, settings(|general| general.versions = Policy::Latest(1))).unwrap();
    models.publish("digits", &digits(), 2);
    let good = std::fs::read(package(&models, "digits", 2).join("weights.bpk")).unwrap();
    models.damage("digits", 2);
    models.publish_spoiled("prices", &prices(), 3);
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY", "2 UNAVAILABLE"]);
    assert_eq!(answers(&watched, "digits"), Some(1), "the newest that can be loaded goes on serving");
    assert!(reason(&watched, "digits", 2).contains("damaged"), "{}", reason(&watched, "digits", 2));
    assert!(reason(&watched, "prices", 1).contains("does not give the answers"));
    for (name, version) in [("digits", 2), ("prices", 1)] {
        let told = reason(&watched, name, version);
        assert!(!told.contains(models.path().to_str().unwrap()), "a path: {told}");
    }
    assert_eq!(ask(&watched.state, Ask::get("/v2/health/ready")).await.status, 200);
    let list = ask(&watched.state, Ask::get("/models/digits")).await.json();
    assert_eq!(list["versions"][1]["reason"], reason(&watched, "digits", 2));

    // Nothing has changed, so nothing is tried.
    let tried = || watched.state.telemetry.doors.loads.took.buckets().count;
    let before = tried();
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY", "2 UNAVAILABLE"]);
    assert_eq!(tried(), before);
    let error = watched.repository.load("digits").await.unwrap_err().to_string();
    assert!(error.contains("version 2 of `digits` was not loaded") && error.contains("damaged"), "{error}");
    assert_eq!(answers(&watched, "digits"), Some(1));

    std::fs::write(package(&models, "digits", 2).join("weights.bpk"), good).unwrap();
    watched.repository.look().await.unwrap();
    assert_eq!(answers(&watched, "digits"), Some(2), "it was repaired");
    until("the end of version 1", || versions(&watched, "digits") == ["1 UNAVAILABLE", "2 READY"]).await;
    assert_eq!(reason(&watched, "digits", 1), "the version policy leaves it out");

    // What is loaded goes on serving when its files are damaged afterwards.
    models.damage("digits", 2);
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 UNAVAILABLE", "2 READY"]);
    assert!(reason(&watched, "digits", 2).starts_with("its directory has changed"));
}

#[actix_web::test]
async fn half_written_and_foreign_directories_are_not_served() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish("digits", &digits(), 2);
    let whole = models.path().join("digits.whole");
    std::fs::rename(package(&models, "digits", 2), &whole).unwrap();
    let watched = watch(&models, settings(|_| ())).unwrap();
    let target = package(&models, "digits", 2);
    copy(&whole, &target, &["weights.bpk"]);
    // Not versions, whatever they hold.
    for name in ["02", "two", "-2", "2.0", ".tmp-2"] {
        copy(&whole, &models.path().join("digits").join(name), &["manifest.json", "weights.bpk"]);
    }
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY"], "without a manifest there is no version");
    copy(&whole, &target, &["manifest.json"]);
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY", "2 UNAVAILABLE"]);
    assert!(reason(&watched, "digits", 2).contains("is missing"), "{}", reason(&watched, "digits", 2));
    copy(&whole, &target, &["card.md", "evaluation.json"]);
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY", "2 READY"], "now it is whole");

    // A copy under another name, or of another model, is not what its place says.
    copy(
        &whole,
        &package(&models, "digits", 7),
        &["manifest.json", "weights.bpk", "card.md", "evaluation.json"],
    );
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits")[2], "7 UNAVAILABLE");
    let told = reason(&watched, "digits", 7);
    assert!(told.contains("digits@2") && told.contains("digits@7"), "{told}");
}

#[actix_web::test]
async fn policies_keep_what_aliases_name() {
    let models = Models::new();
    for seed in 1..=4 {
        models.publish("digits", &digits(), seed);
    }
    models.open().promote("digits", 1, "production").unwrap();
    let mut settings = settings(|general| general.versions = Policy::Latest(2));
    let watched = watch(&models, settings.clone()).unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY", "2 UNAVAILABLE", "3 READY", "4 READY"]);
    assert_eq!(answers(&watched, "digits"), Some(1));
    models.open().promote("digits", 4, "production").unwrap();
    watched.repository.look().await.unwrap();
    assert_eq!(answers(&watched, "digits"), Some(4));
    let two = ["1 UNAVAILABLE", "2 UNAVAILABLE", "3 READY", "4 READY"];
    until("the end of version 1", || versions(&watched, "digits") == two).await;

    // An alias answers with the version that it had until the new one is there.
    models.publish("digits", &digits(), 5);
    models.damage("digits", 5);
    models.open().promote("digits", 5, "production").unwrap();
    watched.repository.look().await.unwrap();
    assert_eq!(answers(&watched, "digits"), Some(4));

    // For one model alone, while it serves.
    settings.versions.insert("digits".to_owned(), Policy::Specific([2].into()));
    watched.repository.configure(settings.clone()).unwrap();
    watched.repository.look().await.unwrap();
    until("version 2 alone", || {
        index(&watched.state.catalog(), true)
            .iter()
            .filter_map(|entry| entry.version.clone())
            .collect::<Vec<_>>()
            == ["2"]
    })
    .await;
    // What cannot be had does not take away what there is.
    settings.versions.insert("digits".to_owned(), Policy::Specific([5].into()));
    watched.repository.configure(settings).unwrap();
    watched.repository.look().await.unwrap();
    let ready = index(&watched.state.catalog(), true);
    assert_eq!(ready.len(), 1, "{ready:?}");
    assert_eq!(ready[0].version.as_deref(), Some("2"));
}

#[actix_web::test]
async fn requests_load_and_unload_where_they_may() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish("prices", &prices(), 2);
    let explicit = settings(|general| {
        general.mode = Mode::Explicit;
        general.startup = vec!["prices".to_owned()];
    });
    let watched = watch(&models, explicit).unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 UNAVAILABLE"]);
    assert_eq!(versions(&watched, "prices"), ["1 READY"]);
    assert_eq!(watched.repository.load("digits").await.unwrap(), [1]);
    assert_eq!(watched.repository.load("digits").await.unwrap(), [0u64; 0], "there is nothing new");
    models.publish("digits", &digits(), 3);
    watched.repository.look().await.unwrap();
    assert_eq!(versions(&watched, "digits"), ["1 READY", "2 UNAVAILABLE"], "nobody asked for it");
    assert_eq!(watched.repository.load("digits").await.unwrap(), [2]);
    watched.repository.unload("digits").await.unwrap();
    watched.repository.unload("digits").await.unwrap();
    until("the end of digits", || versions(&watched, "digits") == ["1 UNAVAILABLE", "2 UNAVAILABLE"]).await;
    let zeros = json!({ "input": vec![0; 64] });
    assert_eq!(ask(&watched.state, Ask::json("/models/digits/predict", &zeros)).await.status, 503);
    let error = watched.repository.load("digit").await.unwrap_err().to_string();
    assert_eq!(error, "there is no model `digit`; did you mean `digits`?");
    for name in ["", "..", "../digits", "digits/1", "a\0b"] {
        assert!(
            watched.repository.load(name).await.is_err() && watched.repository.unload(name).await.is_err()
        );
    }

    let fixed = watch(&models, settings(|general| general.mode = Mode::None)).unwrap();
    assert!(fixed.repository.load("digits").await.unwrap_err().to_string().contains("are fixed"));
    assert!(fixed.repository.unload("digits").await.is_err());
    models.publish("digits", &digits(), 4);
    fixed.repository.look().await.unwrap();
    assert_eq!(versions(&fixed, "digits"), ["1 READY", "2 READY"]);

    // While a directory is watched, what a request has unloaded stays so until one loads it.
    let watched = watch(&models, settings(|_| ())).unwrap();
    watched.repository.unload("prices").await.unwrap();
    watched.repository.look().await.unwrap();
    until("the end of prices", || versions(&watched, "prices") == ["1 UNAVAILABLE"]).await;
    watched.repository.load("prices").await.unwrap();
    assert_eq!(versions(&watched, "prices"), ["1 READY"]);
}

#[actix_web::test]
async fn an_empty_registry_is_served_when_that_is_wanted() {
    let models = Models::new();
    let watched = watch(&models, settings(|general| general.allow_empty = true)).unwrap();
    let ready = ask(&watched.state, Ask::get("/v2/health/ready")).await;
    assert_eq!((ready.status.as_u16(), ready.error().as_str()), (503, "no model is loaded"));
    models.publish("prices", &prices(), 1);
    watched.repository.look().await.unwrap();
    assert_eq!(ask(&watched.state, Ask::get("/v2/health/ready")).await.status, 200);
    models.damage("prices", 1);
    assert!(matches!(watch(&models, settings(|_| ())), Err(LoadError::AllFailed { count: 1, .. })));
}

#[test]
fn thirty_two_threads_load_and_unload_one_model_while_requests_go_on() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish("prices", &prices(), 2);
    let watched = watch(&models, settings(|_| ())).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..32 {
            let repository = watched.repository.clone();
            scope.spawn(move || {
                actix_web::rt::System::new().block_on(async {
                    for turn in 0..8 {
                        let result = if (thread + turn) % 2 == 0 {
                            repository.load("digits").await.map(drop)
                        } else {
                            repository.unload("digits").await
                        };
                        result.unwrap();
                    }
                });
            });
        }
        let state = watched.state.clone();
        scope.spawn(move || {
            actix_web::rt::System::new().block_on(async {
                for _ in 0..50 {
                    let answer =
                        ask(&state, Ask::json("/models/prices/predict", json!({ "input": [1, 2, 3] }))).await;
                    assert_eq!(answer.status, 200, "another model is not concerned");
                    let zeros = json!({ "input": vec![0; 64] });
                    let status =
                        ask(&state, Ask::json("/models/digits/predict", zeros)).await.status.as_u16();
                    assert!(status == 200 || status == 503, "{status}");
                }
            });
        });
    });
    actix_web::rt::System::new().block_on(async {
        watched.repository.load("digits").await.unwrap();
        assert_eq!(versions(&watched, "digits"), ["1 READY"]);
    });
}
