//! Plans of traffic where they meet something else: files that come later or are locked, requests alone that change what
//! is served, shadows beside candidates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use serde_json::{Value, json};
use serve::ensemble::{EnsembleConfig, Kind};
use serve::load;
use serve::load::Options;
use serve::repository::{Mode, RepositoryConfig, Settings};
use serve::traffic::{Plan, Traffic};

use crate::registry::{Models, digits, digits_prepared_otherwise, prices};
use crate::server::{Ask, ask, idle, scheduler};
use crate::traffic::{Directed, PATH, change, direct, history, three_versions, version, view};
use crate::watched::{unhurried, watch};

#[actix_web::test]
async fn what_a_model_that_comes_later_has_kept_counts() {
    let models = three_versions();
    let plan = |weight| {
        let split = [("1".to_owned(), 100 - weight), ("2".to_owned(), weight)].into();
        BTreeMap::from([("prices".to_owned(), Plan { split, ..Plan::default() })])
    };
    {
        let directed = direct(&models, plan(10));
        change(&directed, json!({ "action": "set", "split": { "1": 60, "2": 40 } })).await;
    }
    let (here, away) = (models.path().join("prices"), models.path().with_extension("away"));
    // The settings say what they said, and then something else.
    for (said, wanted, events) in [(10, 40, vec!["set", "set"]), (20, 20, vec!["set", "set", "set"])] {
        std::fs::rename(&here, &away).unwrap();
        let state = Data::new(idle(scheduler()));
        let traffic = Traffic::start(&state, models.open(), plan(said), || None).unwrap();
        let directed = Directed { state, traffic };
        std::fs::rename(&away, &here).unwrap();
        load::discover(&directed.state, &models.open(), None).unwrap();
        load::load(&directed.state, &models.open(), &Options::default()).unwrap();
        directed.traffic.tick(&directed.state);
        let told = view(&directed).await;
        assert_eq!((&told["split"]["2"], &told["persisted"]), (&json!(wanted), &json!(true)), "{told}");
        assert_eq!(history(&told), events);
        let kept = std::fs::read_to_string(here.join("traffic.json")).unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept["plan"]["split"]["2"], wanted);
    }
}

#[actix_web::test]
async fn a_rollback_answers_where_requests_alone_change_what_is_served() {
    let models = three_versions();
    let mean =
        EnsembleConfig { kind: Kind::Mean, members: vec!["prices@production".to_owned()], weights: vec![] };
    let settings = Settings {
        general: RepositoryConfig { mode: Mode::Explicit, ..unhurried() },
        ensembles: [("both".to_owned(), mean)].into(),
        ..Settings::default()
    };
    let watched = watch(&models, settings).unwrap();
    let state = watched.state.clone();
    let traffic = Traffic::start(&state, models.open(), BTreeMap::new(), || None).unwrap();
    state.allow_changes(true);
    let directed = Directed { state, traffic };
    let member = async |named: &str| {
        let body = json!({ "inputs": [{ "name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3] }] });
        let path = format!("/v2/models/{named}/infer");
        ask(&directed.state, Ask::json(&path, &body)).await.json()["outputs"][0]["data"].clone()
    };
    change(&directed, json!({ "action": "promote", "version": 2 })).await;
    assert_eq!(version(&directed, "anybody").await, 2);
    watched.repository.look().await.unwrap();
    assert_eq!(member("both").await, member("prices/versions/2").await, "an ensemble follows an alias");
    let back = change(&directed, json!({ "action": "rollback" })).await;
    assert_eq!(back["default"], 1, "{back}");
    assert_eq!(version(&directed, "anybody").await, 1);
    watched.repository.look().await.unwrap();
    assert_eq!(member("both").await, member("prices/versions/1").await);

    // Nothing would load what is not loaded.
    models.publish("prices", &prices(), 4);
    for version in [4, 1] {
        models.open().promote("prices", version, "production").unwrap();
    }
    let refused = ask(&directed.state, Ask::json(PATH, json!({ "action": "rollback" }))).await;
    assert_eq!(
        (refused.status.as_u16(), refused.error().as_str()),
        (400, "version 4 of `prices` is not loaded")
    );
    assert_eq!(models.open().aliases("prices").unwrap()["production"], 1);
}

#[actix_web::test]
async fn who_looks_does_not_wait_for_a_file() {
    let models = three_versions();
    let directed = direct(&models, BTreeMap::new());
    // As long as another program publishes, it has the lock that a promotion needs.
    let lock = std::fs::File::create(models.path().join("prices/.lock")).unwrap();
    lock.lock().unwrap();
    let (traffic, state) = (Arc::clone(&directed.traffic), directed.state.clone());
    let promotion = std::thread::spawn(move || {
        let promote = serde_json::from_value(json!({ "action": "promote", "version": 2 })).unwrap();
        traffic.act(&state, "prices", promote).map(drop)
    });
    std::thread::sleep(Duration::from_millis(300));
    let (traffic, state) = (Arc::clone(&directed.traffic), directed.state.clone());
    let (sender, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(traffic.view(&state, "prices").unwrap()));
    let told = told.recv_timeout(Duration::from_secs(60));
    lock.unlock().unwrap();
    promotion.join().unwrap().unwrap();
    assert_eq!(told.expect("it waits for the lock")["default"], 1);
    assert_eq!(version(&directed, "anybody").await, 2);
}

#[actix_web::test]
async fn a_shadow_leaves_a_candidate_at_its_step() {
    let models = three_versions();
    let auto = json!({ "candidate": 2, "steps": [5, 25, 50], "window_s": 604_800 });
    let kept = json!({ "plan": { "auto": auto }, "step": 1 });
    std::fs::write(models.path().join("prices/traffic.json"), kept.to_string()).unwrap();
    let directed = direct(&models, BTreeMap::new());
    assert_eq!(view(&directed).await["split"], json!({ "1": 75, "2": 25 }));
    let told = change(&directed, json!({ "action": "shadow", "version": 3, "percent": 10 })).await;
    assert_eq!((&told["step"]["index"], &told["split"]), (&json!(1), &json!({ "1": 75, "2": 25 })), "{told}");
}

#[actix_web::test]
async fn a_shadow_that_prepares_otherwise_is_refused() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish("digits", &digits_prepared_otherwise(), 1);
    let directed = direct(&models, BTreeMap::new());
    let path = PATH.replace("prices", "digits");
    let refused = ask(&directed.state, Ask::json(&path, json!({ "action": "shadow", "version": 1 }))).await;
    assert_eq!(refused.status, 400);
    assert!(refused.error().contains("prepares its inputs in another way than version 2"), "{refused:?}");
    let split = ask(&directed.state, Ask::json(&path, json!({ "action": "set", "split": { "1": 1 } }))).await;
    assert_eq!(split.status, 200, "each prepares for itself: {split:?}");
}
