//! Models that are made of others.

use artifact::Selector;
use serde_json::{Value, json};
use serve::ensemble::{EnsembleConfig, Kind};
use serve::repository::{Settings, index};
use serve::scheduler::{Scheduler, SchedulerOptions};

use crate::registry::{Models, digits, digits_prepared_otherwise, flowers, prices};
use crate::server::{Ask, ask, idle};
use crate::watched::{Watched, unhurried, watch, watch_with};

fn of(kind: Kind, members: &[&str], weights: &[f32]) -> EnsembleConfig {
    let members = members.iter().map(|member| (*member).to_owned()).collect();
    EnsembleConfig { kind, members, weights: weights.to_vec() }
}

fn settings(ensembles: &[(&str, EnsembleConfig)]) -> Settings {
    let ensembles = ensembles.iter().map(|(name, config)| ((*name).to_owned(), config.clone()));
    Settings { general: unhurried(), ensembles: ensembles.collect(), ..Settings::default() }
}

fn serve(models: &Models, settings: Settings) -> Watched {
    watch(models, settings).unwrap()
}

async fn infer(served: &Watched, model: &str, values: &[f32]) -> Value {
    let shape = if values.len() == 64 { json!([1, 1, 8, 8]) } else { json!([1, values.len()]) };
    let input = json!({ "name": "input", "shape": shape, "datatype": "FP32", "data": values });
    let answer =
        ask(&served.state, Ask::json(&format!("/v2/models/{model}/infer"), json!({ "inputs": [input] })))
            .await;
    assert_eq!(answer.status, 200, "{model}: {answer:?}");
    answer.json()
}

fn data(answer: &Value) -> Vec<f32> {
    answer["outputs"][0]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect()
}

fn close(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} is not {wanted:?}");
}

#[actix_web::test]
async fn means_and_sequences_answer_what_their_members_would() {
    let models = Models::new();
    for seed in 1..=2 {
        models.publish("prices", &prices(), seed);
        models.publish("digits", &digits(), seed);
    }
    models.publish("flowers", &flowers(), 3);
    let served = serve(
        &models,
        settings(&[
            ("mean", of(Kind::Mean, &["prices@1", "prices@2"], &[])),
            ("weighted", of(Kind::Mean, &["prices@1", "prices@2"], &[3.0, 1.0])),
            ("nested", of(Kind::Mean, &["mean", "prices@1"], &[])),
            ("classes", of(Kind::MeanProbabilities, &["digits@1", "digits@2"], &[])),
            ("mixed", of(Kind::Mean, &["prices", "flowers"], &[])),
            ("chain", of(Kind::Sequence, &["prices", "flowers"], &[])),
            ("lost", of(Kind::Mean, &["prices", "nobody"], &[])),
        ]),
    );
    let input = [1.0, -2.0, 0.5];
    let (one, two) = (
        data(&infer(&served, "prices/versions/1", &input).await),
        data(&infer(&served, "prices", &input).await),
    );
    let mix = |a: f32, b: f32| -> Vec<f32> { one.iter().zip(&two).map(|(x, y)| a * x + b * y).collect() };
    close(&data(&infer(&served, "mean", &input).await), &mix(0.5, 0.5));
    close(&data(&infer(&served, "weighted", &input).await), &mix(0.75, 0.25));
    close(&data(&infer(&served, "nested", &input).await), &mix(0.75, 0.25));
    let picture: Vec<f32> = (0..64u8).map(|value| f32::from(value % 5)).collect();
    let answer = infer(&served, "classes", &picture).await;
    assert_eq!((answer["outputs"][0]["name"].as_str(), data(&answer).len()), (Some("probabilities"), 10));
    assert!((data(&answer).iter().sum::<f32>() - 1.0).abs() < 1e-4, "{answer}");

    let reason = |name: &str| {
        let entries = index(&served.state.catalog(), false);
        let entry = entries.into_iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(entry.state, "UNAVAILABLE");
        entry.reason
    };
    assert!(reason("mixed").contains("has other outputs than `prices@2`"), "{}", reason("mixed"));
    assert!(reason("chain").contains("cannot feed `flowers@1`"), "{}", reason("chain"));
    assert!(reason("lost").contains("the member `nobody` is not ready"), "{}", reason("lost"));
    let metadata = ask(&served.state, Ask::get("/v2/models/mean")).await.json();
    assert_eq!(
        (metadata["platform"].as_str(), metadata["versions"][0].as_str()),
        (Some("brazier_ensemble"), Some("1"))
    );
    let raw = ask(&served.state, Ask::json("/models/mean/predict", json!({ "input": [1, 2, 3] }))).await;
    assert_eq!(raw.status, 400, "it has no way in of its own: {raw:?}");
}

#[actix_web::test]
async fn an_ensemble_follows_its_members() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let served = serve(
        &models,
        settings(&[
            ("double", of(Kind::Mean, &["prices"], &[])),
            ("prices2", of(Kind::Mean, &["double"], &[])),
        ]),
    );
    let input = [1.0, -2.0, 0.5];
    let before = data(&infer(&served, "double", &input).await);
    models.publish("prices", &prices(), 2);
    served.repository.look().await.unwrap();
    let member = data(&infer(&served, "prices", &input).await);
    assert_ne!(before, member);
    close(&data(&infer(&served, "double", &input).await), &member);
    close(&data(&infer(&served, "prices2", &input).await), &member);

    served.repository.unload("prices").await.unwrap();
    let gone = served.state.catalog().find("prices2", &Selector::Default).cloned().unwrap_err().to_string();
    assert!(gone.contains("could not be loaded"), "{gone}");
    let began = std::time::Instant::now();
    while index(&served.state.catalog(), false).iter().any(|entry| entry.state == "UNLOADING") {
        assert!(began.elapsed().as_secs() < 60, "the ensembles hold on to their member");
        actix_web::rt::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    served.repository.load("prices").await.unwrap();
    close(&data(&infer(&served, "prices2", &input).await), &member);
    for result in [served.repository.load("double").await.map(drop), served.repository.unload("double").await]
    {
        assert!(result.unwrap_err().to_string().contains("is an ensemble"));
    }

    // A package takes its name; other settings take the ensemble away.
    let next = settings(&[("prices2", of(Kind::Mean, &["prices@1", "prices@2"], &[]))]);
    served.repository.configure(next).unwrap();
    served.repository.look().await.unwrap();
    assert_eq!(ask(&served.state, Ask::get("/v2/models/double")).await.status, 404);
    let half: Vec<f32> = before.iter().zip(&member).map(|(a, b)| (a + b) / 2.0).collect();
    close(&data(&infer(&served, "prices2", &input).await), &half);
}

#[actix_web::test]
async fn answers_that_are_kept_are_those_of_the_members_now() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let options = SchedulerOptions { workers: 2, cache_bytes: 1 << 20, ..SchedulerOptions::default() };
    let ensembles =
        [("double", of(Kind::Mean, &["prices"], &[])), ("outer", of(Kind::Mean, &["double"], &[]))];
    let served = watch_with(&models, settings(&ensembles), idle(Scheduler::new(options).unwrap())).unwrap();
    let input = [1.0, -2.0, 0.5];
    let mut before = Vec::new();
    for model in ["double", "outer", "double", "outer"] {
        before = data(&infer(&served, model, &input).await);
    }
    let version = served.state.catalog().find("double", &Selector::Default).cloned().unwrap();
    assert_eq!((version.stats().cache_hit.total().count, version.stats().success.total().count), (1, 2));
    drop(version);
    models.publish("prices", &prices(), 2);
    served.repository.look().await.unwrap();
    let member = data(&infer(&served, "prices", &input).await);
    assert_ne!(before, member);
    close(&data(&infer(&served, "double", &input).await), &member);
    close(&data(&infer(&served, "outer", &input).await), &member);
    let version = served.state.catalog().find("double", &Selector::Default).cloned().unwrap();
    assert_eq!(version.stats().success.total().count, 3, "it goes on counting");
}

#[actix_web::test]
async fn only_members_that_prepare_alike_are_averaged() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish("digits", &digits_prepared_otherwise(), 1);
    let served =
        serve(&models, settings(&[("both", of(Kind::MeanProbabilities, &["digits@1", "digits@2"], &[]))]));
    let entries = index(&served.state.catalog(), false);
    let entry = entries.into_iter().find(|entry| entry.name == "both").unwrap();
    assert_eq!(entry.reason, "`digits@2` has other preprocessing than `digits@1`");
}

#[actix_web::test]
async fn a_device_that_computes_again_is_found_out_through_an_ensemble() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let served = serve(&models, settings(&[("double", of(Kind::Mean, &["prices"], &[]))]));
    let member = served.state.catalog().find("prices", &Selector::Default).cloned().unwrap();
    let failed = || {
        let (device, reason) = (predict::DeviceSpec::Cuda(0), "it fell off the bus".to_owned());
        predict::PredictError::from(predict::DeviceError::Failed { device, reason })
    };
    served.state.health.note(member.predictor().unwrap(), Some(&failed()), || Err(failed()));
    assert!(served.state.fault().is_some());
    infer(&served, "double", &[1.0, -2.0, 0.5]).await;
    assert_eq!(served.state.fault(), None);
}

#[actix_web::test]
async fn a_package_takes_the_name_of_an_ensemble_and_gives_it_back() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let both = settings(&[("both", of(Kind::Mean, &["prices"], &[]))]);
    let served = serve(&models, both.clone());
    let platform = || {
        let found = served.state.catalog().find("both", &Selector::Version(1)).cloned();
        found.map(|served| served.platform().to_owned()).unwrap_or_default()
    };
    assert_eq!(platform(), "brazier_ensemble");
    models.publish("both", &prices(), 2);
    models.publish("both", &prices(), 3);
    served.repository.look().await.unwrap();
    assert_eq!(platform(), "brazier_burnpack");
    // What the log asks for does not take the package away.
    served.repository.configure(settings(&[])).unwrap();
    served.repository.load("prices").await.unwrap();
    assert_eq!(platform(), "brazier_burnpack");

    served.repository.configure(both).unwrap();
    served.repository.look().await.unwrap();
    assert_eq!(platform(), "brazier_burnpack");
    std::fs::remove_dir_all(models.path().join("both")).unwrap();
    served.repository.look().await.unwrap();
    let began = std::time::Instant::now();
    while served.state.catalog().models["both"].versions.len() > 1 {
        assert!(began.elapsed().as_secs() < 60, "a version of the package stays");
        actix_web::rt::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(platform(), "brazier_ensemble");
    infer(&served, "both", &[1.0, -2.0, 0.5]).await;
}
